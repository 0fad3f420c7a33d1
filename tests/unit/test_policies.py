"""Every rule passes a good resource and stops a bad one, through the policy library's own types."""

import json
from typing import Any

import pytest
from pulumi_policy import PolicyResourceOptions, ResourceValidationArgs, ResourceValidationPolicy

from policies.pack import policies
from policies.rules import CLUSTER, LAUNCH_TEMPLATE, RULES

INGRESS = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
SERVICE = "kubernetes:core/v1:Service"
DEPLOYMENT = "kubernetes:apps/v1:Deployment"
PEERS = "kubernetes:security.istio.io/v1:PeerAuthentication"
TAGS = {"project": "fedmesh", "environment": "dev", "owner": "platform"}
SCHEME = "service.beta.kubernetes.io/aws-load-balancer-scheme"


def violations(rule: str, kind: str, inputs: dict[str, Any]) -> list[str]:
    (policy,) = [each for each in policies() if each.name == rule]
    assert isinstance(policy, ResourceValidationPolicy)
    options = PolicyResourceOptions(False, [], False, None, None, [])
    found: list[str] = []
    args = ResourceValidationArgs(kind, inputs, "urn", "name", options, None)
    policy.validate(args, lambda message, _urn: found.append(message))
    return found


def statement(**changes: Any) -> dict[str, Any]:
    allowed = {"Effect": "Allow", "Action": ["logs:PutLogEvents"], "Resource": ["arn:aws:logs:::x"]}
    return {"policy": json.dumps({"Statement": [{**allowed, **changes}]})}


def service(name: str, scheme: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "annotations": {SCHEME: scheme}}, "spec": {"type": "LoadBalancer"}}


def deployment(image: str) -> dict[str, Any]:
    return {"spec": {"template": {"spec": {"containers": [{"image": image}]}}}}


def disk(encrypted: str) -> dict[str, Any]:
    return {"blockDeviceMappings": [{"deviceName": "/dev/xvda", "ebs": {"encrypted": encrypted}}]}


CASES: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    (
        "no-public-endpoint-without-ranges",
        CLUSTER,
        {"vpcConfig": {"endpointPublicAccess": True, "publicAccessCidrs": ["203.0.113.0/24"]}},
        {"vpcConfig": {"endpointPublicAccess": True}},
    ),
    (
        "no-public-endpoint-without-ranges",
        CLUSTER,
        {"vpcConfig": {"endpointPublicAccess": False}},
        {"vpcConfig": {"endpointPublicAccess": True, "publicAccessCidrs": ["0.0.0.0/0"]}},
    ),
    ("no-public-endpoint-without-ranges", CLUSTER, {"vpcConfig": {"endpointPublicAccess": False}}, {}),
    ("encryption-on", CLUSTER, {"encryptionConfig": {"resources": ["secrets"]}}, {}),
    ("encryption-on", LAUNCH_TEMPLATE, disk("true"), disk("false")),
    ("encryption-on", "aws:kms/key:Key", {"enableKeyRotation": True}, {}),
    (
        "encryption-on",
        "kubernetes:storage.k8s.io/v1:StorageClass",
        {"provisioner": "ebs.csi.aws.com", "parameters": {"encrypted": "true"}},
        {"provisioner": "ebs.csi.aws.com"},
    ),
    ("no-wildcard-iam", "aws:iam/rolePolicy:RolePolicy", statement(), statement(Action="*")),
    ("no-wildcard-iam", "aws:iam/rolePolicy:RolePolicy", statement(), statement(Action=["s3:*"])),
    (
        "no-wildcard-iam",
        "aws:iam/rolePolicy:RolePolicy",
        statement(Action=["ec2:DescribeVpcs"], Resource="*"),
        statement(Action=["ec2:DeleteVpc"], Resource="*"),
    ),
    (
        "no-wildcard-iam",
        "aws:iam/policy:Policy",
        statement(Resource="*", Condition={"StringEquals": {"a": "b"}}),
        statement(Action=None, NotAction=["iam:*"]),
    ),
    ("no-world-ingress-but-at-the-edge", INGRESS, {"cidrIpv4": "10.3.0.0/16"}, {"cidrIpv4": "0.0.0.0/0"}),
    (
        "no-world-ingress-but-at-the-edge",
        "aws:ec2/securityGroup:SecurityGroup",
        {"ingress": [{"cidrBlocks": ["10.0.0.0/8"]}]},
        {"ingress": [{"cidrBlocks": ["0.0.0.0/0"]}]},
    ),
    (
        "no-world-ingress-but-at-the-edge",
        SERVICE,
        service("istio-ingressgateway", "internet-facing"),
        service("istio-eastwestgateway", "internet-facing"),
    ),
    (
        "imdsv2-only",
        LAUNCH_TEMPLATE,
        {"metadataOptions": {"httpTokens": "required"}},
        {"metadataOptions": {"httpTokens": "optional"}},
    ),
    (
        "images-pinned-and-trusted",
        DEPLOYMENT,
        deployment("docker.io/istio/pilot:1.31.0"),
        deployment("docker.io/istio/pilot"),
    ),
    (
        "images-pinned-and-trusted",
        DEPLOYMENT,
        deployment("registry.k8s.io/pause@sha256:abc"),
        deployment("registry.k8s.io/pause:latest"),
    ),
    (
        "images-pinned-and-trusted",
        DEPLOYMENT,
        deployment("ghcr.io/spiffe/spire-agent:1.15.3"),
        deployment("evil.example/spire-agent:1.15.3"),
    ),
    (
        "strict-mtls",
        PEERS,
        {"spec": {"mtls": {"mode": "STRICT"}}},
        {"spec": {"mtls": {"mode": "PERMISSIVE"}}},
    ),
    (
        "strict-mtls",
        PEERS,
        {"spec": {"mtls": {"mode": "STRICT"}}},
        {"spec": {"mtls": {"mode": "STRICT"}, "portLevelMtls": {"80": {"mode": "DISABLE"}}}},
    ),
    (
        "strict-mtls",
        "kubernetes:networking.istio.io/v1:DestinationRule",
        {"spec": {"trafficPolicy": {"outlierDetection": {}}}},
        {"spec": {"trafficPolicy": {"tls": {"mode": "DISABLE"}}}},
    ),
    ("required-tags", "aws:ec2/vpc:Vpc", {"tags": TAGS}, {"tags": {"project": "fedmesh"}}),
]


@pytest.mark.parametrize(("rule", "kind", "good", "bad"), CASES)
def test_a_good_resource_passes_and_a_bad_one_does_not(
    rule: str, kind: str, good: dict[str, Any], bad: dict[str, Any]
) -> None:
    assert violations(rule, kind, good) == []
    assert violations(rule, kind, bad)


def test_every_rule_has_a_good_and_a_bad_case() -> None:
    assert {rule.name for rule in RULES} == {case[0] for case in CASES}


@pytest.mark.parametrize("rule", [rule.name for rule in RULES])
def test_rules_leave_other_resources_alone(rule: str) -> None:
    assert violations(rule, "aws:sns/topic:Topic", {"name": "x"}) == []


def test_our_own_policy_documents_keep_the_rule_on_wildcards() -> None:
    from components.aws.iam import DOCUMENTS, document_json

    for path in DOCUMENTS.glob("*.json"):
        if not path.name.startswith("trust-"):
            inputs = {"policy": document_json(path.stem)}
            assert violations("no-wildcard-iam", "aws:iam/rolePolicy:RolePolicy", inputs) == [], path.name
