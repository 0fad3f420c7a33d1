"""The committed AWS stacks: what the program makes of them, and what it leaves to clusters that exist."""

from collections.abc import Callable
from typing import Any, cast

import pulumi
import pulumi_kubernetes as k8s
import pytest

from components.aws.load_balancer_controller import NO_DOORS
from components.aws.made_clusters import MadeClusters
from components.mesh.gateways import IstioGateways
from tests.unit.recording import Recorder, record, value
from tests.unit.stacks import committed


def make(stack: str, use: Callable[[MadeClusters], Any]) -> tuple[Recorder, Any]:
    results: list[Any] = []
    recorder = record(lambda: results.append(use(MadeClusters(committed(stack)))))
    return recorder, results[0]


class Gateway:
    """Stands for a cluster's gateways, of which only the addresses count here."""

    def __init__(self, name: str) -> None:
        self.ingress_address = pulumi.Output.from_input(f"{name}-ingress.elb.amazonaws.com")
        self.east_west_address = pulumi.Output.from_input(f"{name}-eastwest.elb.amazonaws.com")


def gateways(stack: str) -> dict[str, IstioGateways]:
    return {spec.name: cast(IstioGateways, Gateway(spec.name)) for spec in committed(stack).clusters}


@pytest.mark.parametrize(("stack", "clusters"), [("dev", 2), ("prod", 3)])
def test_the_committed_stacks_are_valid_and_make_their_clusters(stack: str, clusters: int) -> None:
    recorder, made = make(stack, lambda made: made.clusters)
    assert len(made) == len(recorder.of("Vpc")) == clusters
    assert len(recorder.of("VpcPeeringConnection")) == clusters * (clusters - 1) // 2


def test_a_stack_of_existing_clusters_makes_nothing_on_aws() -> None:
    recorder, doors = make("lab", lambda made: made.doors(dict.fromkeys(("cluster-1", "cluster-2"))))
    assert recorder.resources == []
    assert doors == {"cluster-1": NO_DOORS, "cluster-2": NO_DOORS}


def test_an_existing_cluster_is_known_by_its_address() -> None:
    recorder, address = make("lab", lambda made: made.named("cluster-1", "spire", "10.0.0.1"))
    assert (recorder.resources, address) == ([], "10.0.0.1")


def test_a_made_cluster_is_known_by_a_name_that_lasts() -> None:
    _, name = make("dev", lambda made: made.named("cluster-2", "spire", "nlb.elb.amazonaws.com"))
    assert value(name) == "spire.cluster-2.mesh.internal"


def test_every_made_cluster_gets_a_controller_for_its_load_balancers() -> None:
    def doors(made: MadeClusters) -> Any:
        on = {
            name: pulumi.ResourceOptions(providers=[k8s.Provider(name, kubeconfig="{}")])
            for name in made.clusters
        }
        return made.doors(on)

    recorder, opened = make("prod", doors)
    assert len(recorder.of("Release")) == 3
    assert opened["prod-3"].sources == ("10.10.0.0/16", "10.11.0.0/16", "10.12.0.0/16")


def test_dev_has_no_edge_and_prod_leads_users_by_route_53() -> None:
    recorder, ways = make("dev", lambda made: made.ways_in(gateways("dev")))
    assert ways.edge is None
    assert not recorder.of("HealthCheck")
    recorder, ways = make("prod", lambda made: made.ways_in(gateways("prod")))
    assert ways.edge is not None
    assert len(recorder.of("HealthCheck")) == 3


def test_no_two_stacks_of_the_project_share_a_network() -> None:
    ranges = [c.eks.vpc_cidr for stack in ("dev", "prod") for c in committed(stack).clusters if c.eks]
    assert len(set(ranges)) == len(ranges)
