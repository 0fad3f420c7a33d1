"""The CA that the lab's users trust: its root stays on this machine, and a CA below it on each cluster signs."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Sequence
from typing import Any

from testbed.lab.paths import State, cache
from testbed.lab.pki import Authority

NAME, NAMESPACE = "users-ca", "istio-gateways"


def give(state: State, clusters: Sequence[str]) -> None:
    """Makes the CAs where they are missing, and the issuer `users-ca` in the gateways' namespace of each cluster."""
    make(state)
    for cluster in clusters:
        line = [str(cache() / "bin" / "kubectl"), f"--kubeconfig={state.kubeconfig(cluster)}"]
        line += ["apply", "--server-side", "--force-conflicts", "--field-manager=lab", "-f", "-"]
        subprocess.run(
            line, check=True, capture_output=True, text=True, input=json.dumps(issuer(state, cluster))
        )


def make(state: State) -> None:
    """Makes the root, and a CA below it for each cluster of the lab, once."""
    names = sorted(folder.name for folder in state.root.glob("clusters/*"))
    if all((state.users / f"{name}.crt").exists() for name in names):
        return
    state.users.mkdir(mode=0o700, exist_ok=True)
    authority = Authority("users", state.users)
    for name in names:
        authority.intermediate(name)


def issuer(state: State, cluster: str) -> dict[str, Any]:
    """The Issuer of one cluster and its Secret."""
    files = {"tls.crt": f"{cluster}.crt", "tls.key": f"{cluster}.key"}
    data = {key: base64.b64encode((state.users / file).read_bytes()).decode() for key, file in files.items()}
    metadata = {"name": NAME, "namespace": NAMESPACE}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": "kubernetes.io/tls",
        "data": data,
    }
    signs = {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Issuer",
        "metadata": metadata,
        "spec": {"ca": {"secretName": NAME}},
    }
    return {"apiVersion": "v1", "kind": "List", "items": [secret, signs]}
