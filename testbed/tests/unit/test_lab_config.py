"""lab.yaml: what is read from it, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed.lab import config, paths
from testbed.lab.config import LabConfigError

Change = Callable[[dict[str, Any]], None]


def written(folder: Path, change: Change) -> Path:
    raw = yaml.safe_load(config.DEFAULT_FILE.read_text())
    change(raw)
    file = folder / "lab.yaml"
    file.write_text(yaml.safe_dump(raw))
    return file


SHIPPED = sorted(config.FOLDER.glob(config.FILES))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_every_shipped_config_has_a_tainted_spire_node_in_each_cluster(file: Path) -> None:
    for cluster in config.load(file).clusters:
        tainted = [node for node in cluster.nodes if node.taints]
        assert [node.labels["dedicated"] for node in tainted] == ["spire-server"]
        assert tainted[0].taints == ({"key": "dedicated", "value": "spire-server", "effect": "NoExecute"},)


def test_the_first_node_of_a_cluster_has_the_control_plane() -> None:
    for cluster in config.load().clusters:
        assert [node.control_plane for node in cluster.nodes] == [True] + [False] * (len(cluster.nodes) - 1)


def test_every_node_has_pod_addresses_of_its_own_within_its_clusters_range() -> None:
    pods = [(cluster, node.pods) for cluster, node in config.load().nodes()]
    assert all(own.subnet_of(cluster.pods) for cluster, own in pods)
    assert len({own for _, own in pods}) == len(pods)


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_the_stack_of_a_shipped_config_describes_its_clusters(file: Path) -> None:
    lab = config.load(file)
    stack = yaml.safe_load((paths.project() / f"Pulumi.{lab.stack}.yaml").read_text())["config"]
    described = {cluster["name"]: cluster for cluster in stack["fedmesh:clusters"]}
    assert list(described) == [cluster.name for cluster in lab.clusters]
    for cluster in lab.clusters:
        own = described[cluster.name]
        assert own["kubeconfig"]["path"] == f".lab/clusters/{cluster.name}/admin.kubeconfig"
        labels = cluster.control_plane.labels
        place = (labels["topology.kubernetes.io/region"], labels["topology.kubernetes.io/zone"])
        assert (own["region"], own["zone"]) == place


def test_a_lab_of_three_clusters_can_lose_a_node_of_each_kind() -> None:
    lab = config.load(config.file_for(3))
    assert len(lab.clusters) == 3
    for cluster in lab.clusters:
        general = [node for node in cluster.nodes if not node.taints]
        assert len(general) == 2
        assert list(cluster.resolvers) == general
        assert len({node.labels["topology.kubernetes.io/zone"] for node in general}) == 2


def test_a_number_of_clusters_without_a_config_is_refused_with_those_there_are() -> None:
    with pytest.raises(LabConfigError, match=r"no lab of 9 clusters; there are labs of 2, 3"):
        config.file_for(9)


def test_a_lab_that_was_started_stays_what_it_is(tmp_path: Path) -> None:
    assert config.current(tmp_path).stack == "lab"
    three = config.wanted(tmp_path, 3)
    (tmp_path / three.file.name).write_bytes(three.file.read_bytes())
    assert config.current(tmp_path).stack == "lab3"
    assert config.wanted(tmp_path, None).clusters == three.clusters
    with pytest.raises(LabConfigError, match="make lab-down"):
        config.wanted(tmp_path, 2)


def test_nodes_carry_region_and_zone_of_their_cluster() -> None:
    for cluster, node in config.load().nodes():
        number = cluster.name.removeprefix("cluster-")
        assert node.labels["topology.kubernetes.io/region"] == f"region-{number}"
        assert node.labels["topology.kubernetes.io/zone"] == f"zone-{number}"


def same_name(raw: dict[str, Any]) -> None:
    raw["clusters"][1]["name"] = raw["clusters"][0]["name"]


def same_address(raw: dict[str, Any]) -> None:
    raw["clusters"][1]["nodes"][0]["address"] = raw["clusters"][0]["nodes"][0]["address"]


def address_off_the_bridge(raw: dict[str, Any]) -> None:
    raw["clusters"][0]["nodes"][0]["address"] = "10.99.0.1"


def overlapping_pods(raw: dict[str, Any]) -> None:
    raw["clusters"][1]["podRange"] = "10.91.128.0/17"


def overlapping_balancers(raw: dict[str, Any]) -> None:
    raw["clusters"][1]["loadBalancers"] = raw["clusters"][0]["loadBalancers"]


def balancers_on_a_node(raw: dict[str, Any]) -> None:
    raw["clusters"][0]["loadBalancers"] = "10.90.0.8/29"


def pods_too_few(raw: dict[str, Any]) -> None:
    raw["clusters"][0]["podRange"] = "10.91.0.0/23"


def host_bits(raw: dict[str, Any]) -> None:
    raw["clusters"][0]["serviceRange"] = "10.101.0.1/16"


def no_clusters(raw: dict[str, Any]) -> None:
    raw["clusters"] = []


def no_bridge(raw: dict[str, Any]) -> None:
    del raw["bridge"]


def unknown_key(raw: dict[str, Any]) -> None:
    raw["clusters"][0]["nodes"][1]["label"] = {}


def wrong_range(raw: dict[str, Any]) -> None:
    raw["clusters"][1]["podRange"] = "many"


def number_as_label(raw: dict[str, Any]) -> None:
    raw["clusters"][0]["nodes"][1]["labels"] = {"dedicated": 1}


def wrong_effect(raw: dict[str, Any]) -> None:
    raw["clusters"][0]["nodes"][1]["taints"] = [{"key": "dedicated", "effect": "Run"}]


def capitals(raw: dict[str, Any]) -> None:
    raw["clusters"][0]["name"] = "Cluster"


def service_range_of_one_address(raw: dict[str, Any]) -> None:
    raw["clusters"][0]["serviceRange"] = "10.101.0.0/32"


def address_as_number(raw: dict[str, Any]) -> None:
    raw["clusters"][0]["nodes"][0]["address"] = 5


def clusters_by_name(raw: dict[str, Any]) -> None:
    raw["clusters"] = {"cluster-1": raw["clusters"][0]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (same_name, "cluster-1 is used twice"),
        (same_address, "10.90.0.11 is used twice"),
        (address_off_the_bridge, "10.99.0.1 is not in bridge.address"),
        (overlapping_pods, "clusters[0].podRange in {file}: 10.91.0.0/16 overlaps 10.91.128.0/17"),
        (overlapping_balancers, "10.90.0.96/28 overlaps 10.90.0.96/28 of clusters[1].loadBalancers"),
        (balancers_on_a_node, "10.90.0.11 lies in a loadBalancers range"),
        (pods_too_few, "has no /24 for each of 2 nodes"),
        (host_bits, "clusters[0].serviceRange in {file}: must be an IPv4 range without host bits"),
        (no_clusters, "at least one cluster"),
        (no_bridge, "bridge in {file}: is missing"),
        (
            unknown_key,
            "clusters[0].nodes[1].label in {file}: is unknown; did you mean labels?",
        ),
        (wrong_range, "clusters[1].podRange in {file}: must be an IPv4 range without host bits"),
        (number_as_label, "clusters[0].nodes[1].labels.dedicated in {file}: must be text, not 1"),
        (wrong_effect, "one of NoSchedule, PreferNoSchedule, NoExecute"),
        (capitals, "clusters[0].name in {file}: must be a name: small letters"),
        (service_range_of_one_address, "clusters[0].serviceRange in {file}: must be a /24 or larger"),
        (address_as_number, "clusters[0].nodes[0].address in {file}: must be text, not 5"),
        (clusters_by_name, "clusters in {file}: must be a list"),
    ],
)
def test_wrong_config_is_refused_by_file_and_key(tmp_path: Path, change: Change, said: str) -> None:
    file = written(tmp_path, change)
    with pytest.raises(LabConfigError) as refused:
        config.load(file)
    assert said.format(file=file) in str(refused.value)
    assert str(file) in str(refused.value)


@pytest.mark.parametrize("text", ["clusters: [", "- 1", "", "clusters"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(text)
    with pytest.raises(LabConfigError) as refused:
        config.load(file)
    assert str(file) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabConfigError, match=r"missing\.yaml"):
        config.load(tmp_path / "missing.yaml")


def test_an_unknown_cluster_is_refused_with_those_there_are() -> None:
    with pytest.raises(LabConfigError, match="there are: cluster-1, cluster-2"):
        config.load().cluster("cluster-9")
