"""What SPIRE's command line answers, and what verify makes of it."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from fedmesh_samples import NOW, PEER_DOMAIN, Authority, bundle, node

from fedmesh import spire
from fedmesh.spire import Agent, Relationship
from fedmesh.verify.model import Failed
from fedmesh.verify.spire import judge_agents, judge_bundles, judge_keys, oidc_keys_are_served, tolerates

RECORDED = Path(__file__).parent / "recorded_spire"
TAINT = {"key": "dedicated", "value": "spire-server", "effect": "NoExecute"}
DAEMONSET = {"spec": {"template": {"spec": {"tolerations": []}}}}
FEDERATED = [Relationship(PEER_DOMAIN, "https://10.90.0.200:8443")]


def recorded(name):
    return json.loads((RECORDED / f"{name}.json").read_text())


def agent(uid="u1", left=timedelta(hours=1), banned=False):
    return Agent(f"spiffe://td/spire/agent/k8s_psat/c/{uid}", uid, NOW + left, banned)


def test_a_recorded_bundle_has_its_authority():
    own = spire.parse_bundle(recorded("bundle_show"))
    assert own.trust_domain == "a.example"
    assert len(own.authorities) == 1


def test_a_tainted_authority_is_known_as_one():
    answer = recorded("bundle_show")
    assert spire.parse_bundle(answer).tainted == ()
    answer["x509_authorities"][0]["tainted"] = True
    bundle = spire.parse_bundle(answer)
    assert bundle.tainted == bundle.authorities


def test_a_recorded_list_of_bundles_is_keyed_by_trust_domain():
    held = spire.parse_bundles(recorded("bundle_list"))
    assert list(held) == ["b.example"]


def test_a_recorded_agent_carries_the_uid_of_its_node():
    (found,) = spire.parse_agents(recorded("agent_list"))
    assert found.node == "84678e23-24ae-4446-8c7d-fed963a54f05"
    assert found.expires.year == 2026


def test_a_recorded_relationship_has_its_trust_domain():
    (found,) = spire.parse_relationships(recorded("federation_list"))
    assert found.trust_domain == "b.example"


def test_a_server_without_peers_gives_empty_lists():
    assert spire.parse_bundles({"bundles": []}) == {}
    assert spire.parse_agents({}) == []


def test_an_agent_on_every_covered_node_is_well():
    tainted = node("n2", uid="u2", taints=[TAINT])
    assert judge_agents([node("n1"), tainted], DAEMONSET, [agent()], NOW) == "1 of 1 nodes"


@pytest.mark.parametrize(
    ("agents", "complaint"),
    [
        ([], "no attested agent on n1"),
        ([agent(uid="other")], "no attested agent on n1"),
        ([agent(banned=True)], "the agent of n1 is banned"),
        ([agent(left=timedelta(seconds=-90))], "the agent of n1 expired 1m 30s ago"),
    ],
)
def test_a_node_without_a_valid_agent_is_named(agents, complaint):
    with pytest.raises(Failed, match=complaint):
        judge_agents([node("n1")], DAEMONSET, agents, NOW)


def test_an_agent_that_aws_vouches_for_is_known_by_its_instance():
    here = node("n1")
    here["spec"]["providerID"] = "aws:///us-east-1a/i-0123456789abcdef0"
    assert judge_agents([here], DAEMONSET, [agent(uid="i-0123456789abcdef0")], NOW) == "1 of 1 nodes"
    with pytest.raises(Failed, match="no attested agent on n1"):
        judge_agents([here], DAEMONSET, [agent(uid="i-0fedcba9876543210")], NOW)


def test_no_covered_node_is_a_failure():
    with pytest.raises(Failed, match="no node is covered"):
        judge_agents([node("n1", taints=[TAINT])], DAEMONSET, [], NOW)


@pytest.mark.parametrize(
    ("toleration", "expected"),
    [
        ({"key": "dedicated", "value": "spire-server", "effect": "NoExecute"}, True),
        ({"key": "dedicated", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "dedicated", "value": "other", "effect": "NoExecute"}, False),
        ({"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}, False),
    ],
)
def test_tolerations_are_matched_as_the_scheduler_does(toleration, expected):
    daemonset = {"spec": {"template": {"spec": {"tolerations": [toleration]}}}}
    assert tolerates(daemonset, node("n", taints=[TAINT])) is expected


def test_a_sick_node_stays_covered():
    sick = node("n", taints=[{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}])
    assert tolerates(DAEMONSET, sick)


def test_equal_bundles_with_a_relationship_are_well():
    origin = bundle(PEER_DOMAIN, Authority("root").certificate)
    assert judge_bundles([origin], {PEER_DOMAIN: origin}, FEDERATED) == PEER_DOMAIN


@pytest.mark.parametrize(
    ("held", "relationships", "complaint"),
    [
        ({}, FEDERATED, "is missing"),
        (
            {PEER_DOMAIN: bundle(PEER_DOMAIN, Authority("old").certificate)},
            FEDERATED,
            "lacks 1 of 1 authorities",
        ),
    ],
)
def test_a_missing_or_old_bundle_is_named(held, relationships, complaint):
    with pytest.raises(Failed, match=complaint):
        judge_bundles([bundle(PEER_DOMAIN, Authority("root").certificate)], held, relationships)


def test_a_bundle_that_nothing_refreshes_is_a_fault():
    origin = bundle(PEER_DOMAIN, Authority("root").certificate)
    with pytest.raises(Failed, match="no federation relationship refreshes"):
        judge_bundles([origin], {PEER_DOMAIN: origin}, [])


def test_an_origin_without_authorities_never_passes():
    with pytest.raises(Failed, match="no authorities"):
        judge_bundles([bundle(PEER_DOMAIN)], {PEER_DOMAIN: bundle(PEER_DOMAIN)}, FEDERATED)


class Served:
    """A cluster whose provider serves these keys under the path of its issuer."""

    def __init__(self, *served, installed=True):
        self.served = served
        self.installed = installed
        self.api = self

    def deployments(self, namespace):
        assert namespace == "spire-oidc"
        return [{"metadata": {"name": "oidc-discovery-provider"}}] if self.installed else []

    def signing_key(self):
        return "now"

    def bundle(self):
        return spire.Bundle("td", (), frozenset({"now", "next"}))

    def get(self, path):
        if path.endswith("/configmaps/oidc-discovery-provider"):
            return {
                "data": {"provider.json": json.dumps({"jwks_uri": "https://oidc.example/cluster-1/keys"})}
            }
        assert path == (
            "/api/v1/namespaces/spire-oidc/services/https:oidc-discovery-provider:https/proxy/cluster-1/keys"
        )
        return {"keys": [{"kid": key} for key in self.served]}


def test_a_recorded_bundle_names_the_keys_of_its_tokens():
    assert spire.parse_bundle(recorded("bundle_show")).jwt_keys == {"1AoroMHr4gzuTYTeusq9ToPnlff1uD3E"}


def test_a_provider_that_serves_the_key_of_now_is_well_while_the_next_is_on_its_way():
    assert oidc_keys_are_served.examine(None, Served("now")) == "1 keys"
    assert oidc_keys_are_served.examine(None, Served(installed=False)) == "not installed"


@pytest.mark.parametrize(
    ("served", "complaint"),
    [
        (["next"], "key now, which signs now, is not served"),
        (["now", "strange"], "key strange is served and not in the bundle"),
        ([], "key now"),
    ],
)
def test_a_key_that_is_missing_or_strange_is_named(served, complaint):
    with pytest.raises(Failed, match=complaint):
        oidc_keys_are_served.examine(None, Served(*served))
    with pytest.raises(Failed, match=complaint):
        judge_keys("now", {"now", "next"}, served)
