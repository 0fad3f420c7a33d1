"""The commands that a stack suggests once it is up."""

import stat
import subprocess
from pathlib import Path

from components.outputs import next_steps


def test_verify_is_suggested_for_this_stack() -> None:
    assert next_steps(["seoul"], "blue")[-1] == ".venv/bin/fedmesh verify --stack blue"


def test_a_kubeconfig_is_written_for_its_owner_alone(tmp_path: Path) -> None:
    (command, _) = next_steps(["seoul"], "blue")
    stubs = 'umask 022; pulumi() { echo "$*"; }; jq() { cat; }; '
    subprocess.run(["bash", "-c", f"{stubs}{command}"], cwd=tmp_path, check=True)
    written = tmp_path / "seoul.kubeconfig"
    assert written.read_text() == "stack output kubeconfigs --stack blue --show-secrets\n"
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
