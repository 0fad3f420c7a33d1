"""The inventory of the simulated AWS: resource counts and their cost. At the end of a run it must be empty."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from testbed.sandbox.aws import AT_HAND, Aws, Identity

PRICES = Path(__file__).parent / "prices.yaml"
Count = Callable[[Aws], int]
OWN = [{"Name": "tag:project", "Values": ["fedmesh"]}]


def _ec2(operation: str, key: str, gone: tuple[str, ...] = ("deleted",), **arguments: Any) -> Count:
    def count(aws: Aws) -> int:
        listed = getattr(aws.client("ec2"), operation)(**arguments)[key]
        return sum(_state(each) not in gone for each in listed)

    return count


def _rds(operation: str, key: str) -> Count:
    return lambda aws: len(getattr(aws.client("rds"), operation)()[key])


def _state(thing: Mapping[str, Any]) -> str:
    state = thing.get("State") or thing.get("Status") or ""
    return str(state.get("Code") if isinstance(state, dict) else state)


def _clusters(aws: Aws) -> list[str]:
    return list(aws.client("eks").list_clusters()["clusters"])


def _node_groups(aws: Aws) -> list[dict[str, Any]]:
    eks = aws.client("eks")
    return [
        eks.describe_nodegroup(clusterName=cluster, nodegroupName=group)["nodegroup"]
        for cluster in _clusters(aws)
        for group in eks.list_nodegroups(clusterName=cluster)["nodegroups"]
    ]


def _addons(aws: Aws) -> int:
    eks = aws.client("eks")
    return sum(len(eks.list_addons(clusterName=cluster)["addons"]) for cluster in _clusters(aws))


def _routes(aws: Aws) -> int:
    tables = aws.client("ec2").describe_route_tables()["RouteTables"]
    return sum(route.get("Origin") == "CreateRoute" for table in tables for route in table["Routes"])


def _rules(aws: Aws) -> int:
    rules = aws.client("ec2").describe_security_group_rules()["SecurityGroupRules"]
    return sum(not rule["IsEgress"] and "CidrIpv4" in rule for rule in rules)


def _peerings(aws: Aws) -> int:
    """Counts a peering in the requester's region, since both regions list it."""
    listed = aws.client("ec2").describe_vpc_peering_connections()["VpcPeeringConnections"]
    own = [each for each in listed if each["RequesterVpcInfo"]["Region"] == aws.region]
    return sum(_state(each) != "deleted" for each in own)


