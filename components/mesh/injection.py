"""Istio's injection templates with SPIRE's socket, for pods that name a template of Istio's own."""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import yaml

from components.kube.manifests import Document

INJECTOR = "istio-sidecar-injector"
NEEDED = ("sidecar", "gateway", "kube-gateway")
# The volume in which a proxy expects the socket of the Workload API: an emptyDir, spelled alike in each template.
VOLUME = "workload-socket"
EMPTY_SOCKET = re.compile(rf"^( *)- emptyDir:(?: {{}})?\n\1  name: {VOLUME}$", re.MULTILINE)
SPIRE_SOCKET = rf"\1- name: {VOLUME}\n\1  csi: {{driver: csi.spiffe.io, readOnly: true}}"


def spire_templates(rendered: Iterable[Document], ours: Collection[str]) -> Document:
    """Values of the chart istiod that give each of its injection templates SPIRE's socket.

    Istio's chart `gateway`, Gateway API's gateways and pods that name their templates don't get the default ones.

    Args:
        rendered: the documents of the chart; none in a preview before the cluster exists.
        ours: names of the templates that the chart was given.

    Raises:
        ValueError: a template has no such volume: this version of Istio makes it in another way.
    """
    injectors = [
        each for each in rendered if each["metadata"]["name"].startswith(INJECTOR) and "data" in each
    ]
    templates = {name: text for each in injectors for name, text in _templates(each).items()}
    patched = {
        name: with_spire(name, text)
        for name, text in templates.items()
        if name not in ours and (VOLUME in text or name in NEEDED)
    }
    return {"sidecarInjectorWebhook": {"templates": patched}} if patched else {}


def with_spire(name: str, template: str) -> str:
    """The injection template with SPIRE's socket in place of an empty folder."""
    text, count = EMPTY_SOCKET.subn(SPIRE_SOCKET, template)
    if count != 1:
        raise ValueError(f"Istio's injection template {name} has {count} volumes {VOLUME}, not 1")
    return text


def _templates(injector: Document) -> Mapping[str, Any]:
    return yaml.safe_load(injector["data"]["config"])["templates"]
