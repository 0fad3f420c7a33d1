"""The resource plugin `eks`: builds the components of pulumi-eks out of `aws` resources, through the engine."""

import os
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pulumi
import yaml
from pulumi.output import Unknown as PulumiUnknown
from pulumi.provider import ConstructResult, Provider
from pulumi.provider.server import main as serve

from testbed.sandbox.cluster_component import ClusterComponent
from testbed.sandbox.schema import failures, schema_of
from testbed.sandbox.values import UNKNOWN

CLUSTER = "eks:index:Cluster"
CLUSTERS_FOLDER = "FEDMESH_SANDBOX_CLUSTERS"


class EksProvider(Provider):
    """Constructs `eks.Cluster`; other components of pulumi-eks are refused."""

    def construct(
        self,
        name: str,
        resource_type: str,
        inputs: Mapping[str, Any],
        options: pulumi.ResourceOptions | None = None,
    ) -> ConstructResult:
        if resource_type != CLUSTER:
            raise ValueError(f"the sandbox does not stand for {resource_type}")
        providers = (options.providers if options else None) or {}
        if "aws" in providers and "providerCredentialOpts" not in inputs:
            raise ValueError(
                "It looks like you're using an explicit AWS provider. "
                "Please specify this provider in providerCredentialOpts."
            )
        found = failures(schema_of(CLUSTER), {key: _checkable(value) for key, value in inputs.items()})
        if found:
            raise ValueError("; ".join(f"{path}: {reason}" for path, reason in found))
        cluster = ClusterComponent(name, inputs, kubeconfig_of, options)
        return ConstructResult(cluster.urn, cluster.state)


def kubeconfig_of(name: str, endpoint: str, authority: str, region: str) -> dict[str, Any]:
    """The kubeconfig of the API server that stands for a cluster, or pulumi-eks's own where none does.

    The folder in FEDMESH_SANDBOX_CLUSTERS holds one kubeconfig file per cluster, `<name>.kubeconfig`.
    """
    folder = os.environ.get(CLUSTERS_FOLDER)
    path = Path(folder) / f"{name}.kubeconfig" if folder else None
    if path and path.exists():
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    args = ["--region", region, "eks", "get-token", "--cluster-name", name, "--output", "json"]
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "aws", "args": args}}
    server = {"server": endpoint, "certificate-authority-data": authority}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "kubernetes", "cluster": server}],
        "users": [{"name": "aws", "user": user}],
        "contexts": [{"name": "aws", "context": {"cluster": "kubernetes", "user": "aws"}}],
        "current-context": "aws",
    }


def _checkable(value: Any) -> Any:
    """The value as far as it is known before the engine has run."""
    if isinstance(value, pulumi.Output | PulumiUnknown):
        return UNKNOWN
    if isinstance(value, Mapping):
        return {key: _checkable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_checkable(item) for item in value]
    return value


if __name__ == "__main__":
    serve(EksProvider(version("pulumi-eks")), sys.argv[1:])
