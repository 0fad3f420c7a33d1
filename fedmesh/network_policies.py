"""Which callers Kubernetes' NetworkPolicies let into a pod, where the network plugin enforces them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedmesh.kube import Json


@dataclass(frozen=True)
class TrafficSource:
    """A pod by its labels and those of its namespace. A caller that is no pod has no namespace labels."""

    labels: Mapping[str, str]
    namespace: str = ""
    namespace_labels: Mapping[str, str] | None = None


OUTSIDE = TrafficSource({})  # the API server, a node, a load balancer


def closed_by(policies: Sequence[Json], pod: Json, port: int, caller: TrafficSource) -> str:
    """The names of the policies that keep a caller from a TCP port of a pod; "" where it is let in.

    Ranges of addresses (`ipBlock`) let callers in that are no pods, whatever the range.
    """
    meta = pod["metadata"]
    chosen = [
        policy
        for policy in policies
        if policy["metadata"]["namespace"] == meta["namespace"]
        and "Ingress" in policy["spec"].get("policyTypes", ["Ingress"])
        and _selects(policy["spec"].get("podSelector") or {}, meta.get("labels") or {})
    ]
    for policy in chosen:
        for rule in policy["spec"].get("ingress") or []:
            sources = rule.get("from")
            admitted = not sources or any(_admits(each, meta["namespace"], caller) for each in sources)
            if admitted and _has_port(rule.get("ports") or [], pod, port):
                return ""
    return ", ".join(policy["metadata"]["name"] for policy in chosen)


def _has_port(ports: Sequence[Json], pod: Json, number: int) -> bool:
    spec = pod["spec"]
    names = {
        each["name"]: each["containerPort"]
        for container in [*(spec.get("initContainers") or []), *spec["containers"]]
        for each in container.get("ports") or []
        if "name" in each
    }

    def has(entry: Json) -> bool:
        first = entry.get("port")
        first = names.get(first) if isinstance(first, str) else first
        named = "port" in entry
        return not named or (first is not None and first <= number <= entry.get("endPort", first))

    return not ports or any(has(each) for each in ports if each.get("protocol", "TCP") == "TCP")


def _admits(source: Json, own: str, caller: TrafficSource) -> bool:
    if "ipBlock" in source:
        return caller.namespace_labels is None
    if caller.namespace_labels is None:
        return False
    if "namespaceSelector" in source:
        near = _selects(source["namespaceSelector"], caller.namespace_labels)
    else:
        near = caller.namespace == own
    return near and _selects(source.get("podSelector") or {}, caller.labels)


def _selects(selector: Json, labels: Mapping[str, str]) -> bool:
    wanted = selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _holds(each, labels) for each in selector.get("matchExpressions") or []
    )


def _holds(expression: Json, labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or []
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case _:
            return key not in labels
