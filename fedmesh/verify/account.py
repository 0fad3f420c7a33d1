"""The AWS account in which `pulumi up` will create clusters (`fedmesh verify --pre`). Nothing is created or changed."""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from components.config.accounts import AccountSpec, in_account
from components.config.eks import LATEST, EksSpec, is_listed, log_group_of, name_in_eks
from components.config.errors import ConfigError
from components.config.networks import check_gateway, check_network
from components.config.zones import verified_zones
from fedmesh.kube import Json
from fedmesh.stack import settings_of
from fedmesh.verify.model import Check, Failed, Result, Severity, Warned, category, refuse
from fedmesh.verify.runner import result_of

check = category("AWS account")
POLICY = Path("docs/iam-policy.json")
SECONDS = 60.0
ACTIONS = 50  # asked of the policy simulator at a time
ADDONS = ("vpc-cni", "kube-proxy", "coredns", "aws-ebs-csi-driver", "eks-pod-identity-agent")
# Quotas that a stack comes near to, by service and code, with AWS's default.
ADDRESSES, NETWORKS, CPUS = ("ec2", "L-0263D0A3"), ("vpc", "L-F678F1CE"), ("ec2", "L-1216C47A")
DATABASES = ("rds", "L-7B6409FD")


class AwsError(Exception):
    """The aws command failed; the message is its last line."""


Aws = Callable[..., Json]


def aws_command(*words: str, region: str = "", credentials: Mapping[str, str] | None = None) -> Json:
    """Runs the aws command, with credentials other than those at hand where it is given some. Raises AwsError."""
    line = ["aws", *words, "--output", "json", *(["--region", region] if region else [])]
    environment = {**os.environ, **credentials} if credentials else None
    try:
        done = subprocess.run(
            line, capture_output=True, text=True, check=False, timeout=SECONDS, env=environment
        )
    except FileNotFoundError:
        raise AwsError("the command aws is not on PATH; kubeconfigs of EKS call it too") from None
    except subprocess.TimeoutExpired:
        raise AwsError(f"aws {' '.join(words[:2])} does not answer within {SECONDS:.0f} s") from None
    if done.returncode != 0:
        raise AwsError((done.stderr.strip().splitlines() or ["no message"])[-1])
    return json.loads(done.stdout or "{}")


def aws_in(account: AccountSpec | None) -> Aws:
    """Returns the aws command with the credentials of a cluster's account, as `pulumi up` has them."""
    if account is None:
        return aws_command
    if account.profile:
        return lambda *words, region="": aws_command(*words, "--profile", account.profile, region=region)
    return lambda *words, region="": aws_command(
        *words, region=region, credentials=_session(account.role_arn)
    )


@cache
def _session(role: str) -> Mapping[str, str]:
    """The credentials of a role, for the environment."""
    words = ("sts", "assume-role", "--role-arn", role, "--role-session-name", "fedmesh")
    given = aws_command(*words)["Credentials"]
    names = {
        "ACCESS_KEY_ID": "AccessKeyId",
        "SECRET_ACCESS_KEY": "SecretAccessKey",
        "SESSION_TOKEN": "SessionToken",
    }
    return {f"AWS_{name}": str(given[key]) for name, key in names.items()}


@dataclass(frozen=True)
class NewCluster:
    """A cluster that the program creates: its name in the stack, in EKS, and its settings."""

    name: str
    eks_name: str
    region: str
    spec: EksSpec


