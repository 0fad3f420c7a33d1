"""Names and annotations of the NLBs that the AWS Load Balancer Controller creates. Pure, no resources."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi

GATEWAY_HEALTH_PORT = 15021
INTERNAL, INTERNET_FACING = "internal", "internet-facing"  # schemes
PREFIX = "service.beta.kubernetes.io/aws-load-balancer"
LONGEST_NAME = 32  # of a load balancer in ELBv2, letters, digits and hyphens
DIGEST_LENGTH = 6

# An NLB routes new connections to a deregistered target for a while: a gateway keeps serving that long.
DRAIN_SECONDS = 60

# Where a load balancer ends TLS: TLS 1.2 and 1.3 with forward secrecy, and the gateway's port that it calls by HTTP.
TLS_POLICY = "ELBSecurityPolicy-TLS13-1-2-2021-06"
PLAIN_PORT = 8443


@dataclass(frozen=True)
class HealthCheck:
    """The health check of a target group, in seconds and checks.

    ELBv2 refuses a time-out that is not shorter than the interval, and the controller's own default is 10 s for both:
    the time-out is always stated with the interval.
    """

    interval: int = 5
    timeout: int = 4
    healthy: int = 2
    unhealthy: int = 2

    def __post_init__(self) -> None:
        if not 2 <= self.timeout < self.interval <= 300:
            raise ValueError(f"time-out {self.timeout} must be 2 or more and shorter than {self.interval}")


def load_balancer_name(stack: str, cluster_name: str, label: str) -> str:
    """Returns the name in AWS of a cluster's load balancer.

    Names are unique in an account and region. The digest keeps apart clusters whose long names begin alike, and equal
    clusters of several stacks.

    Args:
        stack: name of the Pulumi stack.
        cluster_name: name of the cluster in EKS.
        label: `ingress`, `eastwest` or `spire`.
    """
    digest = hashlib.sha256(f"{stack}/{cluster_name}/{label}".encode()).hexdigest()[:DIGEST_LENGTH]
    room = LONGEST_NAME - len(f"-{digest}-{label}")
    return f"{cluster_name[:room].strip('-')}-{digest}-{label}"


def nlb_annotations(
    name: pulumi.Input[str],
    *,
    internal: bool,
    tags: Mapping[str, str],
    health_port: int | None = None,
    health_check: HealthCheck | None = None,
    subnets: pulumi.Input[str] | None = None,
) -> dict[str, pulumi.Input[str]]:
    """Returns the annotations that give a Service an NLB with its pods as targets.

    Args:
        name: name of the load balancer in AWS, by which the edge finds it.
        internal: reachable from the joined networks only, not from the internet.
        tags: AWS tags of what the controller creates.
        health_port: port of an HTTP /healthz/ready answer (Istio's gateways: 15021); else a TCP connection is tried.
        health_check: interval, time-out and thresholds.
        subnets: ids with commas, one subnet of each zone; None where the controller finds them by their tags.
    """
    check = health_check or HealthCheck()
    http: dict[str, pulumi.Input[str]] = {
        f"{PREFIX}-healthcheck-protocol": "HTTP",
        f"{PREFIX}-healthcheck-port": str(health_port),
        f"{PREFIX}-healthcheck-path": "/healthz/ready",
    }
    return {
        **(http if health_port else {}),
        **({f"{PREFIX}-subnets": subnets} if subnets is not None else {}),
        f"{PREFIX}-name": name,
        f"{PREFIX}-type": "external",
        f"{PREFIX}-nlb-target-type": "ip",
        f"{PREFIX}-scheme": INTERNAL if internal else INTERNET_FACING,
        f"{PREFIX}-attributes": "load_balancing.cross_zone.enabled=true",
        f"{PREFIX}-target-group-attributes": f"deregistration_delay.timeout_seconds={DRAIN_SECONDS}",
        f"{PREFIX}-healthcheck-interval": str(check.interval),
        f"{PREFIX}-healthcheck-timeout": str(check.timeout),
        f"{PREFIX}-healthcheck-healthy-threshold": str(check.healthy),
        f"{PREFIX}-healthcheck-unhealthy-threshold": str(check.unhealthy),
        f"{PREFIX}-additional-resource-tags": ",".join(f"{key}={value}" for key, value in tags.items()),
    }


def tls_annotations(certificate_arn: str) -> dict[str, str]:
    """Returns the annotations by which an NLB ends TLS on port 443; its pods get HTTP/1.1 or HTTP/2 without TLS."""
    return {
        f"{PREFIX}-ssl-cert": certificate_arn,
        f"{PREFIX}-ssl-ports": "443",
        f"{PREFIX}-ssl-negotiation-policy": TLS_POLICY,
        f"{PREFIX}-alpn-policy": "HTTP2Preferred",
    }


def plain_ports() -> tuple[dict[str, str | int], ...]:
    """Returns the ports of a gateway's Service whose load balancer ends TLS."""
    ports = (
        ("status-port", GATEWAY_HEALTH_PORT, GATEWAY_HEALTH_PORT),
        ("http2", 80, 80),
        ("https", 443, PLAIN_PORT),
    )
    return tuple(
        {"name": name, "port": port, "targetPort": target, "protocol": "TCP"} for name, port, target in ports
    )
