"""What the clusters' own programs changed since `up` is no change of the stack's, and what people changed is one."""

import json

import pytest
from conftest import kubectl, pulumi, stack_file

pytestmark = pytest.mark.timeout(600)
RULE = ("destinationrule/failover", "-n", "istio-system")
NOTE = "example.com/note"


def change_by_hand(connect_timeout):
    """One field of ours and one that is not ours, by another field manager."""
    patch = {
        "metadata": {"annotations": {NOTE: "incident 7"}},
        "spec": {"trafficPolicy": {"connectionPool": {"tcp": {"connectTimeout": connect_timeout}}}},
    }
    hand = ("--type=merge", "--field-manager=hand", "-p", json.dumps(patch))
    kubectl("cluster-1", "patch", *RULE, *hand)


def rule():
    """The time-out of the rule, and the note that somebody made on it."""
    found = json.loads(kubectl("cluster-1", "get", *RULE, "-o", "json"))
    time_out = found["spec"]["trafficPolicy"]["connectionPool"]["tcp"]["connectTimeout"]
    return time_out, found["metadata"]["annotations"].get(NOTE)


def test_after_a_refresh_up_has_nothing_to_change():
    pulumi("refresh")
    pulumi("unchanged")


def test_up_goes_over_what_was_changed_by_hand_and_leaves_what_is_not_its_own(tmp_path):
    ours, _ = rule()
    try:
        change_by_hand("9s")
        slower = {"fedmesh:failover": {"connectTimeout": "1100ms"}}
        file = stack_file(tmp_path, "lab", lambda config: config.update(slower))
        pulumi("up", "--config-file", str(file))  # without a refresh, which would tell the engine of the hand
        assert rule() == ("1100ms", "incident 7")
        change_by_hand("9s")
        told = pulumi("preview", "--refresh", "--diff", "--config-file", str(file))
        assert "9s" in told, told
        assert "failover" in told, told
        pulumi("up", "--refresh")
        assert rule() == (ours, "incident 7")
    finally:
        kubectl("cluster-1", "annotate", *RULE, f"{NOTE}-")
        pulumi("up", "--refresh")
    pulumi("unchanged")
