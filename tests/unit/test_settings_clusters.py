"""A cluster that exists is read from its kubeconfig and asked for a sign of life before the first resource."""

import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.config.errors import ConfigError
from components.config.settings import parse
from components.kube import clusters
from components.kube.clusters import ExistingCluster, check_answers, existing_clusters, read_cluster
from tests.unit.program import kubeconfig, members

FILE = "Pulumi.unit.yaml"
KEY = "fedmesh:clusters[0].kubeconfig"


def read(folder: Path, document: Any, **changes: str) -> ExistingCluster:
    first, *others = members(2, folder)
    if document is not None:
        text = document if isinstance(document, str) else yaml.safe_dump(document)
        (folder / "1.kubeconfig").write_text(text)
    first["kubeconfig"] |= changes
    return read_cluster(parse({"clusters": [first, *others]}, FILE).clusters[0], folder, KEY, FILE)


def refusal(folder: Path, document: Any, **changes: str) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        read(folder, document, **changes)
    assert refused.value.source == FILE
    return refused.value


def test_the_kubeconfig_holds_the_one_context_named_after_the_alias(tmp_path: Path) -> None:
    cluster = read(tmp_path, None)
    config = json.loads(cluster.kubeconfig)
    assert config["current-context"] == "cluster-1"
    assert [entry["name"] for entry in config["contexts"]] == ["cluster-1"]
    assert cluster.api_server == "https://10.90.0.11"


def test_what_a_kubeconfig_keeps_in_files_is_taken_in(tmp_path: Path) -> None:
    document = kubeconfig("https://10.90.0.11")
    document["clusters"][0]["cluster"]["certificate-authority"] = "ca.crt"
    (tmp_path / "ca.crt").write_text("a CA")
    config = json.loads(read(tmp_path, document).kubeconfig)
    assert config["clusters"][0]["cluster"] == {
        "server": "https://10.90.0.11",
        "certificate-authority-data": base64.b64encode(b"a CA").decode(),
    }


def test_a_kubeconfig_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path, None, path="nowhere")
    assert error.key == f"{KEY}.path"
    assert "nowhere can't be read" in error.allowed


@pytest.mark.parametrize("text", ["{", "", "- 1", "contexts: []"])
def test_a_file_that_is_no_kubeconfig_is_refused(text: str, tmp_path: Path) -> None:
    error = refusal(tmp_path, text)
    assert error.key == f"{KEY}.path"
    assert "must be a kubeconfig" in error.allowed


def test_a_context_that_does_not_exist_is_refused_with_those_that_do(tmp_path: Path) -> None:
    error = refusal(tmp_path, None, context="production")
    assert error.key == f"{KEY}.context"
    assert "it has admin" in error.allowed


@pytest.mark.parametrize("part", ["clusters", "users"])
def test_a_context_of_which_a_part_is_missing_is_refused(part: str, tmp_path: Path) -> None:
    error = refusal(tmp_path, {**kubeconfig("https://10.90.0.11"), part: []})
    assert error.key == f"{KEY}.path"
    assert f"has no '{part.removesuffix('s')}'" in error.allowed


def test_a_kubeconfig_that_names_a_missing_file_is_refused(tmp_path: Path) -> None:
    document = kubeconfig("https://10.90.0.11")
    document["users"][0]["user"] = {"client-certificate": "me.crt"}
    error = refusal(tmp_path, document)
    assert "me.crt, which can't be read" in error.allowed


@contextmanager
def api_server(version: str, status: int = 200) -> Iterator[str]:
    """Answers /version, and every other path with `status`, until the block ends."""
    major, minor = version.split(".")[:2]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = {"major": major, "minor": minor, "gitVersion": f"v{version}"}
            known |= dict.fromkeys(
                ("gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"), "-"
            )
            asked = self.path == "/version/"
            body = json.dumps(known if asked else {"kind": "NamespaceList", "items": []}).encode()
            self.send_response(200 if asked else status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def check(server: str) -> None:
    check_answers(ExistingCluster(json.dumps(kubeconfig(server)), server), "fedmesh:clusters[0]", FILE)


@pytest.mark.parametrize("version", ["1.33.0", "1.34.4", "1.35+.1"])
def test_a_supported_cluster_that_lets_its_user_in_is_accepted(version: str) -> None:
    with api_server(version) as server:
        check(server)


def test_a_kubernetes_that_is_too_old_is_refused() -> None:
    with api_server("1.27.3") as server, pytest.raises(ConfigError, match=r"v1\.27\.3 is too old: 1\.33"):
        check(server)


def test_an_api_server_that_does_not_let_its_user_in_is_refused() -> None:
    with api_server("1.34.4", status=401) as server, pytest.raises(ConfigError, match="refuses: 401"):
        check(server)


def test_an_api_server_where_nothing_listens_is_refused() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ConfigError, match="does not answer"):
        check(server)


def test_an_api_server_that_stays_silent_is_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(ConfigError, match=r"does not answer within 0\.2 s"):
            check(f"http://127.0.0.1:{silent.getsockname()[1]}")
        # tried once: a retry would wait as long again
        assert time.monotonic() - started < 2


def test_the_first_faulty_cluster_is_named_with_its_place_in_the_stack(tmp_path: Path) -> None:
    with socket.socket() as free, api_server("1.34.4") as server:
        free.bind(("127.0.0.1", 0))
        config = members(2, tmp_path)
        dead = f"http://127.0.0.1:{free.getsockname()[1]}"
        (tmp_path / "1.kubeconfig").write_text(yaml.safe_dump(kubeconfig(server)))
        (tmp_path / "2.kubeconfig").write_text(yaml.safe_dump(kubeconfig(dead)))
        with pytest.raises(ConfigError) as refused:
            existing_clusters(parse({"clusters": config}, FILE), tmp_path)
    assert refused.value.key == "fedmesh:clusters[1]"
