"""The parts of the mesh that need no pod: storage, CRDs from charts, and the links between clusters."""

from pathlib import Path

import pulumi
import pulumi_kubernetes as k8s

from components.config.settings import load_settings
from components.kube.charts import release, rendered
from components.kube.clusters import existing_clusters, kubernetes_providers
from components.kube.last_known import OUTPUT, ClusterState, LastKnownState, state_output
from components.kube.storage import Storage, StorageArgs
from components.mesh.federation import Federation, FederationArgs, FederationMember
from components.mesh.remote_secrets import RemoteSecrets, RemoteSecretsArgs, RemoteSecretsMember


def unawaited(args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
    """Lets the program go on without the controllers that would start the pods of a workload."""
    if not args.type_.endswith((":Deployment", ":Service")):
        return None
    metadata = args.props["metadata"]
    annotations = {**metadata.get("annotations", {}), "pulumi.com/skipAwait": "true"}
    return pulumi.ResourceTransformationResult(
        {**args.props, "metadata": {**metadata, "annotations": annotations}}, args.opts
    )


pulumi.runtime.register_stack_transformation(unawaited)
settings = load_settings()
clusters = existing_clusters(settings, Path.cwd())
last_known = LastKnownState(settings)
providers = kubernetes_providers(clusters, last_known)
bundles: dict[str, pulumi.Output[str]] = {}
trusting: dict[str, FederationMember] = {}
reading: dict[str, RemoteSecretsMember] = {}
charts: list[pulumi.Output[list[pulumi.Resource]]] = []
for spec in settings.clusters:
    here = providers[spec.name]
    on = pulumi.ResourceOptions(providers=[here])
    storage = Storage(f"{spec.name}-storage", StorageArgs(settings.storage_of(spec)), on)
    crds = release(
        f"{spec.name}-spire-crds",
        settings.charts.spire_crds,
        name="spire-crds",
        namespace="spire",
        values={},
        opts=pulumi.ResourceOptions(provider=here),
    )
    state = last_known.of(spec.name)
    if state is None:
        read = k8s.core.v1.ConfigMap.get(
            f"{spec.name}-published", "spire/published", opts=pulumi.ResourceOptions(provider=here)
        )
        bundles[spec.name] = read.data["bundle"]
    else:
        bundles[spec.name] = state.bundle
    base = rendered(
        f"{spec.name}-base",
        settings.charts.istio_base,
        namespace="istio-system",
        values={},
        parent=storage,
        after=[crds],
    )
    charts.append(base)
    trusting[spec.name] = FederationMember(spec.trust_domain, bundles[spec.name], "192.0.2.7", crds, here)
    # known when the account of the readers is there
    namespace = base.apply(lambda made: pulumi.Output.all(*(each.urn for each in made)))
    reading[spec.name] = RemoteSecretsMember(
        spec.trust_domain,
        "192.0.2.10" if spec.down else "192.0.2.9",
        namespace.apply(lambda _: "istio-system"),
        [storage],
        here,
    )
Federation("federation", FederationArgs(trusting))
# what depends on storage waits for the CRDs below it, as soon as they are registered
pulumi.Output.all(*charts).apply(
    lambda _: RemoteSecrets("remote-secrets", RemoteSecretsArgs(reading, settings.istio))
)
addresses = pulumi.Output.from_input({"ingress": "192.0.2.8", "eastwest": "192.0.2.9"})
pulumi.export(OUTPUT, state_output({name: ClusterState(each, addresses) for name, each in bundles.items()}))
