"""VPCs and the resources in them."""

from collections.abc import Callable
from typing import Any, ClassVar

from testbed.sandbox.aws import Aws, digest, given, pascal, tag_list, tag_map
from testbed.sandbox.kinds.base import Inputs, Kind, Properties

EVERYWHERE = "0.0.0.0/0"


class Ec2Kind(Kind):
    """An EC2 resource: tagged at creation, described by its id, its tags changed in place."""

    ec2_type: ClassVar[str]
    describe: ClassVar[str]
    ids: ClassVar[str]
    listed: ClassVar[str]
    arn_type: ClassVar[str] = ""

    def tags(self, inputs: Inputs) -> dict[str, Any]:
        """The argument that tags at creation."""
        tags = tag_list(inputs.get("tags"))
        return {"TagSpecifications": [{"ResourceType": self.ec2_type, "Tags": tags}]} if tags else {}

    def found(self, aws: Aws, id_: str) -> dict[str, Any] | None:
        """EC2's own description."""
        listed = getattr(aws.client("ec2"), self.describe)(**{self.ids: [id_]})[self.listed]
        return listed[0] if listed else None

    def arn(self, aws: Aws, id_: str) -> str:
        """The ARN of a resource of this type."""
        return aws.arn("ec2", f"{self.arn_type or self.ec2_type}/{id_}")

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        found = self.found(aws, id_)
        if found is None or found.get("State") in ("deleted", "deleting"):
            return None
        tags = tag_map(found.get("Tags"))
        return {**self.seen(found), "tags": tags, "tagsAll": tags, "arn": self.arn(aws, id_)}

    def seen(self, found: dict[str, Any]) -> Properties:
        """The properties that EC2's description shows."""
        return {}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> Properties:
        ec2 = aws.client("ec2")
        before, after = old.get("tags", {}), new.get("tags", {})
        gone = [{"Key": key} for key in before if key not in after]
        if gone:
            ec2.delete_tags(Resources=[id_], Tags=gone)
        if after:
            ec2.create_tags(Resources=[id_], Tags=tag_list(after))
        return {"tagsAll": after}


class Vpc(Ec2Kind):
    resource = "aws:ec2/vpc:Vpc"
    replace_on = frozenset({"cidrBlock", "instanceTenancy"})
    ec2_type, describe, ids, listed = "vpc", "describe_vpcs", "VpcIds", "Vpcs"

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        ec2 = aws.client("ec2")
        vpc = ec2.create_vpc(CidrBlock=inputs["cidrBlock"], **self.tags(inputs))["Vpc"]["VpcId"]
        self._attributes(ec2, vpc, inputs)
        here = [{"Name": "vpc-id", "Values": [vpc]}]
        groups = ec2.describe_security_groups(Filters=here)["SecurityGroups"]
        tables = ec2.describe_route_tables(Filters=here)["RouteTables"]
        return vpc, {
            "arn": self.arn(aws, vpc),
            "ownerId": aws.account(),
            "defaultSecurityGroupId": groups[0]["GroupId"],
            "mainRouteTableId": tables[0]["RouteTableId"],
            "defaultRouteTableId": tables[0]["RouteTableId"],
            "tagsAll": inputs.get("tags", {}),
        }

    def seen(self, found: dict[str, Any]) -> Properties:
        return {"cidrBlock": found["CidrBlock"]}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> Properties:
        self._attributes(aws.client("ec2"), id_, new)
        return super().update(aws, id_, old, new)

    def _attributes(self, ec2: Any, vpc: str, inputs: Inputs) -> None:
        for name in ("enableDnsSupport", "enableDnsHostnames"):
            if name in inputs:
                ec2.modify_vpc_attribute(
                    VpcId=vpc, **{pascal({name: 0}).popitem()[0]: {"Value": inputs[name]}}
                )

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("ec2").delete_vpc(VpcId=id_)


