"""The one error that a wrong stack configuration raises, and how a section is read so that it does."""

from collections.abc import Mapping
from typing import Any, TypeVar

import pulumi
from pydantic import BaseModel, ValidationError

from components.config.faults import first_fault, key_of

T = TypeVar("T", bound=BaseModel)


class ConfigError(pulumi.RunError):
    """A key of the stack configuration is wrong; nothing has been created yet.

    The text names the key and the file that holds it, then says what is allowed. The engine shows it as it is:
    a RunError needs no traceback.
    """

    def __init__(self, key: str, source: str, allowed: str) -> None:
        super().__init__(f"{key} in {source}: {allowed}")
        self.key = key
        self.source = source
        self.allowed = allowed


def validated(
    model: type[T], raw: object, key: str, source: str, context: Mapping[str, Any] | None = None
) -> T:
    """Reads one section.

    Args:
        model: what the section must be.
        raw: the parsed value.
        key: where it stands, such as `fedmesh:aws`; with a colon at its end, keys below follow without a dot.
        source: name of the file, for errors.
        context: what the model's validators need beside the value.

    Raises:
        ConfigError: a value is missing, unknown or not allowed.
    """
    try:
        return model.model_validate(raw, by_alias=True, by_name=False, context=dict(context or {}))
    except ValidationError as error:
        fault = first_fault(model, error)
        below = key_of(fault.path)
        separator = "" if key.endswith(":") or not below or below.startswith("[") else "."
        raise ConfigError(f"{key}{separator}{below}", source, fault.allowed) from None
