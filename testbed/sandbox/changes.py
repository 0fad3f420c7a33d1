"""Changes that users make to a stack's configuration. Each function takes a configuration and returns a new one."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

Config = dict[str, Any]
CLUSTERS = "fedmesh:clusters"
# A range on the internet, which nobody calls from here: each user has another.
CALLERS = "8.8.4.0/24"
# The identity that the simulated AWS sees in every caller.
ADMIN = "arn:aws:iam::123456789012:user/moto"
AWS = "fedmesh:aws"
STORAGE = "fedmesh:storage"
# What the program makes on EKS by default.
GP3 = {
    "class": "gp3",
    "provisioner": "ebs.csi.aws.com",
    "parameters": {"type": "gp3", "encrypted": "true"},
}
# The boundary that docs/aws.md has an administrator create first.
BOUNDARY = "arn:aws:iam::123456789012:policy/fedmesh-boundary"


def with_callers(config: Config) -> Config:
    """With what is the user's to set: a range of callers for public API servers, the caller as an admin, a boundary."""
    changed = deepcopy(config)
    changed[AWS] = {"permissionsBoundary": BOUNDARY, **changed.get(AWS, {})}
    for cluster in changed.get(CLUSTERS, []):
        endpoint = cluster.get("eks", {}).get("endpoint", {})
        if endpoint.get("public") and not endpoint.get("cidrs"):
            endpoint["cidrs"] = [CALLERS]
        admins = cluster.get("eks", {}).get("admins")
        if admins:
            admins.append(ADMIN)
    return changed


def aws_half(config: Config) -> Config:
    """Without the mesh: clusters and networks, and a StorageClass, so that each API server has something to keep."""
    changed = deepcopy(config)
    changed.setdefault(STORAGE, dict(GP3))
    changed[AWS] = {**changed.get(AWS, {}), "mesh": False}
    return changed


def resized(config: Config, nodes: int) -> Config:
    """With more general nodes by `nodes` on every cluster."""

    def resize(eks: Config) -> None:
        group = eks["nodeGroups"]["general"]
        group["desired"] += nodes
        group["max"] = max(group["max"], group["desired"])

    return _each(config, resize)


def upgraded(config: Config) -> Config:
    """With the next Kubernetes version on every cluster; EKS takes one minor version at a time."""

    def upgrade(eks: Config) -> None:
        major, minor = eks["version"].split(".")
        eks["version"] = f"{major}.{int(minor) + 1}"

    return _each(config, upgrade)


def unprotected(config: Config) -> Config:
    """With clusters that may be deleted."""
    return _each(config, lambda eks: eks.update(deletionProtection=False))


def grown(config: Config, count: int) -> Config:
    """With `count` clusters: copies of the first with names and ranges of their own."""
    changed = deepcopy(config)
    clusters = changed[CLUSTERS]
    for number in range(len(clusters) + 1, count + 1):
        copy = deepcopy(clusters[0])
        stem = copy["name"].rsplit("-", 1)[0]
        copy |= {"name": f"{stem}-{number}", "alias": f"{stem}-{number}", "network": f"network-{number}"}
        copy["trustDomain"] = f"{stem}-{number}.example.com"
        copy["eks"] |= {"vpcCidr": f"10.{100 + number}.0.0/16", "serviceCidr": f"192.168.{number}.0/24"}
        clusters.append(copy)
    return changed


def without(config: Config, index: int) -> Config:
    """Without the cluster at a place of the list."""
    changed = deepcopy(config)
    del changed[CLUSTERS][index]
    return changed


def _each(config: Config, change: Callable[[Config], None]) -> Config:
    changed = deepcopy(config)
    for cluster in changed[CLUSTERS]:
        change(cluster["eks"])
    return changed
