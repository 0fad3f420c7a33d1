"""The layers of one cluster of the mesh: cert-manager, SPIRE and Istio's control plane."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pulumi
import pulumi_kubernetes as k8s

from components.aws.services import AwsServices
from components.config.clusters import ClusterSpec
from components.config.settings import Settings
from components.kube.last_known import ClusterState
from components.kube.load_balancers import LoadBalancerSettings
from components.kube.storage import Storage
from components.mesh.admission import Admission, AdmissionArgs
from components.mesh.authorization import Authorization, AuthorizationArgs
from components.mesh.cert_manager import CertManager, CertManagerArgs
from components.mesh.federation import FederationMember
from components.mesh.gateway_api import GatewayApi, GatewayApiArgs
from components.mesh.gateways import IstioGateways, IstioGatewaysArgs
from components.mesh.ingress import Ingress, IngressArgs
from components.mesh.istio import Istio, IstioArgs, image_hub
from components.mesh.istio_cni import IstioCni, IstioCniArgs
from components.mesh.namespaces import TeamNamespaces, TeamNamespacesArgs
from components.mesh.oidc import OidcDiscovery, OidcDiscoveryArgs
from components.mesh.remote_secrets import RemoteSecretsMember
from components.mesh.samples import Samples, SamplesArgs
from components.mesh.services import Services, ServicesArgs, local_settings
from components.mesh.spire import Spire, SpireArgs
from components.observability.observability import ObservabilityMember


@dataclass(frozen=True)
class MeshClusterArgs:
    """Args of MeshCluster.

    Attributes:
        spec: the cluster's spec.
        settings: settings of the stack.
        provider: access to the cluster.
        api_server: URL under which the other clusters reach its API server.
        storage: the StorageClasses of the volumes.
        load_balancers: settings of the cluster's Services of type LoadBalancer.
        last_known_state: state of the cluster if it is declared down.
        aws: what the cluster uses of AWS.
    """

    spec: ClusterSpec
    settings: Settings
    provider: k8s.Provider
    api_server: pulumi.Input[str]
    storage: Storage
    load_balancers: LoadBalancerSettings
    last_known_state: ClusterState | None
    aws: AwsServices = field(default_factory=AwsServices)


class MeshCluster:
    """Installs cert-manager, SPIRE and Istio on one cluster, and describes the cluster to the links.

    This is a plain class and no component: the layers keep their URNs, without a parent.

    Attributes:
        args: what it was created with.
        options: resource options that create resources on the cluster.
        admission, cert_manager, spire, istio: the installed layers.
    """

    def __init__(self, args: MeshClusterArgs) -> None:
        self.args = args
        self.options = pulumi.ResourceOptions(providers=[args.provider])
        self.admission = self._admission()
        self.cert_manager = self._cert_manager()
        self.spire = self._spire()
        self._oidc()
        self.istio = self._istio()
        self._declarations()

    def install_gateways(self, after: Sequence[pulumi.Resource]) -> IstioGateways:
        """Installs both gateways, after the resources that their proxies need, and the hosts that users call."""
        args = IstioGatewaysArgs(
            istio_namespace=self.istio.namespace,
            network=self.args.spec.network,
            chart=self.args.settings.charts.istio_gateway,
            settings=self.args.settings.istio,
            after=[self.spire, *after],
            load_balancers=self.args.load_balancers,
            last_known_state=self.args.last_known_state,
        )
        made = IstioGateways(f"{self.args.spec.name}-gateways", args, self.options)
        if self.args.settings.ingress.hosts:
            hosts = IngressArgs(
                settings=self.args.settings.ingress,
                region=self.args.spec.region,
                namespace=made.namespace,
                gateways=made,
                cert_manager=self.cert_manager.webhooks,
            )
            Ingress(f"{self.args.spec.name}-ingress", hosts, self.options)
        return made

    def install_samples(
        self, version: str, gateways: IstioGateways, after: Sequence[pulumi.Resource]
    ) -> Samples:
        """Installs the samples, helloworld in the given version, served to users by the given gateways."""
        args = SamplesArgs(
            version=version,
            gateways_namespace=gateways.namespace,
            after=[self.spire, *after],
            images=self.args.settings.images,
            revision=self.args.settings.istio.revision,
            gateway_api=self.args.settings.gateway_api.install,
            ingress=self.args.settings.ingress,
        )
        return Samples(f"{self.args.spec.name}-samples", args, self.options)

    def install_authorization(self, after: Sequence[pulumi.Resource]) -> None:
        """Denies the calls that no policy allows, if the stack asks for it, once the mesh and samples are there."""
        if self.args.settings.istio.authorization == "default-deny":
            args = AuthorizationArgs(self.args.settings.samples.enabled, after)
            Authorization(f"{self.args.spec.name}-authorization", args, self.options)

    def federation_member(self, bundle_address: pulumi.Input[str]) -> FederationMember:
        """Returns the cluster's part of the federation; its peers fetch its bundle from `bundle_address`."""
        return FederationMember(
            trust_domain=self.args.spec.trust_domain,
            bundle=self.spire.bundle,
            bundle_address=bundle_address,
            crds=self.spire.crds,
            provider=self.args.provider,
        )

    def remote_secrets_member(
        self, east_west_address: pulumi.Input[str], after: Sequence[pulumi.Resource]
    ) -> RemoteSecretsMember:
        """Returns the cluster's part of endpoint discovery; the peers' istiods connect to the east-west address."""
        return RemoteSecretsMember(
            trust_domain=self.args.spec.trust_domain,
            east_west_address=east_west_address,
            istio_namespace=self.istio.namespace,
            after=[self.spire, *after],
            provider=self.args.provider,
            drained=self.args.spec.drained,
        )

    @property
    def observability_member(self) -> ObservabilityMember:
        """Returns the cluster's part of the monitoring."""
        return ObservabilityMember(
            storage_class=self.args.storage.general_class_name,
            api_server=self.args.api_server,
            provider=self.args.provider,
        )

    def _admission(self) -> Admission:
        settings = self.args.settings
        args = AdmissionArgs(
            settings.spire.node_label, self.args.spec.network, image_hub(settings.images.registry)
        )
        return Admission(f"{self.args.spec.name}-admission", args, self.options)

    def _cert_manager(self) -> CertManager:
        args = CertManagerArgs(
            chart=self.args.settings.charts.cert_manager,
            images=self.args.settings.images,
            identity=self.args.aws.dns_solver,
        )
        return CertManager(f"{self.args.spec.name}-cert-manager", args, self.options)

    def _spire(self) -> Spire:
        args = SpireArgs(
            cluster=self.args.spec,
            cert_manager=self.cert_manager.webhooks,
            storage_class=self.args.storage.class_name,
            crds=self.args.settings.charts.spire_crds,
            settings=self.args.settings.spire,
            images=self.args.settings.images,
            bundle_load_balancer=self.args.load_balancers.spire_bundle,
            last_known_state=self.args.last_known_state,
            aws_role=self.args.aws.spire_role,
            database=self.args.aws.database,
        )
        return Spire(f"{self.args.spec.name}-spire", args, self.options)

    def _oidc(self) -> None:
        settings = self.args.settings
        if settings.spire.oidc:
            args = OidcDiscoveryArgs(
                issuer=settings.spire.issuer_of(self.args.spec.name),
                settings=settings.spire.oidc,
                after=[self.spire, *self.cert_manager.webhooks],
                log_level=settings.spire.log_level,
                images=settings.images,
            )
            OidcDiscovery(f"{self.args.spec.name}-oidc", args, self.options)

    def _istio(self) -> Istio:
        args = IstioArgs(
            cluster=self.args.spec,
            peers=self.args.settings.peers_of(self.args.spec),
            mesh_id=self.args.settings.mesh_id,
            cert_manager=self.cert_manager.webhooks,
            charts=self.args.settings.charts,
            settings=self.args.settings.istio,
            failover=self.args.settings.failover,
            service_settings=local_settings(self.args.settings.services, self.args.settings.namespaces),
            after=self._before_istio(),
            images=self.args.settings.images,
        )
        return Istio(f"{self.args.spec.name}-istio", args, self.options)

    def _before_istio(self) -> pulumi.Input[Sequence[pulumi.Resource]]:
        name, settings = self.args.spec.name, self.args.settings
        crds: list[pulumi.Resource] = []
        if settings.gateway_api.install:
            source = GatewayApiArgs(version=settings.gateway_api.version, path=settings.gateway_api.path)
            crds.extend(GatewayApi(f"{name}-gateway-api", source, self.options).crds)
        plugin = self.args.spec.istio_cni
        if not plugin.enabled:
            return crds
        args = IstioCniArgs(settings.charts.istio_cni, plugin, settings.images)
        agents = IstioCni(f"{name}-istio-cni", args, self.options).agents
        return agents.apply(lambda made: [*made, *crds])

    def _declarations(self) -> None:
        name, settings = self.args.spec.name, self.args.settings
        Services(
            f"{name}-services",
            ServicesArgs(services=settings.services, failover=settings.failover, after=self.istio),
            self.options,
        )
        TeamNamespaces(
            f"{name}-namespaces",
            TeamNamespacesArgs(
                namespaces=settings.namespaces, after=self.istio, revision=settings.istio.revision
            ),
            self.options,
        )
