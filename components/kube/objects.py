"""Kubernetes documents as Pulumi resources, typed where Kubernetes itself has the type."""

import importlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from components.kube.manifests import Document, identity, without_descriptions

# All runs apply as one field manager and take back fields that others changed. With the provider's random names, a run
# would conflict with objects that a killed run created but did not record. Fields that are not set here are left alone.
MANAGED = {"pulumi.com/patchFieldManager": "fedmesh-program", "pulumi.com/patchForce": "true"}
MODULES = {
    "v1": "core.v1",
    "apps/v1": "apps.v1",
    "rbac.authorization.k8s.io/v1": "rbac.v1",
    "storage.k8s.io/v1": "storage.v1",
    "networking.k8s.io/v1": "networking.v1",
    "admissionregistration.k8s.io/v1": "admissionregistration.v1",
}


def register(prefix: str, document: Document, opts: pulumi.ResourceOptions) -> pulumi.CustomResource:
    """Registers one object as `<prefix>-<name of the object>-<kind>`."""
    metadata = document["metadata"]
    annotations = {**MANAGED, **metadata.get("annotations", {})}
    document = {**document, "metadata": {**metadata, "annotations": annotations}}
    kind = str(document["kind"])
    name = f"{prefix}-{document['metadata']['name']}-{kind.lower()}"
    if kind == "CustomResourceDefinition":
        # three quarters of a CRD, each three times in the state that the engine writes at every step
        document = {**document, "spec": without_descriptions(document["spec"])}
    fields = {key: value for key, value in document.items() if key not in ("apiVersion", "kind")}
    if kind.endswith("Patch"):
        # the provider may record the object from before the patch, and would see a change in the next run
        recorded = pulumi.ResourceOptions(ignore_changes=["metadata.annotations"])
        opts = pulumi.ResourceOptions.merge(opts, recorded)
    module = MODULES.get(document["apiVersion"])
    if module is None:
        return k8s.apiextensions.CustomResource(
            name,
            api_version=document["apiVersion"],
            kind=kind,
            metadata=fields.pop("metadata"),
            opts=opts,
            **fields,
        )
    resource = getattr(importlib.import_module(f"pulumi_kubernetes.{module}"), kind)
    return resource(name, opts=opts, **{snake_case(key): value for key, value in fields.items()})


def register_all(
    prefix: str, documents: Iterable[Document], opts: pulumi.ResourceOptions
) -> Mapping[str, pulumi.CustomResource]:
    """Registers objects that don't depend on each other, by `Kind/name`."""
    return {identity(document): register(prefix, document, opts) for document in documents}


def register_chain(
    prefix: str, documents: Iterable[Document], opts: pulumi.ResourceOptions
) -> pulumi.CustomResource:
    """Registers objects, each after the one before it, and returns the last."""
    made: list[pulumi.CustomResource] = []
    for document in documents:
        after = pulumi.ResourceOptions(depends_on=made[-1:])
        made.append(register(prefix, document, pulumi.ResourceOptions.merge(opts, after)))
    return made[-1]


def child_of(parent: pulumi.Resource, *depends_on: Any) -> pulumi.ResourceOptions:
    """Options of a component's child that depends on other resources."""
    return pulumi.ResourceOptions(parent=parent, depends_on=list(depends_on))


def snake_case(name: str) -> str:
    """`roleRef` as `role_ref`, the way Pulumi's Python spells top-level fields."""
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()
