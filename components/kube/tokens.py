"""Access to a cluster by the token of a service account."""

import base64
from collections.abc import Mapping
from typing import Any

from components.kube.manifests import load_one


def peer_kubeconfig(cluster: str, server: str, token: Mapping[str, str]) -> dict[str, Any]:
    """A kubeconfig with the token of a service account.

    Args:
        cluster: name of the cluster and of all entries.
        server: URL of its API server.
        token: data of its token Secret: `ca.crt` and `token`, in base64.
    """
    return load_one(
        "remote_secrets/kubeconfig.yaml",
        {
            "clusters": [
                {
                    "name": cluster,
                    "cluster": {"server": server, "certificate-authority-data": token["ca.crt"]},
                }
            ],
            "users": [{"name": cluster, "user": {"token": base64.b64decode(token["token"]).decode()}}],
            "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": cluster}}],
            "current-context": cluster,
        },
    )