class DefaultSecurityGroup(Kind):
    """Adopts the security group that AWS creates with a VPC and deletes with it."""

    resource = "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup"
    replace_on = frozenset({"vpcId"})

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        ec2 = aws.client("ec2")
        filters = [
            {"Name": "vpc-id", "Values": [inputs["vpcId"]]},
            {"Name": "group-name", "Values": ["default"]},
        ]
        (group,) = ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
        id_ = group["GroupId"]
        if group["IpPermissions"]:
            ec2.revoke_security_group_ingress(GroupId=id_, IpPermissions=group["IpPermissions"])
        if group["IpPermissionsEgress"]:
            ec2.revoke_security_group_egress(GroupId=id_, IpPermissions=group["IpPermissionsEgress"])
        if inputs.get("tags"):
            ec2.create_tags(Resources=[id_], Tags=tag_list(inputs["tags"]))
        return id_, {"arn": aws.arn("ec2", f"security-group/{id_}"), "name": "default"}

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        found = aws.client("ec2").describe_security_groups(GroupIds=[id_])["SecurityGroups"]
        return {"vpcId": found[0]["VpcId"], "tags": tag_map(found[0].get("Tags"))} if found else None

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> Properties:
        aws.client("ec2").create_tags(Resources=[id_], Tags=tag_list(new.get("tags")))
        return {}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        return None


class InternetGateway(Ec2Kind):
    resource = "aws:ec2/internetGateway:InternetGateway"
    replace_on = frozenset({"vpcId"})
    ec2_type, describe = "internet-gateway", "describe_internet_gateways"
    ids, listed = "InternetGatewayIds", "InternetGateways"

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        ec2 = aws.client("ec2")
        made = ec2.create_internet_gateway(**self.tags(inputs))["InternetGateway"]["InternetGatewayId"]
        ec2.attach_internet_gateway(InternetGatewayId=made, VpcId=inputs["vpcId"])
        return made, {"arn": self.arn(aws, made), "ownerId": aws.account()}

    def seen(self, found: dict[str, Any]) -> Properties:
        attached = found.get("Attachments") or [{}]
        return {"vpcId": attached[0].get("VpcId")}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        ec2 = aws.client("ec2")
        ec2.detach_internet_gateway(InternetGatewayId=id_, VpcId=state["vpcId"])
        ec2.delete_internet_gateway(InternetGatewayId=id_)


class Subnet(Ec2Kind):
    resource = "aws:ec2/subnet:Subnet"
    replace_on = frozenset({"vpcId", "cidrBlock", "availabilityZone"})
    ec2_type, describe, ids, listed = "subnet", "describe_subnets", "SubnetIds", "Subnets"

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        ec2 = aws.client("ec2")
        asked = given(
            VpcId=inputs["vpcId"],
            CidrBlock=inputs.get("cidrBlock"),
            AvailabilityZone=inputs.get("availabilityZone"),
        )
        made = ec2.create_subnet(**asked, **self.tags(inputs))["Subnet"]
        public = inputs.get("mapPublicIpOnLaunch", False)
        ec2.modify_subnet_attribute(SubnetId=made["SubnetId"], MapPublicIpOnLaunch={"Value": public})
        return made["SubnetId"], {
            "arn": self.arn(aws, made["SubnetId"]),
            "ownerId": aws.account(),
            "availabilityZone": made["AvailabilityZone"],
        }

    def seen(self, found: dict[str, Any]) -> Properties:
        return {
            "cidrBlock": found["CidrBlock"],
            "availabilityZone": found["AvailabilityZone"],
            "mapPublicIpOnLaunch": found["MapPublicIpOnLaunch"],
        }

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("ec2").delete_subnet(SubnetId=id_)


class RouteTable(Ec2Kind):
    resource = "aws:ec2/routeTable:RouteTable"
    replace_on = frozenset({"vpcId"})
    ec2_type, describe, ids, listed = "route-table", "describe_route_tables", "RouteTableIds", "RouteTables"

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        asked = aws.client("ec2").create_route_table(VpcId=inputs["vpcId"], **self.tags(inputs))
        made = asked["RouteTable"]["RouteTableId"]
        return made, {"arn": self.arn(aws, made), "ownerId": aws.account()}

    def seen(self, found: dict[str, Any]) -> Properties:
        return {"vpcId": found["VpcId"]}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("ec2").delete_route_table(RouteTableId=id_)


