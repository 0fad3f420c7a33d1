"""verify with the rights of docs/verify-role.yaml alone: it sees what objects tell, and says what it does not see."""

import json
import subprocess
import sys

import pytest
import yaml
from conftest import PROJECT, kubectl

NAME = "fedmesh-verify-test"
ROLE = PROJECT / "docs" / "verify-role.yaml"


@pytest.fixture
def reader(tmp_path):
    """A copy of the project whose kubeconfigs are those of an account with the role."""
    undo = []
    stack = yaml.safe_load((PROJECT / "Pulumi.lab.yaml").read_text())
    try:
        for member in stack["config"]["fedmesh:clusters"]:
            cluster = member["name"]
            undo.append((cluster, "delete", "clusterrolebinding", NAME, "--ignore-not-found"))
            undo.append((cluster, "delete", "serviceaccount", NAME, "-n", "default", "--ignore-not-found"))
            undo.append((cluster, "delete", "-f", str(ROLE), "--ignore-not-found"))
            kubectl(cluster, "apply", "-f", str(ROLE))
            kubectl(cluster, "create", "serviceaccount", NAME, "-n", "default")
            account = f"--serviceaccount=default:{NAME}"
            kubectl(cluster, "create", "clusterrolebinding", NAME, "--clusterrole=fedmesh-verify", account)
            token = kubectl(cluster, "create", "token", NAME, "-n", "default").strip()
            path = PROJECT / member["kubeconfig"]["path"]
            config = yaml.safe_load(path.read_text())
            config["users"][0]["user"] = {"token": token}
            own = tmp_path / f"{cluster}.kubeconfig"
            own.write_text(yaml.safe_dump(config))
            member["kubeconfig"]["path"] = str(own)
        (tmp_path / "Pulumi.yaml").write_text((PROJECT / "Pulumi.yaml").read_text())
        (tmp_path / "Pulumi.lab.yaml").write_text(yaml.safe_dump(stack))
        (tmp_path / ".lab").symlink_to(PROJECT / ".lab")
        yield tmp_path
    finally:
        for cluster, *words in reversed(undo):
            kubectl(cluster, *words)


def verify(project, *arguments):
    command = [sys.executable, "-m", "fedmesh", "verify", "-s", "lab", "--project", str(project), *arguments]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, json.loads(done.stdout), done.stderr


def test_a_reader_sees_what_objects_tell_and_names_the_rest(reader):
    code, report, said = verify(reader, "--read-only", "--json")
    failed = [each for each in report["results"] if not each["ok"]]
    assert code == 0, failed
    assert said == ""
    assert all("not seen with --read-only" in each["detail"] for each in failed), failed
    seen = {each["name"] for each in report["results"] if each["ok"]}
    assert "every pod of the mesh is behind its proxy" in seen
    assert "certificates of the mesh's roots are the mesh's own" in seen
    assert "mutual TLS is strict in the whole mesh" in seen
    unseen = {each["name"] for each in failed}
    assert "every mesh pod's certificate is from its cluster's SPIRE" in unseen
    assert "remote secrets hold no credentials of peers" in unseen


def test_without_the_option_the_role_is_not_enough(reader):
    code, report, _ = verify(reader, "--json")
    assert code == 1
    assert any("forbidden" in each["detail"].lower() for each in report["results"] if not each["ok"])
