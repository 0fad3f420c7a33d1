"""Waiting for what others write: the provider may record an object as it was before it was told to wait."""

import json

import pytest

from tests.engine.conftest import PROGRAMS, Checkout, Server, stack_config

MANY = 60


@pytest.fixture(scope="module")
def checkout(servers: dict[str, Server], tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    filled = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"filled-{number}", "namespace": "sleep"},
            "data": {"bundle": "whole"},
        }
        for number in range(MANY)
    ]
    servers["cluster-1"].kubectl(
        "apply", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": filled})
    )
    made = Checkout(tmp_path_factory.mktemp("waiting"), PROGRAMS / "waiting.py", stack_config(servers))
    up = made.run("up")
    assert up.went_well, up.output
    return made


def test_a_second_up_changes_nothing_whatever_was_recorded(checkout: Checkout) -> None:
    again = checkout.run("up", "--expect-no-changes")
    assert again.went_well, again.output


def test_nor_does_one_after_a_refresh_that_records_the_object_without_it(
    checkout: Checkout, servers: dict[str, Server]
) -> None:
    servers["cluster-1"].kubectl("annotate", "configmap", "filled-0", "-n", "sleep", "pulumi.com/waitFor-")
    refreshed = checkout.run("refresh")
    assert refreshed.went_well, refreshed.output
    again = checkout.run("up", "--expect-no-changes")
    assert again.went_well, again.output


def test_destroy_leaves_nothing(checkout: Checkout) -> None:
    destroyed = checkout.run("destroy")
    assert destroyed.went_well, destroyed.output