class RouteTableAssociation(Kind):
    resource = "aws:ec2/routeTableAssociation:RouteTableAssociation"
    can_update = False

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        made = aws.client("ec2").associate_route_table(
            RouteTableId=inputs["routeTableId"], SubnetId=inputs["subnetId"]
        )
        return made["AssociationId"], {}

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        filters = [{"Name": "association.route-table-association-id", "Values": [id_]}]
        tables = aws.client("ec2").describe_route_tables(Filters=filters)["RouteTables"]
        return {"routeTableId": tables[0]["RouteTableId"]} if tables else None

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("ec2").disassociate_route_table(AssociationId=id_)


class Route(Kind):
    resource = "aws:ec2/route:Route"
    can_update = False
    TARGETS: ClassVar[dict[str, str]] = {
        "gatewayId": "GatewayId",
        "natGatewayId": "NatGatewayId",
        "transitGatewayId": "TransitGatewayId",
        "vpcPeeringConnectionId": "VpcPeeringConnectionId",
    }

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        target = {self.TARGETS[name]: inputs[name] for name in self.TARGETS if inputs.get(name)}
        table, cidr = inputs["routeTableId"], inputs["destinationCidrBlock"]
        aws.client("ec2").create_route(RouteTableId=table, DestinationCidrBlock=cidr, **target)
        return f"r-{table}{digest(cidr)}", {"origin": "CreateRoute", "state": "active"}

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        (table,) = aws.client("ec2").describe_route_tables(RouteTableIds=[state["routeTableId"]])[
            "RouteTables"
        ]
        cidr = state["destinationCidrBlock"]
        route = next((r for r in table["Routes"] if r.get("DestinationCidrBlock") == cidr), None)
        if route is None:
            return None
        return {ours: route[theirs] for ours, theirs in self.TARGETS.items() if route.get(theirs)}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("ec2").delete_route(
            RouteTableId=state["routeTableId"], DestinationCidrBlock=state["destinationCidrBlock"]
        )


class Eip(Ec2Kind):
    resource = "aws:ec2/eip:Eip"
    ec2_type, describe, ids, listed = "elastic-ip", "describe_addresses", "AllocationIds", "Addresses"

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        made = aws.client("ec2").allocate_address(Domain=inputs.get("domain", "vpc"), **self.tags(inputs))
        id_ = made["AllocationId"]
        return id_, {"allocationId": id_, "publicIp": made["PublicIp"], "arn": self.arn(aws, id_)}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("ec2").release_address(AllocationId=id_)


class NatGateway(Ec2Kind):
    resource = "aws:ec2/natGateway:NatGateway"
    replace_on = frozenset({"subnetId", "allocationId"})
    ec2_type, describe, ids, listed = "natgateway", "describe_nat_gateways", "NatGatewayIds", "NatGateways"

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        made = aws.client("ec2").create_nat_gateway(
            SubnetId=inputs["subnetId"], AllocationId=inputs["allocationId"], **self.tags(inputs)
        )["NatGateway"]
        return made["NatGatewayId"], {"publicIp": made["NatGatewayAddresses"][0].get("PublicIp")}

    def seen(self, found: dict[str, Any]) -> Properties:
        return {"subnetId": found["SubnetId"]}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("ec2").delete_nat_gateway(NatGatewayId=id_)


