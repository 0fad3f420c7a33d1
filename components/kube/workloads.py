"""Workloads and Services: restarts on a changed configuration, addresses of load balancers."""

from collections.abc import Mapping
from typing import Any

import pulumi

from components.kube.manifests import Document, checksum

RESTART_ON = "fedmesh/config"


def restart_on(workload: str, data: pulumi.Input[Mapping[str, str]]) -> dict[str, Document]:
    """Returns the patch that restarts the pods of a workload (`Kind/name`) when its configuration changes."""
    digest = pulumi.Output.from_input(data).apply(checksum)
    return {workload: {"spec": {"template": {"metadata": {"annotations": {RESTART_ON: digest}}}}}}


def load_balancer_address(status: Any) -> str:
    """Returns the IP, or the name where the cloud gives none, in the status of a Service of type LoadBalancer."""
    first = status.load_balancer.ingress[0]
    return first.ip or first.hostname
