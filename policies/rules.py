"""The rules, each a pure function of a resource's type and inputs that yields what is wrong with it."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Inputs = Mapping[str, Any]
Config = Mapping[str, Any]

WORLD = ("0.0.0.0/0", "::/0")
ALLOWED_REGISTRIES = (
    "docker.io/istio",
    "docker.io/curlimages",
    "docker.io/prom",
    "ghcr.io/spiffe",
    "quay.io/jetstack",
    "quay.io/kiali",
    "registry.k8s.io",
)
REQUIRED_TAGS = ("project", "environment", "owner")
EDGE_SERVICES = ("istio-ingressgateway",)
READING = re.compile(r"^[\w-]+:(Describe|Get|List|BatchGet|Search)[\w*]*$")
INTERNAL = "service.beta.kubernetes.io/aws-load-balancer-scheme"
CLUSTER = "aws:eks/cluster:Cluster"
LAUNCH_TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"
WORKLOADS = ("Deployment", "DaemonSet", "StatefulSet", "Job", "CronJob", "Pod", "ReplicaSet")
# Resources whose tags a bill or an audit needs.
TAGGED = frozenset(
    {
        CLUSTER,
        LAUNCH_TEMPLATE,
        "aws:eks/nodeGroup:NodeGroup",
        "aws:eks/addon:Addon",
        "aws:ec2/vpc:Vpc",
        "aws:ec2/subnet:Subnet",
        "aws:ec2/eip:Eip",
        "aws:ec2/natGateway:NatGateway",
        "aws:ec2/vpcEndpoint:VpcEndpoint",
        "aws:ec2/securityGroup:SecurityGroup",
        "aws:ec2transitgateway/transitGateway:TransitGateway",
        "aws:iam/role:Role",
        "aws:kms/key:Key",
        "aws:cloudwatch/logGroup:LogGroup",
        "aws:route53/zone:Zone",
        "aws:globalaccelerator/accelerator:Accelerator",
    }
)


@dataclass(frozen=True)
class Rule:
    """A rule: its name, what it asks for, and what finds violations. `config` has defaults for what users may set."""

    name: str
    description: str
    find: Callable[[str, Inputs, Config], Iterator[str]]
    config: Config


def public_endpoint(kind: str, inputs: Inputs, _config: Config) -> Iterator[str]:
    """AWS opens an API server to everybody unless it is told otherwise."""
    if kind != CLUSTER:
        return
    vpc = inputs.get("vpcConfig") or {}
    ranges = vpc.get("publicAccessCidrs") or []
    if vpc.get("endpointPublicAccess", True) and not ranges:
        yield "the API server answers the whole internet: list publicAccessCidrs or set endpointPublicAccess to false"
    if any(each in WORLD for each in ranges):
        yield "publicAccessCidrs holds 0.0.0.0/0, which is everybody"


def encryption(kind: str, inputs: Inputs, _config: Config) -> Iterator[str]:
    """Secrets of the cluster, disks of nodes, volumes; and keys that turn over."""
    if kind == CLUSTER and not inputs.get("encryptionConfig"):
        yield "Kubernetes secrets are not encrypted with a key of yours: set encryptionConfig"
    if kind == LAUNCH_TEMPLATE:
        for disk in inputs.get("blockDeviceMappings") or []:
            if str((disk.get("ebs") or {}).get("encrypted")).lower() != "true":
                yield f"the disk {disk.get('deviceName')} is not encrypted"
    if kind == "aws:kms/key:Key" and not inputs.get("enableKeyRotation"):
        yield "the key is never rotated: set enableKeyRotation"
    is_ebs = kind.endswith(":StorageClass") and inputs.get("provisioner") == "ebs.csi.aws.com"
    if is_ebs and (inputs.get("parameters") or {}).get("encrypted") != "true":
        yield "volumes of this class are not encrypted: set the parameter encrypted"


def wildcard_iam(kind: str, inputs: Inputs, _config: Config) -> Iterator[str]:
    """No action by wildcard; no action on everything unless it only reads or has a condition."""
    if not kind.startswith("aws:iam/") or not inputs.get("policy"):
        return
    for statement in json.loads(inputs["policy"])["Statement"]:
        if statement["Effect"] != "Allow":
            continue
        actions = _list(statement.get("Action"))
        broad = [action for action in actions if action.endswith("*") and not READING.match(action)]
        if broad or "NotAction" in statement:
            yield f"allows {', '.join(broad) or 'all but some actions'}: name each action"
        writing = [action for action in actions if not READING.match(action)]
        if "*" in _list(statement.get("Resource")) and writing and not statement.get("Condition"):
            yield f"allows {', '.join(writing)} on everything without a condition"


def world_ingress(kind: str, inputs: Inputs, config: Config) -> Iterator[str]:
    """Only the edge may be reached from everywhere."""
    if any(each in WORLD for each in _ingress_ranges(kind, inputs)):
        yield "lets everybody in: name the ranges"
    if kind == "kubernetes:core/v1:Service":
        yield from _world_service(inputs, config)


def _ingress_ranges(kind: str, inputs: Inputs) -> list[str]:
    if kind == "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule":
        return [inputs.get("cidrIpv4") or "", inputs.get("cidrIpv6") or ""]
    rules: list[Inputs] = []
    if kind == "aws:ec2/securityGroup:SecurityGroup":
        rules = inputs.get("ingress") or []
    if kind == "aws:ec2/securityGroupRule:SecurityGroupRule" and inputs.get("type") == "ingress":
        rules = [inputs]
    fields = ("cidrBlocks", "ipv6CidrBlocks")
    return [each for rule in rules for field in fields for each in rule.get(field) or []]


def _world_service(inputs: Inputs, config: Config) -> Iterator[str]:
    metadata, spec = inputs.get("metadata") or {}, inputs.get("spec") or {}
    if spec.get("type") != "LoadBalancer" or metadata.get("name") in config["edgeServices"]:
        return
    scheme = (metadata.get("annotations") or {}).get(INTERNAL)
    ranges = spec.get("loadBalancerSourceRanges") or []
    if scheme == "internet-facing" or any(each in WORLD for each in ranges):
        yield f"the load balancer of {metadata.get('name')} is open to everybody, and it is no edge"


def imds(kind: str, inputs: Inputs, _config: Config) -> Iterator[str]:
    """Version 1 of the instance metadata service gives a node's credentials to any request that is forwarded to it."""
    has_metadata = kind in (LAUNCH_TEMPLATE, "aws:ec2/instance:Instance")
    if has_metadata and (inputs.get("metadataOptions") or {}).get("httpTokens") != "required":
        yield "IMDSv1 is on: set metadataOptions.httpTokens to required"


