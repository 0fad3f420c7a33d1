"""PostgreSQL from Debian's package in the lab's clusters, as the datastore of SPIRE's servers.

The image is made when it is first asked for: nothing else of the lab needs it.
"""

from __future__ import annotations

import platform
import secrets
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from fedmesh.kube import Json
from testbed.lab import image_store, images
from testbed.lab.config import Node
from testbed.lab.images import Image, Layer
from testbed.lab.pki import Authority
from testbed.lab.store import Store, content_key

OBJECTS = Path(__file__).with_name("postgresql.yaml")
NAMESPACE, HOST, SECRET = "datastore", "postgresql.datastore.svc", "spire-datastore"
IMAGE = Image("localhost/fedmesh/postgresql:1", Layer(), on_base=True)
PACKAGES = (*images.BASE_PACKAGES, "postgresql")
# Where SPIRE's server finds the Secret's files.
ROOT = "/run/spire/datastore/ca.crt"


def archive(cache: Path) -> Path:
    """The image's tarball in the cache. Making it takes half a minute and the machine's apt sources."""
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    key = content_key([suite, *PACKAGES, Path(images.__file__).read_bytes()])

    def fill(folder: Path) -> None:
        base = folder / "base.tar"
        images.write_base(base, suite, PACKAGES)
        images.write_archive(IMAGE, folder / IMAGE.file_name, base)
        base.unlink()

    return Store(cache).ensure("postgresql", key, fill) / IMAGE.file_name


def put_image(cache: Path, node: Node) -> None:
    """Imports the image into a running node. Raises LookupError for one that is down."""
    image_store.put(archive(cache), node)


def objects() -> list[Json]:
    """The objects of one cluster's database, with the Secrets of both sides; namespace `spire` exists."""
    password = secrets.token_urlsafe(24)
    connection = (
        f"host={HOST} dbname=postgres user=spire password={password} sslmode=verify-full sslrootcert={ROOT}"
    )
    with TemporaryDirectory() as private:
        folder = Path(private)
        Authority(NAMESPACE, folder).issue("server", HOST, None, [HOST])
        root, certificate, key = (
            (folder / name).read_text(encoding="utf-8") for name in ("ca.crt", "server.crt", "server.key")
        )
    own = {"password": password, "tls.crt": certificate, "tls.key": key}
    namespace, *others = yaml.safe_load_all(OBJECTS.read_text(encoding="utf-8"))
    return [
        namespace,
        _secret(NAMESPACE, "postgresql", own),
        _secret("spire", SECRET, {"connectionString": connection, "ca.crt": root}),
        *others,
    ]


def _secret(namespace: str, name: str, data: dict[str, str]) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": data,
    }
