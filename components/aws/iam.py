"""IAM policy documents from `manifests/iam`, and the roles that the components create."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import pulumi
import pulumi_aws as aws

DOCUMENTS = Path(__file__).parents[2] / "manifests" / "iam"


# The deployer's own policy (docs/iam-policy.json) lets it create roles below this path alone.
ROLE_PATH = "/fedmesh/"


def document_json(name: str, words: Mapping[str, str] | None = None) -> str:
    """A policy document as the text that AWS takes.

    Args:
        name: file name in `manifests/iam` without `.json`.
        words: what to put for the words in capitals that the document uses.
    """
    parsed = json.loads((DOCUMENTS / f"{name}.json").read_text(encoding="utf-8"))
    return json.dumps(_replaced(parsed, words or {}), separators=(",", ":"))


def managed_policy(name: str, partition: str) -> str:
    """The ARN of a policy that AWS manages."""
    return f"arn:{partition}:iam::aws:policy/{name}"


def role(
    name: str,
    *,
    trust: str,
    policies: Sequence[str],
    boundary: pulumi.Input[str] | None,
    tags: Mapping[str, str],
    opts: pulumi.ResourceOptions,
) -> tuple[aws.iam.Role, list[aws.iam.RolePolicyAttachment]]:
    """Creates a role with managed policies attached.

    Args:
        name: Pulumi name of the role; the attachments add a number.
        trust: name of the trust document in `manifests/iam`.
        policies: ARNs of managed policies.
        boundary: ARN of the permissions boundary, None for none.
        tags: tags of the role.
        opts: options of every resource, the parent above all.

    Returns:
        The role and its attachments. A resource that uses the permissions must depend on the attachments.
    """
    created = aws.iam.Role(
        name,
        assume_role_policy=document_json(trust),
        path=ROLE_PATH,
        permissions_boundary=boundary,
        tags=tags,
        opts=opts,
    )
    return created, [
        aws.iam.RolePolicyAttachment(
            f"{name}-{arn.rsplit('/', 1)[1]}", role=created.name, policy_arn=arn, opts=opts
        )
        for arn in policies
    ]


def pod_identity(
    name: str,
    *,
    cluster: pulumi.Resource,
    cluster_name: str,
    namespace: str,
    service_account: str,
    policies: Mapping[str, pulumi.Input[str]],
    boundary: pulumi.Input[str] | None,
    tags: Mapping[str, str],
    parent: pulumi.Resource,
) -> aws.eks.PodIdentityAssociation:
    """Creates a role with policies of its own, and gives it to the pods of a service account.

    Args:
        name: Pulumi name of the resources, each with its kind behind it.
        cluster: the control plane, and `cluster_name`, its name in EKS.
        namespace, service_account: of the pods.
        policies: what they may do, as JSON by the last part of the policy's Pulumi name.
        boundary: ARN of the permissions boundary, None for none.
        tags: tags of all resources.
        parent: the component that they belong to.
    """
    child = pulumi.ResourceOptions(parent=parent)
    made = aws.iam.Role(
        f"{name}-role",
        assume_role_policy=document_json("trust-pod-identity"),
        path=ROLE_PATH,
        permissions_boundary=boundary,
        tags=dict(tags),
        opts=child,
    )
    allowed = [
        aws.iam.RolePolicy(f"{name}-{part}", role=made.id, policy=policy, opts=child)
        for part, policy in policies.items()
    ]
    return aws.eks.PodIdentityAssociation(
        f"{name}-identity",
        cluster_name=cluster_name,
        namespace=namespace,
        service_account=service_account,
        role_arn=made.arn,
        tags=dict(tags),
        opts=pulumi.ResourceOptions(parent=parent, depends_on=[*allowed, cluster]),
    )


def _replaced(node: object, words: Mapping[str, str]) -> object:
    if isinstance(node, str):
        for word, value in words.items():
            node = node.replace(word, value)
        return node
    if isinstance(node, list):
        return [_replaced(item, words) for item in cast(list[object], node)]
    if isinstance(node, dict):
        return {key: _replaced(value, words) for key, value in cast(dict[str, object], node).items()}
    return node
