"""The parts of the mesh that need no pod: storage, CRDs from charts, and the links between clusters."""

from pathlib import Path

import pulumi
import pulumi_kubernetes as k8s

from components.charts import release, rendered
from components.clusters import existing_clusters
from components.federation import Federation, FederationArgs, FederationMember
from components.remote_secrets import RemoteSecrets, RemoteSecretsArgs, RemoteSecretsMember
from components.settings import load_settings
from components.storage import Storage, StorageArgs

settings = load_settings()
bundle = pulumi.Config("test").require("bundle")
clusters = existing_clusters(settings, Path.cwd())
providers = {
    name: k8s.Provider(name, kubeconfig=pulumi.Output.secret(cluster.kubeconfig), cluster_identifier=name)
    for name, cluster in clusters.items()
}
trusting: dict[str, FederationMember] = {}
reading: dict[str, RemoteSecretsMember] = {}
for spec in settings.clusters:
    provider = providers[spec.name]
    on = pulumi.ResourceOptions(providers=[provider])
    storage = Storage(f"{spec.name}-storage", StorageArgs(settings.storage_of(spec)), on)
    crds = release(
        f"{spec.name}-spire-crds",
        settings.charts.spire_crds,
        name="spire-crds",
        namespace="spire",
        values={},
        opts=pulumi.ResourceOptions(provider=provider),
    )
    base = rendered(
        f"{spec.name}-base",
        settings.charts.istio_base,
        namespace="istio-system",
        values={},
        parent=storage,
        after=crds,
    )
    trusting[spec.name] = FederationMember(spec.trust_domain, bundle, "192.0.2.7", crds, provider)
    # known when the account of the readers is there
    namespace = base.apply(lambda made: pulumi.Output.all(*(each.urn for each in made)))
    reading[spec.name] = RemoteSecretsMember(
        clusters[spec.name].api_server, namespace.apply(lambda _: "istio-system"), provider
    )
Federation("federation", FederationArgs(trusting))
RemoteSecrets("remote-secrets", RemoteSecretsArgs(reading))
