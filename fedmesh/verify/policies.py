"""What a DestinationRule's policies make of failover, for each of its subsets and ports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fedmesh.kube import Json
from fedmesh.reading import full_name
from fedmesh.topology import ISTIO_NAMESPACE
from fedmesh.verify.hosts import host_of_rule, in_mesh

Policy = Mapping[str, Any]

NETWORK = "topology.istio.io/network"
# What a policy for one port can have; it has no retry budget.
OF_A_PORT = ("connectionPool", "loadBalancer", "outlierDetection", "tls")
SHARED = "so a cluster of another network in the same region and zone shares priority 0"


@dataclass(frozen=True)
class Part:
    """A policy of a rule that is in force for some calls.

    Attributes:
        place: the words that say for which.
        completed: whether the mesh's outlier detection takes the place of one that is missing.
    """

    place: str
    policy: Policy
    completed: bool = True


def judge_rules(rules: Iterable[Json]) -> list[str]:
    """What in DestinationRules for hosts of the mesh undoes failover; a subset does not repeat its rule's faults."""
    faults: list[str] = []
    for rule in rules:
        known: set[str] = set()
        for part in parts(rule) if is_for_mesh(rule) else ():
            found = judge_part(part)
            faults += [
                f"DestinationRule {full_name(rule)}{part.place}: {each}" for each in sorted(found - known)
            ]
            known |= found
    return faults


def judge_part(part: Part) -> set[str]:
    """What in one policy undoes failover."""
    balancing = part.policy.get("loadBalancer") or {}
    outliers = part.policy.get("outlierDetection")
    zones, locality = balancing.get("zoneAwareLbSetting"), balancing.get("localityLbSetting")
    faults: set[str] = set()
    if balancing.get("simple") == "PASSTHROUGH":
        faults.add("PASSTHROUGH calls the address that the client asked for, and no other")
    if outliers is not None and (outliers.get("maxEjectionPercent") or 10) < 100:
        faults.add("maxEjectionPercent is below 100, so a failing cluster is not left")
    # Of the two, Istio takes zoneAwareLbSetting, which needs no outlierDetection.
    if zones is not None:
        faults |= judge_priorities("zoneAwareLbSetting", zones)
    elif locality is not None:
        faults |= judge_priorities("localityLbSetting", locality, bare=outliers is None)
    if outliers is None and not part.completed and not any("outlierDetection" in each for each in faults):
        faults.add("no outlierDetection, and the mesh's does not hold for a port of a subset")
    return faults


def judge_priorities(key: str, setting: Policy, *, bare: bool = False) -> set[str]:
    """What in a rule's own setting for localities undoes the mesh's order of endpoints; `bare`: no outlierDetection."""
    if setting.get("enabled") is False:
        return {f"{key} is not enabled, so calls leave a healthy cluster"}
    if setting.get("distribute"):
        return {f"distribute of {key} takes the place of the order by network, region and zone"}
    if bare:
        return {f"{key} has no effect without outlierDetection"}
    order = setting.get("failoverPriority") or []
    if not order:
        return {f"{key} without failoverPriority sorts by region and zone only, {SHARED}"}
    if not any(label.partition("=")[0] == NETWORK for label in order):
        return {f"failoverPriority of {key} lacks the network, {SHARED}"}
    return set()


def without_budget(rules: Iterable[Json]) -> list[str]:
    """Owners' rules for hosts of the mesh under which retries have no budget."""
    return sorted(
        full_name(rule)
        for rule in rules
        if rule["metadata"]["namespace"] != ISTIO_NAMESPACE
        and is_for_mesh(rule)
        and any("retryBudget" not in part.policy for part in parts(rule))
    )


def is_for_mesh(rule: Json) -> bool:
    """Whether a rule is for hosts of Services."""
    return in_mesh(host_of_rule(rule))


def parts(rule: Json) -> Iterator[Part]:
    """The policies of a rule. One for a port inherits nothing, a subset's takes the place of its rule's by block."""
    whole = rule["spec"].get("trafficPolicy") or {}
    ports = of_ports(whole)
    yield Part("", of_all(whole))
    for number, policy in ports.items():
        yield Part(f", port {number}", policy)
    for subset in rule["spec"].get("subsets") or []:
        own = subset.get("trafficPolicy") or {}
        place = f"subset {subset['name']}"
        yield Part(f", {place}", {**of_all(whole), **of_all(own)})
        for number in [each for each in ports if each not in of_ports(own)]:
            yield Part(f", port {number} of {place}", {**ports[number], **of_all(own)})
        for number, policy in of_ports(own).items():
            yield Part(f", port {number} of {place}", policy, completed=False)


def of_ports(policy: Policy) -> dict[int, Policy]:
    """The policies for single ports, by number."""
    return {
        each.get("port", {}).get("number", 0): {
            key: each[key] for key in OF_A_PORT if each.get(key) is not None
        }
        for each in policy.get("portLevelSettings") or []
    }


def of_all(policy: Policy) -> Policy:
    """A policy without those for single ports."""
    return {key: value for key, value in policy.items() if key != "portLevelSettings" and value is not None}
