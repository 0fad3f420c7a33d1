"""Every attack of the security drill, made on the lab: refused, in time, and nothing of it stays."""

import json
import subprocess
import sys
from collections import defaultdict

import pytest
from conftest import PROJECT

from fedmesh.attack.certificates import NAMESAKE, POLICIES
from fedmesh.attack.command import ALL
from fedmesh.attack.federation import RELATIONSHIPS
from fedmesh.probe import LABEL

SECONDS = 180


@pytest.fixture(scope="module")
def report():
    command = [sys.executable, "-m", "testbed.fedmesh", "attack", "-s", "lab", "--json"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=400, check=False)
    assert done.stdout, done.stderr
    return {**json.loads(done.stdout), "code": done.returncode}


@pytest.fixture(scope="module")
def met(report):
    """Verdicts and evidence of each attack on each cluster."""
    found = defaultdict(list)
    for finding in report["findings"]:
        found[finding["attack"], finding["cluster"]].append(finding)
    return found


@pytest.mark.parametrize("attack", sorted({each.title for each in ALL}))
@pytest.mark.parametrize("cluster", ["cluster-1", "cluster-2"])
def test_every_attack_is_refused_with_evidence(met, attack, cluster):
    refused = [f for f in met[attack, cluster] if f["verdict"] == "refused"]
    others = [f for f in met[attack, cluster] if f["verdict"] not in ("refused", "open by design")]
    assert not others, json.dumps(others, indent=2)  # pytest cuts long lines off, and with them the reason
    assert refused, met[attack, cluster]
    assert all(finding["evidence"] for finding in refused)


def test_with_strict_trust_the_namesake_of_the_other_cluster_is_told_apart(met):
    for cluster in ("cluster-1", "cluster-2"):
        strict = [f for f in met[NAMESAKE, cluster] if "trust: strict" in f["target"]]
        assert [f["verdict"] for f in strict] == ["refused"]
        assert strict[0]["evidence"].startswith("403")


def test_the_drill_is_over_in_three_minutes_and_says_so_by_its_exit_code(report):
    assert (report["ok"], report["code"], report["left"]) == (True, 0, [])
    assert report["seconds"] < SECONDS


@pytest.mark.usefixtures("report")
def test_nothing_of_it_stays(patient):
    for number in (1, 2):
        api = patient.api(number)
        core = "/api/v1/namespaces/default"
        for collection in (f"{core}/pods", f"{core}/secrets", f"{core}/serviceaccounts", POLICIES):
            left = api.items(collection, labelSelector=LABEL)
            assert [item for item in left if "deletionTimestamp" not in item["metadata"]] == []
        (peer,) = api.items(RELATIONSHIPS)
        assert "/#" in peer["spec"]["bundleEndpointURL"], "the program's own address"
