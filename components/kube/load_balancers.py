"""Settings of the Services of type LoadBalancer on one cluster."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi


@dataclass(frozen=True)
class LoadBalancerService:
    """Settings of one Service of type LoadBalancer.

    Attributes:
        annotations: annotations that the cloud's controller reads.
        source_ranges: IPv4 ranges that may connect; empty for no restriction.
        ports: ports in place of those that the chart gives the Service.
        class_name: the loadBalancerClass, "" where the cloud has no other than the controller's.
        drain_seconds: time for which a pod that stops keeps serving, until no new connection is routed to it.
        gated: whether a pod is ready only once the load balancer routes connections to it, minutes after its start.
    """

    annotations: Mapping[str, pulumi.Input[str]] = field(default_factory=dict[str, pulumi.Input[str]])
    source_ranges: tuple[str, ...] = ()
    ports: tuple[Mapping[str, Any], ...] = ()
    drain_seconds: int = 3
    class_name: str = ""
    gated: bool = False

    @property
    def spec(self) -> dict[str, Any]:
        """The part of the Service's spec that says who may connect, to which ports, and who makes the load balancer."""
        return {
            **({"loadBalancerSourceRanges": list(self.source_ranges)} if self.source_ranges else {}),
            **({"ports": [dict(port) for port in self.ports]} if self.ports else {}),
            **({"loadBalancerClass": self.class_name} if self.class_name else {}),
        }


@dataclass(frozen=True)
class LoadBalancerSettings:
    """The load balancers of one cluster: for users, for the other clusters, and for SPIRE's bundle endpoint."""

    ingress: LoadBalancerService = field(default_factory=LoadBalancerService)
    east_west: LoadBalancerService = field(default_factory=LoadBalancerService)
    spire_bundle: LoadBalancerService = field(default_factory=LoadBalancerService)
