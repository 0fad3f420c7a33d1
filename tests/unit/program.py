"""Runs the whole program under Pulumi's mocks, on clusters that exist, and records what it registers."""

import asyncio
import json
import os
import runpy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pulumi
import yaml
from pulumi.runtime.stack import wait_for_rpcs

from components.kube.manifests import merged
from tests.unit.recording import callbacks, forget

PROJECT = Path(__file__).parent.parent.parent
# the storage of clusters that bring none
LOCAL = {"class": "local", "provisioner": "example.com/local"}
SECRET = "1b47061264138c4ac30d75fd1eb44270"  # Pulumi's mark of a secret
MARK = "4dabf18193072939515e22adb298388d"
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "gateways.networking.istio.io", "annotations": {"helm.sh/resource-policy": "keep"}},
    "spec": {},
}
GATEWAY_CRD = merged(CRD, {"metadata": {"name": "gateways.gateway.networking.k8s.io"}})
# what is in the chart istiod: the volume as each of Istio's templates has it
INJECTOR = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "istio-sidecar-injector", "namespace": "istio-system"},
    "data": {
        "config": yaml.safe_dump(
            {
                "templates": {
                    "spire": "spec: {}",
                    "grpc-simple": "spec: {}",
                    **{
                        name: (
                            f"spec:\n  volumes:\n{indent}- emptyDir:\n{indent}  name: workload-socket\n"
                            f"{indent}- name: x\n"
                        )
                        for name, indent in (("sidecar", "  "), ("gateway", "  "), ("kube-gateway", "      "))
                    },
                }
            }
        )
    },
}
# what Kubernetes would fill in
FILLED_IN: dict[str, dict[str, Any]] = {
    "kubernetes:core/v1:ConfigMap": {"data": {"bundle": '{"keys": []}'}},
    "kubernetes:core/v1:Secret": {"data": {"token": "dG9rZW4=", "ca.crt": "Y2E="}},
    "kubernetes:core/v1:Service": {"status": {"loadBalancer": {"ingress": [{"ip": "10.90.0.100"}]}}},
    "pulumi:pulumi:StackReference": {
        "outputs": {
            "lastKnown": {
                "cluster-2": {
                    "bundle": '{"keys": [{"use": "x509-svid", "x5c": ["of the last run"]}]}',
                    "addresses": {"ingress": "10.90.0.201", "eastwest": "10.90.0.202"},
                }
            }
        },
        "secretOutputNames": ["lastKnown"],
    },
    "kubernetes:helm.sh/v3:Release": {"status": {"namespace": "istio-system", "status": "deployed"}},
}


@dataclass(frozen=True)
class Object:
    """One registered or read resource, its inputs resolved, and the names of the resources that it waits for."""

    type: str
    name: str
    inputs: dict[str, Any]
    provider: str
    after: frozenset[str]
    ignores: tuple[str, ...]
    replaced_on: tuple[str, ...]
    secret: bool
    read: bool
    retained: bool

    @property
    def document(self) -> dict[str, Any]:
        """The Kubernetes object; empty for what is none, such as a release."""
        return self.inputs if "kind" in self.inputs and "metadata" in self.inputs else {}


