"""Attacks by rights: each verdict needs a control, and a refusal for another reason proves nothing."""

from types import SimpleNamespace

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
    pod = {"apiVersion": "v1"}
    assert rights.refusal(Reviewing(), "pods", pod) is None
    assert rights.refusal(Reviewing(refused="no"), "pods", pod) == "no"
    assert {plural for plural, _ in rights.steps("run").values()} == {"pods", "services", "gateways"}


class Recording(Reviewing):
    """An API server without Gateway API that refuses every object but the control."""

    def create(self, path, body):
        self.asked.append(path)
        if "/gateway.networking.k8s.io/" in path:
            raise KubeError("not found", 404)
        if len(self.asked) > 1:
            raise KubeError("policy 'fedmesh-x' denied request", 422)
        return body


def test_gateways_are_no_step_where_there_is_no_gateway_api():
    api = Recording()
    session = SimpleNamespace(janitor=SimpleNamespace(run="run"))
    found = list(rights.run_steps(session, SimpleNamespace(name="cluster-1", api=api)))
    assert "/apis/gateway.networking.k8s.io/v1/namespaces/sleep/gateways?dryRun=All" in api.asked
    assert len(found) == len(rights.steps("run")) - 1
    assert {each.verdict for each in found} == {Verdict.REFUSED}
