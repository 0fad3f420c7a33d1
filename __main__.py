"""The architecture: clusters, the layers of each, the links between them, the applications."""

import pulumi

from components.aws.made_clusters import MadeClusters
from components.config.settings import load_settings
from components.kube.clusters import existing_clusters, provider
from components.kube.last_known import LastKnown
from components.kube.storage import Storage, StorageArgs
from components.mesh.cert_manager import CertManager, CertManagerArgs
from components.mesh.federation import Federation, FederationArgs, FederationMember
from components.mesh.gateways import IstioGateways, IstioGatewaysArgs
from components.mesh.istio import Istio, IstioArgs
from components.mesh.remote_secrets import RemoteSecrets, RemoteSecretsArgs, RemoteSecretsMember
from components.mesh.samples import Samples, SamplesArgs
from components.mesh.spire import Spire, SpireArgs
from components.observability.observability import Observability, ObservabilityArgs, ObservabilityMember
from components.outputs import export

# fmt: off
settings = load_settings()
charts, registry, specs = settings.charts, settings.registry, {spec.name: spec for spec in settings.meshed}
made, past = MadeClusters(settings), LastKnown(settings)
clusters = {**existing_clusters(settings), **made.clusters}
providers = {name: provider(name, past.checked(cluster.kubeconfig), past.skips(name))
             for name, cluster in clusters.items()}
on = {name: pulumi.ResourceOptions(providers=[provider]) for name, provider in providers.items()}

# the layers of each cluster
storage = {spec.name: Storage(f"{spec.name}-storage", StorageArgs(settings.storage_of(spec)), on[spec.name])
           for spec in settings.clusters}
doors = made.doors(on)
cert_manager = {name: CertManager(f"{name}-cert-manager", CertManagerArgs(charts.cert_manager, registry), on[name])
                for name in specs}
spire = {name: Spire(f"{name}-spire", SpireArgs(
    spec, cert_manager[name].issuer, storage[name].class_name, charts.spire_crds, settings.spire, registry,
    doors[name].annotations["spire"], doors[name].sources, past.of(name)), on[name]) for name, spec in specs.items()}
istio = {name: Istio(f"{name}-istio", IstioArgs(
    spec, settings.peers_of(spec), settings.mesh_id, cert_manager[name].issuer, charts, settings.istio,
    settings.failover, registry), on[name]) for name, spec in specs.items()}

# the links between clusters
federation = Federation("federation", FederationArgs({name: FederationMember(
    spec.trust_domain, spire[name].bundle, made.named(name, "spire", spire[name].bundle_address), spire[name].crds,
    providers[name]) for name, spec in specs.items()}))
gateways = {name: IstioGateways(f"{name}-gateways", IstioGatewaysArgs(
    istio[name].namespace, spec.network, charts.istio_gateway, settings.istio,
    [spire[name], federation, *istio.values()], doors[name].annotations, past.of(name)), on[name])
    for name, spec in specs.items()}
remote_secrets = RemoteSecrets("remote-secrets", RemoteSecretsArgs({name: RemoteSecretsMember(
    clusters[name].api_server, istio[name].namespace, providers[name]) for name in specs}))
observability = Observability("observability", ObservabilityArgs(settings, {name: ObservabilityMember(
    storage[name].class_name, clusters[name].api_server, providers[name]) for name in specs}))

# the applications
apps = {name: Samples(f"{name}-samples", SamplesArgs(version, [*istio.values(), spire[name], federation], registry,
    settings.istio.revision), on[name]) for name, version in settings.sample_versions.items()}

export(settings, clusters, spire, gateways, made.ways_in(gateways))
