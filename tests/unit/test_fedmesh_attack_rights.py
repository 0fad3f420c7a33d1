"""Attacks by rights: each verdict needs a control, and a refusal for another reason proves nothing."""

import pytest

from fedmesh.attack import rights
from fedmesh.attack.model import Verdict
from fedmesh.kube import KubeError


class Reviewing:
    """An API server that gives accounts some rights, and refuses some objects."""

    def __init__(self, given=(), refused=""):
        self.given, self.refused, self.asked = set(given), refused, []

    def create(self, path, body):
        if path != rights.REVIEWS:
            assert path.endswith("?dryRun=All"), "nothing may be made"
            if self.refused:
                raise KubeError(self.refused, 403)
            return body
        spec = body["spec"]
        asked = spec["resourceAttributes"]
        self.asked.append(spec)
        return {"status": {"allowed": (asked["verb"], asked["resource"], asked["subresource"]) in self.given}}


def test_a_review_asks_for_the_account_with_its_groups():
    api = Reviewing([("list", "secrets", "")])
    user = "system:serviceaccount:spire:spire-agent"
    assert rights.allowed(api, user, rights.Right("list", "secrets"))
    assert not rights.allowed(api, user, rights.Right("get", "nodes", subresource="proxy"))
    assert api.asked[0]["groups"][1] == "system:serviceaccounts:spire"


@pytest.mark.parametrize(
    ("gets", "control", "verdict"),
    [
        (True, True, Verdict.THROUGH),
        (True, False, Verdict.THROUGH),
        (False, True, Verdict.REFUSED),
        (False, False, Verdict.UNJUDGED),
    ],
)
def test_a_denied_right_counts_where_the_account_has_another(gets, control, verdict):
    assert rights.judge(gets, control)[0] is verdict


@pytest.mark.parametrize(
    ("refused", "control", "verdict"),
    [
        (None, None, Verdict.THROUGH),
        ("policy 'fedmesh-services' denied request", None, Verdict.REFUSED),
        ("violates PodSecurity", None, Verdict.UNJUDGED),
        ("policy 'fedmesh-services' denied request", "nothing is admitted", Verdict.UNJUDGED),
    ],
)
def test_a_step_is_refused_only_by_the_meshs_own_policies(refused, control, verdict):
    assert rights.judge_step(refused, control)[0] is verdict


def test_steps_are_dry_runs():
    assert rights.refusal(Reviewing(), "pods", {}) is None
    assert rights.refusal(Reviewing(refused="no"), "pods", {}) == "no"
    assert all(plural in ("pods", "services") for plural, _ in rights.steps("run").values())
