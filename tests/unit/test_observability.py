"""Prometheus on every cluster, what it may do there, and what the stack turns on beside it."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.config.fields import mebibytes
from components.observability.prometheus import peer_targets
from tests.unit.program import Program, members, run


@pytest.fixture(scope="module")
def everything(folder: Path) -> Program:
    asked = {
        "grafana": {"enabled": True},
        "kiali": {"enabled": True},
        "retention": "24h",
        "volumeSize": "20Gi",
    }
    return run(
        {
            "clusters": members(3, folder),
            "observability": asked,
            "images": {"registry": "registry.example"},
            "spire": {"svidTtl": "10m", "caTtl": "2h"},
        }
    )


def files(mesh: Program, cluster: str) -> Any:
    data = mesh.one(f"{cluster}-prometheus-prometheus-configmap").inputs["data"]
    return {name: yaml.safe_load(text) for name, text in data.items()}


def pod(mesh: Program, cluster: str) -> Any:
    workload = mesh.one(f"{cluster}-prometheus-prometheus-statefulset").inputs
    return workload["spec"]["template"]["spec"]


def test_every_cluster_has_a_prometheus_that_knows_its_name(mesh: Program) -> None:
    for cluster in ("cluster-1", "cluster-2", "cluster-3"):
        assert files(mesh, cluster)["prometheus.yml"]["global"]["external_labels"] == {"cluster": cluster}
        assert pod(mesh, cluster)["containers"][0]["image"].startswith("docker.io/prom/prometheus:v")


def test_alerts_judge_by_the_lifetimes_of_the_stack(mesh: Program, everything: Program) -> None:
    def facts(program: Program) -> Any:
        group, *_ = files(program, "cluster-2")["alerts.yaml"]["groups"]
        return {rule["record"]: rule for rule in group["rules"]}

    assert facts(mesh)["fedmesh:svid_ttl_seconds"]["expr"] == "vector(3600)"
    assert facts(everything)["fedmesh:svid_ttl_seconds"]["expr"] == "vector(600)"
    assert facts(everything)["fedmesh:spire_ca_ttl_seconds"]["expr"] == "vector(7200)"
    assert facts(mesh)["fedmesh:this_cluster"]["labels"] == {"destination_cluster": "cluster-2"}


def test_prometheus_is_outside_the_mesh_and_can_change_nothing(mesh: Program) -> None:
    labels = mesh.one("cluster-1-prometheus-observability-namespace").inputs["metadata"]["labels"]
    assert labels["istio-injection"] == "disabled"
    rules = mesh.one("cluster-1-prometheus-fedmesh-prometheus-clusterrole").inputs["rules"]
    assert {verb for rule in rules for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert not [rule for rule in rules if "secrets" in rule.get("resources", [])]


def test_nothing_of_it_can_be_reached_from_outside(everything: Program) -> None:
    own = [
        each for each in everything.kind("Service") if each.inputs["metadata"]["namespace"] == "observability"
    ]
    assert len(own) == 6
    assert all(each.inputs["spec"].get("type", "ClusterIP") == "ClusterIP" for each in own)


def test_only_the_dashboards_reach_prometheus(mesh: Program) -> None:
    spec = mesh.one("cluster-1-prometheus-prometheus-networkpolicy").inputs["spec"]
    assert spec["policyTypes"] == ["Ingress"]
    assert [rule["from"] for rule in spec["ingress"]] == [[{"podSelector": {}}]]


def test_a_changed_rule_restarts_prometheus(mesh: Program, everything: Program) -> None:
    def digest(program: Program) -> str:
        workload = program.one("cluster-1-prometheus-prometheus-statefulset").inputs
        return str(workload["spec"]["template"]["metadata"]["annotations"]["fedmesh/config"])

    assert digest(mesh) != digest(everything)


def test_metrics_are_kept_as_long_and_as_many_as_the_stack_says(everything: Program) -> None:
    workload = everything.one("cluster-1-prometheus-prometheus-statefulset").inputs["spec"]
    assert workload["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] == "20Gi"
    arguments = workload["template"]["spec"]["containers"][0]["args"]
    assert "--storage.tsdb.retention.time=24h" in arguments
    assert "--storage.tsdb.retention.size=16384MB" in arguments, "four fifths of the volume"


def test_sizes_are_read_in_any_unit() -> None:
    assert [mebibytes(size) for size in ("512Mi", "2Gi", "1Ti")] == [512, 2048, 1024 * 1024]


def test_dashboards_are_made_only_where_they_are_asked_for(mesh: Program, everything: Program) -> None:
    assert not [each for each in mesh.objects if "grafana" in each.name or "kiali" in each.name]
    assert len([each for each in everything.kind("Deployment") if "grafana" in each.name]) == 3


def test_nothing_is_made_where_it_is_turned_off(folder: Path) -> None:
    mesh = run({"clusters": members(2, folder), "observability": {"enabled": False}})
    assert not [each for each in mesh.objects if "prometheus" in each.name]


def test_kiali_runs_on_the_first_cluster_and_reads_the_others(everything: Program) -> None:
    values = everything.one("cluster-1-kiali").inputs["values"]
    assert values["clustering"]["clusters"] == [
        {"name": "cluster-2", "secret_name": "kiali-cluster-cluster-2"},
        {"name": "cluster-3", "secret_name": "kiali-cluster-cluster-3"},
    ]
    assert values["kubernetes_config"] == {"cluster_name": "cluster-1"}
    assert values["deployment"]["image_name"] == "registry.example/kiali/kiali"
    assert values["deployment"]["view_only_mode"] is True
    for cluster in ("cluster-2", "cluster-3"):
        there = everything.one(f"{cluster}-kiali").inputs["values"]
        assert there["deployment"]["remote_cluster_resources_only"] is True
        secret = everything.one(f"cluster-1-kiali-kiali-cluster-{cluster}-secret")
        assert secret.secret
        assert secret.provider == "cluster-1"
        kubeconfig = json.loads(secret.inputs["stringData"][cluster])
        assert kubeconfig["users"][0]["user"] == {"token": "token"}


def test_the_first_prometheus_reads_the_others_with_a_right_to_that_alone(everything: Program) -> None:
    config = files(everything, "cluster-1")["prometheus.yml"]
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert jobs["peer-cluster-2"]["authorization"] == {
        "credentials_file": "/etc/prometheus-peers/cluster-2.token"
    }
    target = {"targets": ["10.90.0.21:443"], "labels": {"cluster": "cluster-2"}}
    assert files(everything, "cluster-1")["cluster-2.json"] == [target]
    assert everything.one("cluster-1-prometheus-prometheus-peers-secret").secret
    assert "peer-cluster-1" not in files(everything, "cluster-2")["prometheus.yml"]
    (rule,) = everything.one("cluster-2-prometheus-metrics-reader-role").inputs["rules"]
    assert rule["verbs"] == ["get"]
    assert rule["resourceNames"] == ["http:prometheus:http"]


def test_a_peer_is_where_its_api_server_is() -> None:
    def target(url: str) -> str:
        (group,) = json.loads(peer_targets("b", url))
        assert group["labels"] == {"cluster": "b"}
        return str(group["targets"][0])

    assert target("https://10.90.0.21:6443") == "10.90.0.21:6443"
    assert target("https://abc.gr7.eu-west-1.eks.amazonaws.com") == "abc.gr7.eu-west-1.eks.amazonaws.com:443"


def test_grafana_starts_with_a_dashboard_that_is_there(everything: Program) -> None:
    workload = everything.one("cluster-1-prometheus-grafana-deployment").inputs
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    home = {each["name"]: each.get("value") for each in container["env"]}[
        "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"
    ]
    there = everything.one("cluster-1-prometheus-grafana-dashboards-configmap").inputs["data"]
    assert Path(str(home)).name in there
    assert all(json.loads(text)["panels"] for text in there.values())
