"""The AWS Load Balancer Controller of one cluster, which creates the NLBs of Services of type LoadBalancer."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as k8s

from components.aws.controller_identity import ControllerIdentity, ControllerIdentityArgs
from components.aws.existing_network import FoundNetwork
from components.aws.fleet import EksFleet
from components.aws.load_balancers import (
    DRAIN_SECONDS,
    GATEWAY_HEALTH_PORT,
    INTERNAL,
    INTERNET_FACING,
    load_balancer_name,
    nlb_annotations,
    plain_ports,
    tls_annotations,
)
from components.aws.network import Network
from components.config.aws import ControllerSpec
from components.config.images import ImageSettings
from components.kube.charts import TIMEOUT_SECONDS
from components.kube.load_balancers import LoadBalancerService, LoadBalancerSettings
from components.kube.manifests import Document, load_one

NAMESPACE = "kube-system"
CLASS = "service.k8s.aws/nlb"  # the controller's own
SERVICE_ACCOUNT = "aws-load-balancer-controller"
IMAGE = "public.ecr.aws/eks/aws-load-balancer-controller"


@dataclass(frozen=True)
class LoadBalancerControllerArgs:
    """Args of LoadBalancerController.

    Attributes:
        cluster: the control plane of its cluster, and `cluster_name`, the cluster's name in EKS.
        region, vpc_id: region and VPC in which it may open ports.
        ingress_scheme: `internet-facing` or `internal`, the scheme of the ingress gateway.
        mesh_ranges: ranges of all networks of the mesh, which reach the internal load balancers.
        chart: the controller's chart.
        tags: tags of all resources, those of the controller included.
        provider: AWS in the cluster's region.
        auto_mode: whether EKS Auto Mode, too, makes load balancers in the cluster.
        images: where images come from.
        permissions_boundary: ARN of the boundary of the controller's role, None for none.
        subnets: ids of the load balancers' subnets by scheme, where the network exists and was not made for them.
        certificate_arn: certificate with which the ingress load balancer ends TLS, "" where the gateway does.
    """

    cluster: pulumi.Resource
    cluster_name: str
    region: str
    vpc_id: pulumi.Input[str]
    ingress_scheme: str
    mesh_ranges: tuple[str, ...]
    chart: ControllerSpec
    tags: Mapping[str, str]
    provider: aws.Provider
    auto_mode: bool = False
    images: ImageSettings = field(default_factory=ImageSettings)
    permissions_boundary: pulumi.Input[str] | None = None
    certificate_arn: str = ""
    subnets: Mapping[str, pulumi.Input[str]] = field(default_factory=dict[str, pulumi.Input[str]])


class LoadBalancerController(pulumi.ComponentResource):
    """The controller with an identity of its own.

    Outputs:
        settings: settings of the Services. Their values are known once the controller is ready, so that a Service
            that uses them is created after the controller and deleted before it: load balancers and their network
            interfaces are gone before the network is deleted.
    """

    settings: LoadBalancerSettings

    def __init__(
        self, name: str, args: LoadBalancerControllerArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("fedmesh:eks:LoadBalancerController", name, None, opts)
        identity = ControllerIdentity(
            name,
            ControllerIdentityArgs(
                cluster=args.cluster,
                cluster_name=args.cluster_name,
                region=args.region,
                vpc_id=args.vpc_id,
                namespace=NAMESPACE,
                service_account=SERVICE_ACCOUNT,
                permissions_boundary=args.permissions_boundary,
                tags=args.tags,
            ),
            pulumi.ResourceOptions(providers=[args.provider]),
        )
        release = k8s.helm.v3.Release(
            f"{name}-release",
            name=SERVICE_ACCOUNT,
            namespace=NAMESPACE,
            chart=args.chart.chart,
            version=args.chart.version,
            repository_opts={"repo": args.chart.repository} if args.chart.repository else None,
            values=controller_values(args),
            timeout=TIMEOUT_SECONDS,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[identity]),
        )
        self.settings = LoadBalancerSettings(
            ingress=self._service("ingress", args, release),
            east_west=self._service("eastwest", args, release),
            spire_bundle=self._service("spire", args, release),
        )
        self.register_outputs({})

    def _service(
        self, label: str, args: LoadBalancerControllerArgs, release: k8s.helm.v3.Release
    ) -> LoadBalancerService:
        name = load_balancer_name(pulumi.get_stack(), args.cluster_name, label)
        internal = label != "ingress" or args.ingress_scheme == INTERNAL
        annotations = nlb_annotations(
            release.status.apply(lambda _: name),
            internal=internal,
            subnets=args.subnets.get(INTERNAL if internal else INTERNET_FACING),
            tags=args.tags,
            health_port=None if label == "spire" else GATEWAY_HEALTH_PORT,
        )
        ends_tls = label == "ingress" and args.certificate_arn
        return LoadBalancerService(
            annotations={**annotations, **(tls_annotations(args.certificate_arn) if ends_tls else {})},
            source_ranges=() if label == "ingress" else args.mesh_ranges,
            ports=plain_ports() if ends_tls else (),
            drain_seconds=DRAIN_SECONDS,
            # without a class Auto Mode takes every Service
            class_name=CLASS if args.auto_mode else "",
            gated=True,
        )


def controller_values(args: LoadBalancerControllerArgs) -> Document:
    """Values of the controller's chart."""
    tag = f"v{args.chart.version}"
    digest = args.images.digest(f"{IMAGE}:{tag}")
    values: Document = {"clusterName": args.cluster_name, "region": args.region, "vpcId": args.vpc_id}
    if args.images.registry or digest:
        pinned = {"tag": f"{tag}@{digest}"} if digest else {}
        values["image"] = {"repository": args.images.of(IMAGE), **pinned}
    return load_one("load_balancer_controller/values.yaml", values)


