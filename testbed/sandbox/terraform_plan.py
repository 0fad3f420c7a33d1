"""Converts the engine's plans into forms that checkov reads: a Terraform plan, and Kubernetes objects.

checkov does not read Pulumi's plans. pulumi-aws is built from Terraform's provider, so its resources have equivalents:
types and inputs are mapped by rule and by the table below, references by the engine's property dependencies.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from testbed.sandbox.schema import schema_of
from testbed.sandbox.values import UNKNOWN_TEXT

Json = dict[str, Any]
Resources = Iterable[Mapping[str, Any]]
PREFIXES = {"ec2": "aws", "ec2transitgateway": "aws_ec2_transit_gateway"}
TYPES = {
    "aws:ec2/peeringConnectionOptions:PeeringConnectionOptions": "aws_vpc_peering_connection_options",
    "aws:ec2transitgateway/transitGateway:TransitGateway": "aws_ec2_transit_gateway",
}
# Pulumi's plural names of blocks that Terraform repeats under a singular name.
BLOCKS = {
    "aliases": "alias",
    "endpoint_configurations": "endpoint_configuration",
    "failover_routing_policies": "failover_routing_policy",
    "port_ranges": "port_range",
    "taints": "taint",
    "vpcs": "vpc",
    "weighted_routing_policies": "weighted_routing_policy",
}


def plan_of(resources: Resources) -> Json:
    """A Terraform plan that creates the AWS resources among those of a Pulumi state or preview."""
    own = {each["urn"]: each for each in resources if _is_aws(each["type"])}
    addresses = {urn: f"{_type(each['type'])}.{_name(urn)}" for urn, each in own.items()}
    entries = [
        {
            "address": addresses[urn],
            "mode": "managed",
            "type": _type(each["type"]),
            "name": _name(urn),
            "provider_name": "registry.terraform.io/hashicorp/aws",
        }
        for urn, each in own.items()
    ]
    values = [_values(each) for each in own.values()]
    changes = [{"actions": ["create"], "before": None, "after": value} for value in values]
    expressions = [_references(each, addresses) for each in own.values()]
    return {
        "format_version": "1.2",
        "terraform_version": "1.9.0",
        "planned_values": {"root_module": {"resources": _with(entries, "values", values)}},
        "resource_changes": _with(entries, "change", changes),
        "configuration": {"root_module": {"resources": _with(entries, "expressions", expressions)}},
    }


def merged(planned: Resources, made: Resources) -> list[Mapping[str, Any]]:
    """The planned resources, completed from the state after `up`."""
    known = {each["urn"]: each for each in made}
    return [known.get(each["urn"], each) for each in planned]


def objects_of(resources: Resources) -> list[Json]:
    """The Kubernetes objects among the resources of a Pulumi state or preview; charts are not rendered."""
    return [
        _known(each["inputs"])
        for each in resources
        if each["type"].startswith("kubernetes:") and {"kind", "metadata"} <= set(each.get("inputs", {}))
    ]


def write(resources: Resources, folder: Path) -> None:
    """Writes both forms into a folder: `plan.json` and `objects.yaml`."""
    resources = list(resources)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.json").write_text(json.dumps(plan_of(resources), indent=1), encoding="utf-8")
    (folder / "objects.yaml").write_text(yaml.safe_dump_all(objects_of(resources)), encoding="utf-8")


def _is_aws(kind: str) -> bool:
    return kind.startswith("aws:") and "/" in kind


def _type(token: str) -> str:
    module, name = token.split(":")[1].split("/")
    return TYPES.get(token) or f"{PREFIXES.get(module, f'aws_{module}')}_{_snake(name)}"


def _name(urn: str) -> str:
    return urn.rsplit("::", 1)[1]


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()


def _values(resource: Mapping[str, Any]) -> Json:
    return _block(schema_of(resource["type"]).inputs, _known(resource.get("inputs", {})))


def _block(shapes: Mapping[str, Any], given: Mapping[str, Any]) -> Json:
    named = {name: (_snake(name), shapes.get(name, {})) for name in given}
    return {BLOCKS.get(snake, snake): _value(shape, given[name]) for name, (snake, shape) in named.items()}


def _value(shape: Mapping[str, Any], value: Any) -> Any:
    """A value in Terraform's form: where Pulumi has one object, Terraform has a list with one block."""
    if "one_of" in shape:
        shape = next((each for each in shape["one_of"] if "object" in each or "list" in each), {})
    if "object" in shape and isinstance(value, Mapping):
        return [_block(shape["object"], value)]
    if "list" in shape and isinstance(value, list):
        items = [_value(shape["list"], item) for item in value]
        return [block for item in items for block in item] if _objects(value) else items
    return value


def _objects(value: list[Any]) -> bool:
    return bool(value) and all(isinstance(item, Mapping) for item in value)


def _references(resource: Mapping[str, Any], addresses: Mapping[str, str]) -> Json:
    depends: Mapping[str, list[str] | None] = resource.get("propertyDependencies") or {}
    found = {
        BLOCKS.get(_snake(name), _snake(name)): [addresses[urn] for urn in urns or [] if urn in addresses]
        for name, urns in depends.items()
    }
    return {name: {"references": references} for name, references in found.items() if references}


def _known(value: Any) -> Any:
    """The value without the parts that are unknown before the update."""
    if isinstance(value, Mapping):
        return {
            key: _known(item)
            for key, item in value.items()
            if item != UNKNOWN_TEXT and not key.startswith("__")
        }
    if isinstance(value, list):
        return [_known(item) for item in value if item != UNKNOWN_TEXT]
    return value


def _with(entries: list[Json], key: str, values: list[Json]) -> list[Json]:
    return [{**entry, key: value} for entry, value in zip(entries, values, strict=True)]
