"""Pulumi property values on the wire, as plain Python and back."""

from collections.abc import Mapping
from typing import Any

from google.protobuf import struct_pb2

SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 - the protocol's marker, no secret
OUTPUT_VALUE = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
RESOURCE = "5cf8f73096256a8f31e491e813e4eb8e"
UNKNOWN_TEXT = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"


class Unknown:
    """A value that is unknown before the update; a singleton."""

    def __repr__(self) -> str:
        return "unknown"


UNKNOWN = Unknown()


def from_struct(struct: struct_pb2.Struct) -> dict[str, Any]:
    """The properties of a message; secrets are unwrapped, absent and null values dropped."""
    return {
        key: value
        for key, value in ((key, _from_value(field)) for key, field in struct.fields.items())
        if value is not None
    }


def to_struct(properties: Mapping[str, Any]) -> struct_pb2.Struct:
    """The message for properties; None is left out."""
    struct = struct_pb2.Struct()
    struct.update({key: _plain(value) for key, value in properties.items() if value is not None})
    return struct


def has_unknown(value: object) -> bool:
    """Whether a value is or contains an unknown."""
    if isinstance(value, Mapping):
        return any(has_unknown(item) for item in value.values())
    if isinstance(value, list):
        return any(has_unknown(item) for item in value)
    return value is UNKNOWN


def _from_value(value: struct_pb2.Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return UNKNOWN if value.string_value == UNKNOWN_TEXT else value.string_value
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    if kind == "bool_value":
        return value.bool_value
    if kind == "list_value":
        return [_from_value(item) for item in value.list_value.values]
    if kind == "struct_value":
        return _from_special(from_struct(value.struct_value))
    return None


def _from_special(struct: dict[str, Any]) -> Any:
    marker = struct.get(SIGNATURE)
    if marker is None:
        return struct
    if marker == RESOURCE:
        return struct.get("id") or struct["urn"]
    return struct.get("value", UNKNOWN if marker == OUTPUT_VALUE else None)


def _plain(value: Any) -> Any:
    if value is UNKNOWN:
        return UNKNOWN_TEXT
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
