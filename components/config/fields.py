"""The vocabulary of the settings: the base of their models, the types of their fields, and how a field is described."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Network
from typing import Annotated, Any, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    Strict,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError, PydanticUndefined, core_schema

from components.config.cidr import is_private

FIRST_RELEASE = "0.1"
REFUSED = "refused"


class Model(BaseModel):
    """A section of a configuration file: camelCase keys, no others, and immutable values.

    Files are read by key alone, programs may build a section by its attributes' names. A key without a value
    (null) counts as not set.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        serialize_by_alias=True,
        frozen=True,
        extra="forbid",
        protected_namespaces=(),
        use_attribute_docstrings=True,
        # one validator for the whole configuration, made when it is read: the program starts sooner
        defer_build=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _without_unset_keys(cls, raw: object) -> object:
        if not isinstance(raw, Mapping):
            return raw
        known = keys_of(cls)
        given = cast(Mapping[object, object], raw)
        return {key: value for key, value in given.items() if value is not None or key not in known}


def keys_of(model: type[BaseModel]) -> tuple[str, ...]:
    """The keys of a model as a file spells them."""
    return tuple(field.alias or name for name, field in model.model_fields.items())


def setting(
    default: Any = PydanticUndefined,
    *,
    example: Any,
    description: str | None = None,
    replaces: str = "nothing",
    since: str = FIRST_RELEASE,
    default_text: str | None = None,
    alias: str | None = None,
) -> Any:
    """Describes one key, whose meaning is the docstring below it; docs/configuration.md and the JSON schema show both.

    Args:
        default: its value where it is not set; without one, the key is required. `{}` stands for a section with
            the defaults of its own keys.
        example: a value, as the parsed file would hold it.
        description: the meaning, where it is computed and can't be a docstring.
        replaces: what a change of the value replaces: resources that go and come anew.
        since: the first release that has the key.
        default_text: the default in words, where it depends on other keys. None reads as "none".
        alias: its spelling in the file, where that is not the attribute's name in camelCase.
    """
    extra = {"example": example, "replaces": replaces, "since": since, "defaultText": default_text}
    more: dict[str, Any] = {"alias": alias} if alias else {}
    if isinstance(default, dict):
        more["validate_default"] = True
    return cast(Any, Field)(default, description=description, json_schema_extra=extra, **more)


@dataclass(frozen=True)
class Rule:
    """Says in words which values a field takes: `must be <allowed>`."""

    allowed: str


@dataclass(frozen=True)
class Matching(Rule):
    """Text that matches a regular expression and has so many characters at most."""

    pattern: str
    longest: int | None = None

    def __get_pydantic_core_schema__(
        self, _source: Any, _handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.str_schema(strict=True, pattern=self.pattern, max_length=self.longest)


@dataclass(frozen=True)
class Whole(Rule):
    """A whole number between bounds, both included."""

    low: int
    high: int

    def __get_pydantic_core_schema__(
        self, _source: Any, _handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.int_schema(strict=True, ge=self.low, le=self.high)


def whole(low: int, high: int) -> Whole:
    """The rule of a whole number, in words and numbers."""
    return Whole(f"a whole number from {low} to {high}", low, high)


def refusal(reason: str, *path: str | int) -> PydanticCustomError:
    """What a validator raises.

    Args:
        reason: what is wrong or allowed, as the user reads it after the key and the file.
        path: the key below the validated value that is to blame; by default the value itself.
    """
    # the braces of a template are pydantic's: the text travels as a value
    return PydanticCustomError(REFUSED, "{reason}", {"reason": reason, "path": path})


_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_MEBIBYTES = {"Mi": 1, "Gi": 1024, "Ti": 1024 * 1024}


def seconds(duration: str) -> float:
    """Length of a duration such as 90s, 5m or 24h, in seconds."""
    found = re.fullmatch(r"([0-9]+)(ms|s|m|h)", duration)
    if not found:
        raise ValueError(f"{duration!r} is not a duration")
    return int(found[1]) * _SECONDS[found[2]]


def mebibytes(size: str) -> int:
    """A size such as 512Mi, 8Gi or 1Ti, in MiB."""
    found = re.fullmatch(r"([0-9]+)(Mi|Gi|Ti)", size)
    if not found:
        raise ValueError(f"{size!r} is not a size")
    return int(found[1]) * _MEBIBYTES[found[2]]


@dataclass(frozen=True)
class Between:
    """Bounds of a duration or a size, both included."""

    low: str
    high: str

    @cached_property
    def _measure(self) -> Callable[[str], float]:
        return mebibytes if self.low.endswith("i") else seconds

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, value: str) -> str:
        if not self._measure(self.low) <= self._measure(value) <= self._measure(self.high):
            raise refusal(f"must be {self.low} to {self.high}, not {value}")
        return value


def _network(text: str) -> str:
    try:
        return str(IPv4Network(text))
    except ValueError as error:
        raise refusal(f"must be an IPv4 range such as 10.2.0.0/16: {error}") from None


def _private(cidr: str) -> str:
    if not is_private(cidr):
        raise refusal(f"must be a private range, in 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16, not {cidr}")
    return cidr


Flag = Annotated[bool, Strict()]
Text = Annotated[str, Matching("text", r"^.+$")]
DnsLabel = Annotated[str, Matching("a DNS label such as cluster-1", r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$")]
Duration = Annotated[str, Matching("a duration such as 500ms, 30s, 5m or 24h", r"^[0-9]{1,9}(ms|s|m|h)$")]
Size = Annotated[str, Matching("a size such as 8Gi", r"^[0-9]{1,9}(Mi|Gi|Ti)$")]
Cidr = Annotated[
    str, Matching("an IPv4 range such as 10.2.0.0/16", r"^[0-9.]+/[0-9]+$"), AfterValidator(_network)
]
PrivateCidr = Annotated[Cidr, AfterValidator(_private)]
ChartVersion = Annotated[
    str, Matching("a chart version such as 1.31.0", r"^v?[0-9]+\.[0-9]+\.[0-9]+([-+].+)?$")
]
Repository = Annotated[str, Matching("a URL of a Helm repository", r"^(https?|oci)://.+$")]
