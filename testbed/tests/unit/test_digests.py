"""The command that asks registries for digests, against a registry on this machine that asks for a token first."""

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from components.config.images import FILE
from testbed.digests import INDEXES, RegistryError, index_digest, main, read, write

IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = INDEXES[0]


def digest_of(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


@dataclass
class Registry:
    """What it serves: by path of a manifest its media type and content; and what it was asked."""

    host: str = ""
    manifests: dict[str, tuple[str, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    realm: str = ""
    without_digest: bool = False


@pytest.fixture
def registry() -> Iterator[Registry]:
    made = Registry()

    class Handler(BaseHTTPRequestHandler):
        """A registry by OCI's distribution specification, and where it sends callers for a token."""

        def do_HEAD(self) -> None:
            made.asked.append(f"{self.command} {self.path} {self.headers['Accept']}")
            scope = f"repository:{self.path.removeprefix('/v2/').partition('/manifests/')[0]}:pull"
            if self.headers["Authorization"] != f"Bearer for {scope}":
                self.answer(
                    401,
                    {"WWW-Authenticate": f'Bearer realm="{made.realm}",service="reg",scope="{scope}"'},
                )
            elif self.path not in made.manifests:
                self.answer(404, {})
            else:
                kind, content = made.manifests[self.path]
                digest = {} if made.without_digest else {"Docker-Content-Digest": digest_of(content)}
                self.answer(200, {"Content-Type": kind, **digest})

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            assert url.path == "/token"
            query = parse_qs(url.query)
            assert query["service"] == ["reg"]
            self.answer(200, {}, json.dumps({"token": f"for {query['scope'][0]}"}))

        def answer(self, status: int, headers: dict[str, str], body: str = "") -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.host = f"127.0.0.1:{server.server_port}"
    made.realm = f"http://{made.host}/token"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()


def test_the_digest_is_that_of_the_index_which_anybody_may_read(registry: Registry) -> None:
    registry.manifests["/v2/istio/proxyv2/manifests/1.31.0"] = (INDEX, "index")
    assert index_digest(f"{registry.host}/istio/proxyv2:1.31.0") == digest_of("index")
    asked = f"HEAD /v2/istio/proxyv2/manifests/1.31.0 {', '.join(INDEXES)}"
    assert registry.asked == [asked, asked], "without a token, and with one"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"manifests": {"/v2/a/manifests/1": (IMAGE, "one platform")}}, "names no index"),
        ({"manifests": {}}, "HTTP 404"),
        ({"manifests": {"/v2/a/manifests/1": (INDEX, "")}, "without_digest": True}, "no digest"),
        ({"realm": "http://evil.example/token"}, "tokens would come from http://evil.example"),
    ],
)
def test_what_is_no_index_is_no_digest(registry: Registry, changes: dict[str, object], said: str) -> None:
    for name, value in changes.items():
        setattr(registry, name, value)
    with pytest.raises(RegistryError, match=said):
        index_digest(f"{registry.host}/a:1")


def test_a_registry_that_is_away_is_named() -> None:
    with pytest.raises(RegistryError, match="no answer"):
        index_digest("127.0.0.1:9/a:1")


@pytest.fixture
def file(registry: Registry, tmp_path: Path) -> Path:
    known = {
        f"{registry.host}/a:1": {"digest": digest_of("a"), "confirmed": "somebody says so"},
        f"{registry.host}/b:1": {"unknown": "nobody knows"},
        f"{registry.host}/c:1": {"unknown": "it has one platform"},
    }
    path = tmp_path / "images.yaml"
    path.write_text("# about it\n" + yaml.safe_dump(known, sort_keys=False, width=1000))
    registry.manifests = {
        "/v2/a/manifests/1": (INDEX, "a"),
        "/v2/b/manifests/1": (INDEXES[1], "b"),
        "/v2/c/manifests/1": (IMAGE, "c"),
    }
    return path


def test_the_file_has_what_the_registries_have_and_keeps_the_rest(
    registry: Registry, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--file", str(file)]) == 1, "an image without an index is left as it is"
    found = read(file)
    assert found[f"{registry.host}/a:1"]["confirmed"].startswith("the registry answered")
    assert found[f"{registry.host}/b:1"]["digest"] == digest_of("b")
    assert found[f"{registry.host}/c:1"] == {"unknown": "it has one platform"}
    assert file.read_text().startswith("# about it\n")
    said = capsys.readouterr().out
    assert f"{registry.host}/b:1: unknown is {digest_of('b')} now" in said
    assert "c:1: the tag names no index" in said
    written = file.read_text()
    assert main(["--file", str(file)]) == 1
    assert file.read_text() == written


def test_a_tag_that_moved_fails_the_check_and_changes_nothing(
    registry: Registry, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only = {f"{registry.host}/a:1": read(file)[f"{registry.host}/a:1"]}
    write(file, only)
    before = file.read_text()
    assert main(["--check", "--file", str(file)]) == 0
    registry.manifests["/v2/a/manifests/1"] = (INDEX, "another")
    assert main(["--check", "--file", str(file)]) == 1
    assert f"{digest_of('a')} is {digest_of('another')} now" in capsys.readouterr().out
    assert file.read_text() == before


def test_the_committed_file_is_as_the_command_writes_it(tmp_path: Path) -> None:
    copy = tmp_path / "images.yaml"
    copy.write_text(FILE.read_text())
    write(copy, read(copy))
    assert copy.read_text() == FILE.read_text()