def images(kind: str, inputs: Inputs, config: Config) -> Iterator[str]:
    """Images have a version that is not `latest`, and come from registries that are trusted."""
    if not kind.startswith("kubernetes:") or kind.rsplit(":", 1)[1] not in WORKLOADS:
        return
    for image in _images(inputs.get("spec") or {}):
        if image == "auto":  # Istio's webhook puts the proxy's image in its place
            continue
        if not _pinned(image):
            yield f"{image} has no fixed version"
        if not any(image.startswith(f"{registry}/") for registry in config["registries"]):
            yield f"{image} comes from a registry that is not allowed"


def strict_mtls(kind: str, inputs: Inputs, _config: Config) -> Iterator[str]:
    """Nothing in the mesh speaks in the clear."""
    spec = inputs.get("spec") or {}
    if kind.startswith("kubernetes:security.istio.io/") and kind.endswith(":PeerAuthentication"):
        modes = [spec.get("mtls") or {}, *(spec.get("portLevelMtls") or {}).values()]
        for mode in modes:
            if mode.get("mode", "STRICT") not in ("STRICT", "UNSET"):
                yield f"mTLS is {mode['mode']}: STRICT is the only mode"
    is_rule = kind.startswith("kubernetes:networking.istio.io/") and kind.endswith(":DestinationRule")
    if is_rule and ((spec.get("trafficPolicy") or {}).get("tls") or {}).get("mode") == "DISABLE":
        yield "turns mTLS off towards a host"


def required_tags(kind: str, inputs: Inputs, config: Config) -> Iterator[str]:
    """Who owns it, where it belongs, what it is for."""
    if kind not in TAGGED:
        return
    missing = [tag for tag in config["tags"] if not (inputs.get("tags") or {}).get(tag)]
    if missing:
        yield f"lacks the tags {', '.join(missing)}"


def _list(value: str | Sequence[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])


def _images(spec: Inputs) -> Iterator[str]:
    if spec.get("jobTemplate"):
        yield from _images(spec["jobTemplate"].get("spec") or {})
    pod = (spec.get("template") or {}).get("spec") or spec
    for field in ("containers", "initContainers"):
        for container in pod.get(field) or []:
            yield container["image"]


def _pinned(image: str) -> bool:
    if "@sha256:" in image:
        return True
    version = image.rsplit("/", 1)[-1].partition(":")[2]
    return version not in ("", "latest")


RULES = (
    Rule(
        "no-public-endpoint-without-ranges", "A public API server has a list of ranges", public_endpoint, {}
    ),
    Rule("encryption-on", "Secrets, disks and volumes are encrypted; keys rotate", encryption, {}),
    Rule(
        "no-wildcard-iam",
        "Policies name their actions and, where they write, their resources",
        wildcard_iam,
        {},
    ),
    Rule(
        "no-world-ingress-but-at-the-edge",
        "Nothing but the edge is open to everybody",
        world_ingress,
        {"edgeServices": list(EDGE_SERVICES)},
    ),
    Rule("imdsv2-only", "Nodes answer metadata requests with a token only", imds, {}),
    Rule(
        "images-pinned-and-trusted",
        "Images have fixed versions and come from allowed registries",
        images,
        {"registries": list(ALLOWED_REGISTRIES)},
    ),
    Rule("strict-mtls", "mTLS is STRICT everywhere", strict_mtls, {}),
    Rule("required-tags", "AWS resources say whose they are", required_tags, {"tags": list(REQUIRED_TAGS)}),
)
