"""The stack configuration is read as a whole; a mistake names its key, its file and what is allowed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from components.config.errors import ConfigError
from components.config.fields import seconds
from components.config.settings import SECTIONS, Settings, load_stack_file, parse
from components.config.versions import OFFICIAL_CHARTS
from tests.unit.stacks import PROJECT, TODAY, committed

FILE = "Pulumi.unit.yaml"
STACKS = sorted(path.name.split(".")[1] for path in PROJECT.glob("Pulumi.*.yaml"))


def cluster(number: int, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "name": f"cluster-{number}",
        "trustDomain": f"td{number}.example",
        "network": f"network-{number}",
        "region": "region-1",
        "kubeconfig": {"path": f"{number}.kubeconfig"},
        **changes,
    }
    return {key: value for key, value in values.items() if value is not None}


def settings(**sections: Any) -> Settings:
    return parse({"clusters": [cluster(1), cluster(2)], **sections}, FILE)


def refusal(build: Callable[[], object]) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        build()
    assert FILE in str(refused.value)
    assert refused.value.key in str(refused.value)
    return refused.value


def test_one_cluster_at_least_takes_calls() -> None:
    clusters = [cluster(1, drained=True), cluster(2)]
    assert [each.drained for each in settings(clusters=clusters).clusters] == [True, False]
    for rest in ({"drained": True}, {"down": True}):
        refused = refusal(lambda rest=rest: settings(clusters=[cluster(1, drained=True), cluster(2, **rest)]))
        assert refused.key == "fedmesh:clusters[0].drained"


@pytest.mark.parametrize("stack", STACKS)
def test_every_stack_file_of_the_project_is_right(stack: str) -> None:
    assert len(committed(stack).clusters) >= 2


def test_the_stack_dev_asks_its_user_for_the_ranges_of_callers() -> None:
    with pytest.raises(ConfigError, match="needs the list of ranges") as refused:
        load_stack_file(PROJECT / "Pulumi.dev.yaml", TODAY)
    assert refused.value.key == "fedmesh:clusters[0].eks.endpoint.cidrs"


def test_the_project_file_describes_every_key_and_no_other() -> None:
    project = yaml.safe_load((PROJECT / "Pulumi.yaml").read_text())
    assert sorted(project["config"]) == sorted(f"fedmesh:{name}" for name in SECTIONS)
    assert all(entry["type"] and entry["description"] for entry in project["config"].values())


def test_two_clusters_are_all_that_a_stack_must_say() -> None:
    mesh = settings()
    assert mesh.mesh_id == "mesh1"
    assert mesh.images.registry == ""
    assert mesh.samples.enabled
    assert mesh.clusters[0].alias == "cluster-1"
    assert mesh.storage_of(mesh.clusters[0]).provisioner == ""
    assert mesh.charts.istiod.repository.startswith("https://")


@given(count=st.integers(2, 12))
def test_any_number_of_clusters_from_two_on_is_accepted(count: int) -> None:
    mesh = parse({"clusters": [cluster(number) for number in range(1, count + 1)]}, FILE)
    assert all(len(mesh.peers_of(each)) == count - 1 for each in mesh.clusters)
    assert all(each not in mesh.peers_of(each) for each in mesh.clusters)


@given(
    count=st.integers(2, 6),
    field=st.sampled_from(["name", "alias", "trustDomain", "network"]),
    data=st.data(),
)
def test_what_two_clusters_share_is_refused_by_both_names(count: int, field: str, data: Any) -> None:
    one, other = sorted(data.draw(st.permutations(range(count)))[:2])
    clusters = [cluster(number + 1, alias=f"alias-{number}") for number in range(count)]
    clusters[other][field] = clusters[one][field]
    error = refusal(lambda: parse({"clusters": clusters}, FILE))
    assert error.key == f"fedmesh:clusters[{other}].{field}"
    assert clusters[one]["name"] in error.allowed
    assert clusters[other]["name"] in error.allowed


@pytest.mark.parametrize("clusters", [None, [], [cluster(1)], "cluster-1", {"cluster-1": {}}])
def test_fewer_than_two_clusters_are_refused(clusters: Any) -> None:
    error = refusal(lambda: parse({"clusters": clusters}, FILE))
    assert error.key == "fedmesh:clusters"
    assert "two clusters or more" in error.allowed


@pytest.mark.parametrize(
    ("changes", "key", "text"),
    [
        ({"name": None}, "name", "missing"),
        ({"name": "Cluster_1"}, "name", "DNS label"),
        ({"name": 1}, "name", "DNS label"),
        ({"alias": "Ours"}, "alias", "DNS label"),
        ({"trustDomain": None}, "trustDomain", "missing"),
        ({"trustDomain": "spiffe://td"}, "trustDomain", "SPIFFE trust domain"),
        ({"network": None}, "network", "missing"),
        ({"network": "net 1"}, "network", "DNS label"),
        ({"region": None}, "region", "missing"),
        ({"zone": "a b"}, "zone", "a zone such as"),
        ({"apiServer": "http://api"}, "apiServer", "https://"),
        ({"kubeconfig": None}, "kubeconfig", "exactly one"),
        ({"kubeconfig": {}}, "kubeconfig.path", "missing"),
        ({"kubeconfig": "~/.kube/config"}, "kubeconfig", "a mapping"),
        ({"kubeconfig": {"path": "it", "user": "me"}}, "kubeconfig.user", "unknown"),
        ({"eks": {"version": "1.34"}}, "kubeconfig", "exactly one"),
        ({"trust_domain": "td"}, "trust_domain", "unknown"),
    ],
)
def test_a_wrong_cluster_is_refused(changes: dict[str, Any], key: str, text: str) -> None:
    error = refusal(lambda: parse({"clusters": [cluster(1, **changes), cluster(2)]}, FILE))
    assert error.key == f"fedmesh:clusters[0].{key}"
    assert text in error.allowed


@pytest.mark.parametrize(
    ("section", "values", "key", "text"),
    [
        ("mesh", {"id": "Mesh 1"}, "id", "DNS label"),
        ("mesh", {"name": "mesh1"}, "name", "unknown"),
        ("images", {"registry": "https://registry.example"}, "registry", "registry.example/mirror"),
        ("charts", {"jaeger": {}}, "jaeger", "unknown"),
        (
            "charts",
            {"istiod": {"path": "x", "repository": "https://r"}},
            "istiod.path",
            "remove repository and name",
        ),
        ("charts", {"istiod": {"version": "latest"}}, "istiod.version", "1.31.0"),
        ("charts", {"istiod": {"repository": "ftp://r"}}, "istiod.repository", "URL"),
        ("storage", {"provisioner": "local"}, "class", "name of the class"),
        ("storage", {"class": "Local"}, "class", "StorageClass"),
        ("storage", {"class": "it", "parameters": {"size": 1}}, "parameters.size", "text"),
        ("spire", {"caTtl": "1 day"}, "caTtl", "duration"),
        ("spire", {"svidTtl": "12h"}, "svidTtl", "a sixth of caTtl"),
        ("spire", {"refreshHint": "10s"}, "refreshHint", "1m to 24h"),
        ("spire", {"volumeSize": "1GB"}, "volumeSize", "8Gi"),
        ("spire", {"logLevel": "debug"}, "logLevel", "DEBUG"),
        ("spire", {"replicas": 2}, "replicas", "without datastore"),
        ("spire", {"datastore": {}}, "datastore.secret", "exactly one of secret and rds"),
        ("istio", {"plainEnvoy": "yes"}, "plainEnvoy", "true or false"),
        ("istio", {"replicas": 0}, "replicas", "from 1 to 10"),
        ("istio", {"trust": "none"}, "trust", "aliases, strict"),
        ("istio", {"revision": "1.32"}, "revision", "such as v1-32"),
        ("istio", {"previousRevision": "default"}, "previousRevision", "must differ from revision"),
        ("failover", {"connectTimeout": "fast"}, "connectTimeout", "duration"),
        ("failover", {"outlierDetection": {"interval": 1}}, "outlierDetection.interval", "duration"),
        ("failover", {"retries": {"attempts": -1}}, "retries.attempts", "from 0 to 20"),
        ("failover", {"retryBudget": {"percent": 101}}, "retryBudget.percent", "from 0 to 100"),
        ("failover", {"retryBudget": {"minConcurrency": 0}}, "retryBudget.minConcurrency", "from 1"),
        ("failover", {"retryBudget": {"interval": "10ms"}}, "retryBudget.interval", "1s to 1h"),
        ("failover", {"retries": {"retryOn": "5xx, reset"}}, "retries.retryOn", "commas"),
        ("failover", {"hosts": {"hello": {}}}, "hosts.hello", "a host such as"),
        ("failover", {"hosts": {"a.b.svc": {"timeout": "1s"}}}, "hosts.a.b.svc.timeout", "unknown"),
        ("samples", {"enabled": 1}, "enabled", "true or false"),
        ("samples", [], "", "mapping"),
        ("observability", {"retention": "7d"}, "retention", "duration"),
        ("observability", {"kiali": True}, "kiali", "mapping"),
        ("observability", {"kiali": {"on": True}}, "kiali.on", "unknown"),
        ("observability", {"enabled": False, "grafana": {"enabled": True}}, "grafana", "enabled to true"),
    ],
)
def test_a_wrong_value_is_refused(section: str, values: Any, key: str, text: str) -> None:
    error = refusal(lambda: settings(**{section: values}))
    assert error.key == f"fedmesh:{section}.{key}".rstrip(".")
    assert text in error.allowed


def test_an_unknown_section_is_refused_with_the_known_ones() -> None:
    error = refusal(lambda: settings(cluster=[]))
    assert error.key == "fedmesh:cluster"
    assert "did you mean clusters?" in error.allowed


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = (
    "kubeconfig",
    "eks",
    "istiod",
    "hosts",
    "retries",
    "parameters",
    "version",
    "nodeGroups",
    "path",
    "id",
)


def outcome(build: Callable[[], Settings]) -> Settings | ConfigError:
    """What a configuration leads to; any other exception is a fault of the program."""
    try:
        return build()
    except ConfigError as error:
        return error


def assert_one_sentence(error: ConfigError, key: str) -> None:
    assert error.key.startswith(key)
    assert str(error) == f"{error.key} in {FILE}: {error.allowed}"
    for jargon in ("pydantic", "Input should", "Field required", "Extra inputs", "\n", "type=", "None, not"):
        assert jargon not in error.allowed
    assert "://errors." not in error.allowed


@examples(max_examples=100)
@given(section=st.sampled_from(SECTIONS), value=ANYTHING | st.dictionaries(st.sampled_from(KEYS), ANYTHING))
def test_nonsense_in_a_section_is_one_error_and_nothing_at_all_means_the_defaults(
    section: str, value: Any
) -> None:
    result = outcome(lambda: settings(**{section: value}))
    if isinstance(result, ConfigError):
        assert_one_sentence(result, f"fedmesh:{section}")
        return
    # whatever was accepted is a whole configuration, and says the same when it is read again
    given = value if isinstance(value, dict) else {}
    if not any(each is not None for each in given.values()):
        assert result == settings()
    assert settings(**{section: value}) == result
    assert isinstance(value, dict) or value is None


@examples(max_examples=100)
@given(
    section=st.sampled_from(
        [name for name in SECTIONS if name not in ("clusters", "services", "namespaces")]
    ),
    value=ANYTHING,
)
def test_an_unknown_key_in_any_section_is_refused(section: str, value: Any) -> None:
    error = refusal(lambda: settings(**{section: {"unheardOf": value}}))
    assert error.key == f"fedmesh:{section}.unheardOf"
    assert_one_sentence(error, "fedmesh:")


@examples(max_examples=100)
@given(changes=st.dictionaries(st.sampled_from((*KEYS, "name", "trustDomain", "region")), ANYTHING))
def test_a_nonsensical_cluster_is_one_error_or_the_cluster_that_was_asked_for(
    changes: dict[str, Any],
) -> None:
    result = outcome(lambda: parse({"clusters": [cluster(1) | changes, cluster(2)]}, FILE))
    if isinstance(result, ConfigError):
        assert_one_sentence(result, "fedmesh:clusters")
        return
    first = result.clusters[0]
    assert [first.name, first.trust_domain, first.region] == [
        (cluster(1) | changes)[key] for key in ("name", "trustDomain", "region")
    ]
    assert set(changes) <= {"name", "trustDomain", "region", "kubeconfig", "eks"} | {
        key for key in changes if changes[key] is None
    }


def test_a_host_differs_from_the_default_only_in_what_it_sets() -> None:
    failover = settings(
        failover={
            "connectTimeout": "2s",
            "hosts": {"a.b.svc.cluster.local": {"outlierDetection": {"consecutive5xxErrors": 9}}},
        }
    ).failover
    host = failover.hosts["a.b.svc.cluster.local"]
    assert host.outlier_detection.consecutive_5xx == 9
    assert host.outlier_detection.interval == failover.outlier_detection.interval
    assert host.connect_timeout == failover.connect_timeout == "2s"
    assert host.retries == failover.retries


def test_a_chart_is_official_unless_the_stack_names_a_folder_or_a_repository() -> None:
    charts = settings(
        charts={"istiod": {"path": "charts/istiod"}, "certManager": {"version": "v1.22.0"}}
    ).charts
    assert charts.istiod.path == "charts/istiod"
    assert (charts.cert_manager.repository, charts.cert_manager.version) == (
        OFFICIAL_CHARTS["certManager"].repository,
        "v1.22.0",
    )
    assert charts.istio_base.version == OFFICIAL_CHARTS["istioBase"].version


@pytest.mark.parametrize("text", ["config: [", "- 1", "", "config: []"])
def test_a_broken_stack_file_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / FILE
    file.write_text(text)
    refusal(lambda: load_stack_file(file))


@pytest.mark.parametrize(("text", "length"), [("500ms", 0.5), ("90s", 90), ("5m", 300), ("24h", 86400)])
def test_durations_are_read_in_seconds(text: str, length: float) -> None:
    assert seconds(text) == length
