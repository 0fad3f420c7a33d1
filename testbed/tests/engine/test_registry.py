"""The command that asks registries for digests, against a real registry (nightly: Go builds it in seconds)."""

import os
import socket
import subprocess
from collections.abc import Iterator
from urllib.request import Request, urlopen

import pytest

from testbed.digests import INDEXES, RegistryError, index_digest
from testbed.waiting import listens, wait_until

REGISTRY = "github.com/google/go-containerregistry/cmd/registry@v0.22.1"
INDEX = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("registry")
    install = ["go", "install", REGISTRY]
    subprocess.run(install, env={**os.environ, "GOBIN": str(folder)}, check=True, timeout=300)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    with subprocess.Popen([str(folder / "registry"), "-port", str(port)]) as server:
        wait_until(lambda: listens(("localhost", port)), 20, lambda: "the registry does not answer")
        yield f"localhost:{port}"
        server.terminate()


def push(host: str, name: str, kind: str, content: bytes) -> str:
    """Puts a manifest under the tag 1; returns the digest that the registry gives it."""
    url = f"http://{host}/v2/{name}/manifests/1"
    with urlopen(
        Request(url, data=content, headers={"Content-Type": kind}, method="PUT"), timeout=10
    ) as answer:
        return str(answer.headers["Docker-Content-Digest"])


def test_the_digest_of_an_index_is_the_registrys(registry: str) -> None:
    made = push(registry, "a/b", INDEXES[0], INDEX)
    assert index_digest(f"{registry}/a/b:1") == made


def test_an_image_of_one_platform_is_refused(registry: str) -> None:
    kind = "application/vnd.oci.image.manifest.v1+json"
    push(registry, "one", kind, b'{"schemaVersion":2,"mediaType":"' + kind.encode() + b'"}')
    with pytest.raises(RegistryError, match="names no index, but"):
        index_digest(f"{registry}/one:1")


def test_a_tag_that_is_not_there_is_named(registry: str) -> None:
    with pytest.raises(RegistryError, match="HTTP 404"):
        index_digest(f"{registry}/a/b:2")
