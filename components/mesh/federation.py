"""SPIFFE federation: every cluster trusts the identities of every other cluster."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from components.kube.manifests import load, load_one, merged
from components.kube.objects import register, register_all
from components.mesh.spire import BUNDLE_PORT


@dataclass(frozen=True)
class FederationMember:
    """One cluster of the federation.

    Attributes:
        trust_domain: its SPIFFE trust domain.
        bundle: its bundle in SPIFFE's JSON form, as it is now.
        bundle_address: IP or name of its bundle endpoint.
        crds: resource that the relationships on this cluster depend on.
        provider: access to the cluster.
    """

    trust_domain: str
    bundle: pulumi.Input[str]
    bundle_address: pulumi.Input[str]
    crds: pulumi.Resource
    provider: k8s.Provider


@dataclass(frozen=True)
class FederationArgs:
    """Args of Federation.

    Attributes:
        members: the members by cluster name.
        migrating: whether the gateways of version 0.1 keep their identities.
    """

    members: Mapping[str, FederationMember]
    migrating: bool = False


class Federation(pulumi.ComponentResource):
    """A federation relationship for every ordered pair of clusters, and identities that federate with all peers."""

    def __init__(self, name: str, args: FederationArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:spire:Federation", name, None, opts)
        self._name = name
        self._migrating = args.migrating
        trusts: dict[str, list[pulumi.CustomResource]] = {cluster: [] for cluster in args.members}
        for here, there in permutations(args.members, 2):
            trusts[here].append(self._trust(here, args.members[here], there, args.members[there]))
        for here in args.members:
            self._workloads(here, args.members, trusts[here])
        self.register_outputs({})

    def _trust(
        self, here: str, member: FederationMember, there: str, peer: FederationMember
    ) -> pulumi.CustomResource:
        bundle = pulumi.Output.from_input(peer.bundle)
        # SPIRE reads a new seed only with a new URL: the URL's fragment, which is never sent, is a digest of the roots
        url = pulumi.Output.concat("https://", peer.bundle_address, f":{BUNDLE_PORT}/#", bundle.apply(roots))
        document = load_one(
            "federation/trust-domain.yaml",
            {
                "metadata": {"name": there},
                "spec": {
                    "trustDomain": peer.trust_domain,
                    "bundleEndpointURL": url,
                    "bundleEndpointProfile": {
                        "endpointSPIFFEID": f"spiffe://{peer.trust_domain}/spire/server"
                    },
                    "trustDomainBundle": bundle.apply(seed),
                },
            },
        )
        opts = pulumi.ResourceOptions(parent=self, provider=member.provider, depends_on=[member.crds])
        return register(f"{self._name}-{here}", document, opts)

    def _workloads(
        self,
        here: str,
        members: Mapping[str, FederationMember],
        trusts: list[pulumi.CustomResource],
    ) -> None:
        peers = [member.trust_domain for cluster, member in members.items() if cluster != here]
        known = {"spec": {"federatesWith": peers}}
        files = ["workloads", *(["former-gateways"] if self._migrating else [])]
        documents = [merged(each, known) for file in files for each in load(f"federation/{file}.yaml")]
        # SPIRE rejects an entry that federates with a trust domain whose bundle it does not hold yet
        opts = pulumi.ResourceOptions(
            parent=self, provider=members[here].provider, depends_on=[members[here].crds, *trusts]
        )
        register_all(f"{self._name}-{here}", documents, opts)


def seed(bundle: str) -> str:
    """Returns the initial bundle of a relationship: the X.509 roots and the refresh hint.

    Afterwards the servers fetch each other's bundles. JWT keys and sequence numbers, which change often, are left out,
    so that the seed changes only with a root.
    """
    whole = json.loads(bundle)
    hint = {key: whole[key] for key in ("spiffe_refresh_hint",) if key in whole}
    return json.dumps({"keys": _x509(whole), **hint}, sort_keys=True)


def roots(bundle: str) -> str:
    """Returns a digest of the X.509 roots of a bundle."""
    return hashlib.sha256(json.dumps(_x509(json.loads(bundle)), sort_keys=True).encode()).hexdigest()[:16]


def _x509(bundle: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    keys = [key for key in bundle["keys"] if key["use"] == "x509-svid"]
    return sorted(keys, key=lambda key: key["x5c"])
