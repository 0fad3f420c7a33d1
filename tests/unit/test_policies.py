"""Every rule passes a good resource and stops a bad one, through the policy library's own types."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml
from pulumi_policy import PolicyResourceOptions, ResourceValidationArgs, ResourceValidationPolicy
from pulumi_policy.proxy import UNKNOWN_OBJECT_VALUE, UNKNOWN_STRING_VALUE, unknown_checking_proxy

from policies.network import CLUSTER, SCHEME
from policies.nodes import LAUNCH_TEMPLATE
from policies.pack import policies
from policies.rules import RULES

INGRESS = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
SERVICE = "kubernetes:core/v1:Service"
DEPLOYMENT = "kubernetes:apps/v1:Deployment"
PEERS = "kubernetes:security.istio.io/v1:PeerAuthentication"
TAGS = {"project": "fedmesh", "environment": "dev", "owner": "platform"}
RELEASE = "kubernetes:helm.sh/v3:Release"
ROLE_POLICY = "aws:iam/rolePolicy:RolePolicy"
ATTACHMENT = "aws:iam/rolePolicyAttachment:RolePolicyAttachment"
ROLE = "aws:iam/role:Role"
GROUP = "aws:ec2/securityGroup:SecurityGroup"
DESTINATION = "kubernetes:networking.istio.io/v1:DestinationRule"
WORLD = "no-world-ingress-but-at-the-edge"
IMAGES = "images-pinned-and-trusted"
IAM = "no-wildcard-iam"
MTLS = "strict-mtls"
CLOSE = "network-policies-close"
NETWORK_POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy"
CONFIG_MAP = "kubernetes:core/v1:ConfigMap"
ROLLOUT = "kubernetes:argoproj.io/v1alpha1:Rollout"
GATEWAY = "kubernetes:gateway.networking.k8s.io/v1:Gateway"
WEB = "kubernetes:networking.k8s.io/v1:Ingress"
ALB = "alb.ingress.kubernetes.io/scheme"
GOOD_IMAGE, BAD_IMAGE = "docker.io/istio/pilot:1.31.0", "evil.example/pilot:1.31.0"
DIGEST = "sha256:" + "a" * 64


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


def ingress(rule: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [rule]}}


def service(name: str, scheme: str | None, namespace: str = "istio-gateways", **spec: Any) -> dict[str, Any]:
    annotations = {SCHEME: scheme} if scheme else {}
    metadata = {"name": name, "namespace": namespace, "annotations": annotations}
    return {"metadata": metadata, "spec": {"type": "LoadBalancer", **spec}}


def chart(values: dict[str, Any], **changes: Any) -> dict[str, Any]:
    repository = {"repo": "https://istio-release.storage.googleapis.com/charts"}
    named = {"name": "istiod", "namespace": "istio-system", "chart": "istiod", "version": "1.31.0"}
    return {**named, "repositoryOpts": repository, "values": values, **changes}


def gateway(name: str, scheme: str | None, namespace: str = "istio-gateways", **spec: Any) -> dict[str, Any]:
    values = {"service": {"annotations": {SCHEME: scheme} if scheme else {}, **spec}}
    return chart(values, name=name, namespace=namespace, chart="gateway")


def annotated(**annotations: str) -> dict[str, Any]:
    keys = {key.replace("__", "/").replace("_", "."): value for key, value in annotations.items()}
    made = deployment("docker.io/istio/pilot:1.31.0")
    made["spec"]["template"]["metadata"] = {"annotations": keys}
    return made


def destination(policy: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"spec": {"host": "*.local", "trafficPolicy": policy, **spec}}


def trust(principal: dict[str, str], condition: dict[str, Any] | None = None) -> str:
    allowed = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    return json.dumps({"Statement": [{**allowed, **({"Condition": condition} if condition else {})}]})


def attached(name: str) -> dict[str, Any]:
    return {"role": "r", "policyArn": f"arn:aws:iam::aws:policy/{name}"}


def rendered(**labels: Any) -> dict[str, Any]:
    return {"metadata": {"name": "x", **labels}}


def deployment(image: str) -> dict[str, Any]:
    return {"spec": {"template": {"spec": {"containers": [{"image": image}]}}}}


def pods(image: str, *path: str, **annotations: str) -> dict[str, Any]:
    """A template of pods below a path of a spec."""
    made: dict[str, Any] = {
        "metadata": {"annotations": annotations},
        "spec": {"containers": [{"image": image}]},
    }
    for key in reversed(("spec", *path)):
        made = {key: made}
    return made


def pod(**annotations: str) -> dict[str, Any]:
    return {"metadata": {"annotations": annotations}, "spec": {"containers": [{"image": GOOD_IMAGE}]}}


def shared_gateway(
    annotations: dict[str, str], metadata: dict[str, Any] | None = None, **spec: Any
) -> dict[str, Any]:
    infrastructure = {"infrastructure": {"annotations": annotations}} if annotations else {}
    named = {"name": "web", "namespace": "team", **(metadata or {})}
    return {"metadata": named, "spec": {"gatewayClassName": "istio", **infrastructure, **spec}}


def limited(operator: str, key: str, value: Any) -> dict[str, Any]:
    return statement(Resource="*", Condition={operator: {key: value}})


def secrets(resource: str, action: str = "secretsmanager:GetSecretValue") -> dict[str, Any]:
    return statement(Action=[action], Resource=resource)


def values_text(hub: str) -> pulumi.StringAsset:
    return pulumi.StringAsset(f"global: {{hub: {hub}}}")


def local_chart(folder: Path, values: dict[str, Any] | None = None, **files: str) -> Path:
    """A chart in a folder, with more files by names in which `__` is a slash."""
    written = {"Chart.yaml": f"name: {folder.name}", "values.yaml": yaml.safe_dump(values or {})}
    written |= {f"{name.replace('__', '/')}.yaml": text for name, text in files.items()}
    for name, text in written.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def packed(folder: Path) -> Path:
    archive = folder.with_name(f"{folder.name}-1.0.0.tgz")
    with tarfile.open(archive, "w:gz") as opened:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                entry = tarfile.TarInfo(f"{folder.name}/{path.relative_to(folder)}")
                entry.size = path.stat().st_size
                opened.addfile(entry, io.BytesIO(path.read_bytes()))
    return archive


def installed(path: Path, values: dict[str, Any] | None = None) -> dict[str, Any]:
    return chart(values or {}, chart=str(path), repositoryOpts=None, version=None)


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
        {"provisioner": "ebs.csi.eks.amazonaws.com"},
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
        deployment(f"registry.k8s.io/pause@{DIGEST}"),
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
    (CLOSE, NETWORK_POLICY, ingress({"ports": [{"port": 8443}]}), ingress({})),
    (CLOSE, NETWORK_POLICY, {"spec": {"podSelector": {}}}, ingress({"ports": [{"protocol": "TCP"}]})),
    (
        CLOSE,
        NETWORK_POLICY,
        ingress({"from": [{"podSelector": {}}]}),
        ingress({"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}),
    ),
    ("required-tags", "aws:ec2/vpc:Vpc", {"tags": TAGS}, {"tags": {"project": "fedmesh"}}),
    # IAM: attachments, inline policies, wildcards inside names, reads of secrets, wide resources, trust
    (IAM, ATTACHMENT, attached("AmazonEKSWorkerNodePolicy"), attached("AdministratorAccess")),
    (IAM, ATTACHMENT, attached("AmazonEKS_CNI_Policy"), {"policyArn": "arn:aws:iam::1:policy/unseen"}),
    (IAM, "aws:iam/userPolicyAttachment:UserPolicyAttachment", {}, attached("PowerUserAccess")),
    (
        IAM,
        ROLE,
        {"managedPolicyArns": ["arn:aws-cn:iam::aws:policy/AmazonEKSClusterPolicy"]},
        {"managedPolicyArns": ["arn:aws:iam::aws:policy/AdministratorAccess"]},
    ),
    (IAM, ROLE, {"inlinePolicies": [statement()]}, {"inlinePolicies": [statement(Action="*")]}),
    (IAM, ROLE_POLICY, statement(), statement(Action=["iam:*Policy"], Resource="arn:aws:iam::1:role/r")),
    (IAM, ROLE_POLICY, statement(), statement(Action=["s3:Put?bject"])),
    (
        IAM,
        ROLE_POLICY,
        statement(
            Action=["secretsmanager:GetSecretValue"], Resource="arn:aws:secretsmanager:us-east-1:1:secret:x"
        ),
        statement(Action=["secretsmanager:GetSecretValue"], Resource="*"),
    ),
    (IAM, ROLE_POLICY, statement(), statement(Action=["ssm:GetParameters"], Resource="*")),
    (IAM, ROLE_POLICY, statement(), statement(Action=["dynamodb:BatchGetItem"], Resource="*")),
    (IAM, ROLE_POLICY, statement(), statement(Action=["ec2:GetPasswordData"], Resource="*")),
    (IAM, ROLE_POLICY, statement(), statement(Action=["ec2:Get*"], Resource="*")),
    (IAM, ROLE_POLICY, statement(), statement(Action=["s3:PutObject"], Resource="arn:aws:s3:::*")),
    (IAM, ROLE_POLICY, statement(), statement(Action=["iam:PassRole"], Resource="arn:aws:iam::*:role/*")),
    (IAM, ROLE_POLICY, statement(), statement(Resource=None, NotResource="arn:aws:logs:::x")),
    (
        IAM,
        ROLE_POLICY,
        statement(Resource="*", Condition={"StringEquals": {"aws:ResourceTag/cluster": "c"}}),
        statement(Resource="*", Condition={"Bool": {"aws:SecureTransport": "true"}}),
    ),
    (
        IAM,
        ROLE,
        {"assumeRolePolicy": trust({"Service": "pods.eks.amazonaws.com"})},
        {"assumeRolePolicy": trust({"AWS": "*"})},
    ),
    # reachability: halves of the world, prefix lists, default groups, load balancers of every shape
    (WORLD, INGRESS, {"cidrIpv4": "10.0.0.0/8"}, {"cidrIpv4": "0.0.0.0/1"}),
    (WORLD, INGRESS, {"cidrIpv6": "2600:1f18::/32"}, {"cidrIpv6": "::/0"}),
    (WORLD, "aws:rds/instance:Instance", {}, {"publiclyAccessible": True}),
    (
        WORLD,
        "aws:rds/clusterInstance:ClusterInstance",
        {"publiclyAccessible": False},
        {"publiclyAccessible": True},
    ),
    (WORLD, INGRESS, {"cidrIpv4": "10.0.0.0/8"}, {"prefixListId": "pl-1234"}),
    (
        WORLD,
        GROUP,
        {"ingress": [{"cidrBlocks": ["10.0.0.0/9", "10.128.0.0/9"]}]},
        {"ingress": [{"cidrBlocks": ["0.0.0.0/1"]}, {"cidrBlocks": ["128.0.0.0/1"]}]},
    ),
    (WORLD, GROUP, {"ingress": []}, {"ingress": [{"prefixListIds": ["pl-1234"]}]}),
    (
        WORLD,
        "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup",
        {"vpcId": "v"},
        {"ingress": [{"cidrBlocks": ["0.0.0.0/0"]}]},
    ),
    (WORLD, "aws:lb/loadBalancer:LoadBalancer", {"internal": True}, {"name": "x"}),
    (WORLD, SERVICE, service("a", "internal"), service("a", None)),
    (
        WORLD,
        SERVICE,
        service("a", None, loadBalancerSourceRanges=["10.0.0.0/8"]),
        service("a", "internal", loadBalancerSourceRanges=["0.0.0.0/1", "128.0.0.0/1"]),
    ),
    (
        WORLD,
        SERVICE,
        service("istio-ingressgateway", "internet-facing"),
        service("istio-ingressgateway", "internet-facing", "tenant"),
    ),
    (WORLD, SERVICE, {"spec": {"type": "ClusterIP"}}, {"spec": {"externalIPs": ["192.0.2.1"]}}),
    (WORLD, SERVICE + "Patch", service("a", "internal"), service("a", "internet-facing")),
    (
        WORLD,
        RELEASE,
        gateway("istio-ingressgateway", "internet-facing"),
        gateway("istio-ingressgateway", "internet-facing", "tenant"),
    ),
    (WORLD, RELEASE, gateway("istio-eastwestgateway", "internal"), gateway("istio-eastwestgateway", None)),
    (WORLD, RELEASE, chart({"service": {"type": "ClusterIP"}}), chart({"service": {"type": "LoadBalancer"}})),
    (
        "no-public-endpoint-without-ranges",
        CLUSTER,
        {"vpcConfig": {"endpointPublicAccess": True, "publicAccessCidrs": ["198.51.100.7/32"]}},
        {"vpcConfig": {"endpointPublicAccess": True, "publicAccessCidrs": ["0.0.0.0/1", "128.0.0.0/1"]}},
    ),
    # machines
    (
        "imdsv2-only",
        LAUNCH_TEMPLATE,
        {"metadataOptions": {"httpTokens": "required", "httpPutResponseHopLimit": 1}},
        {"metadataOptions": {"httpTokens": "required", "httpPutResponseHopLimit": 64}},
    ),
    (
        "imdsv2-only",
        "aws:ec2/launchConfiguration:LaunchConfiguration",
        {"metadataOptions": {"httpEndpoint": "disabled"}},
        {},
    ),
    ("encryption-on", LAUNCH_TEMPLATE, disk("true"), {}),
    ("encryption-on", "aws:ebs/volume:Volume", {"encrypted": True}, {}),
    ("encryption-on", "aws:rds/instance:Instance", {"storageEncrypted": True}, {}),
    ("encryption-on", "aws:rds/cluster:Cluster", {"storageEncrypted": True}, {"storageEncrypted": False}),
    # images: values of charts, charts themselves, patches, moving tags, every place of a pod
    (
        IMAGES,
        RELEASE,
        chart({"global": {"hub": "docker.io/istio"}}),
        chart({"global": {"hub": "evil.example"}}),
    ),
    (IMAGES, RELEASE, chart({"global": {"tag": "1.31.0"}}), chart({"global": {"tag": "latest"}})),
    (
        IMAGES,
        RELEASE,
        chart({"image": {"registry": "quay.io", "repository": "jetstack/x"}}),
        chart({"image": {"registry": "quay.io", "repository": "evil/x"}}),
    ),
    (
        IMAGES,
        RELEASE,
        chart({"image": f"docker.io/istio/pilot:1.31.0@{DIGEST}"}),
        chart({"image": "docker.io/istio/pilot:latest"}),
    ),
    (
        IMAGES,
        RELEASE,
        chart({"hub": "docker.io/istio", "image": "docker.io/istio/pilot:1.31.0"}),
        chart({"hub": "docker.io/istio", "image": "evil.example/pilot:1.31.0"}),
    ),
    (IMAGES, RELEASE, chart({"image": "proxyv2"}), chart({"deep": [{"image": "evil.example/proxyv2:1.0"}]})),
    (IMAGES, RELEASE, chart({}), chart({}, repositoryOpts={"repo": "https://evil.example"})),
    (IMAGES, RELEASE, chart({}), chart({}, chart="oci://evil.example/istiod", repositoryOpts={})),
    (IMAGES, RELEASE, chart({}), chart({}, version=None)),
    (IMAGES, RELEASE, chart({}), chart({}, version="*")),
    (
        IMAGES,
        DEPLOYMENT + "Patch",
        deployment("docker.io/istio/pilot:1.31.0"),
        deployment("evil.example/pilot:1.31.0"),
    ),
    (
        IMAGES,
        DEPLOYMENT,
        deployment("ghcr.io/spiffe/spire-agent:v1.13.3"),
        deployment("ghcr.io/spiffe/spire-agent:master"),
    ),
    (IMAGES, DEPLOYMENT, deployment("prom/prometheus:v3.11.3"), deployment("nginx:1.27.0")),
    (
        IMAGES,
        DEPLOYMENT,
        deployment("docker.io/istio/a:1.31.0"),
        deployment("docker.io.evil.example/istio/a:1.31.0"),
    ),
    (
        IMAGES,
        "kubernetes:batch/v1:CronJob",
        {
            "spec": {
                "jobTemplate": {
                    "spec": {"template": {"spec": {"containers": [{"image": "quay.io/kiali/a:v1.2"}]}}}
                }
            }
        },
        {
            "spec": {
                "jobTemplate": {"spec": {"template": {"spec": {"initContainers": [{"image": "evil/a:1.2"}]}}}}
            }
        },
    ),
    (
        IMAGES,
        "kubernetes:core/v1:Pod",
        {"spec": {"volumes": [{"image": {"reference": f"docker.io/prom/a@{DIGEST}"}}]}},
        {"spec": {"volumes": [{"image": {"reference": "evil.example/a:1.0"}}]}},
    ),
    # mTLS: patches, ports, subsets, exclusions
    (
        MTLS,
        PEERS + "Patch",
        {"spec": {"mtls": {"mode": "STRICT"}}},
        {"spec": {"mtls": {"mode": "DISABLE"}}},
    ),
    (
        MTLS,
        PEERS,
        {"metadata": {"namespace": "istio-system"}, "spec": {"mtls": {"mode": "STRICT"}}},
        {"metadata": {"namespace": "istio-system"}, "spec": {}},
    ),
    (
        MTLS,
        DESTINATION,
        destination({"portLevelSettings": [{"port": {"number": 80}}]}),
        destination({"portLevelSettings": [{"port": {"number": 80}, "tls": {"mode": "DISABLE"}}]}),
    ),
    (
        MTLS,
        DESTINATION,
        destination({}, subsets=[{"name": "a", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}}]),
        destination({}, subsets=[{"name": "a", "trafficPolicy": {"tls": {"mode": "DISABLE"}}}]),
    ),
    (
        MTLS,
        DESTINATION,
        {"spec": {"host": "api.example.com", "trafficPolicy": {"tls": {"mode": "SIMPLE"}}}},
        destination({"tls": {"mode": "SIMPLE"}}),
    ),
    (MTLS, DESTINATION + "Patch", destination({}), destination({"tls": {"mode": "DISABLE"}})),
    (
        MTLS,
        DEPLOYMENT,
        annotated(inject_istio_io__templates="sidecar,spire"),
        annotated(traffic_sidecar_istio_io__excludeInboundPorts="8080"),
    ),
    (
        MTLS,
        DEPLOYMENT,
        annotated(traffic_sidecar_istio_io__includeInboundPorts="*"),
        annotated(traffic_sidecar_istio_io__includeInboundPorts=" 80"),
    ),
    (
        MTLS,
        "kubernetes:core/v1:Pod",
        rendered(),
        rendered(annotations={"sidecar.istio.io/interceptionMode": "NONE"}),
    ),
    (
        MTLS,
        RELEASE,
        chart({"meshConfig": {"enableAutoMtls": True}}),
        chart({"meshConfig": {"enableAutoMtls": False}}),
    ),
    (
        MTLS,
        RELEASE,
        chart({"podAnnotations": {}}),
        chart({"podAnnotations": {"traffic.sidecar.istio.io/excludeInboundPorts": "15090"}}),
    ),
    (
        MTLS,
        "kubernetes:networking.istio.io/v1:Sidecar",
        {"spec": {"ingress": [{"port": {"number": 80}}]}},
        {"spec": {"ingress": [{"captureMode": "NONE"}]}},
    ),
    # IAM: ARNs that name only a kind of resource, conditions that exclude a little or hold without their key
    *(
        (IAM, ROLE_POLICY, secrets(good, action), secrets(bad, action))
        for action, good, bad in (
            (
                "secretsmanager:GetSecretValue",
                "arn:aws:secretsmanager:*:*:secret:mesh/*",
                "arn:aws:secretsmanager:*:*:secret:*",
            ),
            (
                "secretsmanager:GetSecretValue",
                "arn:aws:secretsmanager:*:*:secret:a-*",
                "arn:aws:secretsmanager:*:*:sec*",
            ),
            (
                "secretsmanager:GetSecretValue",
                "arn:aws:secretsmanager:*:*:secret:a-??????",
                "arn:aws:secretsmanager:*:*:secret:*-??????",
            ),
            ("kms:Decrypt", "arn:aws:kms:*:*:key/1234", "arn:aws:kms:*:*:key/*"),
            ("kms:Decrypt", "arn:aws:kms:*:*:alias/a", "arn:aws:kms:us-east-1:123456789012:key/?*"),
            ("ssm:GetParameter", "arn:aws:ssm:*:*:parameter/a/*", "arn:aws:ssm:*:*:parameter/*"),
            ("s3:GetObject", "arn:aws:s3:::bucket/*", "arn:aws:s3:::*/*"),
            ("s3:GetObject", "arn:aws:s3:::bucket-*", "arn:aws:s3:::?*"),
            ("sqs:SendMessage", "arn:aws:sqs:*:*:queue", "arn:aws:sqs:*:*:*"),
            ("iam:PassRole", "arn:aws:iam::*:role/fedmesh/*", "arn:aws:iam::123456789012:role/*"),
            (
                "elasticloadbalancing:DeleteLoadBalancer",
                "arn:aws:elasticloadbalancing:*:*:loadbalancer/net/a/*",
                "arn:aws:elasticloadbalancing:*:*:loadbalancer/net/*/*",
            ),
            (
                "logs:PutLogEvents",
                "arn:aws:logs:*:*:log-group:a:*",
                "arn:aws:logs:*:*:log-group:*:log-stream:*",
            ),
        )
    ),
    *(
        (IAM, ROLE_POLICY, limited("StringEquals", "aws:ResourceTag/a", "b"), limited(*bad))
        for bad in (
            ("StringNotEquals", "aws:ResourceTag/a", "b"),
            ("StringNotLike", "aws:ResourceTag/a", "b"),
            ("StringNotEqualsIgnoreCase", "aws:ResourceTag/a", "b"),
            ("ArnNotLike", "aws:SourceArn", "arn:aws:ec2:us-east-1:1:vpc/v"),
            ("ArnNotEquals", "aws:SourceArn", "arn:aws:ec2:us-east-1:1:vpc/v"),
            ("NotIpAddress", "aws:VpcSourceIp", "10.0.0.0/8"),
            ("StringEqualsIfExists", "aws:ResourceTag/a", "b"),
            ("ForAllValues:StringEquals", "aws:TagKeys", ["a"]),
            ("Null", "aws:ResourceTag/a", "false"),
            ("Bool", "aws:ViaAWSService", "false"),
            ("StringLike", "aws:ResourceTag/a", ["b", "*"]),
            ("StringLike", "aws:ResourceTag/a", "?*"),
            ("ArnLike", "aws:SourceArn", "arn:aws:ec2:*:*:vpc/*"),
            ("StringEquals", "aws:PrincipalOrgID", "o-1"),
            ("IpAddress", "aws:VpcSourceIp", ["0.0.0.0/1", "128.0.0.0/1"]),
            ("DateGreaterThan", "aws:CurrentTime", "2020-01-01T00:00:00Z"),
        )
    ),
    (IAM, ROLE_POLICY, limited("ForAnyValue:StringLike", "aws:TagKeys", "spire-*"), limited("Bool", "a", "")),
    (
        IAM,
        ROLE_POLICY,
        limited("Bool", "kms:GrantIsForAWSResource", "true"),
        {"policy": {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}},
    ),
    (
        IAM,
        ROLE,
        {"assumeRolePolicy": trust({"AWS": "*"}, {"StringEquals": {"aws:PrincipalOrgID": "o-1"}})},
        {"assumeRolePolicy": trust({"AWS": "*"}, {"StringNotEquals": {"aws:PrincipalOrgID": "o-1"}})},
    ),
    # load balancers of Ingresses, Gateways, patches, charts and custom resources
    (WORLD, WEB, rendered(annotations={ALB: "internal"}), rendered(annotations={ALB: "internet-facing"})),
    (WORLD, WEB + "Patch", rendered(), rendered(annotations={ALB: "internet-facing"})),
    (
        WORLD,
        "kubernetes:extensions/v1beta1:Ingress",
        rendered(
            name="istio-ingressgateway", namespace="istio-gateways", annotations={ALB: "internet-facing"}
        ),
        rendered(annotations={"kubernetes.io/ingress.class": "gce"}),
    ),
    (
        WORLD,
        "kubernetes:elbv2.k8s.aws/v1beta1:IngressClassParams",
        {"spec": {"scheme": "internal"}},
        {"spec": {"scheme": "internet-facing"}},
    ),
    (WORLD, GATEWAY, shared_gateway({SCHEME: "internal"}), shared_gateway({SCHEME: "internet-facing"})),
    (WORLD, GATEWAY, shared_gateway({}, {"annotations": {SCHEME: "internal"}}), shared_gateway({})),
    (
        WORLD,
        GATEWAY,
        shared_gateway(
            {SCHEME: "internet-facing"}, {"name": "istio-ingressgateway", "namespace": "istio-gateways"}
        ),
        shared_gateway({"a": "b"}, {"annotations": {SCHEME: "internal"}}),
    ),
    (
        WORLD,
        GATEWAY,
        shared_gateway({}, addresses=[{"type": "Hostname", "value": "istio-ingressgateway.istio-gateways"}]),
        shared_gateway({}, addresses=[{"type": "IPAddress", "value": "192.0.2.1"}]),
    ),
    (
        WORLD,
        GATEWAY,
        shared_gateway({}, {"annotations": {"networking.istio.io/service-type": "ClusterIP"}}),
        shared_gateway(
            {SCHEME: "internet-facing"}, {"annotations": {"networking.istio.io/service-type": "ClusterIP"}}
        ),
    ),
    (
        WORLD,
        GATEWAY,
        shared_gateway({}, gatewayClassName="istio-waypoint"),
        shared_gateway({}, gatewayClassName="istio-east-west"),
    ),
    (
        WORLD,
        SERVICE + "Patch",
        {"metadata": {"name": "a", "annotations": {SCHEME: "internal"}}},
        {"metadata": {"name": "a", "annotations": {SCHEME: "internet-facing"}}},
    ),
    (
        WORLD,
        SERVICE,
        {"metadata": {"annotations": {SCHEME: "internal"}}, "spec": {"type": "LoadBalancer"}},
        {
            "metadata": {
                "annotations": {SCHEME: "internal", "example.com/aws-load-balancer-scheme": "internet-facing"}
            },
            "spec": {"type": "LoadBalancer"},
        },
    ),
    (
        WORLD,
        SERVICE,
        service("a", "internal"),
        {
            "metadata": {
                "annotations": {
                    SCHEME: "internet-facing",
                    "service.beta.kubernetes.io/aws-load-balancer-internal": "true",
                }
            },
            "spec": {"type": "LoadBalancer"},
        },
    ),
    (
        WORLD,
        SERVICE,
        {
            "metadata": {
                "annotations": {
                    "service.beta.kubernetes.io/load-balancer-source-ranges": "10.0.0.0/9, 172.16.0.0/12"
                }
            },
            "spec": {"type": "LoadBalancer"},
        },
        {
            "metadata": {
                "annotations": {
                    SCHEME: "internal",
                    "service.beta.kubernetes.io/load-balancer-source-ranges": "0.0.0.0/0",
                }
            },
            "spec": {"type": "LoadBalancer"},
        },
    ),
    (
        WORLD,
        RELEASE,
        chart({"server": {"service": {"type": "ClusterIP"}}}),
        chart({"server": {"service": {"type": "LoadBalancer"}}}),
    ),
    (
        WORLD,
        RELEASE,
        chart(
            {"gatewayClasses": {"istio": {"service": {"metadata": {"annotations": {SCHEME: "internal"}}}}}}
        ),
        chart(
            {
                "gatewayClasses": {
                    "istio": {"service": {"metadata": {"annotations": {SCHEME: "internet-facing"}}}}
                }
            }
        ),
    ),
    (
        WORLD,
        CONFIG_MAP,
        {"data": {"service": f"metadata: {{annotations: {{{SCHEME}: internal}}}}"}},
        {"data": {"service": f"metadata: {{annotations: {{{SCHEME}: internet-facing}}}}"}},
    ),
    (
        WORLD,
        "kubernetes:core/v1:ServiceList",
        {"items": [service("a", "internal")]},
        {"items": [service("a", "internal"), service("a", "internet-facing")]},
    ),
    (
        WORLD,
        "kubernetes:core/v1:List",
        {"items": [{"apiVersion": "v1", "kind": "Service", **service("a", "internal")}]},
        {"items": [{"apiVersion": "v1", "kind": "Service", **service("a", None)}]},
    ),
    # images: custom resources that run pods or hold values, plugins, lists, what is given to charts
    *(
        (IMAGES, kind, pods(GOOD_IMAGE, *path), pods(BAD_IMAGE, *path))
        for kind, path in (
            (ROLLOUT, ("template",)),
            ("kubernetes:apps.kruise.io/v1alpha1:CloneSet", ("template",)),
            ("kubernetes:serving.knative.dev/v1:Service", ("template",)),
            ("kubernetes:keda.sh/v1alpha1:ScaledJob", ("jobTargetRef", "template")),
            ("kubernetes:example.com/v1:Unheard", ("shards", "podTemplate")),
        )
    ),
    (
        IMAGES,
        "kubernetes:core/v1:PodTemplate",
        {"template": {"spec": {"containers": [{"image": GOOD_IMAGE}]}}},
        {"template": {"spec": {"ephemeralContainers": [{"image": BAD_IMAGE}]}}},
    ),
    (
        IMAGES,
        "kubernetes:apps/v1:DeploymentList",
        {"items": [deployment(GOOD_IMAGE)]},
        {"items": [deployment(GOOD_IMAGE), deployment(BAD_IMAGE)]},
    ),
    (
        IMAGES,
        "kubernetes:core/v1:List",
        {"items": [{"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", **deployment(GOOD_IMAGE)}]},
        {"items": [{"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", **deployment(BAD_IMAGE)}]},
    ),
    (
        IMAGES,
        "kubernetes:monitoring.coreos.com/v1:Prometheus",
        {"spec": {"image": "docker.io/prom/prometheus:v3.11.3"}},
        {"spec": {"image": "evil.example/prometheus:v3.11.3"}},
    ),
    (
        IMAGES,
        "kubernetes:install.istio.io/v1alpha1:IstioOperator",
        {"spec": {"hub": "docker.io/istio", "tag": "1.31.0"}},
        {"spec": {"hub": "evil.example"}},
    ),
    (
        IMAGES,
        "kubernetes:helm.toolkit.fluxcd.io/v2:HelmRelease",
        {"spec": {"values": {"global": {"hub": "docker.io/istio"}}}},
        {"spec": {"values": {"global": {"hub": "evil.example"}}}},
    ),
    *(
        (
            IMAGES,
            "kubernetes:extensions.istio.io/v1alpha1:WasmPlugin",
            {"spec": {"url": good}},
            {"spec": {"url": bad}},
        )
        for good, bad in (
            ("oci://docker.io/istio/plugin:1.31.0", "oci://evil.example/plugin:1.31.0"),
            ("docker.io/istio/plugin:1.31.0", "docker.io/istio/plugin:latest"),
            ("file:///plugin.wasm", "https://evil.example/plugin.wasm"),
        )
    ),
    (
        IMAGES,
        RELEASE,
        chart({"imageRegistry": "quay.io", "imageNamespace": "jetstack"}),
        chart({"imageRegistry": "quay.io"}),
    ),
    (
        IMAGES,
        RELEASE,
        chart({}, valueYamlFiles=[values_text("docker.io/istio")]),
        chart({}, valueYamlFiles=[values_text("evil.example")]),
    ),
    (
        IMAGES,
        RELEASE,
        chart({"global": {"hub": "docker.io/istio"}}, valueYamlFiles=[values_text("evil.example")]),
        chart({}, valueYamlFiles=[values_text("docker.io/istio"), values_text("evil.example")]),
    ),
    *(
        (IMAGES, RELEASE, chart({}), chart({}, **bad))
        for bad in (
            {"valueYamlFiles": [pulumi.RemoteAsset("https://evil.example/values.yaml")]},
            {"valueYamlFiles": [pulumi.FileAsset("/nowhere/values.yaml")]},
            {"valueYamlFiles": [pulumi.FileArchive("/nowhere")]},
            {"valueYamlFiles": [pulumi.StringAsset("- no values")]},
            {"valueYamlFiles": [pulumi.StringAsset("a: [")]},
            {"chart": "/nowhere/istiod", "repositoryOpts": None},
            {"chart": "alias/istiod", "repositoryOpts": None},
            {"postrender": "/bin/evil"},
            {"postRenderer": {"command": "/bin/evil"}},
        )
    ),
    # mTLS: values for the whole mesh, more annotations, a proxy's own config, pods of custom resources
    *(
        (MTLS, RELEASE, chart(good), chart(bad))
        for good, bad in (
            (
                {"global": {"proxy": {"excludeInboundPorts": ""}}},
                {"global": {"proxy": {"excludeInboundPorts": "80"}}},
            ),
            (
                {"global": {"proxy": {"excludeOutboundPorts": ""}}},
                {"global": {"proxy": {"excludeOutboundPorts": "80"}}},
            ),
            (
                {"global": {"proxy": {"includeInboundPorts": "*"}}},
                {"global": {"proxy": {"includeInboundPorts": ""}}},
            ),
            (
                {"global": {"proxy": {"includeIPRanges": "*"}}},
                {"global": {"proxy": {"includeIPRanges": "10.0.0.0/8"}}},
            ),
            (
                {"global": {"proxy": {"excludeIPRanges": ""}}},
                {"global": {"proxy": {"excludeIPRanges": "10.0.0.0/8"}}},
            ),
            ({"global": {"proxy": {"statusPort": 15020}}}, {"global": {"proxy": {"statusPort": 8080}}}),
            (
                {"meshConfig": {"defaultConfig": {"interceptionMode": "TPROXY"}}},
                {"meshConfig": {"defaultConfig": {"interceptionMode": "NONE"}}},
            ),
            (
                {"meshConfig": {"defaultTrafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}}},
                {"meshConfig": {"defaultTrafficPolicy": {"tls": {"mode": "DISABLE"}}}},
            ),
            ({"excludeNamespaces": ["kube-system"]}, {"excludeNamespaces": ["kube-system", "helloworld"]}),
        )
    ),
    (
        MTLS,
        RELEASE,
        chart({}),
        chart({}, valueYamlFiles=[pulumi.StringAsset("global: {proxy: {excludeInboundPorts: '80'}}")]),
    ),
    *(
        (MTLS, "kubernetes:core/v1:Pod", pod(**{key: good}), pod(**{key: bad}))
        for key, good, bad in (
            ("traffic.sidecar.istio.io/includeInboundPorts", "*", ""),
            ("traffic.sidecar.istio.io/includeOutboundIPRanges", "*", ""),
            ("traffic.sidecar.istio.io/excludeInterfaces", "", "eth1"),
            ("traffic.sidecar.istio.io/kubevirtInterfaces", "", "k6t-0"),
            ("istio.io/reroute-virtual-interfaces", "", "k6t-0"),
            ("sidecar.istio.io/interceptionMode", "TPROXY", "NONE"),
            ("status.sidecar.istio.io/port", "15020", "8080"),
            ("ambient.istio.io/bypass-inbound-capture", "false", "true"),
            ("proxy.istio.io/config", "interceptionMode: REDIRECT", "interceptionMode: NONE"),
            ("proxy.istio.io/config", "holdApplicationUntilProxyStarts: true", '{"interception_mode": 2}'),
            ("proxy.istio.io/config", "statusPort: 15020", "statusPort: 8080"),
            ("proxy.istio.io/config", "{}", "{"),
        )
    ),
    (
        MTLS,
        "kubernetes:networking.istio.io/v1:WorkloadEntry",
        {"spec": {"labels": {"security.istio.io/tlsMode": "istio"}}},
        {"spec": {"labels": {"security.istio.io/tlsMode": "disabled"}}},
    ),
    *(
        (
            MTLS,
            kind,
            pods(GOOD_IMAGE, "template"),
            pods(GOOD_IMAGE, "template", **{"traffic.sidecar.istio.io/excludeInboundPorts": "80"}),
        )
        for kind in (
            ROLLOUT,
            "kubernetes:serving.knative.dev/v1:Service",
            "kubernetes:apps/v1:DeploymentPatch",
        )
    ),
    (
        MTLS,
        "kubernetes:sailoperator.io/v1:Istio",
        {"spec": {"values": {"meshConfig": {"enableAutoMtls": True}}}},
        {"spec": {"values": {"meshConfig": {"enableAutoMtls": False}}}},
    ),
    (
        MTLS,
        CONFIG_MAP,
        {"data": {"mesh": "enableAutoMtls: true"}},
        {"data": {"mesh": "enableAutoMtls: false"}},
    ),
    (
        MTLS,
        CONFIG_MAP,
        {"data": {"mesh": "defaultConfig: {statusPort: 15020}"}},
        {"data": {"mesh": "defaultConfig: {interceptionMode: NONE}"}},
    ),
    (
        MTLS,
        CONFIG_MAP,
        {"data": {"values": '{"global": {"proxy": {"excludeIPRanges": ""}}}'}},
        {"data": {"values": '{"global": {"proxy": {"excludeIPRanges": "10.0.0.0/8"}}}'}},
    ),
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
        # documents with a principal are no rights of a role
        if '"Principal"' not in path.read_text(encoding="utf-8"):
            inputs = {"policy": document_json(path.stem)}
            assert violations("no-wildcard-iam", "aws:iam/rolePolicy:RolePolicy", inputs) == [], path.name


def test_schemas_and_texts_that_speak_of_images_run_none() -> None:
    schema = {"containers": [{"image": "evil.example/a"}], "image": "evil.example/a"}
    definition = "kubernetes:apiextensions.k8s.io/v1:CustomResourceDefinition"
    assert violations(IMAGES, definition, {"spec": {"properties": schema}}) == []
    assert violations(IMAGES, CONFIG_MAP, {"data": {"image": "evil.example/a"}}) == []


@pytest.mark.parametrize("archived", [False, True])
def test_the_values_of_a_local_chart_count_under_those_that_it_is_given(
    archived: bool, tmp_path: Path
) -> None:
    folder = local_chart(
        tmp_path / "mine", {"_internal_defaults_do_not_set": {"hub": "evil.example"}, "a": {}}
    )
    path = packed(folder) if archived else folder
    assert violations(IMAGES, RELEASE, installed(path)) == [
        "evil.example is in a registry that is not allowed"
    ]
    assert violations(IMAGES, RELEASE, installed(path, {"hub": "docker.io/istio"})) == []


@pytest.mark.parametrize("archived", [False, True])
def test_charts_inside_a_local_chart_are_judged_too(archived: bool, tmp_path: Path) -> None:
    folder = local_chart(tmp_path / "mine")
    inner = local_chart(
        tmp_path / "inner", {"hub": "evil.example"}, templates__pod="image: evil.example/a:1.0"
    )
    (folder / "charts").mkdir()
    source = packed(inner) if archived else inner
    source.rename(folder / "charts" / source.name)
    found = violations(IMAGES, RELEASE, installed(folder))
    assert found == [
        "evil.example is in a registry that is not allowed",
        "evil.example/a:1.0 comes from a registry that is not allowed",
    ]
    assert len(violations(IMAGES, RELEASE, installed(folder, {"inner": {"hub": "docker.io/istio"}}))) == 1


def test_images_that_a_local_chart_spells_out_are_judged(tmp_path: Path) -> None:
    good = local_chart(
        tmp_path / "good", templates__pod='  - image: "{{ .Values.hub }}/a"\n    image: auto\n'
    )
    assert violations(IMAGES, RELEASE, installed(good)) == []
    bad = local_chart(
        tmp_path / "bad", templates__pod='  - name: a\n    image: "evil.example/a:1.0" # ours\n'
    )
    assert violations(IMAGES, RELEASE, installed(bad))


def test_a_local_chart_s_own_load_balancer_is_judged(tmp_path: Path) -> None:
    path = packed(local_chart(tmp_path / "gateway", {"service": {"type": "LoadBalancer"}}))
    assert violations(WORLD, RELEASE, installed(path))
    assert (
        violations(WORLD, RELEASE, installed(path, {"service": {"annotations": {SCHEME: "internal"}}})) == []
    )


def test_values_of_a_file_are_read(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text("global: {hub: evil.example}")
    assert violations(IMAGES, RELEASE, chart({}, valueYamlFiles=[pulumi.FileAsset(str(file))]))


@pytest.mark.parametrize(
    ("rule", "kind", "inputs"),
    [
        (MTLS, "kubernetes:core/v1:Pod", pod(**{"status.sidecar.istio.io/port": UNKNOWN_STRING_VALUE})),
        (WORLD, SERVICE, service("a", UNKNOWN_STRING_VALUE)),
        (
            WORLD,
            SERVICE,
            {"metadata": {"annotations": UNKNOWN_OBJECT_VALUE}, "spec": {"type": "LoadBalancer"}},
        ),
        (WORLD, WEB, {"metadata": UNKNOWN_OBJECT_VALUE}),
        (
            WORLD,
            GATEWAY,
            {"metadata": {"annotations": UNKNOWN_OBJECT_VALUE}, "spec": {"gatewayClassName": "istio"}},
        ),
        (IMAGES, DEPLOYMENT, deployment(UNKNOWN_STRING_VALUE)),
        (
            IMAGES,
            RELEASE,
            chart({"global": {"hub": UNKNOWN_STRING_VALUE}}, valueYamlFiles=[values_text("evil.example")]),
        ),
    ],
)
def test_what_a_preview_does_not_know_is_left_to_up(rule: str, kind: str, inputs: dict[str, Any]) -> None:
    assert violations(rule, kind, unknown_checking_proxy(inputs)) == []


def test_a_missing_annotation_is_not_an_unknown_one() -> None:
    inputs = {"metadata": {"name": "a", "annotations": None}, "spec": {"type": "LoadBalancer"}}
    assert violations(WORLD, SERVICE, unknown_checking_proxy(inputs))
