"""The AWS Load Balancer Controller itself makes the program's load balancers in the simulated AWS, and takes them away.

It runs beside an API server, with the credentials of its pod: its policy, its boundary and its nodes' way to AWS are
judged at every call.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed.lab import paths
from testbed.lab.apiserver import ApiServer
from testbed.lab.apiserver import running as api_server
from testbed.lab.gomods import AWS
from testbed.sandbox import account, controller_process
from testbed.sandbox.cloud import running
from testbed.sandbox.controller import Controller, Service
from testbed.sandbox.rehearsal import PROJECT, RELEASE, Rehearsal, record, service_of
from testbed.tests.engine.test_defects import committed, templates

TOOLS = paths.cache() / "bin"
CLUSTER = "istio-eks-cluster-1"
CRDS = "helm/aws-load-balancer-controller/crds"
CALLER = "8.8.4.10"
SECONDS = 90.0


@dataclass
class Cluster:
    """One cluster of the stack dev: its API server, its controller, and the Services that the program makes on it."""

    server: ApiServer
    endpoint: str
    vpc: str
    services: dict[str, Service]
    log: Path

    def kubectl(self, *words: str, text: str = "") -> str:
        line = [str(TOOLS / "kubectl"), f"--kubeconfig={self.server.kubeconfig}", *words]
        done = subprocess.run(line, input=text, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def apply(self, service: Service, name: str = "") -> None:
        document = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name or service.name, "annotations": dict(service.annotations)},
            "spec": {
                "type": "LoadBalancer",
                "ports": [{"name": f"p{port}", "port": port} for port in service.ports],
                **(
                    {"loadBalancerSourceRanges": list(service.source_ranges)} if service.source_ranges else {}
                ),
            },
        }
        self.kubectl("apply", "-f", "-", text=yaml.safe_dump(document))

    def hostname(self, name: str) -> str:
        status = json.loads(self.kubectl("get", "service", name, "-o", "json"))["status"]["loadBalancer"]
        return str((status.get("ingress") or [{}])[0].get("hostname", ""))

    def exists(self, name: str) -> bool:
        return bool(self.kubectl("get", "service", name, "--ignore-not-found", "-o", "name"))

    def events(self, name: str) -> str:
        found = json.loads(self.kubectl("get", "events", "-o", "json"))["items"]
        return "\n".join(str(each["message"]) for each in found if each["involvedObject"]["name"] == name)

    def client(self, service: str) -> Any:
        return account.observer(self.endpoint, service)


def wait(condition: Callable[[], Any], what: Callable[[], str], seconds: float = SECONDS) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, what()
        time.sleep(0.5)
    return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    assert (TOOLS / controller_process.PROGRAM).exists(), "python -m testbed.lab build --for-aws"
    folder = tmp_path_factory.mktemp("controller")
    policy = PROJECT / "docs" / "iam-policy.json"
    with running.running(folder / "aws.log", policy) as cloud, pytest.MonkeyPatch.context() as patch:
        for name, value in cloud.items():
            patch.setenv(name, value)
        endpoint = cloud["AWS_ENDPOINT_URL"]
        account.prepare(endpoint)
        resources = record(committed("dev"), templates)
        half = Rehearsal(resources, CALLER, endpoint, aws_only=True)
        half.create()
        release = resources[f"{RELEASE}|cluster-1-load-balancers-release"]
        values = half.inputs(release)["values"]
        services = {
            found.annotation("name").rsplit("-", 1)[1]: found
            for each in resources.values()
            if each.provider == "cluster-1" and not each.read
            for found in [service_of(half.inputs(each), each.kind)]
            if found and found.annotation("type") == "external"
        }
        (folder / "server").mkdir()
        with api_server("cluster-1", TOOLS, folder / "server") as server:
            made = Cluster(server, endpoint, values["vpcId"], services, folder / "controller.log")
            crds = AWS.dependency("sigs.k8s.io/aws-load-balancer-controller") / CRDS
            made.kubectl("apply", "--server-side", "-f", str(crds / "crds.yaml"))
            with controller_process.running(server, TOOLS, values, endpoint, made.log):
                yield made


def test_it_makes_the_load_balancers_of_the_program(cluster: Cluster) -> None:
    assert sorted(cluster.services) == ["eastwest", "ingress", "spire"]
    for service in cluster.services.values():
        cluster.apply(service)
    for label, service in cluster.services.items():
        name = wait(
            lambda service=service: cluster.hostname(service.name),
            lambda service=service: cluster.events(service.name) + cluster.log.read_text()[-2000:],
        )
        (found,) = cluster.client("elbv2").describe_load_balancers(Names=[service.annotation("name")])[
            "LoadBalancers"
        ]
        assert (found["DNSName"], found["Type"]) == (name, "network")
        assert found["Scheme"] == ("internet-facing" if label == "ingress" else "internal")
        assert ranges(cluster, found["SecurityGroups"]) >= (set(service.source_ranges) or {"0.0.0.0/0"})
        assert ("0.0.0.0/0" in ranges(cluster, found["SecurityGroups"])) == (label == "ingress")


def ranges(cluster: Cluster, groups: list[str]) -> set[str]:
    found = cluster.client("ec2").describe_security_groups(GroupIds=groups)["SecurityGroups"]
    return {r["CidrIp"] for group in found for p in group["IpPermissions"] for r in p["IpRanges"]}


def test_the_stand_in_asks_for_the_same_health_checks(cluster: Cluster) -> None:
    service = cluster.services["eastwest"]
    stand_in = Controller(CLUSTER, "us-east-1", cluster.vpc, cluster.endpoint)
    named = f"{'x' * 20}-standin"
    annotations = {
        key: named if key.endswith("load-balancer-name") else value
        for key, value in service.annotations.items()
    }
    copy = Service(service.namespace, "standin", annotations, service.ports, service.source_ranges)
    stand_in.create(copy)
    elb = cluster.client("elbv2")
    checks = [health_checks(elb, each) for each in (service.annotation("name"), named)]
    stand_in.delete(copy)
    assert checks[0] == checks[1]


def health_checks(elb: Any, name: str) -> set[tuple[Any, ...]]:
    (balancer,) = elb.describe_load_balancers(Names=[name])["LoadBalancers"]
    groups = elb.describe_target_groups(LoadBalancerArn=balancer["LoadBalancerArn"])["TargetGroups"]
    keys = (
        "HealthCheckProtocol",
        "HealthCheckPort",
        "HealthCheckIntervalSeconds",
        "HealthCheckTimeoutSeconds",
    )
    return {(each["Port"], each["TargetType"], *(str(each[key]) for key in keys)) for each in groups}


def test_d1_an_interval_without_a_time_out_makes_no_load_balancer(cluster: Cluster) -> None:
    service = cluster.services["spire"]
    annotations = {
        key: "without-timeout" if key.endswith("load-balancer-name") else value
        for key, value in service.annotations.items()
        if not key.endswith("healthcheck-timeout")
    }
    faulty = Service("default", "without-timeout", annotations, service.ports, service.source_ranges)
    cluster.apply(faulty)
    wait(
        lambda: "Health check timeout '10' must be smaller" in cluster.events("without-timeout"),
        lambda: cluster.events("without-timeout"),
    )
    assert cluster.hostname("without-timeout") == ""
    cluster.kubectl("delete", "service", "without-timeout", "--wait=false")


def test_d2_without_a_way_to_aws_a_service_can_not_go_and_with_it_it_goes(cluster: Cluster) -> None:
    ec2 = cluster.client("ec2")
    vpc = [{"Name": "vpc-id", "Values": [cluster.vpc]}]
    ways = [
        (table["RouteTableId"], route["NatGatewayId"])
        for table in ec2.describe_route_tables(Filters=vpc)["RouteTables"]
        for route in table["Routes"]
        if route.get("NatGatewayId")
    ]
    for table, _ in ways:
        ec2.delete_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0")
    name = cluster.services["spire"].name
    cluster.kubectl("delete", "service", name, "--wait=false")
    wait(lambda: "no route from subnet-" in cluster.log.read_text(), lambda: cluster.log.read_text()[-2000:])
    assert cluster.exists(name)
    for table, gateway in ways:
        ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=gateway)
    wait(lambda: not cluster.exists(name), lambda: cluster.log.read_text()[-2000:])


def test_nothing_of_it_is_left_when_its_services_are_gone(cluster: Cluster) -> None:
    names = [service.name for service in cluster.services.values()]
    cluster.kubectl("delete", "service", *names, "--ignore-not-found", "--wait=false")
    for name in [*names, "without-timeout"]:
        wait(lambda name=name: not cluster.exists(name), lambda: cluster.log.read_text()[-2000:])
    assert cluster.client("elbv2").describe_load_balancers()["LoadBalancers"] == []
    assert cluster.client("elbv2").describe_target_groups()["TargetGroups"] == []
    groups = cluster.client("ec2").describe_security_groups()["SecurityGroups"]
    assert [each["GroupName"] for each in groups if each["GroupName"].startswith("k8s-")] == []
    assert "AccessDenied" not in cluster.log.read_text()
