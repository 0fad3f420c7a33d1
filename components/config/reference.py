"""Writes what is generated from the settings' models: the reference, the JSON schema and the types in Pulumi.yaml.

Run as `python -m components.config.reference`, or `make config-docs`.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from components.config.faults import annotated
from components.config.fields import Rule, keys_of
from components.config.mesh import ChartSpec
from components.config.settings import PREFIX, Settings
from components.config.versions import OFFICIAL_CHARTS

END_OF_DOCUMENT = "...\n"
PROJECT = Path(__file__).parents[2]
REFERENCE = Path("docs/configuration.md")
SCHEMA = Path("schemas/stack.schema.json")
PROJECT_FILE = Path("Pulumi.yaml")
GENERATED = "Written by `make config-docs` from the models in components/config: change those."
INTRODUCTION = f"""<!-- {GENERATED} -->
# Configuration

A stack is described by `Pulumi.<stack>.yaml`. All keys of fedmesh begin with `fedmesh:`. Keys of other namespaces, such
as those of Pulumi's providers, may stand beside them. `fedmesh:clusters` is the only key that a stack must have.

```yaml
# yaml-language-server: $schema={SCHEMA}
config:
  fedmesh:clusters:
    - name: cluster-1
      trustDomain: cluster-1.example.com
      network: network-1
      region: us-east-1
      kubeconfig: {{path: ~/.kube/config, context: cluster-1}}
    - name: cluster-2
      trustDomain: cluster-2.example.com
      network: network-2
      region: eu-west-1
      kubeconfig: {{path: ~/.kube/config, context: cluster-2}}
```

Editors that know the YAML language server complete and check the keys by the schema in the first line. From the
command line, `pulumi config set --path 'fedmesh:spire.svidTtl' 2h` sets one value.

## Errors

The program reads the whole configuration before it makes anything. It refuses a key that it does not know, at any
level, and a value that is not allowed, with one message of the form

```text
fedmesh:spire.svidTtl in Pulumi.dev.yaml: must be a sixth of caTtl (24h) or less, not 12h
```

| command | exit code |
| --- | --- |
| `pulumi preview`, `pulumi up` | 1, and nothing has been created or changed |
| `fedmesh verify` and the other commands | 2: wrong usage or configuration (0: success, 1: failed checks) |

## How to read the tables

A key without a value (`key:` alone) counts as not set. `<name>` stands for a name of your choice, `[]` for each entry
of a list. *Since* is the first release that has the key. *Replaces* says which resources go and come anew when the
value changes; "nothing" stands for a change in place, where pods may restart one after the other.
"""


@dataclass(frozen=True)
class Key:
    """One key of the configuration, as the reference shows it."""

    path: str
    kind: str
    default: str
    field: FieldInfo

    @property
    def extra(self) -> Mapping[str, Any]:
        """What `setting` was told beside the description."""
        return cast(Mapping[str, Any], self.field.json_schema_extra)

    def row(self) -> str:
        """The key's row of a table."""
        meaning = f"{_meaning(self.field)} Example: {_code(self.extra['example'])}"
        cells = (
            f"`{self.path}`",
            self.kind,
            self.default,
            self.extra["since"],
            self.extra["replaces"],
            meaning,
        )
        return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[Key]:
    """All keys of a model and of the models in it, in their order. Keys that all of its sections share come once."""
    shared = _shared(model)
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        yield Key(path, _kind(annotated(field)), _default(field), field)
        inner, step = _inner(field.annotation)
        # a section that holds others of its own kind has the same keys there
        if inner is not None and inner is not shared and not issubclass(model, inner):
            yield from keys(inner, f"{path}{step}.")
    if shared is not None:
        yield from keys(shared, f"{prefix}<name>.")


def reference() -> str:
    """docs/configuration.md."""
    parts = [INTRODUCTION]
    for name, field in Settings.model_fields.items():
        key = field.alias or name
        model, step = _inner(field.annotation)
        if model is None:
            raise TypeError(f"{key} must be a section")
        extra = cast(Mapping[str, Any], field.json_schema_extra)
        rows = [each.row() for each in keys(model, step and f"{step.removeprefix('.')}.")]
        required = "This key is required. " if field.is_required() else ""
        example = yaml.safe_dump({f"{PREFIX}{key}": extra["example"]}, sort_keys=False, width=110)
        parts.append(
            f"## {PREFIX}{key}\n\n{_documentation(model) if not step else _meaning(field)}\n\n"
            f"{required}Since {extra['since']}. A change replaces {extra['replaces']}.\n\n"
            f"```yaml\n{example}```\n\n"
            "| Key | Type | Default | Since | Replaces | Meaning |\n| --- | --- | --- | --- | --- | --- |\n"
            + "\n".join(rows)
            + "\n"
        )
    return "\n".join(parts)


