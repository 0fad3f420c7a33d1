"""The committed AWS stacks: what the program creates for them, and what it leaves to existing clusters."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pulumi
import pulumi_kubernetes as k8s
import pytest

from components.aws.addresses import gateway_addresses, stable_address
from components.aws.fleet import EksFleet, create_fleet
from components.aws.load_balancer_controller import install_controllers
from components.config.settings import Settings, load_stack_file
from components.kube.load_balancers import LoadBalancerSettings
from components.mesh.gateways import IstioGateways
from tests.unit.recording import Recorder, record, value

PROJECT = Path(__file__).parents[2]


def settings(stack: str) -> Settings:
    return load_stack_file(PROJECT / f"Pulumi.{stack}.yaml")


def create(stack: str, use: Callable[[EksFleet], Any]) -> tuple[Recorder, Any]:
    results: list[Any] = []
    recorder = record(lambda: results.append(use(create_fleet(settings(stack)))))
    return recorder, results[0]


class Gateway:
    """Stands for a cluster's gateways, of which only the addresses count here."""

    def __init__(self, name: str) -> None:
        self.ingress_address = pulumi.Output.from_input(f"{name}-ingress.elb.amazonaws.com")
        self.east_west_address = pulumi.Output.from_input(f"{name}-eastwest.elb.amazonaws.com")


def gateways(stack: str) -> dict[str, IstioGateways]:
    return {spec.name: cast(IstioGateways, Gateway(spec.name)) for spec in settings(stack).clusters}


@pytest.mark.parametrize(("stack", "clusters"), [("dev", 2), ("prod", 3)])
def test_the_committed_stacks_are_valid_and_create_their_clusters(stack: str, clusters: int) -> None:
    recorder, created = create(stack, lambda fleet: fleet.clusters)
    assert len(created) == len(recorder.of("Vpc")) == clusters
    assert len(recorder.of("VpcPeeringConnection")) == clusters * (clusters - 1) // 2


def test_a_stack_of_existing_clusters_creates_nothing_on_aws() -> None:
    options = dict.fromkeys(("cluster-1", "cluster-2"), pulumi.ResourceOptions())
    recorder, load_balancers = create("lab", lambda fleet: install_controllers(fleet, options))
    assert recorder.resources == []
    assert load_balancers == dict.fromkeys(options, LoadBalancerSettings())


def test_an_existing_cluster_keeps_its_address() -> None:
    recorder, address = create("lab", lambda fleet: stable_address(fleet, "cluster-1", "spire", "10.0.0.1"))
    assert (recorder.resources, address) == ([], "10.0.0.1")


def test_a_created_cluster_has_a_name_in_the_private_zone() -> None:
    _, name = create("dev", lambda fleet: stable_address(fleet, "cluster-2", "spire", "nlb.example"))
    assert value(name) == "spire.cluster-2.mesh.internal"


def test_every_created_cluster_gets_the_load_balancer_controller() -> None:
    def install(fleet: EksFleet) -> Any:
        options = {
            name: pulumi.ResourceOptions(providers=[k8s.Provider(name, kubeconfig="{}")])
            for name in fleet.clusters
        }
        return install_controllers(fleet, options)

    recorder, load_balancers = create("prod", install)
    assert len(recorder.of("Release")) == 3
    ranges = load_balancers["prod-3"].spire_bundle.source_ranges
    assert ranges == ("10.10.0.0/16", "10.11.0.0/16", "10.12.0.0/16")


def test_dev_has_no_edge_and_prod_routes_users_by_route_53() -> None:
    recorder, addresses = create("dev", lambda fleet: gateway_addresses(fleet, gateways("dev")))
    assert addresses.edge is None
    assert not recorder.of("HealthCheck")
    recorder, addresses = create("prod", lambda fleet: gateway_addresses(fleet, gateways("prod")))
    assert addresses.edge is not None
    assert len(recorder.of("HealthCheck")) == 3


def test_no_two_stacks_of_the_project_share_a_network() -> None:
    ranges = [c.eks.vpc_cidr for stack in ("dev", "prod") for c in settings(stack).clusters if c.eks]
    assert len(set(ranges)) == len(ranges)
