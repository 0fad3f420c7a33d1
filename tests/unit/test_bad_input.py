"""Configuration that can't be right is told in one message of the command, with exit code 2 and without a traceback."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.config.settings import load_stack_file
from fedmesh import cli
from fedmesh.kube import KubeError
from fedmesh.reading import LiveCluster
from fedmesh.verify import command
from tests.unit.stacks import CALLERS

EXISTING = {
    "name": "cluster-1",
    "trustDomain": "one.example",
    "network": "network-1",
    "region": "us-east-1",
    "kubeconfig": {"path": "one.kubeconfig"},
}
CREATED = {
    "name": "cluster-2",
    "trustDomain": "two.example",
    "network": "network-2",
    "region": "us-east-1",
    "eks": {
        "version": "1.36",
        "vpcCidr": "10.2.0.0/16",
        "serviceCidr": "172.20.0.0/16",
        "zones": ["us-east-1a", "us-east-1b"],
        "endpoint": {"public": True, "cidrs": [CALLERS]},
        "nodeGroups": {"general": {}, "spire-server": {}},
    },
}
# A mixed stack: right as it is, in either order.
STACK = {"clusters": [EXISTING, CREATED]}
WILDCARD = "*.shop.svc.cluster.local"


def changed(path: str, value: Any) -> dict[str, Any]:
    """The values of STACK with one of them set; steps of digits are places in lists."""
    values = copy.deepcopy(STACK)
    *steps, last = [int(step) if step.isdigit() else step for step in path.split("/")]
    at: Any = values
    for step in steps:
        at = at[step] if isinstance(step, int) else at.setdefault(step, {})
    at[last] = value
    return values


def written(folder: Path, values: dict[str, Any]) -> Path:
    (folder / "Pulumi.yaml").write_text("name: fedmesh\n")
    file = folder / "Pulumi.blue.yaml"
    file.write_text(yaml.safe_dump({"config": {f"fedmesh:{key}": value for key, value in values.items()}}))
    return file


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("failovr", {}, "fedmesh:failovr in Pulumi.blue.yaml: is unknown; did you mean failover?"),
        # a wrong type at each level
        (
            "clusters",
            "cluster-1",
            "fedmesh:clusters in Pulumi.blue.yaml: must be a list of two clusters or more",
        ),
        ("clusters/0", "cluster-1", "fedmesh:clusters[0] in Pulumi.blue.yaml: must be a mapping"),
        ("clusters/0/name", 1, "fedmesh:clusters[0].name in Pulumi.blue.yaml: must be a DNS label"),
        ("clusters/1/eks", [], "fedmesh:clusters[1].eks in Pulumi.blue.yaml: must be a mapping"),
        (
            "clusters/1/eks/zones",
            "us-east-1a",
            "fedmesh:clusters[1].eks.zones in Pulumi.blue.yaml: must be a list",
        ),
        (
            "clusters/1/eks/zones/0",
            1,
            "fedmesh:clusters[1].eks.zones[0] in Pulumi.blue.yaml: must be an avail",
        ),
        (
            "clusters/1/eks/nodeGroups/general",
            3,
            "clusters[1].eks.nodeGroups.general in Pulumi.blue.yaml: must",
        ),
        (
            "clusters/1/eks/nodeGroups/general/max",
            "4",
            "nodeGroups.general.max in Pulumi.blue.yaml: must be a whole",
        ),
        ("istio", True, "fedmesh:istio in Pulumi.blue.yaml: must be a mapping, not True"),
        (
            "istio/replicas",
            "two",
            "fedmesh:istio.replicas in Pulumi.blue.yaml: must be a whole number from 1 to 10",
        ),
        ("samples/enabled", "yes", "fedmesh:samples.enabled in Pulumi.blue.yaml: must be true or false"),
        # nothing, where something is needed
        ("spire/svidTtl", "0s", "fedmesh:spire.svidTtl in Pulumi.blue.yaml: must be 5m to 168h, not 0s"),
        (
            "spire/volumeSize",
            "0Gi",
            "fedmesh:spire.volumeSize in Pulumi.blue.yaml: must be 100Mi to 16Ti, not 0Gi",
        ),
        (
            "observability/retention",
            "0h",
            "fedmesh:observability.retention in Pulumi.blue.yaml: must be 2h to 43800h",
        ),
        (
            "observability/volumeSize",
            "0Gi",
            "observability.volumeSize in Pulumi.blue.yaml: must be 512Mi to 16Ti",
        ),
        # ranges
        ("clusters/1/eks/vpcCidr", "999.0.0.0/99", "eks.vpcCidr in Pulumi.blue.yaml: must be an IPv4 range"),
        (
            "clusters/1/eks/endpoint/cidrs",
            ["999.0.0.0/99"],
            "eks.endpoint.cidrs[0] in Pulumi.blue.yaml: must be an",
        ),
        ("clusters/1/eks/endpoint/cidrs", ["0.0.0.0/1"], "0.0.0.0/1 opens the API server to a large part of"),
        # two architectures in one node group
        (
            "clusters/1/eks/nodeGroups/general",
            {"instanceTypes": ["m8gb.large", "m5.large"]},
            "must be of one architecture, as a node group has one image: m8gb.large is arm64, m5.large is x86_64",
        ),
        # a wildcard host with settings that only one host can have
        (
            f"failover/hosts/{WILDCARD}",
            {"retries": {"attempts": 5}},
            f"fedmesh:failover.hosts.{WILDCARD}.retries in Pulumi.blue.yaml: can't be set for a wildcard host",
        ),
        ("failover/hosts/*", {}, "fedmesh:failover.hosts.* in Pulumi.blue.yaml: must be a host such as"),
    ],
)
def test_a_wrong_value_is_one_message_and_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    path: str,
    value: Any,
    told: str,
) -> None:
    written(tmp_path, changed(path, value))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["verify", "--stack", "blue"]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "Traceback" not in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("clusters", [[EXISTING, CREATED], [CREATED, EXISTING]])
def test_a_mixed_stack_is_right_in_either_order(tmp_path: Path, clusters: list[dict[str, Any]]) -> None:
    settings = load_stack_file(written(tmp_path, {"clusters": clusters}))
    assert [spec.eks is not None for spec in settings.clusters] == ["eks" in each for each in clusters]


def test_a_wildcard_host_may_differ_in_what_ejects_endpoints(tmp_path: Path) -> None:
    values = changed(f"failover/hosts/{WILDCARD}", {"outlierDetection": {"consecutiveGatewayErrors": 3}})
    host = load_stack_file(written(tmp_path, values)).failover.hosts[WILDCARD]
    assert host.outlier_detection.consecutive_gateway == 3


class Forbidden:
    """A client of an API server that knows its user and allows nothing."""

    server = "https://10.90.0.11:6443"

    def __getattr__(self, name: str) -> Any:
        def refuse(path: str = "", *_args: Any, **_options: Any) -> Any:
            raise KubeError(f'GET {path}: forbidden: User "me" cannot do that', 403)

        return refuse


@pytest.mark.parametrize("options", [(), ("--pre",)])
def test_a_user_without_rights_gets_a_report_and_exit_code_1(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
) -> None:
    """Every check says what was refused; none of them ends the command."""
    one, two = (
        EXISTING,
        {**EXISTING, "name": "cluster-2", "trustDomain": "two.example", "network": "network-2"},
    )
    written(tmp_path, {"clusters": [one, two]})
    monkeypatch.chdir(tmp_path)

    def connected(members: Any, _commands: int) -> Any:
        return {member.name: LiveCluster(member, Forbidden()) for member in members}, {}

    monkeypatch.setattr(command, "connect", connected)
    assert cli.main(["verify", "--stack", "blue", "--timeout", "20", *options]) == 1
    said = capsys.readouterr()
    assert "Traceback" not in said.out + said.err
    assert "the check itself failed" not in said.out
    assert "forbidden" in said.out
