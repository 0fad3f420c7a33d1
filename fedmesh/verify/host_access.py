"""What a pod has of its node, as manifests/admission/host-access.yaml judges it; tests/engine asks both."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fedmesh.kube import Json

CLOSED = tuple(
    re.compile(pattern)
    for pattern in (
        r"^/$|^/(run|etc|proc|sys|dev|boot|opt/cni)(/|$)|^/root(/[.].*)?/?$|//|/[.](/|$)",
        r"^/var$|^/var/(?!log(/|$))",
        r"^/home(/[^/]*(/([.](?!venv/).*)?)?)?$",
        r"^/mnt(/(k8s-disks|stateful_partition|containers)(/.*)?)?/?$",
        r"/(kubelet|containerd|cri-?o|docker|rancher|k3s|etcd)(/|$)",
    )
)
SPECIAL = ("Socket", "CharDevice", "BlockDevice")
WRITABLE = re.compile(r"^/(mnt|media|data|srv)/")
# Those of the Pod Security level `baseline`, istio-init's, and some that reach nothing without a namespace of the node.
CAPABILITIES = {
    *(
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
    ),
    *("SETGID", "SETPCAP", "SETUID", "SYS_CHROOT", "NET_ADMIN", "NET_RAW"),
    *("IPC_LOCK", "SYS_NICE", "SYS_PTRACE", "SYS_RESOURCE"),
}


def of_its_node(pod: Json) -> Iterator[str]:
    """What a pod has of its node that the admission policy refuses outside of exempt namespaces."""
    spec = pod["spec"]
    yield from _folders(spec)
    yield from _ports(spec)
    for context in (spec, *_containers(spec)):
        security = context.get("securityContext") or {}
        if security.get("privileged") or (security.get("windowsOptions") or {}).get("hostProcess"):
            yield "is privileged"
        added = set((security.get("capabilities") or {}).get("add") or ()) - CAPABILITIES
        yield from (f"has the capability {name}" for name in sorted(added))


def _containers(spec: Json) -> Iterator[Json]:
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        yield from spec.get(kind) or ()


def _ports(spec: Json) -> Iterator[str]:
    shared = [kind for kind in ("hostNetwork", "hostPID", "hostIPC") if spec.get(kind)]
    yield from (f"has {kind}" for kind in shared)
    taken = [
        port["hostPort"] for c in _containers(spec) for port in c.get("ports") or () if port.get("hostPort")
    ]
    yield from (f"takes port {port} of its node" for port in taken)


def _folders(spec: Json) -> Iterator[str]:
    folders = {each["name"]: each["hostPath"] for each in spec.get("volumes") or () if "hostPath" in each}
    for folder in folders.values():
        if folder.get("type") in SPECIAL or any(pattern.search(folder["path"]) for pattern in CLOSED):
            yield f"mounts {folder['path']} of its node"
    for mount in (each for c in _containers(spec) for each in c.get("volumeMounts") or ()):
        folder = folders.get(mount["name"])
        if folder and not mount.get("readOnly") and not WRITABLE.match(folder["path"]):
            yield f"may write to {folder['path']} of its node"