def schema() -> str:
    """The JSON schema of Pulumi.<stack>.yaml."""
    whole = Settings.model_json_schema()
    definitions = cast(dict[str, Any], _tidy(whole["$defs"]))
    definitions["ClusterSpec"]["oneOf"] = [{"required": ["kubeconfig"]}, {"required": ["eks"]}]
    definitions["EksSpec"]["properties"]["nodeGroups"]["required"] = ["general", "spire-server"]
    properties = cast(dict[str, Any], _tidy(whole["properties"]))
    properties["clusters"]["minItems"] = 2
    document: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A stack of fedmesh",
        "description": GENERATED,
        "type": "object",
        "required": ["config"],
        "properties": {
            "config": {
                "type": "object",
                "required": [f"{PREFIX}{key}" for key in whole["required"]],
                "properties": {f"{PREFIX}{key}": value for key, value in properties.items()},
                "patternProperties": {f"^(?!{PREFIX})": {}},
                "additionalProperties": False,
            }
        },
        "$defs": definitions,
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def project_file(current: str) -> str:
    """Pulumi.yaml with the types of all keys: all that follows `config:` is written anew."""
    types: dict[str, Any] = {}
    for name, field in Settings.model_fields.items():
        is_list = get_origin(field.annotation) is tuple
        section = cast(type[BaseModel], _inner(field.annotation)[0])
        types[f"{PREFIX}{field.alias or name}"] = {
            "type": "array" if is_list else "object",
            **({"items": {"type": "object"}} if is_list else {}),
            **({} if field.is_required() else {"default": {}}),
            "description": f"{_meaning(field)} Keys: {', '.join(keys_of(section))}. See {REFERENCE}.",
        }
    head = current.partition("\nconfig:\n")[0].rstrip("\n")
    head = head.removesuffix(f"# {GENERATED}").rstrip("\n")
    text = yaml.safe_dump({"config": types}, sort_keys=False, width=110)
    return f"{head}\n# {GENERATED}\n{text}"


def generated(project: Path = PROJECT) -> dict[Path, str]:
    """The text of each generated file, by its path in the project."""
    current = (project / PROJECT_FILE).read_text(encoding="utf-8")
    return {REFERENCE: reference(), SCHEMA: schema(), PROJECT_FILE: project_file(current)}


def main() -> None:
    """Writes all generated files."""
    for path, text in generated().items():
        target = PROJECT / path
        target.parent.mkdir(exist_ok=True)
        target.write_text(text, encoding="utf-8")
        print(f"{path} written")


def _meaning(field: FieldInfo) -> str:
    """A key's description in one line."""
    return " ".join((field.description or "").split())


def _documentation(model: type[BaseModel]) -> str:
    lines = (model.__doc__ or "").strip().splitlines()
    return "\n".join(line.strip() for line in lines)


def _shared(model: type[BaseModel]) -> type[BaseModel] | None:
    """The model that several keys of a section have in common, such as that of the charts."""
    kinds = [_inner(field.annotation)[0] for field in model.model_fields.values()]
    return next((kind for kind in kinds if kind is not None and kinds.count(kind) == len(kinds) > 1), None)


def _inner(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """The model in a type, and how its keys are reached: `[]` in lists, `.<name>` in mappings."""
    if get_origin(annotation) is Annotated:
        return _inner(get_args(annotation)[0])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    arguments = get_args(annotation)
    if get_origin(annotation) in (Union, UnionType):
        return next(_inner(each) for each in arguments if each is not NoneType)
    if get_origin(annotation) is tuple:
        return _inner(arguments[0])[0], "[]"
    if get_origin(annotation) is not Literal and len(arguments) == 2:
        name = "host" if "host" in (_rule(arguments[0]) or "") else "name"
        return _inner(arguments[1])[0], f".<{name}>"
    return None, ""


def _rule(kind: Any) -> str | None:
    marks: tuple[Any, ...] = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
    return next((mark.allowed for mark in reversed(marks) if isinstance(mark, Rule)), None)


def _kind(kind: Any) -> str:
    """A type in words."""
    origin, arguments = get_origin(kind), get_args(kind)
    rule = _rule(kind)
    if rule or origin is Annotated:
        return rule or _kind(arguments[0])
    if origin in (Union, UnionType):
        return next(_kind(each) for each in arguments if each is not NoneType)
    if origin is Literal:
        return f"one of {', '.join(f'`{each}`' for each in arguments)}"
    if origin is tuple:
        return f"list: {_kind(arguments[0])}"
    return "`true` or `false`" if kind is bool else "mapping"


def _default(field: FieldInfo) -> str:
    extra = cast(Mapping[str, Any], field.json_schema_extra)
    if extra["defaultText"]:
        return str(extra["defaultText"])
    if _inner(field.annotation)[0] is ChartSpec:
        chart = OFFICIAL_CHARTS[str(field.alias)]
        return f"`{chart.name}` {chart.version} of {chart.repository}"
    if field.is_required():
        return "required"
    return "none" if field.default is None else _code(field.default)


def _code(value: Any) -> str:
    plain = list(cast(tuple[Any, ...], value)) if isinstance(value, tuple) else value
    if plain == "":
        return '`""`'
    text = yaml.safe_dump(plain, default_flow_style=True, width=10_000, sort_keys=False)
    # YAML marks the end of a document that is a single word
    return f"`{text.removesuffix(END_OF_DOCUMENT).strip()}`"


def _tidy(node: Any) -> Any:
    """A part of pydantic's schema for people: without its titles and nulls, with examples as JSON schema has them."""
    if isinstance(node, list):
        return [_tidy(each) for each in cast(list[Any], node)]
    if not isinstance(node, dict):
        return node
    given = dict(cast(dict[str, Any], node))
    is_setting = "replaces" in given and "since" in given
    if is_setting:
        example, text = given.pop("example"), given.pop("defaultText")
        given["examples"] = [example]
        del given["replaces"], given["since"]
        if text:
            given.pop("default", None)
    choices = cast(list[Any], given.get("anyOf", []))
    if {"type": "null"} in choices:
        del given["anyOf"]
        given.update(next(each for each in choices if each != {"type": "null"}))
        given.pop("default", None)
    if isinstance(given.get("description"), str):
        given["description"] = " ".join(given["description"].split())
    # a title is a text in a schema, and may be the name of a property
    return {
        key: value if key in ("default", "examples") and is_setting else _tidy(value)
        for key, value in given.items()
        if not (key == "title" and isinstance(value, str))
    }


if __name__ == "__main__":
    main()
