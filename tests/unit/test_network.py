"""A cluster's network: subnets in every zone, private nodes with a way out, and logs of what flows."""

from typing import Any

import pytest

from components.aws.network import INTERFACE_ENDPOINTS, Network, NetworkArgs
from tests.unit.recording import Recorder, record

ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")


def network(**changes: Any) -> Recorder:
    args = {
        "cluster_name": "istio-eks-cluster-1",
        "region": "us-east-1",
        "vpc_cidr": "10.2.0.0/16",
        "zones": ZONES,
        "nat_per_zone": False,
        "flow_log_days": 30,
        "tags": {"project": "fedmesh"},
    }
    return record(lambda: Network("one", NetworkArgs(**{**args, **changes})))


def test_every_zone_has_a_public_and_a_private_subnet() -> None:
    subnets = network().of("Subnet")
    assert sorted(s.inputs["availabilityZone"] for s in subnets) == sorted(ZONES * 2)
    assert len({s.inputs["cidrBlock"] for s in subnets}) == 6


def test_no_subnet_hands_out_public_addresses() -> None:
    assert not any(s.inputs["mapPublicIpOnLaunch"] for s in network().of("Subnet"))


def test_load_balancers_find_their_subnets_by_tag() -> None:
    made = network()
    assert made.one("one-public-us-east-1a").inputs["tags"]["kubernetes.io/role/elb"] == "1"
    private = made.one("one-private-us-east-1a", "Subnet").inputs["tags"]
    assert private["kubernetes.io/role/internal-elb"] == "1"
    assert private["kubernetes.io/cluster/istio-eks-cluster-1"] == "shared"


@pytest.mark.parametrize(("per_zone", "gateways"), [(False, 1), (True, 3)])
def test_nat_gateways_are_one_or_one_per_zone(per_zone: bool, gateways: int) -> None:
    made = network(nat_per_zone=per_zone)
    routes = [r for r in made.of("Route") if "natGatewayId" in r.inputs]
    assert len(made.of("NatGateway")) == len({r.inputs["natGatewayId"] for r in routes}) == gateways
    assert len(routes) == 3


def test_every_subnet_is_in_one_route_table() -> None:
    associated = [a.inputs["subnetId"] for a in network().of("RouteTableAssociation")]
    assert len(associated) == len(set(associated)) == 6


def test_a_nat_gateway_comes_after_the_routing_of_its_subnet() -> None:
    made = network()
    (gateway,) = made.of("NatGateway")
    public = [a for a in made.of("RouteTableAssociation") if "-public-" in a.name]
    assert len(public) == 3
    for each in [*public, made.one("one-public-internet"), made.one("one-igw")]:
        assert made.outlives(each, gateway)


def test_aws_services_that_nodes_pull_from_are_reached_privately() -> None:
    made = network().of("VpcEndpoint")
    services = {e.inputs["serviceName"].removeprefix("com.amazonaws.us-east-1.") for e in made}
    assert services == {"s3", *INTERFACE_ENDPOINTS}
    assert {"ecr.api", "ecr.dkr", "sts", "ec2", "logs"} <= services


def test_s3_alone_is_reached_privately_by_config() -> None:
    made = network(interface_endpoints=())
    assert [e.inputs["vpcEndpointType"] for e in made.of("VpcEndpoint")] == ["Gateway"]
    assert not made.of("SecurityGroup")


def test_endpoints_answer_the_vpc_only() -> None:
    (rule,) = network().of("SecurityGroupIngressRule")
    assert (rule.inputs["cidrIpv4"], rule.inputs["fromPort"]) == ("10.2.0.0/16", 443)


def test_the_default_security_group_is_closed() -> None:
    (group,) = network().of("DefaultSecurityGroup")
    assert not group.inputs.get("ingress")
    assert not group.inputs.get("egress")


def test_all_traffic_is_logged_by_a_role_that_may_write_that_log_alone() -> None:
    made = network()
    (log,) = made.of("FlowLog")
    assert log.inputs["trafficType"] == "ALL"
    policy = made.one("one-flow-logs", "RolePolicy").inputs["policy"]
    assert '"Resource":["arn:aws:mock:::one-flow-logs","arn:aws:mock:::one-flow-logs:*"]' in policy


def test_everything_that_can_be_tagged_is() -> None:
    taggable = [r for r in network().resources if "tags" in r.inputs]
    assert len(taggable) > 20
    assert all(r.inputs["tags"]["project"] == "fedmesh" and r.inputs["tags"]["Name"] for r in taggable)
