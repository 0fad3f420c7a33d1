"""What is generated from the settings' models is in step with them, whole, and true."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import BaseModel, TypeAdapter, ValidationError

from components.config.fields import keys_of
from components.config.reference import PROJECT, Key, generated, keys
from components.config.settings import PREFIX, SECTIONS, Settings
from tests.unit.stacks import CALLERS, TODAY

STACKS = sorted([*PROJECT.glob("Pulumi.*.yaml"), *PROJECT.glob("examples/*/Pulumi.*.yaml")])
SCHEMA = Draft202012Validator(json.loads((PROJECT / "schemas/stack.schema.json").read_text()))
ALL_KEYS = list(keys(Settings))


def models(kind: Any) -> Iterator[type[BaseModel]]:
    """All models that a type is made of."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
        for field in kind.model_fields.values():
            yield from models(field.annotation)
    for argument in get_args(kind):
        yield from models(argument)


MODELS = sorted(set(models(Settings)), key=lambda model: model.__name__)


@pytest.mark.parametrize(("path", "text"), generated().items(), ids=lambda value: str(value)[:30])
def test_generated_files_are_in_step_with_the_models(path: Path, text: str) -> None:
    assert (PROJECT / path).read_text() == text, "run `make config-docs`"


def test_every_key_of_every_model_is_in_the_reference() -> None:
    document = (PROJECT / "docs/configuration.md").read_text()
    for model in MODELS:
        if model is Settings:
            continue
        for key in keys_of(model):
            assert f"{key}` |" in document, f"{model.__name__}.{key}"
    assert all(f"## {PREFIX}{section}\n" in document for section in SECTIONS)
    assert len(ALL_KEYS) > 100


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_model_and_field_is_described_frozen_and_closed(model: type[BaseModel]) -> None:
    assert model.__doc__
    assert model.__doc__ != BaseModel.__doc__
    assert model.model_config.get("frozen")
    assert model.model_config.get("extra") == "forbid"
    for name, field in model.model_fields.items():
        assert (field.description or "").endswith("."), f"{model.__name__}.{name}"
        extra = field.json_schema_extra
        assert isinstance(extra, dict)
        assert extra["since"]
        assert extra["replaces"]
        assert extra["example"] is not None


@pytest.mark.parametrize("key", ALL_KEYS, ids=lambda key: key.path)
def test_every_example_is_a_value_that_the_program_accepts(key: Key) -> None:
    example = json.loads(json.dumps(key.extra["example"]).replace("<your address>/32", CALLERS))
    if key.path == "clusters":  # it shows one of two
        example.append(
            {**example[0], **{name: f"{name.lower()}-2" for name in ("name", "trustDomain", "network")}}
        )
    owner = next(model for model in MODELS if key.field in model.model_fields.values())
    name = next(name for name, field in owner.model_fields.items() if field is key.field)
    annotation = owner.__pydantic_fields__[name]
    kind: Any = annotation.annotation
    for mark in annotation.metadata:
        kind = Annotated[kind, mark]
    TypeAdapter(kind).validate_python(example, context={"today": TODAY})


@pytest.mark.parametrize("file", STACKS, ids=lambda path: path.name)
def test_every_stack_file_names_the_schema_and_is_right_by_it(file: Path) -> None:
    # examples are used as copies beside Pulumi.yaml
    first = file.read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=schemas/stack.schema.json"
    assert [error.message for error in SCHEMA.iter_errors(yaml.safe_load(file.read_text()))] == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("fedmesh:failovr", {}),
        ("fedmesh:spire", {"svidTTL": "1h"}),
        ("fedmesh:spire", {"svidTtl": 1}),
        ("fedmesh:spire", {"logLevel": "debug"}),
        ("fedmesh:istio", {"replicas": 11}),
        ("fedmesh:clusters", []),
        ("fedmesh:failover", {"hosts": {"a.b.svc": {"retries": {"attempt": 1}}}}),
        ("fedmesh:aws", {"edge": {"mode": "dns"}}),
    ],
)
def test_editors_see_what_the_program_refuses(key: str, value: Any) -> None:
    document = yaml.safe_load((PROJECT / "Pulumi.lab.yaml").read_text())
    assert SCHEMA.is_valid(document)
    document["config"][key] = value
    assert not SCHEMA.is_valid(document)
    own = {name.removeprefix(PREFIX): each for name, each in document["config"].items()}
    with pytest.raises(ValidationError):
        Settings.model_validate(own, by_alias=True, by_name=False)


def test_editors_leave_other_namespaces_alone() -> None:
    document = yaml.safe_load((PROJECT / "Pulumi.lab.yaml").read_text())
    document["config"]["aws:region"] = "us-east-1"
    assert SCHEMA.is_valid({**document, "encryptionsalt": "v1:x"})


def test_the_project_file_has_the_type_of_every_section() -> None:
    config = yaml.safe_load((PROJECT / "Pulumi.yaml").read_text())["config"]
    assert list(config) == [f"{PREFIX}{name}" for name in SECTIONS]
    assert {key: entry["type"] for key, entry in config.items()} == {
        f"{PREFIX}{name}": "array" if name == "clusters" else "object" for name in SECTIONS
    }
    assert all("default" in entry for key, entry in config.items() if key != "fedmesh:clusters")
