"""Which DestinationRule Istio takes for a host: one of the caller's namespace, else the service's, else the mesh's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from fedmesh.kube import Json
from fedmesh.reading import full_name
from fedmesh.topology import ISTIO_NAMESPACE
from fedmesh.verify.hosts import closest, covers, host_of_rule, in_mesh

EVERYONE = "*"


@dataclass(frozen=True)
class Replaced:
    """A rule of the stack that an owner's takes the place of.

    Attributes:
        ours, owner: both rules as namespace/name.
        callers: for whose calls.
        lost: subsets of ours that the owner's namespace has not.
    """

    host: str
    ours: str
    owner: str
    callers: str
    lost: tuple[str, ...]

    def __str__(self) -> str:
        replaced = (
            f"DestinationRule {self.owner} takes the place of {self.ours} of {self.host}, for {self.callers}"
        )
        return (
            f"{replaced}: without its subset {', '.join(self.lost)}, all these calls fail"
            if self.lost
            else replaced
        )


def replaced(rules: Sequence[Json]) -> list[Replaced]:
    """The stack's rules for single hosts that do not hold, each with the owner's rule that does."""
    return [
        Replaced(host, full_name(ours), full_name(owner), callers, tuple(sorted(lost)))
        for ours in rules
        if ours["metadata"]["namespace"] == ISTIO_NAMESPACE
        and in_mesh(host := host_of_rule(ours))
        and not host.startswith("*")
        for owner, callers in stronger(host, rules)
        for lost in [subset_names([ours]) - subset_names(beside(host, owner, rules))]
    ]


def stronger(host: str, rules: Iterable[Json]) -> Iterator[tuple[Json, str]]:
    """Owners' rules that come before the mesh's for a host, and for whose calls."""
    for rule in rules:
        namespace = rule["metadata"]["namespace"]
        if namespace == ISTIO_NAMESPACE or not covers(host_of_rule(rule), host):
            continue
        to = audience(rule)
        if namespace == namespace_of(host) and EVERYONE in to:
            yield rule, "all callers"
        elif namespace == namespace_of(host) and to:
            yield rule, f"callers in {', '.join(sorted(to))}"
        elif to & {EVERYONE, namespace}:
            yield rule, f"callers in {namespace}"


def visible(host: str, rules: Iterable[Json], client: str) -> list[Json]:
    """The rules that a proxy in namespace `client` applies to a host; those for the same host are merged."""
    known = list(rules)
    for namespace in dict.fromkeys((client, namespace_of(host), ISTIO_NAMESPACE)):
        own = [rule for rule in known if rule["metadata"]["namespace"] == namespace]
        found = [rule for rule in nearest(host, own) if audience(rule) & {EVERYONE, client}]
        if found:
            return found
    return []


def nearest(host: str, rules: Sequence[Json]) -> list[Json]:
    """Of the rules of one namespace, those whose host fits best."""
    pattern = closest(host, [host_of_rule(rule) for rule in rules])
    return [rule for rule in rules if host_of_rule(rule) == pattern]


def beside(host: str, owner: Json, rules: Sequence[Json]) -> list[Json]:
    """The rules of an owner's namespace that hold for a host."""
    namespace = owner["metadata"]["namespace"]
    return nearest(host, [rule for rule in rules if rule["metadata"]["namespace"] == namespace])


def audience(rule: Json) -> set[str]:
    """The namespaces to which a rule is exported; `~` is none."""
    own = rule["metadata"]["namespace"]
    if rule["spec"].get("workloadSelector"):
        return {own}
    return {own if each == "." else each for each in rule["spec"].get("exportTo") or [EVERYONE]} - {"~"}


def subset_names(rules: Iterable[Json]) -> set[str]:
    """Names of the rules' subsets."""
    return {subset["name"] for rule in rules for subset in rule["spec"].get("subsets") or []}


def namespace_of(host: str) -> str:
    """The namespace of a Service's host."""
    return host.split(".")[1] if host.count(".") > 1 else ""
