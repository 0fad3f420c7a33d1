"""What a resource type takes and gives, read from the typed args of the installed Pulumi packages.

The packages are generated from the providers' own schemas, so an argument that the real provider refuses for its
name, its type or its absence is refused here too.
"""

import importlib
import inspect
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any

from pulumi import _types

from sandbox.values import UNKNOWN

LOADING = Lock()


@dataclass(frozen=True)
class Schema:
    """One resource type: its inputs with their types, which of them are required, and the names of its outputs."""

    token: str
    inputs: Mapping[str, Any]
    required: frozenset[str]
    outputs: frozenset[str]

    @property
    def computed(self) -> frozenset[str]:
        """Outputs that are never inputs: only AWS can tell them."""
        return self.outputs - set(self.inputs)


@cache
def schema_of(token: str) -> Schema:
    """The schema of a resource type.

    Args:
        token: such as `aws:ec2/vpc:Vpc`.

    Raises:
        LookupError: no installed package has this type.
    """
    package, module, name = token.split(":")
    path = module.split("/")[0]
    where = f"pulumi_{package}" if path == "index" else f"pulumi_{package}.{path}"
    try:
        # The packages load their modules when first touched, and not safely from several threads.
        with LOADING:
            namespace = importlib.import_module(where)
            args, resource = getattr(namespace, f"{name}Args"), getattr(namespace, name)
    except (ImportError, AttributeError):
        raise LookupError(f"the package pulumi-{package} has no resource type {token}") from None
    return Schema(
        token=token,
        inputs=_inputs(args),
        required=_required(args),
        outputs=frozenset(_types.resource_py_to_pulumi_names(resource).values()),
    )


def failures(schema: Schema, inputs: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The inputs that the real provider would refuse, as (property path, reason)."""
    return _object_failures("", schema.inputs, schema.required, inputs)


def _object_failures(
    path: str, allowed: Mapping[str, Any], required: frozenset[str], given: Mapping[str, Any]
) -> list[tuple[str, str]]:
    found = [(path + name, "missing required argument") for name in sorted(required - set(given))]
    for name, value in given.items():
        if name in allowed:
            found += _failures(path + name, allowed[name], value)
        else:
            found.append((path + name, f"unexpected argument; allowed: {', '.join(sorted(allowed))}"))
    return found


def _failures(path: str, kind: Any, value: Any) -> list[tuple[str, str]]:
    if value is UNKNOWN or value is None:
        return []
    options = _options(kind)
    results = [_failures_of_one(path, option, value) for option in options]
    return min(results, key=len) if results else []


def _failures_of_one(path: str, kind: Any, value: Any) -> list[tuple[str, str]]:
    origin = typing.get_origin(kind)
    if origin and issubclass(origin, Sequence):
        return _list_failures(path, typing.get_args(kind)[0], value)
    if origin and issubclass(origin, Mapping):
        return _map_failures(path, typing.get_args(kind)[1], value)
    if inspect.isclass(kind) and _types.is_input_type(kind):
        if not isinstance(value, Mapping):
            return [(path, f"must be an object, not {_name(value)}")]
        return _object_failures(f"{path}.", _inputs(kind), _required(kind), value)
    return _scalar_failures(path, kind, value)


def _list_failures(path: str, item: Any, value: Any) -> list[tuple[str, str]]:
    if not isinstance(value, list):
        return [(path, f"must be a list, not {_name(value)}")]
    return [bad for number, each in enumerate(value) for bad in _failures(f"{path}[{number}]", item, each)]


def _map_failures(path: str, item: Any, value: Any) -> list[tuple[str, str]]:
    if not isinstance(value, Mapping):
        return [(path, f"must be a map, not {_name(value)}")]
    return [bad for key, each in value.items() for bad in _failures(f"{path}.{key}", item, each)]


def _scalar_failures(path: str, kind: Any, value: Any) -> list[tuple[str, str]]:
    if kind is Any or not inspect.isclass(kind):
        return []
    wanted = (int, float) if kind is float else str if issubclass(kind, str) else kind
    is_right = isinstance(value, wanted) and not (isinstance(value, bool) and kind is not bool)
    # A resource passed as an argument arrives as its id or URN.
    if is_right or not issubclass(kind, str | int | float | bool):
        return []
    return [(path, f"must be of type {kind.__name__}, not {_name(value)}")]


def _options(kind: Any) -> list[Any]:
    """The alternatives of a union, without what stands for outputs and absence."""
    if typing.get_origin(kind) is not typing.Union:
        return [kind]
    kept = []
    for option in typing.get_args(kind):
        origin = typing.get_origin(option) or option
        is_wrapper = inspect.isclass(origin) and origin.__name__ in ("Awaitable", "Output", "NoneType")
        if not is_wrapper:
            kept += _options(option)
    return kept


@cache
def _inputs(args: type) -> Mapping[str, Any]:
    return _types.input_type_types(args)


@cache
def _required(args: type) -> frozenset[str]:
    names = _types.input_type_py_to_pulumi_names(args)
    parameters = inspect.signature(args.__init__).parameters
    return frozenset(
        names[name]
        for name, parameter in parameters.items()
        if name in names and parameter.default is inspect.Parameter.empty
    )


def _name(value: object) -> str:
    return {"str": "a string", "dict": "a map", "list": "a list", "bool": "a boolean"}.get(
        type(value).__name__, "a number"
    )
