"""Asks the registries for the digests of the program's images, and keeps them in components/config/images.yaml.

A digest is that of a tag's index, which names the image of each platform: it holds on all nodes.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from http.client import HTTPMessage
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

import yaml

from components.config.images import FILE

INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
# The names by which images call registries, and their addresses where these differ.
ADDRESSES = {"docker.io": "registry-1.docker.io"}
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
SECONDS = 20
HERE = ("localhost", "127.0.0.1")
ANSWERED = "the registry answered with it on "

Entry = dict[str, str]


class RegistryError(Exception):
    """A registry gave no digest of an index; the text says why."""


def index_digest(image: str) -> str:
    """The digest of the index that a tag names now. Raises RegistryError."""
    host, _, rest = image.partition("/")
    name, _, tag = rest.rpartition(":")
    url = f"{_scheme(host)}://{ADDRESSES.get(host, host)}/v2/{name}/manifests/{tag}"
    try:
        headers = _ask(url)
    except HTTPError as refused:
        raise RegistryError(f"HTTP {refused.code} from {urlsplit(refused.url).netloc}") from None
    except (URLError, TimeoutError, ConnectionError) as failed:
        raise RegistryError(f"no answer: {failed}") from None
    kind = headers.get_content_type()
    if kind not in INDEXES:
        raise RegistryError(f"the tag names no index, but {kind}")
    digest = headers.get("Docker-Content-Digest", "")
    if not DIGEST.fullmatch(digest):
        raise RegistryError(f"the answer has no digest, but {digest!r}")
    return digest


def _scheme(host: str) -> str:
    return "http" if urlsplit(f"//{host}").hostname in HERE else "https"


def _ask(url: str) -> HTTPMessage:
    """The headers of a manifest. A registry that asks for a token tells where anybody gets one."""
    try:
        return _head(url, {})
    except HTTPError as refused:
        challenge = refused.headers.get("WWW-Authenticate", "")
        if refused.code != 401 or not challenge.lower().startswith("bearer "):
            raise
    asked = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    realm = asked.pop("realm", "")
    if urlsplit(realm).scheme != "https" and urlsplit(realm).hostname not in HERE:
        raise RegistryError(f"tokens would come from {realm or 'nowhere'}")
    query = urlencode({key: asked[key] for key in ("service", "scope") if key in asked})
    with urlopen(f"{realm}?{query}", timeout=SECONDS) as answer:  # noqa: S310 - checked above
        token = json.load(answer)
    return _head(url, {"Authorization": f"Bearer {token.get('token') or token['access_token']}"})


def _head(url: str, headers: Mapping[str, str]) -> HTTPMessage:
    request = Request(url, headers={"Accept": ", ".join(INDEXES), **headers}, method="HEAD")  # noqa: S310
    with urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
        return answer.headers


def compare(images: Mapping[str, Entry]) -> tuple[dict[str, Entry], list[str], list[str]]:
    """Asks for every image's digest.

    Returns:
        The entries as the registries have them, unchanged where one gave none; what differs, and what failed, in words.
    """
    found: dict[str, Entry] = {}
    changed: list[str] = []
    failed: list[str] = []
    for image, entry in images.items():
        found[image] = entry
        known = entry.get("digest", "")
        try:
            digest = index_digest(image)
        except RegistryError as error:
            failed.append(f"{image}: {error}")
            continue
        if digest != known:
            changed.append(f"{image}: {known or 'unknown'} is {digest} now")
        if digest != known or not entry["confirmed"].startswith(ANSWERED):
            found[image] = {"digest": digest, "confirmed": f"{ANSWERED}{date.today().isoformat()}"}
    return found, changed, failed


def read(file: Path) -> dict[str, Entry]:
    """The entries of the file by image."""
    return dict(yaml.safe_load(file.read_text(encoding="utf-8")))


def write(file: Path, images: Mapping[str, Entry]) -> None:
    """Writes the entries below the comment that the file begins with."""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    comment = "".join(line for line in lines if line.startswith("#"))
    file.write_text(comment + yaml.safe_dump(dict(images), sort_keys=False, width=1000), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Compares the file with the registries, and writes it anew unless it is only to be checked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, and fail when anything differs")
    parser.add_argument("--file", type=Path, default=FILE)
    options = parser.parse_args(arguments)
    images = read(options.file)
    found, changed, failed = compare(images)
    for line in (*changed, *failed):
        print(line)
    if not options.check and found != images:
        write(options.file, found)
    return 1 if failed or (options.check and changed) else 0


if __name__ == "__main__":
    sys.exit(main())
