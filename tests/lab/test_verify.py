"""verify on the healthy mesh: everything passes in time, and nothing is left behind."""

import json
import subprocess
import sys
import time

from conftest import PROJECT

from fedmesh.probe import LABEL, NETWORKING
from fedmesh.verify.checks import ALL


def verify(*arguments):
    command = [sys.executable, "-m", "fedmesh", "verify", "-s", "lab", *arguments]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)


def test_every_check_passes_within_twenty_seconds(topology):
    began = time.monotonic()
    done = verify("--json")
    assert time.monotonic() - began < 20
    report = json.loads(done.stdout)
    assert [r for r in report["results"] if not r["ok"]] == []
    assert done.returncode == 0
    assert len(report["results"]) == len(ALL) * len(topology.members)


def test_a_quiet_run_on_a_healthy_mesh_says_nothing():
    done = verify("-q")
    assert (done.stdout, done.returncode) == ("", 0)


def test_nothing_is_left_behind(patient):
    verify("-q")
    for number in (1, 2):
        api = patient.api(number)
        for collection in (
            "/api/v1/pods",
            *(
                f"{NETWORKING}/sleep/{kind}"
                for kind in ("serviceentries", "destinationrules", "virtualservices")
            ),
        ):
            left = [
                i
                for i in api.items(collection, labelSelector=LABEL)
                if "deletionTimestamp" not in i["metadata"]
            ]
            assert left == []
