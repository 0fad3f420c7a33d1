"""The network of one cluster: a VPC over several zones, NAT egress, and VPC endpoints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi
import pulumi_aws as aws

from components.aws.iam import ROLE_PATH, document_json
from components.config.aws_facts import partition_of
from components.config.cidr import plan_subnets

# Nodes call these: image pulls (ecr.*, and s3 through a gateway endpoint), credentials, the CNI, logs.
INTERFACE_ENDPOINTS = ("ecr.api", "ecr.dkr", "sts", "ec2", "logs", "eks-auth")


@dataclass(frozen=True)
class NetworkArgs:
    """Args of Network.

    Attributes:
        cluster_name: the EKS cluster that will live here; load balancers find the subnets by it.
        region: AWS region of the VPC.
        vpc_cidr: IPv4 range, a /16 to a /22.
        zones: names of availability zones, one private and one public subnet in each.
        verified_zones: the same by name, known once the account's zones have been checked.
        nat_per_zone: one NAT gateway per zone (survives the loss of a zone) instead of one.
        flow_log_days: days for which flow logs are kept.
        interface_endpoints: services that have an interface endpoint; S3 always has its gateway endpoint.
        permissions_boundary: ARN of the boundary of the flow logs' role, None for none.
        tags: tags of all resources.
    """

    cluster_name: str
    region: str
    vpc_cidr: str
    zones: tuple[str, ...]
    nat_per_zone: bool
    flow_log_days: int
    permissions_boundary: pulumi.Input[str] | None = None
    interface_endpoints: Sequence[str] = INTERFACE_ENDPOINTS
    verified_zones: pulumi.Input[Mapping[str, str]] | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


class Network(pulumi.ComponentResource):
    """A VPC with public and private subnets, NAT, endpoints for AWS services, and flow logs.

    Nodes, and controllers that run on them, must depend on the whole component: a subnet's id is known before its
    routes exist, and on destroy its routes would be deleted while controllers still have to call AWS.

    Outputs:
        vpc_id, private_subnet_ids, public_subnet_ids;
        route_table_ids: all tables that need a route to another network;
        nat_addresses: the public addresses from which private subnets reach the internet.
    """

    vpc_id: pulumi.Output[str]
    private_subnet_ids: list[pulumi.Output[str]]
    public_subnet_ids: list[pulumi.Output[str]]
    route_table_ids: list[pulumi.Output[str]]
    nat_addresses: list[pulumi.Output[str]]

    def __init__(self, name: str, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:network:Network", name, None, opts)
        self._name = name
        self._args = args
        self._child = pulumi.ResourceOptions(parent=self)
        plan = plan_subnets(args.vpc_cidr, len(args.zones))

        vpc = aws.ec2.Vpc(
            f"{name}-vpc",
            cidr_block=args.vpc_cidr,
            enable_dns_support=True,
            enable_dns_hostnames=True,
            tags=self._tags("vpc"),
            opts=self._child,
        )
        self.vpc_id = vpc.id
        # AWS creates this group with rules that allow all traffic; managed without rules it allows none.
        aws.ec2.DefaultSecurityGroup(
            f"{name}-default", vpc_id=vpc.id, tags=self._tags("default-closed"), opts=self._child
        )
        gateway = aws.ec2.InternetGateway(
            f"{name}-igw", vpc_id=vpc.id, tags=self._tags("igw"), opts=self._child
        )
        self._public = [
            self._subnet("public", zone, cidr) for zone, cidr in zip(args.zones, plan.public, strict=True)
        ]
        self._private = [
            self._subnet("private", zone, cidr) for zone, cidr in zip(args.zones, plan.private, strict=True)
        ]
        public_table, associations = self._route_table("public", self._public)
        to_internet = aws.ec2.Route(
            f"{name}-public-internet",
            route_table_id=public_table.id,
            destination_cidr_block="0.0.0.0/0",
            gateway_id=gateway.id,
            opts=self._child,
        )
        private_tables = self._private_tables(self._nat_gateways([to_internet, *associations]))

        self.public_subnet_ids = [subnet.id for subnet in self._public]
        self.private_subnet_ids = [subnet.id for subnet in self._private]
        self.route_table_ids = [public_table.id, *(table.id for table in private_tables)]
        self._endpoints(private_tables)
        self._flow_logs()
        self.register_outputs(
            {
                "vpcId": self.vpc_id,
                "privateSubnetIds": self.private_subnet_ids,
                "publicSubnetIds": self.public_subnet_ids,
            }
        )

    def _tags(self, part: str) -> dict[str, str]:
        return {**self._args.tags, "Name": f"{self._name}-{part}"}

    def _verified(self, zone: str) -> pulumi.Input[str]:
        zones = self._args.verified_zones
        return zone if zones is None else pulumi.Output.from_input(zones).apply(lambda known: known[zone])

    def _subnet(self, kind: str, zone: str, cidr: str) -> aws.ec2.Subnet:
        # The load balancer controller chooses subnets by these tags.
        role = "kubernetes.io/role/elb" if kind == "public" else "kubernetes.io/role/internal-elb"
        return aws.ec2.Subnet(
            f"{self._name}-{kind}-{zone}",
            vpc_id=self.vpc_id,
            availability_zone=self._verified(zone),
            cidr_block=cidr,
            map_public_ip_on_launch=False,
            tags={
                **self._tags(f"{kind}-{zone}"),
                role: "1",
                f"kubernetes.io/cluster/{self._args.cluster_name}": "shared",
            },
            opts=self._child,
        )

    def _route_table(
        self, label: str, subnets: list[aws.ec2.Subnet]
    ) -> tuple[aws.ec2.RouteTable, list[aws.ec2.RouteTableAssociation]]:
        table = aws.ec2.RouteTable(
            f"{self._name}-{label}", vpc_id=self.vpc_id, tags=self._tags(label), opts=self._child
        )
        return table, [
            aws.ec2.RouteTableAssociation(
                f"{self._name}-{label}-{number}",
                route_table_id=table.id,
                subnet_id=subnet.id,
                opts=self._child,
            )
            for number, subnet in enumerate(subnets)
        ]

    def _nat_gateways(self, public_routing: list[pulumi.Resource]) -> list[aws.ec2.NatGateway]:
        zones = self._args.zones if self._args.nat_per_zone else self._args.zones[:1]
        addresses = [
            aws.ec2.Eip(
                f"{self._name}-nat-{zone}", domain="vpc", tags=self._tags(f"nat-{zone}"), opts=self._child
            )
            for zone in zones
        ]
        self.nat_addresses = [address.public_ip for address in addresses]
        # A NAT gateway whose subnet has no route to the internet fails after its creation.
        opts = pulumi.ResourceOptions(parent=self, depends_on=public_routing)
        return [
            aws.ec2.NatGateway(
                f"{self._name}-nat-{zone}",
                subnet_id=subnet.id,
                allocation_id=address.allocation_id,
                tags=self._tags(f"nat-{zone}"),
                opts=opts,
            )
            for zone, subnet, address in zip(zones, self._public, addresses, strict=False)
        ]

    def _private_tables(self, gateways: list[aws.ec2.NatGateway]) -> list[aws.ec2.RouteTable]:
        tables = [
            self._route_table(f"private-{zone}", [self._private[number]])[0]
            for number, zone in enumerate(self._args.zones)
        ]
        for number, (zone, table) in enumerate(zip(self._args.zones, tables, strict=True)):
            aws.ec2.Route(
                f"{self._name}-private-{zone}-internet",
                route_table_id=table.id,
                destination_cidr_block="0.0.0.0/0",
                nat_gateway_id=gateways[number % len(gateways)].id,
                opts=self._child,
            )
        return tables

    def _endpoints(self, tables: list[aws.ec2.RouteTable]) -> None:
        aws.ec2.VpcEndpoint(
            f"{self._name}-s3",
            vpc_id=self.vpc_id,
            service_name=f"com.amazonaws.{self._args.region}.s3",
            vpc_endpoint_type="Gateway",
            route_table_ids=[table.id for table in tables],
            tags=self._tags("s3"),
            opts=self._child,
        )
        if self._args.interface_endpoints:
            self._interface_endpoints()

    def _interface_endpoints(self) -> None:
        group = aws.ec2.SecurityGroup(
            f"{self._name}-endpoints",
            description="HTTPS from the VPC to the interface endpoints",
            vpc_id=self.vpc_id,
            tags=self._tags("endpoints"),
            opts=self._child,
        )
        aws.vpc.SecurityGroupIngressRule(
            f"{self._name}-endpoints-https",
            security_group_id=group.id,
            description="HTTPS from the VPC",
            ip_protocol="tcp",
            from_port=443,
            to_port=443,
            cidr_ipv4=self._args.vpc_cidr,
            tags=self._tags("endpoints-https"),
            opts=self._child,
        )
        # China's interface endpoints carry a prefix of their own, its S3 gateway does not.
        china = "cn." if partition_of(self._args.region) == "aws-cn" else ""
        prefix = f"{china}com.amazonaws.{self._args.region}"
        for service in self._args.interface_endpoints:
            aws.ec2.VpcEndpoint(
                f"{self._name}-{service}",
                vpc_id=self.vpc_id,
                service_name=f"{prefix}.{service}",
                vpc_endpoint_type="Interface",
                private_dns_enabled=True,
                subnet_ids=[subnet.id for subnet in self._private],
                security_group_ids=[group.id],
                tags=self._tags(service),
                opts=self._child,
            )

    def _flow_logs(self) -> None:
        logs = aws.cloudwatch.LogGroup(
            f"{self._name}-flow-logs",
            retention_in_days=self._args.flow_log_days,
            tags=self._tags("flow-logs"),
            opts=self._child,
        )
        role = aws.iam.Role(
            f"{self._name}-flow-logs",
            assume_role_policy=document_json("trust-vpc-flow-logs"),
            path=ROLE_PATH,
            permissions_boundary=self._args.permissions_boundary,
            tags=self._tags("flow-logs"),
            opts=self._child,
        )
        policy = aws.iam.RolePolicy(
            f"{self._name}-flow-logs",
            role=role.id,
            policy=logs.arn.apply(lambda arn: document_json("write-flow-logs", {"LOG_GROUP_ARN": arn})),
            opts=self._child,
        )
        aws.ec2.FlowLog(
            f"{self._name}-flow-logs",
            vpc_id=self.vpc_id,
            traffic_type="ALL",
            log_destination=logs.arn,
            iam_role_arn=role.arn,
            tags=self._tags("flow-logs"),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[policy]),
        )