@dataclass
class Account:
    """An account, and the clusters of the stack that are to be created in it.

    Attributes:
        boundary: ARN of the permissions boundary of the stack's roles, "" for none.
        databases: whether each cluster gets a database.
        project: the folder of the Pulumi program.
        gateway: id of the transit gateway that exists and joins the networks, "" for none.
        aws: calls AWS with the account's credentials; the aws command with those at hand by default.
    """

    stack: str
    clusters: list[NewCluster]
    boundary: str
    project: Path
    aws: Aws = field(default=aws_command)
    gateway: str = ""
    databases: bool = False

    @cached_property
    def caller(self) -> str:
        """ARN of the identity that runs the command."""
        return str(self.aws("sts", "get-caller-identity")["Arn"])

    @cached_property
    def existing(self) -> Mapping[str, Sequence[str]]:
        """Names of the EKS clusters that there are, by region of the stack."""
        regions = sorted({each.region for each in self.clusters})
        return {region: self.aws("eks", "list-clusters", region=region)["clusters"] for region in regions}

    def missing(self, region: str) -> list[NewCluster]:
        """The stack's clusters of a region that are not there yet."""
        return [c for c in self.clusters if c.region == region and c.eks_name not in self.existing[region]]

    def quota(self, quota: tuple[str, str], region: str) -> int:
        """The value of a quota. Raises Warned where AWS does not tell it, as `up` needs no quota to be known."""
        words = ("service-quotas", "get-service-quota", "--service-code", quota[0], "--quota-code", quota[1])
        try:
            found = self.aws(*words, region=region)
        except AwsError as error:
            raise Warned(f"Service Quotas does not say: {error}") from None
        return math.floor(found["Quota"]["Value"])


def load(project: Path, stack: str) -> list[Account]:
    """Reads what a stack creates in which AWS accounts. Raises ConfigError and FileNotFoundError."""
    settings = settings_of(project, stack)
    accounts: dict[str, Account] = {}
    for spec in settings.clusters:
        if spec.eks is None:
            continue
        cluster = NewCluster(spec.name, name_in_eks(spec.name), spec.region, spec.eks)
        account = accounts.setdefault(
            spec.eks.account_label,
            Account(
                stack,
                [],
                settings.aws.permissions_boundary,
                project,
                aws_in(spec.eks.account),
                settings.aws.transit_gateway_id,
                settings.rds is not None,
            ),
        )
        account.clusters.append(cluster)
    return list(accounts.values())


@check(
    "AWS credentials are valid",
    "Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and its secret; renew them (`aws sso login`) where they have expired.",
)
def credentials_are_valid(account: Account, cluster: NewCluster) -> str:
    """The credentials belong to an identity that the cluster will let in."""
    if cluster.spec.admins and not is_listed(account.caller, cluster.spec.admins):
        raise Failed(
            f"{account.caller} is not among the admins",
            "List it in eks.admins, or use one of the identities there.",
        )
    return account.caller


@check(
    "the cluster's name is free",
    "Use another account or region, or destroy the other stack: names of EKS clusters are unique in both.",
)
def name_is_free(account: Account, cluster: NewCluster) -> str:
    """No cluster of another stack has the name."""
    if cluster.eks_name not in account.existing[cluster.region]:
        return cluster.eks_name
    found = account.aws("eks", "describe-cluster", "--name", cluster.eks_name, region=cluster.region)[
        "cluster"
    ]
    owner = found.get("tags", {}).get("fedmesh:stack")
    if owner != account.stack:
        raise Failed(
            f"{cluster.eks_name} exists in {cluster.region} and belongs to {owner or 'no stack that says so'}"
        )
    return f"{cluster.eks_name} is this stack's"


@check(
    "no log group of an earlier cluster is left",
    "Delete it with the command that the report names, or import it into the stack.",
)
def log_group_is_free(account: Account, cluster: NewCluster) -> str:
    """The program makes the log group before the cluster, which EKS writes to for a while after it is deleted."""
    if not cluster.spec.log_types:
        return "no logs are kept"
    name = log_group_of(cluster.eks_name)
    if cluster.eks_name in account.existing[cluster.region]:
        return name
    found = account.aws("logs", "describe-log-groups", "--log-group-name-prefix", name, region=cluster.region)
    for arn in [
        each["arn"].removesuffix(":*") for each in found["logGroups"] if each["logGroupName"] == name
    ]:
        words = ("logs", "list-tags-for-resource", "--resource-arn", arn)
        if "Name" in account.aws(*words, region=cluster.region).get("tags", {}):
            return f"{name} is of an `up` that ended early"  # EKS gives its own no tags
        command = f"aws logs delete-log-group --log-group-name {name} --region {cluster.region}"
        raise Failed(f"{name} exists, and the cluster does not", f"Run `{command}`.")
    return name


