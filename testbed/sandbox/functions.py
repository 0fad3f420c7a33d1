"""The functions (invokes) of the provider `aws` that programs and pulumi-eks use."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from testbed.sandbox.aws import Aws, tag_map

Args = Mapping[str, Any]


class FunctionError(Exception):
    """An argument of a function is not one that AWS knows."""

    def __init__(self, property_: str, reason: str) -> None:
        super().__init__(reason)
        self.property = property_


def caller_identity(aws: Aws, _args: Args) -> dict[str, Any]:
    found = aws.client("sts").get_caller_identity()
    return {
        "accountId": found["Account"],
        "arn": found["Arn"],
        "userId": found["UserId"],
        "id": found["Account"],
    }


def partition(_aws: Aws, _args: Args) -> dict[str, Any]:
    return {
        "partition": "aws",
        "dnsSuffix": "amazonaws.com",
        "reverseDnsPrefix": "com.amazonaws",
        "id": "aws",
    }


def region(aws: Aws, args: Args) -> dict[str, Any]:
    name = args.get("region") or aws.region
    found = aws.client("ec2").describe_regions(RegionNames=[name])["Regions"][0]
    return {"name": name, "region": name, "id": name, "endpoint": found["Endpoint"], "description": name}


def availability_zones(aws: Aws, _args: Args) -> dict[str, Any]:
    zones = aws.client("ec2").describe_availability_zones()["AvailabilityZones"]
    return {
        "names": [zone["ZoneName"] for zone in zones],
        "zoneIds": [zone["ZoneId"] for zone in zones],
        "groupNames": sorted({zone["RegionName"] for zone in zones}),
        "id": aws.region,
        "region": aws.region,
    }


def vpc(aws: Aws, args: Args) -> dict[str, Any]:
    ec2, id_ = aws.client("ec2"), args["id"]
    (found,) = ec2.describe_vpcs(VpcIds=[id_])["Vpcs"]

    def has(attribute: str) -> bool:
        answer = ec2.describe_vpc_attribute(VpcId=id_, Attribute=attribute)
        return bool(answer[attribute[0].upper() + attribute[1:]]["Value"])

    return {
        "id": id_,
        "cidrBlock": found["CidrBlock"],
        "cidrBlockAssociations": [
            {"associationId": each["AssociationId"], "cidrBlock": each["CidrBlock"], "state": "associated"}
            for each in found.get("CidrBlockAssociationSet", [])
        ],
        "enableDnsSupport": has("enableDnsSupport"),
        "enableDnsHostnames": has("enableDnsHostnames"),
        "region": aws.region,
        "tags": tag_map(found.get("Tags")),
    }


def subnet(aws: Aws, args: Args) -> dict[str, Any]:
    (found,) = aws.client("ec2").describe_subnets(SubnetIds=[args["id"]])["Subnets"]
    return {
        "id": args["id"],
        "vpcId": found["VpcId"],
        "cidrBlock": found["CidrBlock"],
        "availabilityZone": found["AvailabilityZone"],
        "availabilityZoneId": found["AvailabilityZoneId"],
        "region": aws.region,
        "tags": tag_map(found.get("Tags")),
    }


def transit_gateway(aws: Aws, args: Args) -> dict[str, Any]:
    # moto does not know the filter for ids
    wanted = {each["name"]: each["values"] for each in args["filters"]}
    every = aws.client("ec2").describe_transit_gateways()["TransitGateways"]
    found = [
        each
        for each in every
        if each["TransitGatewayId"] in wanted["transit-gateway-id"] and each["State"] in wanted["state"]
    ]
    if not found:
        raise FunctionError("filters", "no matching EC2 Transit Gateway found")
    options = found[0]["Options"]
    return {
        "id": found[0]["TransitGatewayId"],
        "ownerId": found[0]["OwnerId"],
        "associationDefaultRouteTableId": options.get("AssociationDefaultRouteTableId", ""),
        "defaultRouteTableAssociation": options["DefaultRouteTableAssociation"],
        "defaultRouteTablePropagation": options["DefaultRouteTablePropagation"],
        "dnsSupport": options["DnsSupport"],
        "autoAcceptSharedAttachments": options["AutoAcceptSharedAttachments"],
        "region": aws.region,
    }


def addon_version(aws: Aws, args: Args) -> dict[str, Any]:
    name, version = args["addonName"], args["kubernetesVersion"]
    found = aws.client("eks").describe_addon_versions(addonName=name, kubernetesVersion=version)["addons"]
    if not found:
        raise FunctionError("addonName", f"no version of the addon {name} for Kubernetes {version}")
    return {
        "addonName": name,
        "kubernetesVersion": version,
        "mostRecent": args.get("mostRecent", False),
        "version": found[0]["addonVersions"][0]["addonVersion"],
        "id": name,
        "region": aws.region,
    }


def parameter(_aws: Aws, args: Args) -> dict[str, Any]:
    """A public parameter of AWS's: the version of an image for nodes, in the form of its kind."""
    name = str(args["name"])
    found = re.search(r"/(?:aws-k8s-|optimized-ami/)([0-9.]+)/", name)
    if not found:
        raise FunctionError("name", f"there is no public parameter {name}")
    value = "1.60.0-3f5a1b2c" if "bottlerocket" in name else f"{found[1]}.1-20261120"
    return {"name": name, "value": value, "type": "String", "id": name, "insecureValue": value}


def clusters(aws: Aws, _args: Args) -> dict[str, Any]:
    return {"names": aws.client("eks").list_clusters()["clusters"], "id": aws.region, "region": aws.region}


def cluster(aws: Aws, args: Args) -> dict[str, Any]:
    found = aws.client("eks").describe_cluster(name=args["name"])["cluster"]
    return {"name": found["name"], "id": found["name"], "tags": found.get("tags", {}), "region": aws.region}


def load_balancer(aws: Aws, args: Args) -> dict[str, Any]:
    found = aws.client("elbv2").describe_load_balancers(Names=[args["name"]])["LoadBalancers"][0]
    return {
        "arn": found["LoadBalancerArn"],
        "dnsName": found["DNSName"],
        "name": found["LoadBalancerName"],
        "zoneId": found["CanonicalHostedZoneId"],
        "id": found["LoadBalancerArn"],
        "region": aws.region,
    }


def load_balancer_zone(_aws: Aws, args: Args) -> dict[str, Any]:
    kind = args.get("loadBalancerType", "application")
    return {"id": f"Z{kind[:3].upper()}0SANDBOX", "loadBalancerType": kind, "region": args.get("region")}


FUNCTIONS: dict[str, Callable[[Aws, Args], dict[str, Any]]] = {
    "aws:index/getCallerIdentity:getCallerIdentity": caller_identity,
    "aws:index/getPartition:getPartition": partition,
    "aws:index/getRegion:getRegion": region,
    "aws:index/getAvailabilityZones:getAvailabilityZones": availability_zones,
    "aws:ec2/getVpc:getVpc": vpc,
    "aws:ec2/getSubnet:getSubnet": subnet,
    "aws:ec2transitgateway/getTransitGateway:getTransitGateway": transit_gateway,
    "aws:eks/getAddonVersion:getAddonVersion": addon_version,
    "aws:eks/getCluster:getCluster": cluster,
    "aws:eks/getClusters:getClusters": clusters,
    "aws:ssm/getParameter:getParameter": parameter,
    "aws:lb/getLoadBalancer:getLoadBalancer": load_balancer,
    "aws:lb/getHostedZoneId:getHostedZoneId": load_balancer_zone,
}