class VpcEndpoint(Ec2Kind):
    resource = "aws:ec2/vpcEndpoint:VpcEndpoint"
    replace_on = frozenset({"vpcId", "serviceName", "vpcEndpointType"})
    ec2_type, describe, ids, listed = (
        "vpc-endpoint",
        "describe_vpc_endpoints",
        "VpcEndpointIds",
        "VpcEndpoints",
    )
    LISTS: ClassVar[dict[str, str]] = {
        "routeTableIds": "RouteTable",
        "subnetIds": "Subnet",
        "securityGroupIds": "SecurityGroup",
    }

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        asked = given(
            VpcId=inputs["vpcId"],
            ServiceName=inputs["serviceName"],
            VpcEndpointType=inputs.get("vpcEndpointType", "Gateway"),
            RouteTableIds=inputs.get("routeTableIds"),
            SubnetIds=inputs.get("subnetIds"),
            SecurityGroupIds=inputs.get("securityGroupIds"),
            PrivateDnsEnabled=inputs.get("privateDnsEnabled"),
        )
        made = aws.client("ec2").create_vpc_endpoint(**asked, **self.tags(inputs))["VpcEndpoint"]
        return made["VpcEndpointId"], {"arn": self.arn(aws, made["VpcEndpointId"]), "state": "available"}

    def seen(self, found: dict[str, Any]) -> Properties:
        return {"serviceName": found["ServiceName"], "vpcId": found["VpcId"]}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> Properties:
        asked: dict[str, Any] = {}
        for name, word in self.LISTS.items():
            before, after = set(old.get(name, [])), set(new.get(name, []))
            asked |= given(
                **{f"Add{word}Ids": sorted(after - before), f"Remove{word}Ids": sorted(before - after)}
            )
        if asked:
            aws.client("ec2").modify_vpc_endpoint(VpcEndpointId=id_, **asked)
        return super().update(aws, id_, old, new)

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("ec2").delete_vpc_endpoints(VpcEndpointIds=[id_])


class FlowLog(Ec2Kind):
    resource = "aws:ec2/flowLog:FlowLog"
    replace_on = frozenset({"vpcId", "trafficType", "logDestination", "iamRoleArn"})
    ec2_type, describe, ids, listed = "vpc-flow-log", "describe_flow_logs", "FlowLogIds", "FlowLogs"

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        asked = aws.client("ec2").create_flow_logs(
            ResourceIds=[inputs["vpcId"]],
            ResourceType="VPC",
            TrafficType=inputs["trafficType"],
            LogDestinationType="cloud-watch-logs",
            LogGroupName=inputs["logDestination"].split(":log-group:")[1].removesuffix(":*"),
            DeliverLogsPermissionArn=inputs["iamRoleArn"],
            **self.tags(inputs),
        )
        if asked.get("Unsuccessful"):
            raise ValueError(asked["Unsuccessful"][0]["Error"]["Message"])
        return asked["FlowLogIds"][0], {"arn": self.arn(aws, asked["FlowLogIds"][0])}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("ec2").delete_flow_logs(FlowLogIds=[id_])


class SecurityGroup(Ec2Kind):
    resource = "aws:ec2/securityGroup:SecurityGroup"
    replace_on = frozenset({"vpcId", "name", "description"})
    autoname = "name"
    ec2_type, describe = "security-group", "describe_security_groups"
    ids, listed = "GroupIds", "SecurityGroups"

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        ec2 = aws.client("ec2")
        id_ = ec2.create_security_group(
            GroupName=inputs["name"],
            Description=inputs.get("description", "Managed by Pulumi"),
            VpcId=inputs["vpcId"],
            **self.tags(inputs),
        )["GroupId"]
        # EC2 adds a rule that allows all outgoing traffic; the provider removes it.
        everything = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": EVERYWHERE}]}]
        ec2.revoke_security_group_egress(GroupId=id_, IpPermissions=everything)
        return id_, {"arn": self.arn(aws, id_), "ownerId": aws.account()}

    def seen(self, found: dict[str, Any]) -> Properties:
        return {"vpcId": found["VpcId"], "name": found["GroupName"], "description": found["Description"]}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("ec2").delete_security_group(GroupId=id_)


