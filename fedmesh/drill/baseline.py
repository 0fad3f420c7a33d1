"""The set-ups of Istio's documentation, for comparison under the same load.

The target's pods get two more host names, each with the rules of one page and without the program's failover and
retries:

- the multi-primary, multi-network installation: load balancing over all endpoints, Istio's own retries;
- the task "locality failover": its DestinationRule, and the retries that the target's owner has written.

What the program sets for connections stays in force for both, since no rule of a host can take it away: TCP keepalive,
and the user time-out of connections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fedmesh.drill import second_name
from fedmesh.drill.load import Load
from fedmesh.drill.report import COMPARISON, FAILOVER_TASK
from fedmesh.drill.target import Target
from fedmesh.kube import Json
from fedmesh.probe import Janitor
from fedmesh.reading import LiveCluster

# Istio's default, which the program replaces for all other hosts.
RETRIES: Json = {"attempts": 2, "retryOn": "connect-failure,refused-stream,unavailable,cancelled"}
# A rule that leaves a block out inherits the mesh's defaultTrafficPolicy and localityLbSetting: each is switched off by
# name, and the connect time-out is Istio's own.
MULTI_PRIMARY: Json = {
    "connectionPool": {"tcp": {"connectTimeout": "10s"}},
    "loadBalancer": {"simple": "LEAST_REQUEST", "localityLbSetting": {"enabled": False}},
    # Without outlier detection Envoy balances over all endpoints as soon as half of them are unhealthy.
    "outlierDetection": {"consecutive5xxErrors": 0, "consecutiveGatewayErrors": 0, "minHealthPercent": 50},
}
# The regions of the task's `failover` are left out: istiod sorts all others behind the caller's own anyway.
LOCALITY_FAILOVER: Json = {
    "connectionPool": {"tcp": {"connectTimeout": "10s"}, "http": {"maxRequestsPerConnection": 1}},
    "loadBalancer": {"simple": "ROUND_ROBIN", "localityLbSetting": {"enabled": True}},
    "outlierDetection": {"consecutive5xxErrors": 1, "interval": "1s", "baseEjectionTime": "1m"},
}


@dataclass(frozen=True)
class SetUp:
    """One page of Istio's documentation.

    Attributes:
        load: the name of the load on it.
        service: the name of the Service; a user's own Services have other names.
        title: the page, as a report names it.
        policy: the trafficPolicy of its DestinationRule.
    """

    load: str
    service: str
    title: str
    policy: Json


SET_UPS = (
    SetUp(COMPARISON, "fedmesh-drill-multi-primary", "as in Istio's multi-primary set-up", MULTI_PRIMARY),
    SetUp(FAILOVER_TASK, "fedmesh-drill-failover", "as in Istio's locality failover task", LOCALITY_FAILOVER),
)


def loads(target: Target) -> tuple[Load, ...]:
    """Calls of a pod in the mesh to the further host names."""
    return tuple(
        Load(
            each.load,
            f"{target.calls} from inside the mesh, {each.title}",
            (second := name(target, each)).url,
            second.protocol,
            second.method,
            second.upstream,
            lasting=second.lasting,
            judged=False,
        )
        for each in SET_UPS
    )


def make(janitor: Janitor, cluster: LiveCluster, target: Target, retries: Json | None = None) -> None:
    """Creates the further host names on one cluster; `retries` are those of the target's owner."""
    for collection, body in objects(target, retries):
        janitor.create(cluster.api, collection, body)


def name(target: Target, set_up: SetUp) -> Target:
    """The target under its host name for one set-up."""
    return replace(target, service=set_up.service)


def objects(target: Target, retries: Json | None = None) -> list[tuple[str, Json]]:
    """The Services and rules of the further host names, each with its API collection."""
    return [made for each in SET_UPS for made in _objects(target, each, _retries(each, retries))]


def _retries(set_up: SetUp, owners: Json | None) -> Json:
    return owners if owners and set_up.load == FAILOVER_TASK else RETRIES


def _objects(target: Target, set_up: SetUp, retries: Json) -> Sequence[tuple[str, Json]]:
    second = name(target, set_up)
    routes: list[Json] = [{"retries": retries, "route": [{"destination": {"host": second.host}}]}]
    return second_name.objects(
        second, {"trafficPolicy": set_up.policy}, [] if target.protocol == "tcp" else routes
    )
