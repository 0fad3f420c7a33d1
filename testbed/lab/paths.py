"""Where the lab keeps what: per checkout in .lab/, per user in the cache."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


def cache() -> Path:
    """Folder of what was built: $FEDMESH_CACHE, else ~/.cache/fedmesh."""
    return Path(os.environ.get("FEDMESH_CACHE") or Path.home() / ".cache" / "fedmesh")


@dataclass(frozen=True)
class State:
    """What the lab keeps in the folder `root` (.lab of a checkout)."""

    root: Path

    def cluster(self, name: str) -> Path:
        return self.root / "clusters" / name

    def pki(self, cluster: str) -> Path:
        return self.cluster(cluster) / "pki"

    def kubeconfig(self, cluster: str) -> Path:
        """The administrator's kubeconfig."""
        return self.cluster(cluster) / "admin.kubeconfig"

    def node(self, cluster: str, node: str) -> Path:
        return self.cluster(cluster) / "nodes" / node

    def lock(self, cluster: str, node: str) -> Path:
        """The file that a node's first process holds while it lives; touched when it starts."""
        return self.node(cluster, node) / "lock"

    def logs(self, cluster: str, node: str) -> Path:
        return self.node(cluster, node) / "log"

    def containerd(self, cluster: str, node: str) -> Path:
        """The root of a node's containerd."""
        return self.node(cluster, node) / "root" / "var" / "lib" / "containerd"

    def volumes(self, cluster: str, node: str) -> Path:
        """Where a node keeps its persistent volumes."""
        return self.node(cluster, node) / "volumes"


def project() -> Path:
    """The checkout's folder: this package's parent."""
    return Path(__file__).resolve().parents[2]