@check("EKS has the versions", "Choose a version that is named in the report, or `latest` for addons.")
def versions_exist(account: Account, cluster: NewCluster) -> str:
    """EKS offers the Kubernetes version and the pinned addons for it."""
    version = cluster.spec.version
    faults: list[str] = []
    for addon in ADDONS:
        words = ("eks", "describe-addon-versions", "--addon-name", addon, "--kubernetes-version", version)
        found = account.aws(*words, region=cluster.region)["addons"]
        known = [each["addonVersion"] for entry in found for each in entry["addonVersions"]]
        if not known:
            raise Failed(
                f"EKS has no addon {addon} for Kubernetes {version}, as for a version that it does not offer"
            )
        if cluster.spec.addons.of(addon) not in (LATEST, *known):
            faults.append(f"{addon} {cluster.spec.addons.of(addon)}: EKS has {', '.join(known[:3])}")
    refuse(faults)
    return version


@check("EKS takes subnets in the zones", "List zones that the report allows.")
def zones_are_usable(account: Account, cluster: NewCluster) -> str:
    """The account has the zones, none of which EKS refuses."""
    words = ("ec2", "describe-availability-zones", "--filters", "Name=zone-type,Values=availability-zone")
    found = account.aws(*words, region=cluster.region)["AvailabilityZones"]
    try:
        zones = verified_zones(
            cluster.spec.zones, {z["ZoneName"]: z["ZoneId"] for z in found}, "zones", account.stack
        )
    except ConfigError as error:
        raise Failed(str(error)) from None
    return ", ".join(zones)


@check("the network that exists can be used", "Change the network, or name another.")
def network_is_usable(account: Account, cluster: NewCluster) -> str:
    """VPC and subnets have the range, the names, the zones and the tags that EKS and load balancers need."""
    network = cluster.spec.network
    if network is None:
        return "a network is made"
    ids = (*network.private_subnet_ids, *network.public_subnet_ids)
    (vpc,) = account.aws("ec2", "describe-vpcs", "--vpc-ids", network.vpc_id, region=cluster.region)["Vpcs"]

    def has(attribute: str) -> bool:
        words = ("--vpc-id", network.vpc_id, "--attribute", attribute)
        answer = account.aws("ec2", "describe-vpc-attribute", *words, region=cluster.region)
        return bool(answer[attribute[0].upper() + attribute[1:]]["Value"])

    facts = {
        "cidrs": [each["CidrBlock"] for each in (vpc, *vpc.get("CidrBlockAssociationSet", []))],
        "dns_support": has("enableDnsSupport"),
        "dns_hostnames": has("enableDnsHostnames"),
    }
    try:
        check_network(
            network,
            cluster.spec.vpc_cidr,
            vpc=facts,
            subnets=_subnets(account, cluster, ids),
            key="network",
            source=account.stack,
        )
    except ConfigError as error:
        raise Failed(str(error)) from None
    return network.vpc_id


def _subnets(account: Account, cluster: NewCluster, ids: Sequence[str]) -> dict[str, Json]:
    found = account.aws("ec2", "describe-subnets", "--subnet-ids", *ids, region=cluster.region)["Subnets"]
    return {
        each["SubnetId"]: {
            "vpc_id": each["VpcId"],
            "zone": each["AvailabilityZone"],
            "zone_id": each["AvailabilityZoneId"],
            "tags": {tag["Key"]: tag["Value"] for tag in each.get("Tags", [])},
        }
        for each in found
    }


