"""Every host of fedmesh:failover.hosts gets objects with names that Kubernetes accepts, and no two share one."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.config.errors import ConfigError, validated
from components.config.mesh import FailoverSettings
from components.mesh.istio import failover_rules, retry_routes

FILE = "Pulumi.unit.yaml"
SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
label = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True)
hosts = st.builds(
    lambda wild, labels: ".".join([*(["*"] if wild else []), *labels]),
    st.booleans(),
    st.lists(label, min_size=2, max_size=6),
)


def failover(*names: str, **own: Any) -> FailoverSettings:
    values = {"hosts": dict.fromkeys(names, own)}
    return validated(FailoverSettings, values, "fedmesh:failover", FILE)


def names(settings: FailoverSettings) -> list[str]:
    return [rule["metadata"]["name"] for rule in [*failover_rules(settings), *retry_routes(settings)]]


def test_a_wildcard_host_gets_a_rule_for_all_hosts_below() -> None:
    _, rule = failover_rules(failover("*.shop.svc.cluster.local", connectTimeout="3s"))
    assert rule["spec"]["host"] == "*.shop.svc.cluster.local"
    assert re.fullmatch(SUBDOMAIN, rule["metadata"]["name"])


def test_the_names_of_other_hosts_stay_as_they_were() -> None:
    assert names(failover("slow.shop.svc.cluster.local", retries={"attempts": 0})) == [
        "failover",
        "failover-slow-shop-svc-cluster-local",
        "retries-slow-shop-svc-cluster-local",
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [("a-b.c.local", "a.b-c.local"), ("*.shop.local", "any.shop.local"), ("*.a-b.local", "*.a.b.local")],
)
def test_hosts_that_differ_only_in_dots_get_names_of_their_own(one: str, other: str) -> None:
    assert len(set(names(failover(one, other, connectTimeout="3s")))) == 3


@given(st.lists(hosts, min_size=1, max_size=5, unique=True))
def test_all_names_are_legal_and_unique(given_hosts: list[str]) -> None:
    made = names(failover(*given_hosts, connectTimeout="3s"))
    assert len(set(made)) == len(made) == len(given_hosts) + 1
    assert all(re.fullmatch(SUBDOMAIN, name) and len(name) <= 253 for name in made)


@pytest.mark.parametrize(
    ("host", "own", "key", "text"),
    [
        ("*.shop.local", {"retries": {"attempts": 1}}, "*.shop.local.retries", "wildcard host"),
        ("*.local", {}, "*.local", "the whole mesh"),
        ("*", {}, "*", "a host such as"),
        ("shop.*.local", {}, "shop.*.local", "a host such as"),
        ("-shop.local", {}, "-shop.local", "a host such as"),
        (f"{'a' * 64}.local", {}, f"{'a' * 64}.local", "a host such as"),
        (".".join(["a" * 60] * 5), {}, ".".join(["a" * 60] * 5), "a host such as"),
    ],
)
def test_hosts_that_istio_can_not_take_are_refused(
    host: str, own: dict[str, Any], key: str, text: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        failover(host, **own)
    assert refused.value.key == f"fedmesh:failover.hosts.{key}"
    assert text in refused.value.allowed
