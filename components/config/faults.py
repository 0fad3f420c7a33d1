"""Turns what pydantic finds wrong in a configuration file into one sentence about one key."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from components.config.fields import REFUSED, Rule, keys_of

Path = tuple[str | int, ...]

UNKNOWN = ("extra_forbidden", "invalid_key")
MAPPING = ("model_type", "model_attributes_type", "dict_type", "mapping_type")
LIST = ("tuple_type", "list_type")
SHOWN = 80  # characters of a refused value


@dataclass(frozen=True)
class Fault:
    """What is wrong at which key of a file. `path` holds keys and, for lists, places from 0."""

    path: Path
    allowed: str

    @property
    def key(self) -> str:
        """The path as text: `clusters[0].eks.version`."""
        return key_of(self.path)


def key_of(path: Path) -> str:
    """A path as text: `clusters[0].eks.version`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def first_fault(model: type[BaseModel], error: ValidationError) -> Fault:
    """The fault to tell the user first: unknown keys, as a misspelt key is often missed elsewhere, then any other."""
    errors = error.errors(include_url=False)
    found = next((each for each in errors if each["type"] in UNKNOWN), errors[0])
    return _fault(model, found)


def _fault(model: type[BaseModel], found: ErrorDetails) -> Fault:
    path, kind = found["loc"], found["type"]
    context = cast(Mapping[str, Any], found.get("ctx", {}))
    if kind == REFUSED:
        return Fault((*_without_marks(path), *context["path"]), context["reason"])
    if kind in UNKNOWN:
        path = _without_marks(path)
        return Fault(path, _unknown(_at(model, path[:-1]), str(path[-1])))
    if path and path[-1] == "[key]":
        rule, value = _key_rule(_at(model, path[:-2])), path[-2]
        return Fault(path[:-1], f"must be {rule}, not {value!r}")
    at = _at(model, path)
    if kind == "missing":
        return Fault(path, f"is missing: {_rule(at) or 'it has no default'}")
    return Fault(path, f"must be {_allowed(kind, at)}, not {_shown(found['input'])}")


def _without_marks(path: Path) -> Path:
    return tuple(step for step in path if step != "[key]")


def _allowed(kind: str, at: object) -> str:
    if kind in MAPPING:
        return "a mapping"
    if kind in LIST:
        return "a list"
    if kind == "literal_error":
        return f"one of {', '.join(str(each) for each in get_args(_bare(at)))}"
    if kind == "bool_type":
        return "true or false"
    return _rule(at) or "another value"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _unknown(at: object, key: str) -> str:
    model = _bare(at)
    known = keys_of(model) if isinstance(model, type) and issubclass(model, BaseModel) else ()
    close = get_close_matches(key, known, n=1)
    meant = f"did you mean {close[0]}? " if close else ""
    return f"is unknown; {meant}allowed here: {', '.join(sorted(known))}"


def _bare(at: object) -> Any:
    """The type without annotations and without None."""
    if get_origin(at) is Annotated:
        return _bare(get_args(at)[0])
    if get_origin(at) in (Union, UnionType):
        return next(_bare(each) for each in get_args(at) if each is not NoneType)
    return at


def annotated(field: FieldInfo) -> Any:
    """The type of a field with the rules that pydantic keeps apart from it."""
    marks = tuple(mark for mark in field.metadata if isinstance(mark, Rule))
    return Annotated[field.annotation, *marks] if marks else field.annotation


def _rule(at: object) -> str | None:
    """What the innermost rule of an annotated type allows: the last one is the most specific."""
    if get_origin(at) in (Union, UnionType):
        return next(_rule(each) for each in get_args(at) if each is not NoneType)
    if get_origin(at) is not Annotated:
        return f"one of {', '.join(map(str, get_args(at)))}" if get_origin(at) is Literal else None
    inner, *marks = get_args(at)
    rules = [mark.allowed for mark in marks if isinstance(mark, Rule)]
    return rules[-1] if rules else _rule(inner)


def _key_rule(at: object) -> str | None:
    return _rule(get_args(_bare(at))[0])


def _at(model: type[BaseModel], path: Path) -> object:
    """The annotated type at a path below a model."""
    at: object = model
    for step in path:
        at = _below(_bare(at), step)
    return at


def _below(kind: Any, step: str | int) -> object:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            if step in (field.alias, name):
                return annotated(field)
        return None
    arguments = get_args(kind)
    if not arguments:
        return None
    return arguments[0] if isinstance(step, int) else arguments[-1]
