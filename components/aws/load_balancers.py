"""Names and annotations of the NLBs that the AWS Load Balancer Controller creates. Pure, no resources."""

from collections.abc import Mapping

import pulumi

GATEWAY_HEALTH_PORT = 15021


def load_balancer_name(cluster_name: str, label: str) -> str:
    """The name in AWS of a cluster's load balancer, within the 32 characters that AWS allows."""
    return f"{cluster_name[: 31 - len(label)]}-{label}"


def nlb_annotations(
    name: pulumi.Input[str], *, internal: bool, tags: Mapping[str, str], health_port: int | None = None
) -> dict[str, pulumi.Input[str]]:
    """Annotations that give a Service an NLB straight to its pods.

    Args:
        name: name of the load balancer in AWS, by which the edge finds it.
        internal: reachable from the joined networks only, not from the internet.
        tags: AWS tags of what the controller makes.
        health_port: port of an HTTP /healthz/ready answer (Istio's gateways: 15021); else TCP is tried.
    """
    prefix = "service.beta.kubernetes.io/aws-load-balancer"
    health: dict[str, pulumi.Input[str]] = {
        f"{prefix}-healthcheck-protocol": "HTTP",
        f"{prefix}-healthcheck-port": str(health_port),
        f"{prefix}-healthcheck-path": "/healthz/ready",
    }
    return {
        **(health if health_port else {}),
        f"{prefix}-name": name,
        f"{prefix}-type": "external",
        f"{prefix}-nlb-target-type": "ip",
        f"{prefix}-scheme": "internal" if internal else "internet-facing",
        f"{prefix}-attributes": "load_balancing.cross_zone.enabled=true",
        f"{prefix}-healthcheck-interval": "5",
        f"{prefix}-additional-resource-tags": ",".join(f"{key}={value}" for key, value in tags.items()),
    }
