"""The lab's folders: .lab in the checkout for state, and the user's cache for tools."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


def cache() -> Path:
    """The folder of built tools: $FEDMESH_CACHE, else ~/.cache/fedmesh."""
    return Path(os.environ.get("FEDMESH_CACHE") or Path.home() / ".cache" / "fedmesh")


@dataclass(frozen=True)
class State:
    """The layout of the folder `root`, which is .lab of a checkout."""

    root: Path

    def cluster(self, name: str) -> Path:
        return self.root / "clusters" / name

    def pki(self, cluster: str) -> Path:
        return self.cluster(cluster) / "pki"

    def kubeconfig(self, cluster: str) -> Path:
        """The administrator's kubeconfig."""
        return self.cluster(cluster) / "admin.kubeconfig"

    @property
    def users(self) -> Path:
        """The CA that the lab's users trust."""
        return self.root / "users"

    def node(self, cluster: str, node: str) -> Path:
        return self.cluster(cluster) / "nodes" / node

    def lock(self, cluster: str, node: str) -> Path:
        """The file that a node's first process locks; it is touched when the process starts."""
        return self.node(cluster, node) / "lock"

    def logs(self, cluster: str, node: str) -> Path:
        return self.node(cluster, node) / "log"

    def containerd(self, cluster: str, node: str) -> Path:
        """The root of a node's containerd."""
        return self.node(cluster, node) / "root" / "var" / "lib" / "containerd"

    def volumes(self, cluster: str, node: str) -> Path:
        """The folder of a node's persistent volumes."""
        return self.node(cluster, node) / "volumes"


def project() -> Path:
    """The checkout's folder."""
    return Path(__file__).resolve().parents[2]
