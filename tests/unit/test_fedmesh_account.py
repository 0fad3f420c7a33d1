"""What `fedmesh verify --pre` finds in the AWS account in which a stack will create its clusters."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.config.eks import EksSpec
from components.config.errors import validated
from fedmesh.verify import account
from fedmesh.verify.account import Account, AwsError, NewCluster, aws_command, examine
from fedmesh.verify.model import Severity
from tests.unit.stacks import TODAY
from tests.unit.test_eks import EKS

PROJECT = Path(__file__).parents[2]
CALLER = "arn:aws:sts::123456789012:assumed-role/deployer/jane"
ROLE = "arn:aws:iam::123456789012:role/ops/deployer"
LOGS = "/aws/eks/istio-eks-cluster-1/cluster"


class FakeAws:
    """An account that has everything; `changed` replaces answers, by the first two words."""

    def __init__(self, **changed: Any) -> None:
        self.asked: list[tuple[str, ...]] = []
        self._answers: dict[str, Any] = {
            "sts get-caller-identity": {"Arn": CALLER},
            "eks list-clusters": {"clusters": []},
            "eks describe-addon-versions": {
                "addons": [{"addonVersions": [{"addonVersion": "v1.0.0-eksbuild.1"}]}]
            },
            "ec2 describe-availability-zones": {
                "AvailabilityZones": [
                    {"ZoneName": f"us-east-1{letter}", "ZoneId": f"use1-az{number}"}
                    for letter, number in (("a", 1), ("b", 2), ("c", 4), ("e", 3))
                ]
            },
            "ec2 describe-instance-type-offerings": {
                "InstanceTypeOfferings": [
                    {"InstanceType": "m5.large", "Location": f"us-east-1{letter}"} for letter in "abce"
                ]
            },
            "ec2 describe-vpcs": {"Vpcs": [{}]},
            "logs list-tags-for-resource": {},
            "logs describe-log-groups": {
                "logGroups": [{"logGroupName": "/aws/eks/istio-eks-cluster-1/cluster-2"}]
            },
            "ec2 describe-addresses": {"Addresses": []},
            "ec2 describe-instance-types": {
                "InstanceTypes": [{"InstanceType": "m5.large", "VCpuInfo": {"DefaultVCpus": 2}}]
            },
            "service-quotas get-service-quota": {"Quota": {"Value": 8.0}},
            "iam get-role": {"Role": {"Arn": ROLE}},
            "iam simulate-principal-policy": {"EvaluationResults": []},
            **{key.replace("_", " ", 1).replace("_", "-"): value for key, value in changed.items()},
        }

    def __call__(self, *words: str, region: str = "") -> Any:  # noqa: ARG002 - the real one's signature
        self.asked.append(words)
        answer = self._answers[" ".join(words[:2])]
        if isinstance(answer, Exception):
            raise answer
        return answer(words) if callable(answer) else answer


def new_cluster(**changes: Any) -> NewCluster:
    spec = validated(EksSpec, {**EKS, **changes}, "eks", "Pulumi.dev.yaml", {"today": TODAY})
    return NewCluster("cluster-1", "istio-eks-cluster-1", "us-east-1", spec)


def failures(aws: FakeAws, *clusters: NewCluster, project: Path = PROJECT) -> dict[str, str]:
    found = examine(Account("dev", list(clusters) or [new_cluster()], "", project, aws))
    return {each.name: each.detail for each in found if not each.ok}


def test_an_account_with_everything_passes_and_every_check_has_an_answer() -> None:
    found = examine(Account("dev", [new_cluster()], "", PROJECT, FakeAws()))
    assert [each.name for each in found if not each.ok] == []
    assert [each.name for each in found] == [each.name for each in account.CHECKS]


@pytest.mark.parametrize(
    ("changed", "check", "said"),
    [
        (
            {
                "eks_list_clusters": {"clusters": ["istio-eks-cluster-1"]},
                "eks_describe_cluster": {"cluster": {"tags": {"fedmesh:stack": "prod"}}},
            },
            "the cluster's name is free",
            "istio-eks-cluster-1 exists in us-east-1 and belongs to prod",
        ),
        (
            {"eks_describe_addon_versions": {"addons": []}},
            "EKS has the versions",
            "EKS has no addon vpc-cni for",
        ),
        (
            {
                "logs_describe_log_groups": {
                    "logGroups": [
                        {"logGroupName": LOGS, "arn": f"arn:aws:logs:us-east-1:1:log-group:{LOGS}:*"}
                    ]
                }
            },
            "no log group of an earlier cluster is left",
            "/aws/eks/istio-eks-cluster-1/cluster exists, and the cluster does not",
        ),
        (
            {"ec2_describe_instance_type_offerings": {"InstanceTypeOfferings": []}},
            "the zones have the instance types",
            "us-east-1a has none of m5.large for the group general",
        ),
        (
            {"ec2_describe_vpcs": {"Vpcs": [{}] * 8}},
            "quotas leave room",
            "1 VPCs are needed in us-east-1, 0 are left",
        ),
        (
            {"service_quotas_get_service_quota": {"Quota": {"Value": 5.0}}},
            "quotas leave room",
            "6 vCPUs of on-demand standard instances are needed in us-east-1, 5 are left",
        ),
        (
            {
                "iam_simulate_principal_policy": {
                    "EvaluationResults": [
                        {"EvalActionName": "eks:CreateCluster", "EvalDecision": "implicitDeny"}
                    ]
                }
            },
            "the caller may do what the program does",
            "not allowed: eks:CreateCluster",
        ),
    ],
)
def test_what_an_account_lacks_is_found_by_one_check(changed: dict[str, Any], check: str, said: str) -> None:
    if "service_quotas_get_service_quota" in changed:
        changed["service-quotas_get_service_quota"] = changed.pop("service_quotas_get_service_quota")
    found = failures(FakeAws(**changed))
    assert list(found) == [check]
    assert said in found[check]


def test_a_log_group_that_the_program_has_made_is_not_in_the_way() -> None:
    group = {"logGroupName": LOGS, "arn": f"arn:aws:logs:us-east-1:1:log-group:{LOGS}:*"}
    tags = {"tags": {"Name": "istio-eks-cluster-1-control-plane"}}
    answers = {"logs_describe_log_groups": {"logGroups": [group]}, "logs_list_tags_for_resource": tags}
    assert failures(FakeAws(**answers)) == {}


def test_databases_count_against_their_quota() -> None:
    aws = FakeAws(rds_describe_db_instances={"DBInstances": [{}] * 8})
    found = examine(Account("dev", (new_cluster(),), "", PROJECT, aws, databases=True))
    (failure,) = [each for each in found if not each.ok]
    assert failure.name == "quotas leave room"
    assert failure.detail == "1 databases of RDS are needed in us-east-1, 0 are left"


def test_a_zone_that_eks_refuses_is_named_with_those_that_it_takes() -> None:
    found = failures(FakeAws(), new_cluster(zones=["us-east-1a", "us-east-1e"]))
    assert (
        "us-east-1e is use1-az3 in this account, which EKS does not support"
        in found["EKS takes subnets in the zones"]
    )


def test_a_pinned_addon_that_is_gone_is_named_with_those_that_there_are() -> None:
    found = failures(FakeAws(), new_cluster(addons={"coredns": "v9.9.9-eksbuild.1"}))
    assert found["EKS has the versions"] == "coredns v9.9.9-eksbuild.1: EKS has v1.0.0-eksbuild.1"


def test_a_caller_who_is_no_admin_is_told_and_the_role_of_a_session_counts() -> None:
    listed = new_cluster(admins=[ROLE])
    assert failures(FakeAws(), listed) == {}
    other = new_cluster(admins=["arn:aws:iam::123456789012:role/somebody"])
    assert "is not among the admins" in failures(FakeAws(), other)["AWS credentials are valid"]


def test_an_expired_session_is_one_failure_and_nothing_else_is_asked() -> None:
    expired = FakeAws(sts_get_caller_identity=AwsError("ExpiredToken: the security token is expired"))
    assert failures(expired) == {"AWS credentials are valid": "ExpiredToken: the security token is expired"}
    assert len(expired.asked) == 1


def test_clusters_that_exist_already_need_no_further_room() -> None:
    there = {
        "eks_list_clusters": {"clusters": ["istio-eks-cluster-1"]},
        "eks_describe_cluster": {"cluster": {"tags": {"fedmesh:stack": "dev"}}},
        "ec2_describe_vpcs": {"Vpcs": [{}] * 8},
    }
    assert failures(FakeAws(**there)) == {}


def test_the_simulator_is_asked_for_the_roles_path_and_boundary() -> None:
    aws = FakeAws()
    failures(aws)
    asked = [words for words in aws.asked if words[1] == "simulate-principal-policy"]
    assert all(words[words.index("--policy-source-arn") + 1] == ROLE for words in asked)
    (create,) = [words for words in asked if "iam:CreateRole" in words]
    assert create[create.index("--resource-arns") + 1] == "arn:aws:iam::123456789012:role/fedmesh/x"
    assert any("iam:PermissionsBoundary" in word and "fedmesh-boundary" in word for word in create)


def test_who_may_not_ask_the_simulator_is_warned() -> None:
    aws = FakeAws(iam_simulate_principal_policy=AwsError("AccessDenied"))
    (warned,) = [e for e in examine(Account("dev", [new_cluster()], "", PROJECT, aws)) if not e.ok]
    assert (warned.severity, warned.name) == (Severity.WARNING, "the caller may do what the program does")


def test_who_may_not_read_quotas_is_warned() -> None:
    aws = FakeAws(**{"service-quotas_get-service-quota": AwsError("AccessDeniedException")})
    (warned,) = [e for e in examine(Account("dev", [new_cluster()], "", PROJECT, aws)) if not e.ok]
    assert (warned.severity, warned.name) == (Severity.WARNING, "quotas leave room")
    assert warned.detail == "Service Quotas does not say: AccessDeniedException"


def test_the_aws_command_fails_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(line: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert line == ["aws", "ec2", "describe-vpcs", "--output", "json", "--region", "eu-west-1"]
        return subprocess.CompletedProcess(line, 255, "", "\nAn error occurred: no\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(AwsError, match=r"^An error occurred: no$"):
        aws_command("ec2", "describe-vpcs", region="eu-west-1")
    monkeypatch.setenv("PATH", "")
    monkeypatch.undo()
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(AwsError, match="the command aws is not on PATH"):
        aws_command("sts", "get-caller-identity")


def test_a_stack_file_says_which_clusters_are_new(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.dev.yaml").write_text(
        (PROJECT / "Pulumi.dev.yaml").read_text(encoding="utf-8").replace("cidrs: []", "cidrs: [8.8.4.0/24]"),
        encoding="utf-8",
    )
    (found,) = account.load(tmp_path, "dev")
    assert [each.eks_name for each in found.clusters] == ["istio-eks-cluster-1", "istio-eks-cluster-2"]
    assert account.load(PROJECT, "lab") == []


def test_a_network_that_exists_is_asked_for_what_eks_needs() -> None:
    network = {"vpcId": "vpc-0000000a", "privateSubnetIds": ["subnet-0000000a", "subnet-0000000b"]}
    changes = {"network": network, "ingressScheme": "internal"}
    spec = {key: value for key, value in EKS.items() if key != "zones"}
    cluster = NewCluster(
        "cluster-1",
        "istio-eks-cluster-1",
        "us-east-1",
        validated(EksSpec, {**spec, **changes}, "eks", "Pulumi.dev.yaml", {"today": TODAY}),
    )

    def subnets(tag: str) -> dict[str, Any]:
        tags = [{"Key": tag, "Value": "1"}]
        return {
            "Subnets": [
                {
                    "SubnetId": f"subnet-0000000{letter}",
                    "VpcId": "vpc-0000000a",
                    "AvailabilityZone": f"us-east-1{letter}",
                    "AvailabilityZoneId": f"use1-az{number}",
                    "Tags": tags,
                }
                for letter, number in (("a", 1), ("b", 2))
            ]
        }

    def has(words: tuple[str, ...]) -> dict[str, Any]:
        name = words[-1]
        return {name[0].upper() + name[1:]: {"Value": True}}

    there = {
        "ec2_describe_vpcs": {"Vpcs": [{"CidrBlock": "10.2.0.0/16"}]},
        "ec2_describe_vpc_attribute": has,
    }
    right = FakeAws(**there, ec2_describe_subnets=subnets("kubernetes.io/role/internal-elb"))
    assert failures(right, cluster) == {}
    wrong = FakeAws(**there, ec2_describe_subnets=subnets("kubernetes.io/role/elb"))
    assert "internal-elb" in failures(wrong, cluster)["the network that exists can be used"]


ROLE_OF_OTHERS = "arn:aws:iam::210987654321:role/fedmesh-deployer"


def with_accounts(folder: Path, *accounts: dict[str, str] | None) -> list[Account]:
    """The accounts of the stack dev, whose clusters are in these."""
    config = yaml.safe_load((PROJECT / "Pulumi.dev.yaml").read_text(encoding="utf-8"))
    for cluster, each in zip(config["config"]["fedmesh:clusters"], accounts, strict=True):
        cluster["eks"] |= {"endpoint": {}, "account": each}
    config["config"]["fedmesh:aws"]["permissionsBoundary"] = (
        "arn:aws:iam::123456789012:policy/fedmesh-boundary"
    )
    (folder / "Pulumi.dev.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return account.load(folder, "dev")


def test_every_account_is_asked_with_the_credentials_that_up_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account._session.cache_clear()
    calls: list[tuple[list[str], Any]] = []

    def run(line: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        calls.append((line, options["env"]))
        given = {"AccessKeyId": "id", "SecretAccessKey": "secret", "SessionToken": "token"}
        answer = {
            "Credentials": given,
            "Arn": "arn:aws:sts::210987654321:assumed-role/fedmesh-deployer/fedmesh",
        }
        return subprocess.CompletedProcess(line, 0, json.dumps(answer), "")

    monkeypatch.setattr(subprocess, "run", run)
    found = with_accounts(tmp_path, {"profile": "payments"}, {"roleArn": ROLE_OF_OTHERS})
    assert [[cluster.name for cluster in each.clusters] for each in found] == [["cluster-1"], ["cluster-2"]]
    for each in found:
        assert each.caller
    (by_profile, _), (assumed, _), (_, environment) = calls
    assert by_profile[1:5] == ["sts", "get-caller-identity", "--profile", "payments"]
    assert assumed[1:5] == ["sts", "assume-role", "--role-arn", ROLE_OF_OTHERS]
    assert environment["AWS_ACCESS_KEY_ID"] == "id"
    assert environment["AWS_SESSION_TOKEN"] == "token"


def test_the_boundary_of_an_account_is_its_own() -> None:
    asked = FakeAws(sts_get_caller_identity={"Arn": ROLE_OF_OTHERS})
    boundary = "arn:aws:iam::123456789012:policy/fedmesh-boundary"
    examine(Account("dev", [new_cluster()], boundary, PROJECT, asked))
    contexts = [word for words in asked.asked for word in words if "iam:PermissionsBoundary" in word]
    assert contexts
    assert all(word.endswith("=arn:aws:iam::210987654321:policy/fedmesh-boundary") for word in contexts)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, None),
        ({"State": "deleting"}, "tgw-1 is deleting"),
        ({"Options": {"DnsSupport": "disable"}}, "tgw-1 needs DNS support, which is off"),
        ({"OwnerId": "210987654321"}, "tgw-1 needs auto-accept shared attachments, which is off"),
    ],
)
def test_a_transit_gateway_that_exists_is_asked_for_what_joins_networks(
    changed: dict[str, Any], said: str | None
) -> None:
    on = ("DefaultRouteTableAssociation", "DefaultRouteTablePropagation", "DnsSupport")
    options = {
        **dict.fromkeys(on, "enable"),
        "AutoAcceptSharedAttachments": "disable",
        **changed.pop("Options", {}),
    }
    gateway = {"State": "available", "OwnerId": "123456789012", "Options": options, **changed}
    aws = FakeAws(ec2_describe_transit_gateways={"TransitGateways": [gateway]})
    found = examine(Account("dev", [new_cluster()], "", PROJECT, aws, gateway="tgw-1"))
    (result,) = [each for each in found if each.name == "the transit gateway that exists can be used"]
    assert result.ok == (said is None)
    assert said is None or said in result.detail
