"""Loads the YAML in manifests/ and patches values into the parsed documents, without Pulumi."""

import hashlib
import json
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, cast

import yaml

from components.config.images import ImageSettings

FOLDER = Path(__file__).parents[2] / "manifests"

Document = dict[str, Any]


def load(file: str, patches: Mapping[str, Mapping[str, Any]] | None = None) -> list[Document]:
    """The documents of `manifests/<file>`, in their order, each merged with its patch.

    Args:
        file: path below manifests/, such as `spire/server.yaml`.
        patches: by `Kind/name` what is merged into that document (see `merged`).

    Raises:
        KeyError: a patch belongs to no document.
    """
    documents = [deepcopy(document) for document in _read(file)]
    found = {identity(document): document for document in documents}
    for key, patch in (patches or {}).items():
        if key not in found:
            raise KeyError(f"manifests/{file} has no {key}, only {', '.join(found)}")
        found[key].update(merged(found[key], patch))
    return documents


def load_one(file: str, patch: Mapping[str, Any] | None = None) -> Document:
    """The only document of a file, such as Helm values or a program's config, merged with the patch."""
    (document,) = _read(file)
    return merged(document, patch or {})


def identity(document: Mapping[str, Any]) -> str:
    """`Kind/name` of a Kubernetes object."""
    return f"{document['kind']}/{document['metadata']['name']}"


def merged(base: Mapping[str, Any], patch: Mapping[str, Any]) -> Document:
    """A copy of `base` with `patch` laid over it: mappings are merged key by key, all else is replaced."""
    result: Document = deepcopy(dict(base))
    for key, value in patch.items():
        below = result.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = (
            merged(cast(Mapping[str, Any], below), cast(Mapping[str, Any], value)) if both else value
        )
    return result


def without_descriptions(schema: Any) -> Any:
    """A copy of a JSON schema, or of what holds some, without the texts that describe its fields."""
    if isinstance(schema, Mapping):
        fields = cast(Mapping[str, Any], schema)
        # a field that is called description has a schema, not a text
        return {
            key: without_descriptions(value)
            for key, value in fields.items()
            if key != "description" or not isinstance(value, str)
        }
    return (
        [without_descriptions(each) for each in cast(list[Any], schema)]
        if isinstance(schema, list)
        else schema
    )


def with_images(documents: list[Document], images: ImageSettings) -> list[Document]:
    """The documents with the images of all pod templates from where the stack takes them."""
    for document in documents:
        pod = document.get("spec", {}).get("template", {}).get("spec", {})
        for container in [*pod.get("initContainers", []), *pod.get("containers", [])]:
            container["image"] = images.of(container["image"])
    return documents


def as_json(config: Mapping[str, Any]) -> str:
    """A program's config as JSON, always in the same order, so that equal values give equal text."""
    return json.dumps(config, indent=2, sort_keys=True) + "\n"


def checksum(data: Mapping[str, str]) -> str:
    """A short digest of a ConfigMap's data: as a pod annotation it restarts the pods when the data changes."""
    return hashlib.sha256(as_json(data).encode()).hexdigest()[:16]


@cache
def _read(file: str) -> tuple[Document, ...]:
    return tuple(yaml.safe_load_all((FOLDER / file).read_text(encoding="utf-8")))