def _keys(aws: Aws) -> int:
    kms = aws.client("kms")
    keys = [kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"] for key in kms.list_keys()["Keys"]]
    return sum(key["KeyState"] == "Enabled" for key in keys)


def _vpcs(aws: Aws) -> int:
    return sum(not vpc["IsDefault"] for vpc in aws.client("ec2").describe_vpcs()["Vpcs"])


def _subnets(aws: Aws) -> int:
    return sum(not subnet["DefaultForAz"] for subnet in aws.client("ec2").describe_subnets()["Subnets"])


def _groups(aws: Aws) -> int:
    groups = aws.client("ec2").describe_security_groups()["SecurityGroups"]
    return sum(group["GroupName"] != "default" for group in groups)


def _internet_gateways(aws: Aws) -> int:
    own = aws.client("ec2").describe_internet_gateways(Filters=OWN)["InternetGateways"]
    return len(own)


REGIONAL: dict[str, Count] = {
    "VPCs": _vpcs,
    "subnets": _subnets,
    "internet gateways": _internet_gateways,
    "NAT gateways": _ec2("describe_nat_gateways", "NatGateways"),
    "public addresses": _ec2("describe_addresses", "Addresses"),
    "routes": _routes,
    "VPC endpoints": _ec2("describe_vpc_endpoints", "VpcEndpoints"),
    "flow logs": _ec2("describe_flow_logs", "FlowLogs"),
    "security groups": _groups,
    "ingress rules": _rules,
    "peering connections": _peerings,
    "transit gateways": _ec2("describe_transit_gateways", "TransitGateways"),
    "transit gateway attachments": _ec2("describe_transit_gateway_attachments", "TransitGatewayAttachments"),
    "load balancers": lambda aws: len(aws.client("elbv2").describe_load_balancers()["LoadBalancers"]),
    "target groups": lambda aws: len(aws.client("elbv2").describe_target_groups()["TargetGroups"]),
    "launch templates": _ec2("describe_launch_templates", "LaunchTemplates"),
    "clusters": lambda aws: len(_clusters(aws)),
    "node groups": lambda aws: len(_node_groups(aws)),
    "addons": _addons,
    "databases": _rds("describe_db_instances", "DBInstances"),
    "subnet groups of databases": _rds("describe_db_subnet_groups", "DBSubnetGroups"),
    "parameter groups": _rds("describe_db_parameter_groups", "DBParameterGroups"),
    "snapshots of databases": _rds("describe_db_snapshots", "DBSnapshots"),
    "keys": _keys,
    "log groups": lambda aws: len(aws.client("logs").describe_log_groups()["logGroups"]),
}
GLOBAL: dict[str, Count] = {
    "roles": lambda aws: len(aws.client("iam").list_roles()["Roles"]),
    "hosted zones": lambda aws: len(aws.client("route53").list_hosted_zones()["HostedZones"]),
    "distributions": lambda aws: len(
        aws.client("cloudfront").list_distributions()["DistributionList"].get("Items", [])
    ),
    "health checks": lambda aws: len(aws.client("route53").list_health_checks()["HealthChecks"]),
}


@dataclass(frozen=True)
class Inventory:
    """Counts by kind and region (`global` for what has none), and the cost in dollars a month by kind."""

    counts: Mapping[str, Mapping[str, int]]
    costs: Mapping[str, float]

    @property
    def left(self) -> dict[str, int]:
        """The number of resources by kind."""
        sums = {kind: sum(regions.values()) for kind, regions in self.counts.items()}
        return {kind: count for kind, count in sums.items() if count}


def take(regions: tuple[str, ...], identity: Identity = AT_HAND) -> Inventory:
    """Takes the inventory of some regions of the AWS that AWS_ENDPOINT_URL points to, in the identity's account."""
    everywhere = {region: Aws(region, identity) for region in regions}
    counts = {
        kind: {region: count(aws) for region, aws in everywhere.items()} for kind, count in REGIONAL.items()
    }
    counts |= {kind: {"global": count(everywhere[regions[0]])} for kind, count in GLOBAL.items()}
    return Inventory(counts, _costs(counts, everywhere))


@cache
def _prices() -> dict[str, Any]:
    return dict(yaml.safe_load(PRICES.read_text(encoding="utf-8")))


def _costs(counts: Mapping[str, Mapping[str, int]], everywhere: Mapping[str, Aws]) -> dict[str, float]:
    prices = _prices()
    hour, month, hours = prices["perHour"], prices["perMonth"], prices["hoursPerMonth"]
    total = {kind: sum(regions.values()) for kind, regions in counts.items()}
    groups = [group for aws in everywhere.values() for group in _node_groups(aws)]
    nodes = sum(_nodes(group) * hour["instances"][group["instanceTypes"][0]] for group in groups)
    disks = sum(_nodes(group) * _disk(everywhere, group) for group in groups)
    zones = sum(len(e.get("SubnetIds", [])) for aws in everywhere.values() for e in _endpoints(aws))
    addresses = total["public addresses"] + sum(map(_addresses_of_load_balancers, everywhere.values()))
    return {
        "control planes": total["clusters"] * hour["cluster"] * hours,
        "nodes": nodes * hours,
        "disks of nodes": disks * month["gp3PerGiB"],
        "NAT gateways": total["NAT gateways"] * hour["natGateway"] * hours,
        "public addresses": addresses * hour["publicAddress"] * hours,
        "VPC endpoints": zones * hour["endpointPerZone"] * hours,
        "transit gateways": total["transit gateway attachments"] * hour["transitGatewayAttachment"] * hours,
        "load balancers": total["load balancers"] * hour["loadBalancer"] * hours,
        "keys, zones, health checks": total["keys"] * month["key"]
        + total["hosted zones"] * month["hostedZone"]
        + total["health checks"] * month["healthCheck"],
    }


# GiB of a disk that takes the size of its image: the first one of Bottlerocket
IMAGE_DISK = 2


def _nodes(group: Mapping[str, Any]) -> int:
    return int(group["scalingConfig"]["desiredSize"])


def _disk(everywhere: Mapping[str, Aws], group: Mapping[str, Any]) -> int:
    region = group["nodegroupArn"].split(":")[3]
    template = group["launchTemplate"]
    versions = (
        everywhere[region]
        .client("ec2")
        .describe_launch_template_versions(LaunchTemplateId=template["id"], Versions=[template["version"]])[
            "LaunchTemplateVersions"
        ]
    )
    disks = versions[0]["LaunchTemplateData"]["BlockDeviceMappings"]
    return sum(int(disk["Ebs"].get("VolumeSize", IMAGE_DISK)) for disk in disks)


def _addresses_of_load_balancers(aws: Aws) -> int:
    """A load balancer on the internet has an address in each of its zones, which is charged as any other."""
    balancers = aws.client("elbv2").describe_load_balancers()["LoadBalancers"]
    return sum(len(each["AvailabilityZones"]) for each in balancers if each["Scheme"] == "internet-facing")


def _endpoints(aws: Aws) -> list[dict[str, Any]]:
    listed = aws.client("ec2").describe_vpc_endpoints()["VpcEndpoints"]
    return [endpoint for endpoint in listed if endpoint["VpcEndpointType"] == "Interface"]


def as_text(inventory: Inventory) -> str:
    """The inventory as text for people."""
    kinds = [
        f"  {kind:<28} {sum(regions.values()):>5}   {_spread(regions)}"
        for kind, regions in inventory.counts.items()
        if sum(regions.values())
    ]
    costs = [f"  {kind:<28} {cost:>9.2f}" for kind, cost in inventory.costs.items() if cost]
    total = f"  {'total':<28} {sum(inventory.costs.values()):>9.2f}"
    heading = f"US dollars a month (prices of {_prices()['asOf']}; without traffic, logs and the edge)"
    return "\n".join(["made", *kinds, heading, *costs, total])


def _spread(regions: Mapping[str, int]) -> str:
    return ", ".join(f"{region} {count}" for region, count in regions.items() if count)


def use(environment: Mapping[str, str]) -> None:
    """Directs the AWS clients of this process to an AWS, as somebody who looks at it and may do everything."""
    os.environ.update({**environment, "AWS_ACCESS_KEY_ID": "observer"})
