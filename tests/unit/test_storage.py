"""The StorageClasses of a cluster: one for all volumes, and on EKS Auto Mode another for its nodes."""

import pulumi
import pytest

from components.config.settings import parse
from components.kube.storage import Storage, StorageArgs, create_storage
from tests.unit.recording import Recorder, record, value
from tests.unit.stacks import TODAY, values

DEFAULT = "storageclass.kubernetes.io/is-default-class"


def classes(*, auto_mode: bool, **storage: str) -> tuple[Recorder, Storage]:
    given = values("dev")
    given["storage"] = storage
    for cluster in given["clusters"]:
        cluster["eks"] |= {"endpoint": {}, "autoMode": auto_mode}
    settings = parse(given, "Pulumi.dev.yaml", TODAY)
    spec, made = settings.clusters[0], list[Storage]()
    args = StorageArgs(settings.storage_of(spec), settings.has_auto_storage(spec))
    return record(lambda: made.append(Storage("one", args))), made[0]


def test_one_class_is_for_all_volumes() -> None:
    recorder, storage = classes(auto_mode=False)
    (made,) = recorder.of("StorageClass")
    assert made.inputs["metadata"]["name"] == "gp3"
    assert made.inputs["metadata"]["annotations"][DEFAULT] == "true"
    assert value(storage.class_name) == value(storage.general_class_name)  # type: ignore[arg-type]


def test_nodes_of_auto_mode_have_a_class_of_their_own_which_is_the_default() -> None:
    recorder, storage = classes(auto_mode=True)
    spire, auto = sorted(recorder.of("StorageClass"), key=lambda each: "auto-mode" in each.name)
    assert (spire.inputs["provisioner"], auto.inputs["provisioner"]) == (
        "ebs.csi.aws.com",
        "ebs.csi.eks.amazonaws.com",
    )
    assert spire.inputs["metadata"]["annotations"][DEFAULT] == "false"
    assert auto.inputs["metadata"]["annotations"][DEFAULT] == "true"
    (topology,) = auto.inputs["allowedTopologies"]
    assert topology["matchLabelExpressions"] == [
        {"key": "eks.amazonaws.com/compute-type", "values": ["auto"]}
    ]
    assert value(storage.general_class_name).startswith("one-auto-mode-")  # type: ignore[arg-type]


@pytest.mark.parametrize("auto_mode", [False, True])
def test_a_class_of_ones_own_is_for_all_volumes(auto_mode: bool) -> None:
    recorder, storage = classes(auto_mode=auto_mode, **{"class": "mine"})
    assert not recorder.of("StorageClass")
    assert storage.class_name == storage.general_class_name == "mine"


@pytest.mark.parametrize("storage", [{}, {"class": "gp3", "provisioner": "ebs.csi.aws.com"}])
def test_without_the_mesh_nothing_is_made_on_a_cluster_but_what_the_stack_asks_for(
    storage: dict[str, str],
) -> None:
    given = values("dev") | {"storage": storage}
    given["aws"] = {**given.get("aws", {}), "mesh": False}
    for cluster in given["clusters"]:
        cluster["eks"]["endpoint"] = {}
    settings = parse(given, "Pulumi.dev.yaml", TODAY)
    options = {spec.name: pulumi.ResourceOptions() for spec in settings.clusters}
    made = record(lambda: create_storage(settings, options))
    assert len(made.of("StorageClass")) == (len(options) if storage else 0)
