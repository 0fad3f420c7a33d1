"""The inputs and outputs of resource types, read from the installed Pulumi packages.

The packages are generated from the providers' own schemas, so an argument that the real provider refuses for its
name, its type or its absence is refused here too. Reading them takes seconds of CPU, so the result is cached.
"""

import hashlib
import importlib
import inspect
import json
import os
import typing
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any

from testbed.lab import paths
from testbed.sandbox.values import UNKNOWN

LOADING = Lock()
SCALARS: dict[str, type | tuple[type, ...]] = {"str": str, "int": int, "float": (int, float), "bool": bool}

# What a value may be, as JSON: {"is": "str"}, {"list": shape}, {"map": shape}, {"object": name -> shape,
# "required": names}, {"one_of": shapes}, or {} for anything.
Shape = dict[str, Any]


@dataclass(frozen=True)
class Schema:
    """One resource type: its inputs with their shapes, which of them are required, and the names of its outputs."""

    token: str
    inputs: Mapping[str, Shape]
    required: Sequence[str]
    outputs: Sequence[str]

    @property
    def computed(self) -> set[str]:
        """Outputs that are not inputs: AWS computes them."""
        return set(self.outputs) - set(self.inputs)


_schemas: dict[str, Schema] = {}


def schema_of(token: str) -> Schema:
    """The schema of a resource type.

    Args:
        token: such as `aws:ec2/vpc:Vpc`.

    Raises:
        LookupError: no installed package has this type.
    """
    # The packages import their modules lazily, which is not thread-safe.
    with LOADING:
        if token not in _schemas:
            _schemas[token] = _kept(token) or _keep(_read(token))
        return _schemas[token]


def failures(schema: Schema, inputs: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The inputs that the real provider would refuse, as (property path, reason)."""
    return _object_failures("", schema.inputs, schema.required, inputs)


def _file(token: str) -> Path:
    package = token.partition(":")[0]
    key = f"{version(f'pulumi-{package}')} {Path(__file__).read_text(encoding='utf-8')}"
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    return paths.cache() / "schemas" / digest / f"{token.replace('/', '.').replace(':', '.')}.json"


def _kept(token: str) -> Schema | None:
    with suppress(FileNotFoundError):
        return Schema(**json.loads(_file(token).read_text(encoding="utf-8")))
    return None


def _keep(schema: Schema) -> Schema:
    file = _file(schema.token)
    file.parent.mkdir(parents=True, exist_ok=True)
    # Written to a temporary file and renamed, since several plugins start at once.
    fresh = file.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(asdict(schema)), encoding="utf-8")
    fresh.rename(file)
    return schema


def _read(token: str) -> Schema:
    package, module, name = token.split(":")
    path = module.split("/")[0]
    where = f"pulumi_{package}" if path == "index" else f"pulumi_{package}.{path}"
    try:
        namespace = importlib.import_module(where)
        # InitArgs where a nested type has taken the name.
        args = getattr(namespace, f"{name}InitArgs", None) or getattr(namespace, f"{name}Args")
        resource = getattr(namespace, name)
    except (ImportError, AttributeError):
        raise LookupError(f"the package pulumi-{package} has no resource type {token}") from None
    from pulumi import _types  # noqa: PLC0415 - half a second of imports that what is kept spares

    shape = _object(args)
    outputs = sorted(_types.resource_py_to_pulumi_names(resource).values())
    return Schema(token, shape["object"], shape["required"], outputs)


def _object(args: type) -> Shape:
    from pulumi import _types  # noqa: PLC0415

    names = _types.input_type_py_to_pulumi_names(args)
    parameters = inspect.signature(args.__init__).parameters
    required = [
        names[name]
        for name, parameter in parameters.items()
        if name in names and parameter.default is inspect.Parameter.empty
    ]
    types = _types.input_type_types(args)
    return {"object": {name: _shape(kind) for name, kind in types.items()}, "required": sorted(required)}


def _shape(kind: Any) -> Shape:
    options = [_shape_of_one(option) for option in _options(kind)]
    return options[0] if len(options) == 1 else {"one_of": options} if options else {}


def _shape_of_one(kind: Any) -> Shape:
    from pulumi import _types  # noqa: PLC0415

    origin = typing.get_origin(kind)
    if origin and issubclass(origin, Sequence):
        return {"list": _shape(typing.get_args(kind)[0])}
    if origin and issubclass(origin, Mapping):
        return {"map": _shape(typing.get_args(kind)[1])}
    if not inspect.isclass(kind):
        return {}
    if _types.is_input_type(kind):
        return _object(kind)
    # Enums are strings on the wire; a resource as an argument arrives as its id or URN, which may be anything.
    name = "str" if issubclass(kind, str) else kind.__name__
    return {"is": name} if name in SCALARS else {}


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


def _object_failures(
    path: str, allowed: Mapping[str, Shape], required: Sequence[str], given: Mapping[str, Any]
) -> list[tuple[str, str]]:
    found = [(path + name, "missing required argument") for name in sorted(set(required) - set(given))]
    for name, value in given.items():
        if name in allowed:
            found += _failures(path + name, allowed[name], value)
        else:
            found.append((path + name, f"unexpected argument; allowed: {', '.join(sorted(allowed))}"))
    return found


def _failures(path: str, shape: Shape, value: Any) -> list[tuple[str, str]]:
    if value is UNKNOWN or value is None or not shape:
        return []
    if "one_of" in shape:
        return min((_failures(path, option, value) for option in shape["one_of"]), key=len)
    return _scalar_failures(path, shape["is"], value) if "is" in shape else _part_failures(path, shape, value)


def _part_failures(path: str, shape: Shape, value: Any) -> list[tuple[str, str]]:
    if "object" in shape and isinstance(value, Mapping):
        return _object_failures(f"{path}.", shape["object"], shape["required"], value)
    if "list" in shape and isinstance(value, list):
        items = [(f"{path}[{number}]", each) for number, each in enumerate(value)]
        return [bad for at, each in items for bad in _failures(at, shape["list"], each)]
    if "map" in shape and isinstance(value, Mapping):
        return [bad for key, each in value.items() for bad in _failures(f"{path}.{key}", shape["map"], each)]
    wanted = "a list" if "list" in shape else "a map" if "map" in shape else "an object"
    return [(path, f"must be {wanted}, not {_name(value)}")]


def _scalar_failures(path: str, name: str, value: Any) -> list[tuple[str, str]]:
    is_right = isinstance(value, SCALARS[name]) and not (isinstance(value, bool) and name != "bool")
    return [] if is_right else [(path, f"must be of type {name}, not {_name(value)}")]


def _name(value: object) -> str:
    return {"str": "a string", "dict": "a map", "list": "a list", "bool": "a boolean"}.get(
        type(value).__name__, "a number"
    )
