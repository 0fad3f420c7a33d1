"""Trust between the clusters: every cluster accepts the identities of every other."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations

import pulumi
import pulumi_kubernetes as k8s

from components.manifests import load_one
from components.objects import register
from components.spire import BUNDLE_PORT


@dataclass(frozen=True)
class FederationMember:
    """One cluster as its peers see it.

    Attributes:
        trust_domain: its SPIFFE trust domain.
        bundle: its bundle in SPIFFE's JSON form, the seed of the relationship.
        bundle_address: IP or name of its bundle endpoint.
        crds: what the relationships on this cluster need first.
        provider: access to the cluster.
    """

    trust_domain: str
    bundle: pulumi.Input[str]
    bundle_address: pulumi.Input[str]
    crds: pulumi.Resource
    provider: k8s.Provider


@dataclass(frozen=True)
class FederationArgs:
    """Args of Federation: the members by cluster name."""

    members: Mapping[str, FederationMember]


class Federation(pulumi.ComponentResource):
    """A relationship for every ordered pair of clusters, then the identities of the pods, known to all."""

    def __init__(self, name: str, args: FederationArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:spire:Federation", name, None, opts)
        self._name = name
        trusts: dict[str, list[pulumi.CustomResource]] = {cluster: [] for cluster in args.members}
        for here, there in permutations(args.members, 2):
            trusts[here].append(self._trust(here, args.members[here], there, args.members[there]))
        for here in args.members:
            self._workloads(here, args.members, trusts[here])
        self.register_outputs({})

    def _trust(
        self, here: str, member: FederationMember, there: str, peer: FederationMember
    ) -> pulumi.CustomResource:
        url = pulumi.Output.concat("https://", peer.bundle_address, f":{BUNDLE_PORT}")
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
                    "trustDomainBundle": peer.bundle,
                },
            },
        )
        # the bundle is a seed: from then on the servers refresh each other
        opts = pulumi.ResourceOptions(
            parent=self,
            provider=member.provider,
            depends_on=[member.crds],
            ignore_changes=["spec.trustDomainBundle"],
        )
        return register(f"{self._name}-{here}", document, opts)

    def _workloads(
        self,
        here: str,
        members: Mapping[str, FederationMember],
        trusts: list[pulumi.CustomResource],
    ) -> None:
        peers = [member.trust_domain for cluster, member in members.items() if cluster != here]
        document = load_one("federation/workloads.yaml", {"spec": {"federatesWith": peers}})
        # an entry that names a trust domain whose bundle is not there yet fails
        opts = pulumi.ResourceOptions(
            parent=self, provider=members[here].provider, depends_on=[members[here].crds, *trusts]
        )
        register(f"{self._name}-{here}", document, opts)