@check("the transit gateway that exists can be used", "Change the gateway's options, or name another.")
def gateway_is_usable(account: Account, cluster: NewCluster) -> str:
    """The gateway is in the cluster's region, and associates and propagates what is attached to it."""
    if not account.gateway:
        return "none is named"
    words = ("ec2", "describe-transit-gateways", "--transit-gateway-ids", account.gateway)
    (found,) = account.aws(*words, region=cluster.region)["TransitGateways"]
    if found["State"] != "available":
        raise Failed(f"{account.gateway} is {found['State']}")
    options = {name: value == "enable" for name, value in found["Options"].items()}
    facts = {
        "id": account.gateway,
        "owner": found["OwnerId"],
        "association": options["DefaultRouteTableAssociation"],
        "propagation": options["DefaultRouteTablePropagation"],
        "dns": options["DnsSupport"],
        "auto_accept": options["AutoAcceptSharedAttachments"],
    }
    try:
        check_gateway(facts, account.caller.split(":")[4], account.stack)
    except ConfigError as error:
        raise Failed(str(error)) from None
    return account.gateway


@check("the zones have the instance types", "Choose other instance types or zones.")
def instances_are_offered(account: Account, cluster: NewCluster) -> str:
    """Every zone offers an instance type of each node group."""
    types = sorted({each for group in cluster.spec.node_groups.values() for each in group.instance_types})
    words = ("ec2", "describe-instance-type-offerings", "--location-type", "availability-zone", "--filters")
    found = account.aws(*words, f"Name=instance-type,Values={','.join(types)}", region=cluster.region)
    offered = {(each["InstanceType"], each["Location"]) for each in found["InstanceTypeOfferings"]}
    zones = _zones(account, cluster)
    refuse(
        [
            f"{zone} has none of {', '.join(group.instance_types)} for the group {name}"
            for name, group in cluster.spec.node_groups.items()
            for zone in zones
            if not any((each, zone) in offered for each in group.instance_types)
        ]
    )
    return ", ".join(types)


def _zones(account: Account, cluster: NewCluster) -> Sequence[str]:
    network = cluster.spec.network
    if network is None:
        return cluster.spec.zones
    return sorted({each["zone"] for each in _subnets(account, cluster, network.private_subnet_ids).values()})


@check("quotas leave room", "Ask for more in the console of Service Quotas, or use another region.")
def quotas_leave_room(account: Account, cluster: NewCluster) -> str:
    """VPCs, addresses, vCPUs and databases of all the stack's clusters in the region fit into what is left."""
    region, missing = cluster.region, account.missing(cluster.region)
    used = {
        NETWORKS: len(account.aws("ec2", "describe-vpcs", region=region)["Vpcs"]),
        ADDRESSES: len(account.aws("ec2", "describe-addresses", region=region)["Addresses"]),
        CPUS: 0,
    }
    needed = {
        NETWORKS: sum(each.spec.network is None for each in missing),
        ADDRESSES: sum(each.spec.nat_gateways for each in missing),
        CPUS: _cpus(account, missing, region),
    }
    names = {
        NETWORKS: "VPCs",
        ADDRESSES: "Elastic IP addresses",
        CPUS: "vCPUs of on-demand standard instances",
        DATABASES: "databases of RDS",
    }
    if account.databases:
        used[DATABASES] = len(account.aws("rds", "describe-db-instances", region=region)["DBInstances"])
        needed[DATABASES] = len(missing)
    room = {each: account.quota(each, region) - used[each] for each in needed}
    refuse(
        [
            f"{needed[q]} {names[q]} are needed in {region}, {room[q]} are left"
            for q in needed
            if needed[q] > room[q]
        ]
    )
    return ", ".join(f"{needed[each]} of {room[each]} {names[each]}" for each in needed)


def _cpus(account: Account, clusters: Sequence[NewCluster], region: str) -> int:
    """vCPUs of all on-demand nodes to begin with; those that run already are not known here."""
    groups = [g for c in clusters for g in c.spec.node_groups.values() if not g.spot and g.desired_size]
    types = sorted({group.instance_types[0] for group in groups})
    if not types:
        return 0
    found = account.aws("ec2", "describe-instance-types", "--instance-types", *types, region=region)[
        "InstanceTypes"
    ]
    cpus = {each["InstanceType"]: int(each["VCpuInfo"]["DefaultVCpus"]) for each in found}
    return sum(cpus[group.instance_types[0]] * group.desired_size for group in groups)


