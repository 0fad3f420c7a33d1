"""The AWS identity with which cert-manager proves hosts to an ACME authority, by records in Route 53."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi

from components.aws.fleet import EksFleet
from components.aws.iam import document_json, pod_identity
from components.config.aws_facts import partition_of

# Of cert-manager's chart under the name of its release.
NAMESPACE = SERVICE_ACCOUNT = "cert-manager"


@dataclass(frozen=True)
class DnsSolverArgs:
    """Args of DnsSolver.

    Attributes:
        cluster: the control plane, and `cluster_name`, its name in EKS.
        region: of the cluster.
        zone_id: id of the hosted zone of the hosts.
        permissions_boundary: ARN of the role's boundary, None for none.
        tags: tags of all resources.
    """

    cluster: pulumi.Resource
    cluster_name: str
    region: str
    zone_id: str
    permissions_boundary: pulumi.Input[str] | None
    tags: Mapping[str, str]


class DnsSolver(pulumi.ComponentResource):
    """A role, by pod identity, that may change TXT records `_acme-challenge` of one zone."""

    def __init__(self, name: str, args: DnsSolverArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:eks:DnsSolver", name, None, opts)
        words = {"PARTITION": partition_of(args.region) or "aws", "ZONE_ID": args.zone_id}
        pod_identity(
            name,
            cluster=args.cluster,
            cluster_name=args.cluster_name,
            namespace=NAMESPACE,
            service_account=SERVICE_ACCOUNT,
            policies={"policy": document_json("dns-solver", words)},
            boundary=args.permissions_boundary,
            tags=args.tags,
            parent=self,
        )
        self.register_outputs({})


def dns_solvers(fleet: EksFleet) -> dict[str, DnsSolver]:
    """Creates the identity on every cluster of a stack whose hosts are proved by ACME; empty for other stacks."""
    settings, acme = fleet.settings.aws, fleet.settings.ingress.acme
    if not (fleet.resources and acme and settings.mesh):
        return {}
    return {
        name: DnsSolver(
            f"{name}-dns-solver",
            DnsSolverArgs(
                cluster=fleet.resources.clusters[name].control_plane,
                cluster_name=cluster.eks_name,
                region=cluster.region,
                zone_id=acme.zone_id,
                permissions_boundary=fleet.resources.boundary(name),
                tags=settings.tags,
            ),
            fleet.beside(name),
        )
        for name, cluster in fleet.specs.items()
    }
