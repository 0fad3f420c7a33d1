"""SPIRE's OIDC discovery provider for the lab's clusters.

Program and image are made when they are first asked for: nothing else of the lab needs them.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from testbed.lab import gomods, image_store, images
from testbed.lab.catalogue import SPIRE
from testbed.lab.config import Node
from testbed.lab.images import Image, Layer
from testbed.lab.store import Store, content_key

PROGRAM = "oidc-discovery-provider"
REFERENCE = f"ghcr.io/spiffe/{PROGRAM}:{SPIRE}"


def archive(cache: Path) -> Path:
    """The image's tarball in the cache. Making it takes two minutes, and a Go compiler."""
    store = Store(cache)
    key = gomods.OIDC.key(PROGRAM, gomods.compiler())
    program = store.ensure(PROGRAM, key, _build) / PROGRAM
    image = Image(
        REFERENCE,
        Layer(files={f"opt/spire/bin/{PROGRAM}": program}, owner=1000),
        entrypoint=[f"/opt/spire/bin/{PROGRAM}"],
        user="1000:1000",
        workdir="/opt/spire",
    )
    key = content_key([key, repr(image.entrypoint), Path(images.__file__).read_bytes()])

    def fill(folder: Path) -> None:
        images.write_archive(image, folder / image.file_name)

    return store.ensure(f"image-{image.file_name}", key, fill) / image.file_name


def put_image(cache: Path, node: Node) -> None:
    """Imports the image into a running node. Raises LookupError for one that is down."""
    image_store.put(archive(cache), node)


def _build(folder: Path) -> None:
    with TemporaryDirectory(dir=folder) as made:
        gomods.OIDC.build([PROGRAM], Path(made), lambda _done, _total: None)
        (Path(made) / PROGRAM).rename(folder / PROGRAM)
