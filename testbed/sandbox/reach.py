"""Who reaches whom in the simulated AWS, judged by the routes, security groups and endpoints that it has just now."""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from testbed.sandbox.aws import Aws

HTTPS = 443
EVERYWHERE = "0.0.0.0/0"
# Endpoints' names of services that differ from the names in the API.
ENDPOINTS = {"elbv2": "elasticloadbalancing"}


class UnreachableError(Exception):
    """Packets don't arrive, and why. On an account the caller would see a time-out."""


def require_way_out(aws: Aws, cluster: str, service: str) -> None:
    """Raises UnreachableError unless pods on every node of a cluster reach a service of AWS.

    Args:
        aws: the cluster's region.
        cluster: name of the cluster in EKS.
        service: name of the service, as boto3 has it.
    """
    eks = aws.client("eks")
    names = eks.list_nodegroups(clusterName=cluster)["nodegroups"]
    groups = [eks.describe_nodegroup(clusterName=cluster, nodegroupName=name)["nodegroup"] for name in names]
    cluster_found = eks.describe_cluster(name=cluster)["cluster"]
    # the nodes of EKS Auto Mode are in any of the cluster's subnets
    auto = cluster_found.get("computeConfig", {}).get("enabled", False)
    every = cluster_found["resourcesVpcConfig"]["subnetIds"] if auto else []
    subnets = sorted({*every, *(subnet for group in groups for subnet in group["subnets"])})
    if not subnets:
        raise UnreachableError(f"{cluster} has no nodes: its pods do not run")
    for subnet in subnets:
        _require_way_from(aws, subnet, service)


def _require_way_from(aws: Aws, subnet_id: str, service: str) -> None:
    (subnet,) = aws.client("ec2").describe_subnets(SubnetIds=[subnet_id])["Subnets"]
    if _endpoint(aws, subnet, service) or service in _gateway_services(aws, subnet):
        return
    route = _default_route(aws, subnet)
    if not route.get("NatGatewayId"):
        raise UnreachableError(f"no route from {subnet_id} to {service}: its route table has no NAT gateway")
    (gateway,) = aws.client("ec2").describe_nat_gateways(NatGatewayIds=[route["NatGatewayId"]])["NatGateways"]
    if gateway["State"] != "available":
        raise UnreachableError(
            f"no route from {subnet_id} to {service}: {route['NatGatewayId']} is {gateway['State']}"
        )
    (public,) = aws.client("ec2").describe_subnets(SubnetIds=[gateway["SubnetId"]])["Subnets"]
    if not _default_route(aws, public).get("GatewayId", "").startswith("igw-"):
        raise UnreachableError(
            f"no route from {subnet_id} to {service}: the subnet of {route['NatGatewayId']} has no internet gateway"
        )


def _default_route(aws: Aws, subnet: Mapping[str, Any]) -> dict[str, Any]:
    table = _table(aws, subnet)
    routes = [each for each in table["Routes"] if each.get("DestinationCidrBlock") == EVERYWHERE]
    return routes[0] if routes and routes[0].get("State", "active") == "active" else {}


def _table(aws: Aws, subnet: Mapping[str, Any]) -> dict[str, Any]:
    """The route table of a subnet: its own, else the VPC's main one."""
    vpc = [{"Name": "vpc-id", "Values": [subnet["VpcId"]]}]
    tables = aws.client("ec2").describe_route_tables(Filters=vpc)["RouteTables"]
    own = [t for t in tables if any(a.get("SubnetId") == subnet["SubnetId"] for a in t["Associations"])]
    main = [t for t in tables if any(a.get("Main") for a in t["Associations"])]
    return dict((own or main)[0])


def _endpoint(aws: Aws, subnet: Mapping[str, Any], service: str) -> bool:
    """Whether the service has an interface endpoint that resolves in the VPC and lets the subnet in."""
    wanted = ENDPOINTS.get(service, service)
    return any(
        endpoint["ServiceName"].endswith(f".{wanted}")
        and endpoint.get("PrivateDnsEnabled")
        and _resolves(aws, subnet["VpcId"])
        and lets_in(aws, [group["GroupId"] for group in endpoint.get("Groups", [])], subnet["CidrBlock"])
        for endpoint in _endpoints(aws, subnet["VpcId"], "Interface")
    )


