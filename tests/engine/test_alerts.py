"""Prometheus' config and alert rules as the program makes them, read and tried by promtool."""

import json
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.config.settings import load_stack_file
from components.observability.prometheus import PrometheusArgs, dashboards, prometheus_data
from tests.engine.conftest import PROJECT, TOOLS

CASES = Path(__file__).parent / "promtool" / "alerts.yaml"


def promtool(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    found = TOOLS / "promtool"
    command = [str(found if found.exists() else shutil.which("promtool") or found), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = load_stack_file(PROJECT / "Pulumi.lab.yaml")
    made = tmp_path_factory.mktemp("prometheus")
    args = PrometheusArgs("cluster-1", settings.spire, settings.observability, None, {})
    for name, text in prometheus_data(args).items():
        (made / name).write_text(str(text))
    return made


def alerts(folder: Path) -> list[dict[str, Any]]:
    groups = json.loads((folder / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def test_prometheus_understands_its_config(folder: Path) -> None:
    config = json.loads((folder / "prometheus.yml").read_text())
    for job in config["scrape_configs"]:
        # Debian builds it without Kubernetes' discovery
        job.pop("kubernetes_sd_configs", None)
    (folder / "prometheus.json").write_text(json.dumps(config))
    # the account's token is there in a pod only
    done = promtool("check", "config", "--syntax-only", "prometheus.json", folder=folder)
    assert done.returncode == 0, done.stderr


def test_every_rule_is_well_formed(folder: Path) -> None:
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", "alerts.yaml", folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_when_it_should_and_not_before(folder: Path, tmp_path: Path) -> None:
    rules = json.loads((folder / "alerts.yaml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule.pop("annotations", None)
    facts = {"fedmesh:svid_ttl_seconds": 3600, "fedmesh:spire_ca_ttl_seconds": 86400}
    for rule in rules["groups"][0]["rules"]:
        if rule["record"] in facts:
            rule["expr"] = f"vector({facts[rule['record']]})"
    (tmp_path / "rules.json").write_text(json.dumps(rules))
    shutil.copy(CASES, tmp_path)
    done = promtool("test", "rules", CASES.name, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_alert_is_without_both_cases(folder: Path) -> None:
    tried: dict[str, set[bool]] = defaultdict(set)
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        for each in case["alert_rule_test"]:
            tried[each["alertname"]].add(bool(each["exp_alerts"]))
    assert {rule["alert"] for rule in alerts(folder)} == set(tried)
    assert all(kinds == {True, False} for kinds in tried.values()), tried


def test_every_alert_says_what_to_do(folder: Path) -> None:
    for rule in alerts(folder):
        assert set(rule["annotations"]) == {"summary", "hint"}, rule["alert"]
        assert rule["labels"]["severity"] in ("info", "warning", "critical"), rule["alert"]


def test_every_query_of_the_dashboards_can_be_parsed(folder: Path) -> None:
    texts = [query for text in dashboards().values() for query in queries(json.loads(text))]
    assert texts, "there are no dashboards"
    rules = [{"record": f"dashboard:query:{number}", "expr": query} for number, query in enumerate(texts)]
    (folder / "queries.json").write_text(json.dumps({"groups": [{"name": "dashboards", "rules": rules}]}))
    done = promtool("check", "rules", "queries.json", folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr


def queries(dashboard: dict[str, Any]) -> list[str]:
    """The queries of a dashboard, with Grafana's variables filled in."""
    return [
        target["expr"].replace("$__rate_interval", "1m")
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    ]
