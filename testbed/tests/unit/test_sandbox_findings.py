"""What checkov reads, and what is made of its findings."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed.sandbox import terraform_plan
from testbed.sandbox.findings import Finding, FindingsError, check, explained_in, outdated, unexplained
from testbed.sandbox.values import UNKNOWN_TEXT

PROJECT = Path(__file__).parents[3]


def urn(kind: str, name: str) -> str:
    return f"urn:pulumi:dev::fedmesh::fedmesh:aws:AwsClusters${kind}::{name}"


def resource(kind: str, name: str, inputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": kind, "urn": urn(kind, name), "inputs": inputs, **more}


VPC = resource("aws:ec2/vpc:Vpc", "net", {"cidrBlock": "10.2.0.0/16", "tags": {"createdBy": "me"}})
GROUP = resource(
    "aws:eks/nodeGroup:NodeGroup",
    "general",
    {
        "clusterName": UNKNOWN_TEXT,
        "scalingConfig": {"desiredSize": 2, "maxSize": 4, "minSize": 1},
        "subnetIds": ["subnet-1", UNKNOWN_TEXT],
        "taints": [{"key": "dedicated", "value": "spire-server", "effect": "NO_EXECUTE"}],
    },
    propertyDependencies={"subnetIds": [VPC["urn"], "urn:pulumi:dev::fedmesh::pulumi:providers:aws::aws"]},
)


def planned(*resources: dict[str, Any]) -> dict[str, dict[str, Any]]:
    plan = terraform_plan.plan_of(resources)
    return {each["address"]: each["values"] for each in plan["planned_values"]["root_module"]["resources"]}


def test_resources_get_terraform_s_types_and_names_of_arguments() -> None:
    assert planned(VPC) == {"aws_vpc.net": {"cidr_block": "10.2.0.0/16", "tags": {"createdBy": "me"}}}


@pytest.mark.parametrize(
    ("token", "kind"),
    [
        ("aws:ec2/launchTemplate:LaunchTemplate", "aws_launch_template"),
        ("aws:ec2/peeringConnectionOptions:PeeringConnectionOptions", "aws_vpc_peering_connection_options"),
        ("aws:ec2transitgateway/transitGateway:TransitGateway", "aws_ec2_transit_gateway"),
        ("aws:ec2transitgateway/vpcAttachment:VpcAttachment", "aws_ec2_transit_gateway_vpc_attachment"),
        ("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", "aws_vpc_security_group_ingress_rule"),
        ("aws:kms/key:Key", "aws_kms_key"),
    ],
)
def test_every_module_of_pulumi_has_its_prefix(token: str, kind: str) -> None:
    assert list(planned(resource(token, "it", {}))) == [f"{kind}.it"]


def test_one_object_becomes_a_block_and_a_list_of_objects_one_block_each() -> None:
    group = planned(GROUP)["aws_eks_node_group.general"]
    assert group["scaling_config"] == [{"desired_size": 2, "max_size": 4, "min_size": 1}]
    assert group["taint"] == [{"key": "dedicated", "value": "spire-server", "effect": "NO_EXECUTE"}]


def test_what_is_not_known_yet_is_left_out() -> None:
    group = planned(GROUP)["aws_eks_node_group.general"]
    assert "cluster_name" not in group
    assert group["subnet_ids"] == ["subnet-1"]


def test_references_follow_the_engine_s_dependencies() -> None:
    (_, entry) = terraform_plan.plan_of([VPC, GROUP])["configuration"]["root_module"]["resources"]
    assert entry["expressions"] == {"subnet_ids": {"references": ["aws_vpc.net"]}}


def test_what_was_made_is_known_better_than_what_was_planned() -> None:
    unknown = {**VPC, "inputs": {"cidrBlock": UNKNOWN_TEXT}}
    (merged, other) = terraform_plan.merged([unknown, GROUP], [VPC])
    assert (merged, other) == (VPC, GROUP)


def test_objects_of_kubernetes_are_written_as_they_would_be_applied(tmp_path: Path) -> None:
    inputs = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "uid": UNKNOWN_TEXT}}
    release = resource("kubernetes:helm.sh/v3:Release", "r", {"chart": "istiod", "name": "istiod"})
    terraform_plan.write([VPC, resource("kubernetes:core/v1:Pod", "a", inputs), release], tmp_path)
    (pod,) = yaml.safe_load_all((tmp_path / "objects.yaml").read_text())
    assert pod == {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}
    assert json.loads((tmp_path / "plan.json").read_text())["format_version"]


TABLE = """
| check | where | why |
| --- | --- | --- |
| CKV_AWS_39, CKV2_AWS_64 | `aws_eks_cluster.cluster-*` | listed ranges only |
"""


def test_a_finding_is_explained_by_a_row_for_its_check_and_resource() -> None:
    rows = explained_in(TABLE)
    assert [row.check for row in rows] == ["CKV_AWS_39", "CKV2_AWS_64"]
    rows = rows[:1]
    known = Finding("CKV_AWS_39", "aws_eks_cluster.cluster-1-eks", "public")
    other = Finding("CKV_AWS_39", "aws_eks_cluster.prod-1-eks", "public")
    assert unexplained([known, other], rows) == [other]
    assert outdated([known], rows) == []
    assert outdated([other], rows) == rows


@pytest.mark.parametrize(
    ("code", "said"),
    [(1, "[]"), (0, ""), (0, '{"results": {"failed_checks": []}, "summary": {"passed": 0}}')],
)
def test_a_checkov_that_checks_nothing_is_no_success(
    code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv = tmp_path / "uv"
    uv.write_text(f"#!/bin/sh\nprintf '%s' '{said}'\nexit {code}\n")
    uv.chmod(0o755)
    monkeypatch.setattr("testbed.sandbox.findings.uv_of", lambda _project: str(uv))
    with pytest.raises(FindingsError):
        check(PROJECT, tmp_path, lambda _text: None)
