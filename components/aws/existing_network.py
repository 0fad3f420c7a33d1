"""The network of one cluster where it exists already: what EKS and the load balancers need of it is checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pulumi
import pulumi_aws as aws

from components.aws.load_balancers import INTERNAL, INTERNET_FACING
from components.config.eks import ExistingNetwork
from components.config.networks import check_network, one_per_zone


@dataclass(frozen=True)
class FoundNetworkArgs:
    """Args of FoundNetwork.

    Attributes:
        network: the ids of VPC, subnets and route tables.
        vpc_cidr: the range that the VPC must have.
        key, source: where the stack file has the network, for errors.
        after: known when nothing else in the account is in the cluster's way.
    """

    network: ExistingNetwork
    vpc_cidr: str
    key: str
    source: str
    after: pulumi.Input[bool] = True


class FoundNetwork(pulumi.ComponentResource):
    """A VPC and subnets that the program uses and does not make.

    Outputs: those of Network. They are known when the VPC and all subnets have been checked, and fail with ConfigError
    where one of them does not do.
        load_balancer_subnets: by the scheme of a load balancer the ids of its subnets, one of each zone, with commas.
    """

    vpc_id: pulumi.Output[str]
    private_subnet_ids: list[pulumi.Output[str]]
    public_subnet_ids: list[pulumi.Output[str]]
    route_table_ids: list[pulumi.Output[str]]
    nat_addresses: list[pulumi.Output[str]]
    load_balancer_subnets: dict[str, pulumi.Output[str]]

    def __init__(self, name: str, args: FoundNetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:network:FoundNetwork", name, None, opts)
        network, invoke = args.network, pulumi.InvokeOutputOptions(parent=self)
        vpc = aws.ec2.get_vpc_output(id=network.vpc_id, opts=invoke).apply(_vpc_facts)
        ids = (*network.private_subnet_ids, *network.public_subnet_ids)
        subnets = [aws.ec2.get_subnet_output(id=each, opts=invoke).apply(_subnet_facts) for each in ids]
        checked = pulumi.Output.all(vpc, *subnets).apply(
            lambda found: check_network(
                network,
                args.vpc_cidr,
                vpc=found[0],
                subnets=dict(zip(ids, found[1:], strict=True)),
                key=args.key,
                source=args.source,
            )
        )

        def after_check(value: str) -> pulumi.Output[str]:
            return pulumi.Output.all(checked, args.after).apply(lambda _: value)

        self.vpc_id = after_check(network.vpc_id)
        self.private_subnet_ids = [after_check(each) for each in network.private_subnet_ids]
        self.public_subnet_ids = [after_check(each) for each in network.public_subnet_ids]
        self.route_table_ids = [after_check(each) for each in network.route_table_ids]
        zones = pulumi.Output.all(checked, args.after, *subnets).apply(
            lambda found: {id_: str(each["zone"]) for id_, each in zip(ids, found[2:], strict=True)}
        )
        self.load_balancer_subnets = {
            scheme: zones.apply(partial(_listed, given))
            for scheme, given in (
                (INTERNAL, network.private_subnet_ids),
                (INTERNET_FACING, network.public_subnet_ids),
            )
            if given
        }
        self.nat_addresses = [pulumi.Output.from_input(each) for each in network.nat_addresses]
        self.register_outputs({"vpcId": self.vpc_id})


def _listed(ids: Sequence[str], zones: Mapping[str, str]) -> str:
    return ",".join(one_per_zone(ids, zones))


def _vpc_facts(found: aws.ec2.GetVpcResult) -> dict[str, Any]:
    return {
        "cidrs": [found.cidr_block, *(each.cidr_block for each in found.cidr_block_associations)],
        "dns_support": found.enable_dns_support,
        "dns_hostnames": found.enable_dns_hostnames,
    }


def _subnet_facts(found: aws.ec2.GetSubnetResult) -> dict[str, Any]:
    return {
        "vpc_id": found.vpc_id,
        "zone": found.availability_zone,
        "zone_id": found.availability_zone_id,
        "tags": dict(found.tags),
    }
