"""Image tarballs are what `ctr images import` takes, and the same content gives the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from testbed.lab.catalogue import images
from testbed.lab.images import Image, Layer, read_reference, write_archive

PROGRAMS = {
    "docker.io/istio/pilot:1.31.0": ("/usr/local/bin/pilot-discovery", "1337:1337"),
    "docker.io/istio/proxyv2:1.31.0": ("/usr/local/bin/pilot-agent", "1337:1337"),
    "ghcr.io/spiffe/spire-server:1.15.3": ("/opt/spire/bin/spire-server", "1000:1000"),
    "ghcr.io/spiffe/spire-agent:1.15.3": ("/opt/spire/bin/spire-agent", ""),
    "ghcr.io/spiffe/spire-controller-manager:0.7.0": ("/spire-controller-manager", ""),
    "ghcr.io/spiffe/spiffe-csi-driver:0.2.3": ("/spiffe-csi-driver", ""),
    "quay.io/jetstack/cert-manager-controller:v1.21.2": ("/app/cmd/controller/controller", "1000"),
    "quay.io/jetstack/cert-manager-webhook:v1.21.2": ("/app/cmd/webhook/webhook", "1000"),
    "quay.io/jetstack/cert-manager-cainjector:v1.21.2": ("/app/cmd/cainjector/cainjector", "1000"),
    "registry.k8s.io/pause:3.10": ("/pause", "65535:65535"),
}


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = tmp_path / "program"
    file.write_bytes(b"\x7fELF")
    file.chmod(0o755)
    return file


def archive(image: Image, folder: Path, base: Path | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    target = folder / image.file_name
    write_archive(image, target, base)
    return target


def read(tar: tarfile.TarFile, name: str) -> bytes:
    member = tar.extractfile(name)
    assert member is not None
    return member.read()


def test_an_archive_has_config_manifest_and_layers_with_their_digests(tmp_path: Path, program: Path) -> None:
    image = Image(
        "example.org/a/tool:1", Layer(files={"bin/tool": program}), entrypoint=["/bin/tool"], user="7:8"
    )
    with tarfile.open(archive(image, tmp_path)) as tar:
        manifest = json.loads(read(tar, "manifest.json"))[0]
        config = json.loads(read(tar, manifest["Config"]))
        layers = [read(tar, name) for name in manifest["Layers"]]
    assert manifest["RepoTags"] == ["example.org/a/tool:1"]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    assert config["config"]["User"] == "7:8"
    assert config["config"]["Entrypoint"] == ["/bin/tool"]
    with tarfile.open(fileobj=io.BytesIO(layers[0])) as layer:
        assert layer.getnames() == ["bin", "bin/tool"]
        assert layer.getmember("bin/tool").mode == 0o755


def test_the_same_content_gives_the_same_bytes_whatever_its_dates(tmp_path: Path, program: Path) -> None:
    image = Image("example.org/tool:1", Layer(files={"bin/tool": program}, folders=["tmp", "var/lib/tool"]))
    first = archive(image, tmp_path / "a").read_bytes()
    os.utime(program, (1, 1))
    assert archive(image, tmp_path / "b").read_bytes() == first


def test_an_image_on_the_base_has_the_base_below(tmp_path: Path, program: Path) -> None:
    base = tmp_path / "base.tar"
    Layer(data={"etc/passwd": b"root"}).write(base)
    image = Image("example.org/tool:1", Layer(files={"bin/tool": program}), on_base=True)
    with tarfile.open(archive(image, tmp_path, base)) as tar:
        manifest = json.loads(read(tar, "manifest.json"))[0]
        assert read(tar, manifest["Layers"][0]) == base.read_bytes()
        assert len(manifest["Layers"]) == 2


def test_folders_belong_to_the_user_who_writes_to_them_and_tmp_is_for_all(tmp_path: Path) -> None:
    Layer(folders=["var/lib/tool", "tmp"], owner=1000).write(tmp_path / "layer.tar")
    with tarfile.open(tmp_path / "layer.tar") as layer:
        assert layer.getmember("var/lib/tool").uid == 1000
        assert layer.getmember("var/lib").uid == 0
        assert layer.getmember("tmp").mode == 0o1777


def test_an_archives_reference_can_be_read_back(tmp_path: Path) -> None:
    image = Image("registry.k8s.io/pause:3.10", Layer(data={"pause": b""}))
    assert image.file_name == "pause-3.10.tar"
    assert read_reference(archive(image, tmp_path)) == image.reference


def test_every_image_has_the_official_name_entrypoint_and_user(program: Path) -> None:
    made = {image.reference: image for image in images(lambda _: program.parent / _, program)}
    for reference, (entrypoint, user) in PROGRAMS.items():
        assert (made[reference].entrypoint[0], made[reference].user) == (entrypoint, user), reference
        assert entrypoint.lstrip("/") in made[reference].layer.files, reference


def test_no_two_images_share_a_tarball(program: Path) -> None:
    names = [image.file_name for image in images(lambda _: program, program)]
    assert len(names) == len(set(names))
