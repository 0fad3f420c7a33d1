"""The deployer's IAM policy and the boundary of the roles that it creates."""

import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from components.aws.eks import NODE_POLICIES
from components.aws.iam import DOCUMENTS, ROLE_PATH, document_json
from policies.iam import MANAGED_POLICIES

DOCS = Path(__file__).parents[2] / "docs"


def statements(document: str) -> list[dict[str, Any]]:
    return json.loads((DOCS / document).read_text(encoding="utf-8"))["Statement"]


def actions(document: str) -> list[str]:
    return [action for each in statements(document) for action in each["Action"]]


def allowing(action: str) -> list[dict[str, Any]]:
    return [each for each in statements("iam-policy.json") if action in each["Action"]]


@pytest.mark.parametrize(
    "action",
    ["iam:CreateRole", "iam:PutRolePolicy", "iam:AttachRolePolicy", "iam:PutRolePermissionsBoundary"],
)
def test_roles_are_created_below_one_path_and_within_a_boundary(action: str) -> None:
    (statement,) = allowing(action)
    assert statement["Resource"] == f"arn:*:iam::*:role{ROLE_PATH}*"
    assert statement["Condition"]["StringLike"]["iam:PermissionsBoundary"].endswith("policy/fedmesh-boundary")


def test_no_role_outside_that_path_is_passed_or_changed() -> None:
    for each in statements("iam-policy.json"):
        reading = ("iam:Get", "iam:List", "iam:Simulate")
        changing = [a for a in each["Action"] if a.startswith("iam:") and not a.startswith(reading)]
        if changing:
            assert each["Resource"] in (
                f"arn:*:iam::*:role{ROLE_PATH}*",
                "arn:*:iam::*:role/aws-service-role/*",
            )


def test_only_the_managed_policies_that_the_program_attaches_may_be_attached() -> None:
    (statement,) = allowing("iam:AttachRolePolicy")
    allowed = {arn.rsplit("/", 1)[1] for arn in statement["Condition"]["ArnLike"]["iam:PolicyARN"]}
    auto = {
        f"AmazonEKS{each}Policy"
        for each in ("Compute", "BlockStorage", "LoadBalancing", "Networking", "WorkerNodeMinimal")
    }
    assert allowed == {*NODE_POLICIES, "AmazonEBSCSIDriverPolicyV2", "AmazonEKSClusterPolicy", *auto}
    patterns = [arn.rsplit("/", 1)[1] for arn in MANAGED_POLICIES]
    assert allowed == {*patterns}


def test_arns_hold_in_every_partition() -> None:
    for document in ("iam-policy.json", "iam-boundary.json"):
        assert "arn:aws:" not in (DOCS / document).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "action",
    [
        *("ec2:DetachNetworkInterface", "ec2:DeleteNetworkInterface", "ec2:DisassociateAddress"),
        *("ec2:ReplaceRoute", "ec2:ModifySecurityGroupRules", "kms:UntagResource", "logs:UntagResource"),
        *("globalaccelerator:UntagResource", "eks:UntagResource", "iam:UntagRole"),
    ],
)
def test_the_calls_of_changes_and_of_a_destroy_are_allowed(action: str) -> None:
    assert allowing(action)


def test_the_boundary_holds_all_that_the_programs_own_policies_allow() -> None:
    patterns = actions("iam-boundary.json")
    for document in (
        "load-balancer-controller",
        "dns-solver",
        "spire-keys",
        "spire-nodes",
        "write-flow-logs",
    ):
        assert (DOCUMENTS / f"{document}.json").exists()
        for each in json.loads(document_json(document))["Statement"]:
            for action in each["Action"]:
                assert any(fnmatchcase(action, pattern) for pattern in patterns), action


def test_the_boundary_gives_no_role_a_way_to_other_identities() -> None:
    granted = [action for action in actions("iam-boundary.json") if action.startswith(("iam:", "sts:", "*"))]
    assert granted == ["iam:CreateServiceLinkedRole", "iam:PassRole", "iam:AddRoleToInstanceProfile"]
    (passing,) = [each for each in statements("iam-boundary.json") if "iam:PassRole" in each["Action"]]
    assert passing["Resource"] == f"arn:*:iam::*:role{ROLE_PATH}*"
    assert passing["Condition"]["StringEquals"]["iam:PassedToService"] == [
        "ec2.amazonaws.com",
        "ec2.amazonaws.com.cn",
    ]


@pytest.mark.parametrize(("document", "most"), [("iam-policy.json", 10240), ("iam-boundary.json", 6144)])
def test_documents_are_no_longer_than_iam_takes(document: str, most: int) -> None:
    """An inline policy of a role, and a managed policy, without their white space."""
    text = (DOCS / document).read_text(encoding="utf-8")
    assert len("".join(text.split())) <= most
