"""The AWS role with which the SPIRE servers of one cluster keep their keys in KMS."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from components.aws.fleet import EksFleet
from components.aws.iam import ROLE_PATH, document_json
from components.config.aws_facts import partition_of
from components.mesh.spire import NAMESPACE, SERVER, AwsKeys


@dataclass(frozen=True)
class SpireKeysArgs:
    """Args of SpireKeys.

    Attributes:
        cluster: the control plane, and `cluster_name`, its name in EKS.
        region: where the keys are.
        trust_domain: of the servers.
        permissions_boundary: ARN of the role's boundary, "" for none.
        tags: tags of role and keys.
    """

    cluster: pulumi.Resource
    cluster_name: str
    region: str
    trust_domain: str
    permissions_boundary: str
    tags: Mapping[str, str]


class SpireKeys(pulumi.ComponentResource):
    """The servers' role, by pod identity, which creates keys of its trust domain and uses those alone.

    Outputs:
        keys: what the servers' config says of them; known when pods get the role.
    """

    keys: AwsKeys

    def __init__(self, name: str, args: SpireKeysArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:eks:SpireKeys", name, None, opts)
        partition = partition_of(args.region) or "aws"
        account = aws.get_caller_identity_output(opts=pulumi.InvokeOutputOptions(parent=self)).account_id
        child = pulumi.ResourceOptions(parent=self)
        role = aws.iam.Role(
            f"{name}-role",
            assume_role_policy=document_json("trust-pod-identity"),
            path=ROLE_PATH,
            permissions_boundary=args.permissions_boundary or None,
            tags=dict(args.tags),
            opts=child,
        )
        policy = aws.iam.RolePolicy(
            f"{name}-policy", role=role.id, policy=rights(partition, args.trust_domain, args.tags), opts=child
        )
        association = aws.eks.PodIdentityAssociation(
            f"{name}-identity",
            cluster_name=args.cluster_name,
            namespace=NAMESPACE,
            service_account=SERVER,
            role_arn=role.arn,
            tags=dict(args.tags),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[policy, args.cluster]),
        )
        # SPIRE's own key policy names a role of partition aws without a path
        key_policy = pulumi.Output.all(account, association.role_arn).apply(
            lambda both: document_json(
                "spire-key-policy", {"PARTITION": partition, "ACCOUNT": both[0], "ROLE_ARN": both[1]}
            )
        )
        self.keys = AwsKeys(args.region, key_policy, args.tags)
        self.register_outputs({})


def rights(partition: str, trust_domain: str, tags: Mapping[str, str]) -> str:
    """The role's policy. What it may do with a key is in the key's own policy."""
    # as SPIRE writes a trust domain into an alias
    words = {"PARTITION": partition, "TRUST_DOMAIN": trust_domain, "ALIAS": trust_domain.replace(".", "_")}
    document = json.loads(document_json("spire-keys", words))
    document["Statement"][1]["Condition"]["ForAllValues:StringLike"]["aws:TagKeys"] += sorted(tags)
    return json.dumps(document, separators=(",", ":"))


def spire_keys(fleet: EksFleet) -> dict[str, AwsKeys]:
    """What SPIRE's servers need for keys in KMS, by cluster; empty where the stack keeps them on disk."""
    settings = fleet.settings
    if not (fleet.resources and settings.aws.mesh and settings.spire.key_manager == "aws_kms"):
        return {}
    domains = {spec.name: spec.trust_domain for spec in settings.clusters}
    return {
        name: SpireKeys(
            f"{name}-spire-keys",
            SpireKeysArgs(
                cluster=fleet.resources.clusters[name].control_plane,
                cluster_name=cluster.eks_name,
                region=cluster.region,
                trust_domain=domains[name],
                permissions_boundary=settings.aws.permissions_boundary,
                tags=settings.aws.tags,
            ),
            fleet.in_region(cluster.region),
        ).keys
        for name, cluster in fleet.specs.items()
    }
