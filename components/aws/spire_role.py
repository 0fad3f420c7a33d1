"""The AWS role with which the SPIRE servers of one cluster keep keys in KMS and look at the instances of agents."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from components.aws.fleet import EksFleet
from components.aws.iam import document_json, pod_identity
from components.config.aws_facts import partition_of
from components.config.mesh import SpireSettings
from components.mesh.spire import NAMESPACE, SERVER, AwsRole


@dataclass(frozen=True)
class SpireRoleArgs:
    """Args of SpireRole.

    Attributes:
        cluster: the control plane, and `cluster_name`, its name in EKS.
        region: where the keys are.
        trust_domain: of the servers.
        settings: what the servers use of AWS.
        permissions_boundary: ARN of the role's boundary, None for none.
        tags: tags of role and keys.
    """

    cluster: pulumi.Resource
    cluster_name: str
    region: str
    trust_domain: str
    settings: SpireSettings
    permissions_boundary: pulumi.Input[str] | None
    tags: Mapping[str, str]


class SpireRole(pulumi.ComponentResource):
    """The servers' role, by pod identity, which creates keys of its trust domain and uses those alone.

    Outputs:
        made: what the servers' config says of it, and what their pods depend on.
    """

    made: AwsRole

    def __init__(self, name: str, args: SpireRoleArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:eks:SpireRole", name, None, opts)
        partition = partition_of(args.region) or "aws"
        account = aws.get_caller_identity_output(opts=pulumi.InvokeOutputOptions(parent=self)).account_id
        association = pod_identity(
            name,
            cluster=args.cluster,
            cluster_name=args.cluster_name,
            namespace=NAMESPACE,
            service_account=SERVER,
            policies=rights(partition, args),
            boundary=args.permissions_boundary,
            tags=args.tags,
            parent=self,
        )
        # SPIRE's own key policy names a role of partition aws without a path
        key_policy = pulumi.Output.all(account, association.role_arn).apply(
            lambda both: document_json(
                "spire-key-policy", {"PARTITION": partition, "ACCOUNT": both[0], "ROLE_ARN": both[1]}
            )
        )
        self.made = AwsRole(args.region, key_policy, args.tags, association)
        self.register_outputs({})


def rights(partition: str, args: SpireRoleArgs) -> dict[str, pulumi.Input[str]]:
    """The role's policies by name. What it may do with a key is in the key's own policy."""
    found: dict[str, pulumi.Input[str]] = {}
    if args.settings.key_manager == "aws_kms":
        # as SPIRE writes a trust domain into an alias
        alias = args.trust_domain.replace(".", "_")
        words = {"PARTITION": partition, "TRUST_DOMAIN": args.trust_domain, "ALIAS": alias}
        document = json.loads(document_json("spire-keys", words))
        create = document["Statement"][1]["Condition"]
        create["ForAllValues:StringLike"]["aws:TagKeys"] += sorted(args.tags)
        found["keys"] = json.dumps(document, separators=(",", ":"))
    if args.settings.node_attestor == "aws_iid":
        found["nodes"] = document_json("spire-nodes")
    return found


def spire_roles(fleet: EksFleet) -> dict[str, AwsRole]:
    """The role of SPIRE's servers by cluster; empty where they use nothing of AWS."""
    settings = fleet.settings
    if not (fleet.resources and settings.aws.mesh and settings.spire.needs_aws):
        return {}
    domains = {spec.name: spec.trust_domain for spec in settings.clusters}
    return {
        name: SpireRole(
            f"{name}-spire-aws",
            SpireRoleArgs(
                cluster=fleet.resources.clusters[name].control_plane,
                cluster_name=cluster.eks_name,
                region=cluster.region,
                trust_domain=domains[name],
                settings=settings.spire,
                permissions_boundary=fleet.resources.boundary(name),
                tags=settings.aws.tags,
            ),
            fleet.beside(name),
        ).made
        for name, cluster in fleet.specs.items()
    }