def _gateway_services(aws: Aws, subnet: Mapping[str, Any]) -> list[str]:
    table = _table(aws, subnet)["RouteTableId"]
    return [
        endpoint["ServiceName"].rsplit(".", 1)[1]
        for endpoint in _endpoints(aws, subnet["VpcId"], "Gateway")
        if table in endpoint.get("RouteTableIds", [])
    ]


def _endpoints(aws: Aws, vpc: str, kind: str) -> list[dict[str, Any]]:
    found = aws.client("ec2").describe_vpc_endpoints(Filters=[{"Name": "vpc-id", "Values": [vpc]}])[
        "VpcEndpoints"
    ]
    return [each for each in found if each["VpcEndpointType"] == kind and each["State"] == "available"]


def _resolves(aws: Aws, vpc: str) -> bool:
    asked = aws.client("ec2").describe_vpc_attribute(VpcId=vpc, Attribute="enableDnsSupport")
    return bool(asked["EnableDnsSupport"]["Value"])


def lets_in(aws: Aws, groups: Iterable[str], source: str, port: int = HTTPS) -> bool:
    """Whether one of the security groups lets a range in at a TCP port."""
    ids = list(groups)
    found = aws.client("ec2").describe_security_groups(GroupIds=ids)["SecurityGroups"] if ids else []
    return any(
        permission["IpProtocol"] == "-1" or permission["FromPort"] <= port <= permission["ToPort"]
        for group in found
        for permission in group["IpPermissions"]
        if any(IPv4Network(source).subnet_of(IPv4Network(r["CidrIp"])) for r in permission["IpRanges"])
    )


def require_answer(aws: Aws, cluster: str, caller: IPv4Address, *, from_vpc: bool = False) -> None:
    """Raises UnreachableError unless the API server of a cluster answers a caller.

    Args:
        aws: the cluster's region.
        cluster: name of the cluster in EKS.
        caller: the caller's address, on the internet or in a private network.
        from_vpc: the caller is in a VPC of this AWS. A VPN's routes, on the other hand, are the user's own.
    """
    found = aws.client("eks").describe_cluster(name=cluster)["cluster"]["resourcesVpcConfig"]
    if caller.is_global:
        if not found.get("endpointPublicAccess", True):
            raise UnreachableError(f"the API server of {cluster} is private: {caller} has no way to it")
        ranges = found.get("publicAccessCidrs") or [EVERYWHERE]
        if not any(caller in IPv4Network(each) for each in ranges):
            raise UnreachableError(f"the API server of {cluster} does not let in {caller}")
        return
    if not found.get("endpointPrivateAccess"):
        raise UnreachableError(f"the API server of {cluster} is public alone: {caller} has no way to it")
    if not lets_in(aws, [found["clusterSecurityGroupId"]], f"{caller}/32"):
        raise UnreachableError(f"the security group of {cluster} does not let in {caller} at port {HTTPS}")
    if from_vpc:
        _require_way_back(aws, cluster, found, caller)


def _require_way_back(aws: Aws, cluster: str, found: Mapping[str, Any], caller: IPv4Address) -> None:
    """Answers go by the routes of the cluster's subnets."""
    (own,) = aws.client("ec2").describe_vpcs(VpcIds=[found["vpcId"]])["Vpcs"]
    if caller in IPv4Network(own["CidrBlock"]):
        return
    for subnet in aws.client("ec2").describe_subnets(SubnetIds=found["subnetIds"])["Subnets"]:
        if not any(
            caller in IPv4Network(route["DestinationCidrBlock"])
            for route in _table(aws, subnet)["Routes"]
            if route.get("VpcPeeringConnectionId") or route.get("TransitGatewayId")
        ):
            raise UnreachableError(f"no route from {subnet['SubnetId']} of {cluster} back to {caller}")