def install_controllers(
    fleet: EksFleet, options: Mapping[str, pulumi.ResourceOptions]
) -> dict[str, LoadBalancerSettings]:
    """Installs the controller on every EKS cluster.

    Args:
        fleet: the EKS clusters of the stack.
        options: by cluster of the stack the options that create resources on it.

    Returns:
        The load balancer settings of every cluster, empty for a cluster without the controller.
    """
    installed = {
        name: LoadBalancerController(f"{name}-load-balancers", args, options[name]).settings
        for name, args in _args_by_cluster(fleet).items()
    }
    return {name: installed.get(name, LoadBalancerSettings()) for name in options}


def _subnets(network: Network | FoundNetwork) -> Mapping[str, pulumi.Input[str]]:
    """In a network that exists, tags of other clusters could hide subnets from the controller: they are named."""
    return network.load_balancer_subnets if isinstance(network, FoundNetwork) else {}


def _args_by_cluster(fleet: EksFleet) -> dict[str, LoadBalancerControllerArgs]:
    settings = fleet.settings.aws
    if not (fleet.resources and settings.controller.enabled and settings.mesh):
        return {}
    acm = fleet.settings.ingress.acm
    return {
        name: LoadBalancerControllerArgs(
            cluster=fleet.resources.clusters[name].control_plane,
            cluster_name=cluster.eks_name,
            region=cluster.region,
            vpc_id=fleet.resources.networks[name].vpc_id,
            ingress_scheme=cluster.spec.ingress_scheme,
            mesh_ranges=(*(other.spec.vpc_cidr for other in fleet.specs.values()), *settings.mesh_cidrs),
            chart=settings.controller,
            tags=settings.tags,
            provider=fleet.providers[name],
            auto_mode=cluster.spec.auto_mode,
            images=fleet.settings.images,
            permissions_boundary=fleet.resources.boundary(name),
            certificate_arn=acm.arn(cluster.region) if acm else "",
            subnets=_subnets(fleet.resources.networks[name]),
        )
        for name, cluster in fleet.specs.items()
    }
