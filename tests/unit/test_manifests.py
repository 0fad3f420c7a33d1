"""Our YAML is loaded as it is, patched as documents, and has no field that Kubernetes does not know."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from components.config.images import ImageSettings
from components.kube.manifests import (
    FOLDER,
    as_json,
    checksum,
    load,
    load_one,
    merged,
    with_images,
    without_descriptions,
)
from components.kube.objects import MODULES

FILES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.yaml"))
TYPED = [file for file in FILES if "values" not in file and "config" not in file.rsplit("/", 1)[-1]]


def documents(file: str) -> list[Any]:
    return list(yaml.safe_load_all((FOLDER / file).read_text(encoding="utf-8")))


def typed_documents() -> list[Any]:
    found = [
        pytest.param(document, id=f"{file}:{document['kind']}/{document['metadata']['name']}")
        for file in TYPED
        for document in documents(file)
        if document.get("apiVersion") in MODULES
    ]
    assert len(found) > 20
    return found


def unknown_fields(document: Any, model: Any, where: str) -> list[str]:
    """Paths of fields that Kubernetes' own schema, as its Python client holds it, does not have."""
    names = {spelled: name for name, spelled in model.attribute_map.items()}
    wrong: list[str] = []
    for key, value in document.items():
        if key not in names:
            wrong.append(f"{where}.{key}")
            continue
        below = re.search(r"[A-Za-z]*V[0-9]\w+", model.openapi_types[names[key]])
        for number, item in enumerate(value if isinstance(value, list) else [value]):
            if below and isinstance(item, dict):
                wrong += unknown_fields(item, getattr(client, below.group()), f"{where}.{key}[{number}]")
    return wrong


@pytest.mark.parametrize("document", typed_documents())
def test_every_field_is_known_to_kubernetes(document: Any) -> None:
    kind = document["kind"].removesuffix("Patch")
    assert unknown_fields(document, getattr(client, f"V1{kind}"), kind) == []


def test_the_field_check_finds_a_misspelled_field() -> None:
    pod = {"containers": [{"name": "a", "imagePolicy": "x"}]}
    assert unknown_fields(pod, client.V1PodSpec, "pod") == ["pod.containers[0].imagePolicy"]


@pytest.mark.parametrize("file", FILES)
def test_every_file_says_in_its_first_line_what_it_is_or_holds_namespaces(file: str) -> None:
    text = (FOLDER / file).read_text(encoding="utf-8")
    assert text.startswith("#") or "namespaces" in file


def test_a_patch_replaces_lists_and_merges_mappings() -> None:
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 3}
    assert merged(base, {"a": {"c": [4]}, "e": 5}) == {"a": {"b": 1, "c": [4]}, "d": 3, "e": 5}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 3}


def test_a_patch_for_a_document_that_is_not_there_is_refused() -> None:
    with pytest.raises(KeyError, match="Service/other"):
        load("spire/services.yaml", {"Service/other": {}})


def test_loading_twice_gives_documents_of_their_own() -> None:
    load("spire/services.yaml")[0]["metadata"]["name"] = "changed"
    assert load("spire/services.yaml")[0]["metadata"]["name"] == "spire-server"
    load_one("storage/class.yaml")["metadata"]["annotations"].clear()
    assert load_one("storage/class.yaml")["metadata"]["annotations"]


def test_images_of_all_containers_are_taken_from_the_mirror() -> None:
    (daemonset,) = [
        d
        for d in with_images(load("spire/csi-driver.yaml"), ImageSettings(registry="r.example"))
        if d["kind"] == "DaemonSet"
    ]
    images = [container["image"] for container in daemonset["spec"]["template"]["spec"]["containers"]]
    assert images == [
        "r.example/spiffe/spiffe-csi-driver:0.2.3",
        "r.example/sig-storage/csi-node-driver-registrar:v2.13.0",
    ]


def test_equal_configs_have_equal_texts_and_digests() -> None:
    assert as_json({"b": 1, "a": {"d": 2, "c": 3}}) == as_json({"a": {"c": 3, "d": 2}, "b": 1})
    assert checksum({"x": "1"}) != checksum({"x": "2"})


def test_no_manifest_holds_a_secret_or_an_address() -> None:
    for file in FILES:
        text = Path(FOLDER / file).read_text(encoding="utf-8")
        assert "PRIVATE KEY" not in text
        assert "10.90." not in text


def test_a_schema_loses_its_texts_and_keeps_a_field_that_is_called_description():
    schema = {
        "description": "what it is",
        "properties": {"description": {"type": "string", "description": "a text"}},
        "anyOf": [{"description": "either", "required": ["a"]}],
    }
    kept = {"properties": {"description": {"type": "string"}}, "anyOf": [{"required": ["a"]}]}
    assert without_descriptions(schema) == kept


@pytest.mark.parametrize("file", sorted((FOLDER / "admission").glob("*.yaml")), ids=lambda file: file.stem)
def test_what_a_policy_refuses_to_create_can_be_deleted_where_it_exists(file: Path) -> None:
    """A deletion in the foreground ends with an update, by which the garbage collector removes a finalizer."""
    policy, _ = yaml.safe_load_all(file.read_text(encoding="utf-8"))
    judged = [
        rule
        for rule in policy["spec"]["matchConstraints"]["resourceRules"]
        if "UPDATE" in rule["operations"] and rule["apiGroups"] != [""]
    ]
    conditions = {each["name"]: each["expression"] for each in policy["spec"].get("matchConditions", [])}
    assert not judged or "oldObject.?spec" in conditions["changed"]