@check(
    "the caller may do what the program does",
    "Attach docs/iam-policy.json to the identity, and set aws.permissionsBoundary as docs/aws.md has it.",
)
def permissions_suffice(account: Account, _cluster: NewCluster) -> str:
    """IAM's policy simulator allows every action of docs/iam-policy.json, with its resources and conditions."""
    document = account.project / POLICY
    if not document.is_file():
        raise Warned(f"{document} is missing: run the command in a checkout of fedmesh")
    denied = sorted(
        {action for words in _simulations(account, document) for action in _denied(account, words)}
    )
    refuse([f"not allowed: {', '.join(denied[:8])}{', ...' if len(denied) > 8 else ''}"] if denied else [])
    return "all actions of docs/iam-policy.json"


def _simulations(account: Account, document: Path) -> Iterator[list[str]]:
    """The questions to the simulator: the actions of a statement in parts, its resource, and its conditions met."""
    number = account.caller.split(":")[4]
    boundary = in_account(account.boundary, number)
    for statement in json.loads(document.read_text(encoding="utf-8"))["Statement"]:
        actions = [each for each in statement["Action"] if "*" not in each]
        context = [
            f"ContextKeyName={key},ContextKeyType=string,ContextKeyValues={boundary or _first(values)}"
            if key == "iam:PermissionsBoundary"
            else f"ContextKeyName={key},ContextKeyType=string,ContextKeyValues={_first(values)}"
            for conditions in statement.get("Condition", {}).values()
            for key, values in conditions.items()
        ]
        resource = _arn(_first(statement["Resource"]), number)
        for start in range(0, len(actions), ACTIONS):
            words = ["--action-names", *actions[start : start + ACTIONS]]
            words += ["--resource-arns", resource] if resource else []
            yield [*words, *(["--context-entries", *context] if context else [])]


def _arn(pattern: str, number: str) -> str:
    """An ARN that a pattern stands for, in an account."""
    if not pattern.startswith("arn:"):
        return ""
    head, service, region, account, name = pattern.split(":", 5)[1:]
    return ":".join(
        ("arn", head, service, region.replace("x", "us-east-1"), account.replace("x", number), name)
    )


def _first(values: str | list[str]) -> str:
    return (values if isinstance(values, str) else values[0]).replace("arn:*", "arn:aws").replace("*", "x")


def _denied(account: Account, words: Sequence[str]) -> list[str]:
    source = account.caller
    kind = source.split(":")[5].split("/")
    try:
        if kind[0] == "assumed-role":
            source = account.aws("iam", "get-role", "--role-name", kind[1])["Role"]["Arn"]
        asked = account.aws("iam", "simulate-principal-policy", "--policy-source-arn", source, *words)
    except AwsError as error:
        raise Warned(f"the policy simulator does not say: {error}") from None
    return [
        each["EvalActionName"] for each in asked["EvaluationResults"] if each["EvalDecision"] != "allowed"
    ]


CHECKS = (
    credentials_are_valid,
    name_is_free,
    log_group_is_free,
    versions_exist,
    zones_are_usable,
    network_is_usable,
    gateway_is_usable,
    instances_are_offered,
    quotas_leave_room,
    permissions_suffice,
)


def examine(account: Account) -> list[Result]:
    """Runs all checks for every cluster; without valid credentials the others are not asked."""
    results: list[Result] = []
    for cluster in account.clusters:
        for each in CHECKS:
            results.append(_examined(account, each, cluster))
            if each is credentials_are_valid and not results[-1].ok:
                break
    return results


def _examined(account: Account, each: Check, cluster: NewCluster) -> Result:
    try:
        return result_of(each, cluster.name, True, each.examine(account, cluster))
    except Failed as failure:
        severity = Severity.WARNING if isinstance(failure, Warned) else None
        return result_of(
            each, cluster.name, False, failure.detail, hint=failure.hint or each.hint, severity=severity
        )
    except AwsError as error:
        return result_of(each, cluster.name, False, str(error), hint=each.hint)
