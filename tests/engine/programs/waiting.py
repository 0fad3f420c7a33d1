"""Objects that somebody else fills, and what waits until they are filled, as SPIRE's bundles do."""

import pulumi

from components.config.settings import load_settings
from components.kube.clusters import existing_clusters, provider
from components.kube.objects import register

settings = load_settings()
(name, cluster), *_ = existing_clusters(settings).items()
on = pulumi.ResourceOptions(provider=provider(name, cluster.kubeconfig, None))
for number in range(60):
    metadata = {"name": f"filled-{number}", "namespace": "sleep"}
    waits = {"pulumi.com/waitFor": "jsonpath={.data.bundle}", "pulumi.com/patchFieldManager": "fedmesh"}
    document = {"apiVersion": "v1", "kind": "ConfigMapPatch", "metadata": {**metadata, "annotations": waits}}
    register("waiting", document, on)