@dataclass
class Program(pulumi.runtime.Mocks):
    """What the program registered, in its order, and with which options it had charts rendered."""

    objects: list[Object] = field(default_factory=list)
    rendered: list[dict[str, Any]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        metadata = args.inputs.get("metadata", {})
        name = args.inputs.get("name") or (metadata.get("name") if isinstance(metadata, dict) else args.name)
        return str(name), {**args.inputs, **FILLED_IN.get(args.typ, {})}

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[str, Any]:
        assert args.token == "kubernetes:helm:template", args.token
        options = json.loads(args.args["jsonOpts"])
        self.rendered.append(options)
        return {"result": [INJECTOR if options["release_name"] == "istiod" else CRD]}

    def read(self, source: str) -> tuple[dict[str, Any], ...]:
        """Gateway API's file."""
        self.files.append(source)
        return (GATEWAY_CRD,)

    def one(self, name: str) -> Object:
        """The only resource of that name that is registered, not just read."""
        (found,) = [each for each in self.objects if each.name == name and not each.read]
        return found

    def kind(self, kind: str) -> list[Object]:
        """The Kubernetes objects of one kind, in the order of registration."""
        return [each for each in self.objects if each.document.get("kind") == kind and not each.read]

    def comes_after(self, later: str, earlier: str) -> bool:
        """Whether a chain of dependencies leads from the resource `later` to `earlier`."""
        seen: set[str] = set()
        waiting = {later}
        while waiting:
            name = waiting.pop()
            seen.add(name)
            after = frozenset[str]().union(*(each.after for each in self.objects if each.name == name))
            if earlier in after:
                return True
            waiting |= after - seen
        return False


class Monitor(pulumi.runtime.mocks.MockMonitor):
    """Pulumi's mock engine, with an eye on dependencies, providers and secrets."""

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802
        answer = super().RegisterResource(request)
        self._record(request, request.object, read=False)
        return answer

    def ReadResource(self, request: Any) -> Any:  # noqa: N802
        answer = super().ReadResource(request)
        self._record(request, request.properties, read=True)
        return answer

    def _record(self, request: Any, inputs: Any, *, read: bool) -> None:
        program = self.mocks
        assert isinstance(program, Program)
        properties = pulumi.runtime.rpc.deserialize_properties(inputs)
        program.objects.append(
            Object(
                type=request.type,
                name=request.name,
                inputs={key: _plain(each) for key, each in properties.items()},
                provider=request.provider.split("::")[-2] if request.provider else "",
                after=frozenset(
                    urn.split("::")[-1] for urn in [*request.dependencies, request.parent] if urn
                ),
                ignores=() if read else tuple(request.ignoreChanges),
                replaced_on=() if read else tuple(request.replaceOnChanges),
                secret=SECRET in str(inputs),
                read=read,
                retained=False if read else request.retainOnDelete,
            )
        )


def _plain(each: Any) -> Any:
    return each["value"] if isinstance(each, dict) and each.get(MARK) == SECRET else each


def members(count: int, folder: Path) -> list[dict[str, Any]]:
    """The config of so many clusters, with a kubeconfig for each in `folder`."""
    for number in range(1, count + 1):
        (folder / f"{number}.kubeconfig").write_text(yaml.safe_dump(kubeconfig(f"https://10.90.0.{number}1")))
    return [
        {
            "name": f"cluster-{number}",
            "trustDomain": f"td{number}.example",
            "network": f"network-{number}",
            "region": f"region-{number}",
            "zone": f"zone-{number}",
            "kubeconfig": {"path": str(folder / f"{number}.kubeconfig")},
        }
        for number in range(1, count + 1)
    ]


def kubeconfig(server: str) -> dict[str, Any]:
    """A kubeconfig with one context."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "admin",
        "clusters": [{"name": "it", "cluster": {"server": server}}],
        "users": [{"name": "me", "user": {"token": "let-me-in"}}],
        "contexts": [{"name": "admin", "context": {"cluster": "it", "user": "me"}}],
    }


def run(config: Mapping[str, Any]) -> Program:
    """Runs `__main__.py` with the values of `config` (by key, without the prefix `fedmesh:`)."""
    program = Program()
    forget()
    asyncio.set_event_loop(asyncio.new_event_loop())
    pulumi.runtime.set_all_config({f"fedmesh:{key}": json.dumps(each) for key, each in config.items()})
    pulumi.runtime.set_mocks(
        program, project="fedmesh", stack="unit", preview=False, monitor=Monitor(program)
    )
    os.chdir(PROJECT)
    with (
        patch("pulumi.runtime.resource._get_callbacks", callbacks),
        patch("components.mesh.gateway_api.documents_of", program.read),
    ):
        runpy.run_path(str(PROJECT / "__main__.py"))
        asyncio.get_event_loop().run_until_complete(wait_for_rpcs())
    return program
