"""What the clusters' own programs changed since `up` is no change of the stack's."""

import subprocess
import sys

import pytest
from conftest import PROJECT

pytestmark = pytest.mark.timeout(300)


def engine(*arguments):
    line = [sys.executable, "-m", "testbed.lab", "pulumi", *arguments]
    done = subprocess.run(line, cwd=PROJECT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_after_a_refresh_up_has_nothing_to_change():
    engine("refresh")
    engine("unchanged")
