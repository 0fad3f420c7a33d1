"""Container images made here, under their official names, from real programs.

Written as docker-archive tarballs for `ctr -n k8s.io images import`. The same content gives the same bytes:
files are sorted, owned as told and dated 1970.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PATH_VARIABLE = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Debian's own files that no program in these images reads.
UNUSED = (
    "usr/share/doc",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/info",
    "usr/share/perl",
    "var/cache",
)
BASE_PACKAGES = ("ca-certificates", "coreutils", "curl", "dash", "iproute2", "iptables")
BASE_LINKS = {
    # update-alternatives makes these when packages are configured, which extraction leaves out.
    "usr/sbin/iptables": "iptables-nft",
    "usr/sbin/iptables-save": "iptables-nft-save",
    "usr/sbin/iptables-restore": "iptables-nft-restore",
    "usr/sbin/ip6tables": "ip6tables-nft",
    "usr/sbin/ip6tables-save": "ip6tables-nft-save",
    "usr/sbin/ip6tables-restore": "ip6tables-nft-restore",
}
# iptables locks a file in /run; programs want /tmp
BASE_FOLDERS = {"run": 0o755, "tmp": 0o1777}
ACCOUNTS = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
    b"istio-proxy:x:1337:1337::/home/istio-proxy:/bin/false\n",
    "etc/group": b"root:x:0:\nnogroup:x:65534:\nistio-proxy:x:1337:\n",
}


@dataclass(frozen=True)
class Layer:
    """Files of one layer: path in the image -> where its content is. Programs keep their executable bit."""

    files: Mapping[str, Path] = field(default_factory=dict)
    data: Mapping[str, bytes] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    folders: Sequence[str] = ()
    owner: int = 0

    def write(self, target: Path) -> None:
        """Writes the layer's tarball."""
        with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as tar:
            for name in sorted(
                {*self.folders, *_parents([*self.files, *self.data, *self.links, *self.folders])}
            ):
                owner = self.owner if name in self.folders else 0
                tar.addfile(_entry(name, tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755, owner))
            for name, content in sorted(self.data.items()):
                item = _entry(name, tarfile.REGTYPE, 0o644, self.owner)
                item.size = len(content)
                tar.addfile(item, io.BytesIO(content))
            for name, link in sorted(self.links.items()):
                item = _entry(name, tarfile.SYMTYPE, 0o777, 0)
                item.linkname = link
                tar.addfile(item)
            for name, source in sorted(self.files.items()):
                with source.open("rb") as content:
                    mode = 0o755 if source.stat().st_mode & 0o100 else 0o644
                    item = _entry(name, tarfile.REGTYPE, mode, self.owner)
                    item.size = source.stat().st_size
                    tar.addfile(item, content)


@dataclass(frozen=True)
class Image:
    """One image: its full reference, what runs in it, and as whom ("" is root)."""

    reference: str
    layer: Layer
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    user: str = ""
    workdir: str = "/"
    environment: Sequence[str] = ()
    on_base: bool = False  # on top of the Debian base

    @property
    def file_name(self) -> str:
        """Name of the image's tarball: the last part of its reference, ":" as "-"."""
        return self.reference.rsplit("/", 1)[-1].replace(":", "-") + ".tar"


def write_archive(image: Image, target: Path, base: Path | None = None) -> None:
    """Writes `image` as a docker-archive tarball; `base` is the tarball of the layer under it."""
    own = target.with_suffix(".layer")
    image.layer.write(own)
    layers = [*([base] if base else []), own]
    digests = [_sha256(layer) for layer in layers]
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "User": image.user,
                "Env": [PATH_VARIABLE, *image.environment],
                "Entrypoint": list(image.entrypoint),
                "Cmd": list(image.command),
                "WorkingDir": image.workdir,
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
            "history": [{"created_by": "fedmesh lab"} for _ in digests],
        },
        sort_keys=True,
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    names = [f"{digest}/layer.tar" for digest in digests]
    manifest = [{"Config": config_name, "RepoTags": [image.reference], "Layers": names}]
    documents = Layer(data={config_name: config, "manifest.json": json.dumps(manifest).encode()})
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, layer in zip(names, layers, strict=True):
            item = _entry(name, tarfile.REGTYPE, 0o644, 0)
            item.size = layer.stat().st_size
            with layer.open("rb") as content:
                tar.addfile(item, content)
        for name, content in sorted(documents.data.items()):
            item = _entry(name, tarfile.REGTYPE, 0o644, 0)
            item.size = len(content)
            tar.addfile(item, io.BytesIO(content))
    own.unlink()


