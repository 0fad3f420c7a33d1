"""Runs the AWS Load Balancer Controller itself, beside a bare API server and against the simulated AWS."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from testbed.lab.apiserver import ApiServer, free_ports
from testbed.waiting import wait_until

PROGRAM = "aws-load-balancer-controller"
START_SECONDS = 60.0
# The controller's names of the services that it calls, in its flag --aws-api-endpoints.
SERVICES = ("EC2", "Elastic Load Balancing v2", "Resource Groups Tagging API", "STS")
# Flags by the values of the chart, as its template of the Deployment has them.
FLAGS = {
    "clusterName": "cluster-name",
    "region": "aws-region",
    "vpcId": "aws-vpc-id",
    "enableShield": "enable-shield",
    "enableWaf": "enable-waf",
    "enableWafv2": "enable-wafv2",
    "enableBackendSecurityGroup": "enable-backend-security-group",
    "disableIngressClassAnnotation": "disable-ingress-class-annotation",
}


def flags(values: Mapping[str, Any]) -> list[str]:
    """The controller's arguments for values of its chart."""
    return [
        f"--{flag}={str(values[name]).lower() if isinstance(values[name], bool) else values[name]}"
        for name, flag in FLAGS.items()
        if name in values
    ]


def endpoints(url: str) -> str:
    """The value of the flag that directs every call to the simulated AWS."""
    return ",".join(f"{name}={url}" for name in SERVICES)


def key_id(cluster: str) -> str:
    """The key id of the controller's pods of a cluster, named as in EKS, by which the simulated AWS knows them."""
    return f"pod.{cluster}.kube-system.aws-load-balancer-controller"


@contextmanager
def running(
    server: ApiServer, tools: Path, values: Mapping[str, Any], endpoint: str, log: Path
) -> Iterator[None]:
    """Runs the controller for a cluster until the block ends, with the credentials of a pod of it.

    Args:
        server: the API server that stands for the cluster.
        tools: the folder of programs.
        values: the values of the chart, as the program has them.
        endpoint: the URL of the simulated AWS.
        log: where it writes what it does.

    Raises:
        TimeoutError: it is not ready within a minute.
    """
    health, webhook = free_ports(2)
    certificates = server.kubeconfig.parent
    command = ["setpriv", "--pdeathsig", "KILL", str(tools / PROGRAM), *flags(values)]
    command += [f"--kubeconfig={server.kubeconfig}", "--enable-leader-election=false"]
    command += [f"--health-probe-bind-addr=127.0.0.1:{health}", "--metrics-bind-addr=0"]
    command += ["--aws-max-retries=2"]  # a call without a way to AWS fails within seconds
    command += [f"--webhook-bind-port={webhook}", f"--webhook-cert-dir={certificates}"]
    command += ["--webhook-cert-file=apiserver.crt", "--webhook-key-file=apiserver.key"]
    command += [f"--aws-api-endpoints={endpoints(endpoint)}"]
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": key_id(values["clusterName"]),
        "AWS_SECRET_ACCESS_KEY": "pod",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=environment
        )
    try:
        _wait_until_ready(f"http://127.0.0.1:{health}/readyz", process, log)
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    def complaint() -> str:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
        return f"the AWS Load Balancer Controller is not ready: {end}"

    def ready() -> bool:
        if process.poll() is not None:
            raise TimeoutError(complaint())
        try:
            with urlopen(url, timeout=5):  # noqa: S310 - on this machine
                return True
        except (URLError, OSError):
            return False

    wait_until(ready, START_SECONDS, complaint, 0.2)
