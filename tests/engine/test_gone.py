"""A cluster that is gone for good: the engine forgets all that lay on it, and another takes its place."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from testbed.lab.apiserver import running
from tests.engine.conftest import PROGRAMS, TOOLS, Checkout, Server, prepared, stack_config
from tests.engine.test_trust import TRUST, bundle, publish

DROP = {"PULUMI_K8S_DELETE_UNREACHABLE": "true"}


@contextmanager
def started(name: str, folder: Path) -> Iterator[Server]:
    """An API server of its own, as it is killed before the tests end."""
    folder.mkdir()
    with running(name, TOOLS, folder) as server:
        made = prepared(server)
        publish({name: made}, bundle(name))
        yield made


def config_of(servers: dict[str, Server]) -> dict[str, Any]:
    """The stack of two of these clusters, of which the second may have another name than in the lab."""
    first, second = servers
    config = stack_config({"cluster-1": servers[first], "cluster-2": servers[second]})
    config["fedmesh:clusters"][1] |= {
        "name": second,
        "alias": second,
        "trustDomain": f"wsc-{second}.com",
        "network": f"network-{second}",
    }
    return config


def on(cluster: str, resources: list[dict[str, Any]]) -> list[str]:
    return [each["urn"] for each in resources if each.get("provider", "").split("::")[-2:-1] == [cluster]]


def test_a_cluster_that_is_gone_for_good_leaves_the_stack_and_another_takes_its_place(
    servers: dict[str, Server], tmp_path: Path
) -> None:
    first = {"cluster-1": servers["cluster-1"]}
    publish(first, bundle("cluster-1"))
    (tmp_path / "project").mkdir()
    with started("cluster-2", tmp_path / "second") as second:
        checkout = Checkout(
            tmp_path / "project", PROGRAMS / "trust.py", config_of({**first, "cluster-2": second})
        )
        up = checkout.run("up")
        assert up.went_well, up.output
        held = on("cluster-2", checkout.resources())
        assert any("helm.sh/v3:Release" in urn for urn in held)
    refused = checkout.run("refresh")
    assert not refused.went_well
    assert "PULUMI_K8S_DELETE_UNREACHABLE" in refused.output
    forgotten = checkout.run("refresh", variables=DROP)
    assert forgotten.went_well, forgotten.output
    assert on("cluster-2", checkout.resources()) == []
    assert servers["cluster-1"].names(TRUST) == {"cluster-2"}
    with started("cluster-3", tmp_path / "third") as third:
        checkout.configure(config_of({**first, "cluster-3": third}))
        up = checkout.run("up")
        assert up.went_well, up.output
        assert servers["cluster-1"].names(TRUST) == {"cluster-3"}
        assert third.names(TRUST) == {"cluster-1"}
        again = checkout.run("up", "--expect-no-changes")
        assert again.went_well, again.output
        destroyed = checkout.run("destroy")
        assert destroyed.went_well, destroyed.output