class IngressRule(Ec2Kind):
    resource = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
    replace_on = frozenset({"securityGroupId", "ipProtocol", "fromPort", "toPort", "cidrIpv4"})
    ec2_type, describe = "security-group-rule", "describe_security_group_rules"
    ids, listed = "SecurityGroupRuleIds", "SecurityGroupRules"
    direction = "ingress"

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        permission = given(
            IpProtocol=inputs["ipProtocol"], FromPort=inputs.get("fromPort"), ToPort=inputs.get("toPort")
        )
        if inputs.get("referencedSecurityGroupId"):
            permission["UserIdGroupPairs"] = [{"GroupId": inputs["referencedSecurityGroupId"]}]
        else:
            permission["IpRanges"] = [given(CidrIp=inputs["cidrIpv4"], Description=inputs.get("description"))]
        authorize: Callable[..., Any] = getattr(
            aws.client("ec2"), f"authorize_security_group_{self.direction}"
        )
        made = authorize(GroupId=inputs["securityGroupId"], IpPermissions=[permission], **self.tags(inputs))
        id_ = made["SecurityGroupRules"][0]["SecurityGroupRuleId"]
        return id_, {"securityGroupRuleId": id_, "arn": self.arn(aws, id_)}

    def seen(self, found: dict[str, Any]) -> Properties:
        return {
            "fromPort": found.get("FromPort"),
            "toPort": found.get("ToPort"),
            "cidrIpv4": found.get("CidrIpv4"),
        }

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        revoke = getattr(aws.client("ec2"), f"revoke_security_group_{self.direction}")
        revoke(GroupId=state["securityGroupId"], SecurityGroupRuleIds=[id_])


class EgressRule(IngressRule):
    resource = "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule"
    direction = "egress"


class LaunchTemplate(Ec2Kind):
    resource = "aws:ec2/launchTemplate:LaunchTemplate"
    replace_on = frozenset({"name"})
    autoname = "name"
    ec2_type, describe = "launch-template", "describe_launch_templates"
    ids, listed = "LaunchTemplateIds", "LaunchTemplates"

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        made = aws.client("ec2").create_launch_template(
            LaunchTemplateName=inputs["name"], LaunchTemplateData=self._data(inputs), **self.tags(inputs)
        )["LaunchTemplate"]
        id_ = made["LaunchTemplateId"]
        return id_, {"latestVersion": 1, "defaultVersion": 1, "arn": self.arn(aws, id_)}

    def seen(self, found: dict[str, Any]) -> Properties:
        return {"latestVersion": found["LatestVersionNumber"], "name": found["LaunchTemplateName"]}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> Properties:
        super().update(aws, id_, old, new)
        if self._data(old) == self._data(new):
            return {}
        ec2 = aws.client("ec2")
        made = ec2.create_launch_template_version(LaunchTemplateId=id_, LaunchTemplateData=self._data(new))
        version = made["LaunchTemplateVersion"]["VersionNumber"]
        if new.get("updateDefaultVersion"):
            ec2.modify_launch_template(LaunchTemplateId=id_, DefaultVersion=str(version))
        return {"latestVersion": version, "defaultVersion": version}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("ec2").delete_launch_template(LaunchTemplateId=id_)

    def _data(self, inputs: Inputs) -> dict[str, Any]:
        disks = [
            {
                "DeviceName": disk["deviceName"],
                "Ebs": {
                    name: value == "true" if value in ("true", "false") else value
                    for name, value in pascal(disk["ebs"]).items()
                },
            }
            for disk in inputs.get("blockDeviceMappings", [])
        ]
        specifications = [
            {"ResourceType": each["resourceType"], "Tags": tag_list(each["tags"])}
            for each in inputs.get("tagSpecifications", [])
        ]
        return given(
            MetadataOptions=pascal(inputs.get("metadataOptions")),
            BlockDeviceMappings=disks,
            TagSpecifications=specifications,
        )


KINDS = (
    Vpc,
    DefaultSecurityGroup,
    InternetGateway,
    Subnet,
    RouteTable,
    RouteTableAssociation,
    Route,
    Eip,
    NatGateway,
    VpcEndpoint,
    FlowLog,
    SecurityGroup,
    IngressRule,
    EgressRule,
    LaunchTemplate,
)
