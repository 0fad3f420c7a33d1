"""verify again and again on a healthy mesh: no false alarm, and never slow. RUNS says how often."""

import json
import os
import subprocess
import sys

import pytest
from conftest import PROJECT

RUNS = int(os.environ.get("RUNS", "100"))
SECONDS = 20.0


@pytest.mark.timeout(RUNS * 30)
def test_a_healthy_mesh_never_alarms():
    command = [sys.executable, "-m", "fedmesh", "verify", "-s", "lab", "--json"]
    took, alarms = [], []
    for number in range(1, RUNS + 1):
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)
        report = json.loads(done.stdout)
        took.append(report["seconds"])
        alarms += [
            f"run {number}, {result['cluster']}: {result['name']}: {result['detail']}"
            for result in report["results"]
            if not result["ok"]
        ]
    print(f"\n{RUNS} runs, {len(alarms)} alarms; {min(took):.1f} to {max(took):.1f} s each")
    assert alarms == []
    assert max(took) <= SECONDS
