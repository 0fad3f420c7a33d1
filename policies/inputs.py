"""Helpers of the rules: kinds of resources, traversal of inputs, and IP ranges."""

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from typing import Any, cast

import yaml
from pulumi_policy.proxy import UnknownValueError

Inputs = Mapping[str, Any]
Config = Mapping[str, Any]

RELEASE = "kubernetes:helm.sh/v3:Release"
CHARTS = (RELEASE, "kubernetes:helm.sh/v4:Chart")
# Ranges larger than these count as the whole internet; no registry allocates more than a /19 of IPv6 at once.
NARROWEST_WORLD = {4: IPv4Network("0.0.0.0/8"), 6: IPv6Network("::/19")}


def kind_of(resource_type: str) -> str:
    """The Kubernetes kind of a type token, that of the patched object for a patch; "" for other resources."""
    if not resource_type.startswith("kubernetes:"):
        return ""
    return resource_type.rsplit(":", 1)[1].removesuffix("Patch")


def group_of(resource_type: str) -> str:
    """The API group of a type token, such as `security.istio.io`; "" for other resources."""
    if not resource_type.startswith("kubernetes:"):
        return ""
    return resource_type.split(":")[1].partition("/")[0]


def unfolded(kind: str, inputs: Inputs) -> Iterator[tuple[str, Inputs]]:
    """A resource with its type token; in place of a List of Kubernetes, all that it holds."""
    name = kind_of(kind)
    if not name.endswith("List") or not inputs.get("items"):
        yield kind, inputs
        return
    prefix = kind.rsplit(":", 1)[0]
    for item in list_of(inputs["items"]):
        version = str(known(item, "apiVersion") or "")
        group = f"kubernetes:{version if '/' in version else f'core/{version}'}" if version else prefix
        yield from unfolded(f"{group}:{known(item, 'kind') or name.removesuffix('List')}", item)


def known(inputs: Any, key: str) -> Any:
    """A value below a key, None while it is unknown: inside an object, a preview knows only a part.

    `up` judges again what a preview did not know, before it makes the resource.
    """
    try:
        return inputs.get(key)
    except UnknownValueError:
        return None


def is_unknown(inputs: Inputs, *keys: str) -> bool:
    """Whether a preview does not know the value of one of the keys."""
    try:
        for key in keys:
            inputs.get(key)
    except UnknownValueError:
        return True
    return False


def parsed(text: Any) -> Any:
    """What a text of YAML or JSON holds; None for others."""
    try:
        return yaml.safe_load(text) if isinstance(text, str) else None
    except yaml.YAMLError:
        return None


def mappings(value: Any) -> Iterator[Inputs]:
    """All mappings in a value, itself included, as far as they are known."""
    if isinstance(value, Mapping):
        inputs = cast(Inputs, value)
        yield inputs
        for key in inputs:
            yield from mappings(known(inputs, key))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for each in cast(Sequence[Any], value):
            yield from mappings(each)


def list_of(value: Any) -> list[Any]:
    """A value that may be one item, several or none."""
    if value is None:
        return []
    return [value] if isinstance(value, str | Mapping) else list(value)


def is_world(ranges: Sequence[str]) -> bool:
    """Whether ranges, alone or together, hold more addresses than anybody's own network."""
    for version, narrowest in NARROWEST_WORLD.items():
        networks = [network for each in ranges if (network := _network(each)) and network.version == version]
        merged = collapse_addresses(cast(list[IPv4Network], networks))
        if sum(each.num_addresses for each in merged) > narrowest.num_addresses:
            return True
    return False


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None