def write_base(target: Path, suite: str, packages: Sequence[str] = BASE_PACKAGES) -> None:
    """Writes the layer under the images that need a shell: Debian's files of some packages, not configured.

    `suite` is Debian's code name, such as "bookworm". Takes about 10 seconds and the machine's apt sources.
    """
    raw = target.with_suffix(".debian.tar")
    command = ["mmdebstrap", "--quiet", "--variant=extract", f"--include={','.join(packages)}", suite]
    subprocess.run([*command, str(raw)], check=True, stdin=subprocess.DEVNULL)
    with tarfile.open(raw) as source, tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as tar:
        certificates: list[bytes] = []
        taken: set[str] = set()
        for item in source.getmembers():
            item.name = item.name.removeprefix("./").rstrip("/")
            if item.islnk():
                item.linkname = item.linkname.removeprefix("./")
            if item.name in (".", "") or item.ischr() or item.isblk() or _is_unused(item.name):
                continue
            content = source.extractfile(item) if item.isreg() else None
            if item.name.startswith("usr/share/ca-certificates/") and content is not None:
                certificates.append(content.read())
                content.seek(0)
            taken.add(item.name)
            item.mtime = 0
            item.uid, item.gid, item.uname, item.gname = 0, 0, "", ""
            tar.addfile(item, content)
        for name, content in {
            "etc/ssl/certs/ca-certificates.crt": b"".join(certificates),
            **ACCOUNTS,
        }.items():
            item = _entry(name, tarfile.REGTYPE, 0o644, 0)
            item.size = len(content)
            tar.addfile(item, io.BytesIO(content))
        for name in sorted(BASE_FOLDERS.keys() - taken):
            tar.addfile(_entry(name, tarfile.DIRTYPE, BASE_FOLDERS[name], 0))
        for name, link in BASE_LINKS.items():
            item = _entry(name, tarfile.SYMTYPE, 0o777, 0)
            item.linkname = link
            if name not in taken:
                tar.addfile(item)
    raw.unlink()


def extract_debian(package: str, wanted: str, folder: Path) -> Path:
    """Takes the file `wanted` (absolute path) out of Debian's `package`; gives where it is in `folder`."""
    # without apt's own user, who may not write to a private folder
    command = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", package]
    subprocess.run(command, cwd=folder, check=True, stdin=subprocess.DEVNULL)
    archive = next(folder.glob(f"{package}_*.deb"))
    unpacked = folder / f"{package}.unpacked"
    subprocess.run(["dpkg-deb", "-x", str(archive), str(unpacked)], check=True)
    result = folder / Path(wanted).name
    (unpacked / wanted.lstrip("/")).rename(result)
    shutil.rmtree(unpacked)
    archive.unlink()
    return result


def read_reference(archive: Path) -> str:
    """The reference under which `ctr` imports the tarball."""
    with tarfile.open(archive) as tar:
        manifest = tar.extractfile("manifest.json")
        if manifest is None:
            raise ValueError(f"{archive}: not a docker-archive")
        return str(json.load(manifest)[0]["RepoTags"][0])


def _is_unused(name: str) -> bool:
    return any(name == folder or name.startswith(f"{folder}/") for folder in UNUSED)


def _parents(names: Iterable[str]) -> set[str]:
    return {str(parent) for name in names for parent in Path(name).parents if str(parent) != "."}


def _entry(name: str, kind: bytes, mode: int, owner: int) -> tarfile.TarInfo:
    item = tarfile.TarInfo(name)
    item.type, item.mode, item.uid, item.gid = kind, mode, owner, owner
    return item


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
