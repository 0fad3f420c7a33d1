"""The committed AWS stacks: what the program creates for them, and what it leaves to existing clusters."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pulumi
import pulumi_kubernetes as k8s
import pytest
import yaml

from components.aws.addresses import gateway_addresses, stable_address
from components.aws.fleet import EksFleet, create_fleet
from components.aws.load_balancer_controller import install_controllers
from components.config.settings import Settings, parse
from components.kube.clusters import kubernetes_providers
from components.kube.last_known import LastKnownState
from components.kube.load_balancers import LoadBalancerSettings
from components.mesh.gateways import IstioGateways
from tests.unit.recording import Recorder, record, value

PROJECT = Path(__file__).parents[2]


def config(stack: str) -> dict[str, Any]:
    """A committed stack's config, with what it leaves to its user: the callers' ranges, and the caller as an admin."""
    text = (PROJECT / f"Pulumi.{stack}.yaml").read_text(encoding="utf-8")
    found = {key.removeprefix("fedmesh:"): each for key, each in yaml.safe_load(text)["config"].items()}
    for cluster in found["clusters"]:
        eks = cluster.get("eks", {})
        if eks.get("endpoint", {}).get("public"):
            eks["endpoint"]["cidrs"] = ["8.8.4.0/24"]
        if eks.get("admins"):
            eks["admins"].append("arn:aws:iam::123456789012:role/deployer")
    return found


def settings(stack: str) -> Settings:
    return parse(config(stack), f"Pulumi.{stack}.yaml")


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


def test_services_name_the_controller_where_auto_mode_makes_load_balancers_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert services("dev") == {""}
    given = config("dev")
    for cluster in given["clusters"]:
        cluster["eks"]["autoMode"] = True
    monkeypatch.setattr(__name__ + ".config", lambda _: given)
    assert services("dev") == {"service.k8s.aws/nlb"}


def services(stack: str) -> set[str]:
    """The classes of all Services of type LoadBalancer."""
    _, settings_by_cluster = create(stack, install_on_real_providers)
    return {
        service.spec.get("loadBalancerClass", "")
        for each in settings_by_cluster.values()
        for service in (each.ingress, each.east_west, each.spire_bundle)
    }


def test_the_ids_of_the_networks_are_told_for_vpns_and_gateways_of_ones_own() -> None:
    _, networks = create("dev", lambda fleet: fleet.networks)
    assert sorted(networks) == ["cluster-1", "cluster-2"]
    first = networks["cluster-1"]
    assert value(first["vpcId"]) == "cluster-1-network-vpc-id"
    assert value(first["clusterSecurityGroupId"]) == "sg-of-eks"
    assert value(first["nodeRoleArn"]) == "arn:aws:mock:::cluster-1-eks-node"
    assert len(first["privateSubnetIds"]) == 2
    assert len(first["routeTableIds"]) == 3


def install_on_real_providers(fleet: EksFleet) -> Any:
    providers = kubernetes_providers(fleet.clusters, LastKnownState(fleet.settings))
    options = {name: pulumi.ResourceOptions(providers=[each]) for name, each in providers.items()}
    return install_controllers(fleet, options)


NEEDED_BY_CONTROLLERS = (
    *("Vpc", "Subnet", "InternetGateway", "NatGateway", "Route", "RouteTableAssociation", "VpcEndpoint"),
    *("SecurityGroupIngressRule", "NodeGroup", "Addon", "PodIdentityAssociation", "RolePolicy"),
    *("VpcPeeringConnection", "PeeringConnectionOptions"),
)


@pytest.mark.parametrize("stack", ["dev", "prod"])
def test_what_a_controller_needs_of_aws_is_deleted_after_it(stack: str) -> None:
    recorder, _ = create(stack, install_on_real_providers)
    for name in [spec.name for spec in settings(stack).clusters]:
        release = recorder.one(f"{name}-load-balancers-release")
        own = [
            r for kind in NEEDED_BY_CONTROLLERS for r in recorder.of(kind) if r.name.startswith(f"{name}-")
        ]
        assert len(own) > 20
        early = [
            r.name for r in [*own, *recorder.of("VpcPeeringConnection")] if not recorder.outlives(r, release)
        ]
        assert early == []


@pytest.mark.parametrize("stack", ["dev", "prod"])
def test_nodes_come_after_their_way_to_aws_and_go_before_it(stack: str) -> None:
    recorder, _ = create(stack, lambda fleet: fleet.clusters)
    for nodes in recorder.of("NodeGroup"):
        name = nodes.name.split("-eks-")[0]
        for kind in ("Route", "RouteTableAssociation", "VpcEndpoint", "InternetGateway"):
            own = [r for r in recorder.of(kind) if r.name.startswith(f"{name}-network-")]
            assert own
            assert [r.name for r in own if not recorder.outlives(r, nodes)] == []


def test_a_pod_identity_comes_after_its_cluster() -> None:
    recorder, _ = create("dev", install_on_real_providers)
    for name in ("cluster-1", "cluster-2"):
        cluster = recorder.one(f"{name}-eks", "eks:index:Cluster")
        identity = recorder.one(f"{name}-load-balancers-identity")
        assert recorder.outlives(cluster, identity)


def test_a_pod_identity_is_known_before_nodes_can_run_its_pods() -> None:
    recorder, _ = create("dev", install_on_real_providers)
    identity = recorder.one("cluster-1-load-balancers-identity")
    nodes = recorder.one("cluster-1-eks-general", "NodeGroup")
    assert not recorder.outlives(nodes, identity)
    assert recorder.outlives(identity, recorder.one("cluster-1-load-balancers-release"))


def test_an_existing_cluster_may_come_first_in_a_stack_with_eks_clusters() -> None:
    mixed = config("dev")
    existing = {"name": "on-premises", "network": "network-9", "region": "dc-1", "trustDomain": "dc.example"}
    mixed["clusters"].insert(0, {**existing, "kubeconfig": {"path": "x"}})
    created: list[Any] = []

    def build() -> None:
        fleet = create_fleet(parse(mixed, "Pulumi.mixed.yaml"))
        created.append(stable_address(fleet, "cluster-1", "spire", "nlb.example"))
        created.append(stable_address(fleet, "on-premises", "spire", "192.0.2.1"))

    record(build)
    assert value(created[0]) == "spire.cluster-1.mesh.internal"
    assert created[1] == "192.0.2.1"


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
