"""The examples: valid stack configs, of which the program makes what their READMEs promise."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from components.config.settings import parse
from tests.unit import program
from tests.unit.program import Program, kubeconfig, run
from tests.unit.recording import Recorder

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(folder.name for folder in EXAMPLES.iterdir() if folder.is_dir())
PREFIX = "fedmesh:"
SPIRE_SERVER = {"key": "dedicated", "value": "spire-server", "effect": "NoExecute"}


@dataclass
class ProgramOnAws(Program):
    """The mock of the program's tests, which also fills in what AWS would."""

    aws: Recorder = field(default_factory=Recorder)

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        mock = self.aws if args.typ.startswith(("aws:", "eks:")) else super()
        return mock.new_resource(args)

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[str, Any]:
        mock = self.aws if args.token.startswith("aws:") else super()
        return mock.call(args)


def stack_file(name: str) -> Path:
    return EXAMPLES / name / f"Pulumi.{name}.yaml"


def config(name: str) -> dict[str, Any]:
    """The values of an example by key, without the prefix, with the callers that it leaves to its user."""
    values = yaml.safe_load(stack_file(name).read_text())["config"]
    found = {key.removeprefix(PREFIX): value for key, value in values.items()}
    for cluster in found["clusters"]:
        endpoint = cluster.get("eks", {}).get("endpoint", {})
        if endpoint.get("public"):
            assert endpoint["cidrs"] == [], "nobody's address is in an example"
            endpoint["cidrs"] = ["8.8.4.0/24"]
    return found


def preview(values: Mapping[str, Any], folder: Path) -> Program:
    """Runs the program on the values of an example, with kubeconfigs in `folder` in place of the user's."""
    clusters = [
        with_kubeconfig(cluster, folder) if "kubeconfig" in cluster else cluster
        for cluster in values["clusters"]
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "Program", ProgramOnAws)
        return run({**values, "clusters": clusters})


def with_kubeconfig(cluster: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A cluster's entry with a kubeconfig of its own that has the context which the entry names."""
    wanted, path = cluster["kubeconfig"], folder / f"{cluster['name']}.kubeconfig"
    document = kubeconfig(f"https://{cluster['name']}.example:6443")
    document["contexts"][0]["name"] = wanted["context"]
    path.write_text(yaml.safe_dump(document))
    return {**cluster, "kubeconfig": {**wanted, "path": str(path)}}


def made(mesh: Program, kind: str) -> list[str]:
    """Names of the registered resources whose type ends with `:<kind>`."""
    return [each.name for each in mesh.objects if each.type.endswith(f":{kind}") and not each.read]


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_a_readme_and_one_stack_named_after_its_folder(name: str) -> None:
    assert (EXAMPLES / name / "README.md").is_file()
    assert list((EXAMPLES / name).glob("Pulumi.*.yaml")) == [stack_file(name)]
    assert f"({name})" in (EXAMPLES / "README.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_the_config_of_an_example_is_valid(name: str) -> None:
    assert len(parse(config(name), stack_file(name).name).clusters) == 2


@pytest.mark.parametrize("name", NAMES)
def test_a_preview_of_an_example_has_the_whole_mesh_on_each_of_its_clusters(name: str, folder: Path) -> None:
    values = config(name)
    clusters = [cluster["name"] for cluster in values["clusters"]]
    mesh = preview(values, folder)
    for kind in ("CertManager", "Spire", "Istio", "IstioGateways", "Samples"):
        assert len(made(mesh, kind)) == len(clusters), kind
    for here, there in permutations(clusters, 2):
        assert mesh.one(f"federation-{here}-{there}-clusterfederatedtrustdomain")
        assert mesh.one(f"remote-secrets-{here}-istio-remote-secret-{there}-secret").secret


@pytest.mark.parametrize("name", NAMES)
def test_a_preview_of_an_example_creates_the_eks_clusters_of_its_config_and_no_others(
    name: str, folder: Path
) -> None:
    values = config(name)
    wanted = [f"{cluster['name']}-network" for cluster in values["clusters"] if "eks" in cluster]
    mesh = preview(values, folder)
    assert len([each for each in mesh.objects if each.type == "eks:index:Cluster"]) == len(wanted)
    assert sorted(made(mesh, "Network")) == sorted(wanted)
    assert bool([each for each in mesh.objects if each.type.startswith("aws:")]) == bool(wanted)


@pytest.mark.parametrize("zone", ["", "mesh.internal"])
@pytest.mark.parametrize("turned", [False, True], ids=["written", "reversed"])
def test_a_mixed_stack_lists_its_clusters_in_any_order_with_and_without_a_private_zone(
    zone: str, turned: bool, folder: Path
) -> None:
    values = config("mixed")
    clusters = values["clusters"][::-1] if turned else values["clusters"]
    mesh = preview({**values, "clusters": clusters, "aws": {**values["aws"], "privateZone": zone}}, folder)
    assert made(mesh, "Vpc") == ["cloud-network-vpc"]
    assert sorted(made(mesh, "MeshName")) == (["cloud-eastwest-name", "cloud-spire-name"] if zone else [])


def test_a_mixed_stack_lets_the_existing_cluster_reach_the_load_balancers_of_the_other(folder: Path) -> None:
    values = config("mixed")
    mesh = preview(values, folder)
    ranges = [
        each.inputs["spec"]["loadBalancerSourceRanges"]
        for each in mesh.objects
        if "cloud" in each.name and "loadBalancerSourceRanges" in (each.inputs.get("spec") or {})
    ]
    assert ranges
    assert all(set(values["aws"]["meshCidrs"]) <= set(each) for each in ranges)


@pytest.mark.parametrize("name", ["east", "west"])
def test_a_kind_cluster_has_what_its_entry_in_the_stack_config_needs(name: str) -> None:
    (spec,) = [cluster for cluster in config("kind")["clusters"] if cluster["name"] == name]
    cluster = yaml.safe_load((EXAMPLES / "kind" / f"{name}.yaml").read_text())
    assert spec["kubeconfig"]["context"] == f"kind-{cluster['name']}"
    assert spec["apiServer"] == f"https://{cluster['name']}-control-plane:6443"
    for node in cluster["nodes"]:
        assert node["labels"]["topology.kubernetes.io/region"] == spec["region"]
        assert node["labels"]["topology.kubernetes.io/zone"] == spec["zone"]
    (spire,) = [node for node in cluster["nodes"] if node["labels"].get("dedicated") == "spire-server"]
    (patch,) = spire["kubeadmConfigPatches"]
    assert yaml.safe_load(patch)["nodeRegistration"]["taints"] == [SPIRE_SERVER]


def test_the_networks_of_the_kind_clusters_do_not_overlap() -> None:
    networks = [
        yaml.safe_load((EXAMPLES / "kind" / f"{name}.yaml").read_text())["networking"]
        for name in ("east", "west")
    ]
    assert len({value for network in networks for value in network.values()}) == 4


def test_the_kind_example_says_that_it_is_not_run() -> None:
    assert "Documentation, not run by this project's tests" in (EXAMPLES / "kind" / "README.md").read_text()
