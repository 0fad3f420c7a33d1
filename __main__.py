"""The Pulumi program: clusters, the layers of each cluster, the links between clusters, sample applications."""

import pulumi

from components.aws.addresses import gateway_addresses, stable_address
from components.aws.fleet import create_fleet
from components.aws.load_balancer_controller import install_controllers
from components.aws.services import AwsServices, aws_services
from components.config.settings import load_settings
from components.kube.charts import check_archives
from components.kube.clusters import existing_clusters, kubernetes_providers
from components.kube.last_known import LastKnownState
from components.kube.storage import create_storage
from components.mesh.federation import Federation, FederationArgs
from components.mesh.remote_secrets import RemoteSecrets, RemoteSecretsArgs
from components.mesh_cluster import MeshCluster, MeshClusterArgs
from components.observability.observability import Observability, ObservabilityArgs
from components.outputs import export_outputs

settings = load_settings()
check_archives(settings)
last_known = LastKnownState(settings)

# Clusters: existing ones by kubeconfig, and EKS clusters that this stack creates.
fleet = create_fleet(settings)
clusters = {**existing_clusters(settings), **fleet.clusters}
providers = kubernetes_providers(clusters, last_known)
options = {name: pulumi.ResourceOptions(providers=[each]) for name, each in providers.items()}
storage = create_storage(settings, options)
load_balancers = install_controllers(fleet, options)
services = aws_services(fleet)

# The layers of each cluster: cert-manager, SPIRE and Istio's control plane.
mesh = {
    spec.name: MeshCluster(
        MeshClusterArgs(
            spec=spec,
            settings=settings,
            provider=providers[spec.name],
            api_server=clusters[spec.name].api_server,
            storage=storage[spec.name],
            load_balancers=load_balancers[spec.name],
            last_known_state=last_known.of(spec.name),
            aws=services.get(spec.name, AwsServices()),
        )
    )
    for spec in settings.meshed
}

# The links between the clusters: trust, gateways, endpoint discovery and monitoring.
bundle_addresses = {
    name: stable_address(fleet, name, "spire", each.spire.bundle_address) for name, each in mesh.items()
}
federation_members = {name: each.federation_member(bundle_addresses[name]) for name, each in mesh.items()}
federation = Federation("federation", FederationArgs(federation_members, settings.istio.migrating))
identities_and_proxies = [federation, *(each.istio for each in mesh.values())]
gateways = {name: each.install_gateways(after=identities_and_proxies) for name, each in mesh.items()}
addresses = gateway_addresses(fleet, gateways)
remote_members = {
    name: each.remote_secrets_member(addresses.east_west[name], after=identities_and_proxies)
    for name, each in mesh.items()
}
remote_secrets = RemoteSecrets(
    "remote-secrets", RemoteSecretsArgs(remote_members, settings.istio, settings.images)
)
monitored = {name: each.observability_member for name, each in mesh.items()}
Observability("observability", ObservabilityArgs(settings, monitored))

# The sample applications, and who may call them.
samples = {
    name: mesh[name].install_samples(version, gateways[name], after=identities_and_proxies)
    for name, version in settings.sample_versions.items()
}
for each in mesh.values():
    each.install_authorization(after=[remote_secrets, *gateways.values(), *samples.values()])

spire = {name: each.spire for name, each in mesh.items()}
export_outputs(settings, clusters, spire, gateways, addresses, networks=fleet.networks)
