"""What every istiod needs to see the services of every other cluster."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import cast

import pulumi
import pulumi_kubernetes as k8s

from components.kube.manifests import load_one
from components.kube.objects import register
from components.kube.tokens import peer_kubeconfig


@dataclass(frozen=True)
class RemoteSecretsMember:
    """One cluster.

    Attributes:
        api_server: URL under which the peers reach its API server.
        istio_namespace: where its istiod is ready.
        provider: access to the cluster.
    """

    api_server: pulumi.Input[str]
    istio_namespace: pulumi.Input[str]
    provider: k8s.Provider


@dataclass(frozen=True)
class RemoteSecretsArgs:
    """Args of RemoteSecrets: the members by cluster name."""

    members: Mapping[str, RemoteSecretsMember]


class RemoteSecrets(pulumi.ComponentResource):
    """A reader token on every cluster, and a remote secret for every ordered pair."""

    def __init__(
        self, name: str, args: RemoteSecretsArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("fedmesh:istio:RemoteSecrets", name, None, opts)
        self._name = name
        tokens = {cluster: self._token(cluster, member) for cluster, member in args.members.items()}
        for here, there in permutations(args.members, 2):
            self._remote_secret(here, args.members[here], there, args.members[there], tokens[there])
        self.register_outputs({})

    def _token(self, cluster: str, member: RemoteSecretsMember) -> pulumi.Output[Mapping[str, str]]:
        document = load_one("remote_secrets/reader.yaml", {"metadata": {"namespace": member.istio_namespace}})
        opts = pulumi.ResourceOptions(
            parent=self,
            provider=member.provider,
            # the cluster fills in the data
            ignore_changes=["data"],
            additional_secret_outputs=["data"],
        )
        secret = cast(k8s.core.v1.Secret, register(f"{self._name}-{cluster}", document, opts))
        return pulumi.Output.secret(secret.data)

    def _remote_secret(
        self,
        here: str,
        member: RemoteSecretsMember,
        there: str,
        peer: RemoteSecretsMember,
        token: pulumi.Output[Mapping[str, str]],
    ) -> None:
        content = pulumi.Output.all(peer.api_server, token).apply(
            lambda known: json.dumps(peer_kubeconfig(there, known[0], known[1]))
        )
        document = load_one(
            "remote_secrets/remote-secret.yaml",
            {
                "metadata": {
                    "name": f"istio-remote-secret-{there}",
                    "namespace": member.istio_namespace,
                    "annotations": {"networking.istio.io/cluster": there},
                },
                "stringData": {there: pulumi.Output.secret(content)},
            },
        )
        register(
            f"{self._name}-{here}",
            document,
            pulumi.ResourceOptions(parent=self, provider=member.provider),
        )
