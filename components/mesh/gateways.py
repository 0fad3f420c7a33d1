"""Istio's gateways on one cluster: one for users, one for the other clusters."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pulumi
import pulumi_kubernetes as k8s

from components.config.mesh import ChartSpec, IstioSettings
from components.kube.charts import release
from components.kube.last_known import ClusterState
from components.kube.load_balancers import LoadBalancerService, LoadBalancerSettings
from components.kube.manifests import Document, load_one, merged
from components.kube.objects import child_of
from components.kube.workloads import load_balancer_address

INGRESS = "istio-ingressgateway"
EAST_WEST = "istio-eastwestgateway"
STOP_SECONDS = 27  # for a proxy to end its connections after it has drained


@dataclass(frozen=True)
class IstioGatewaysArgs:
    """Args of IstioGateways.

    Attributes:
        namespace: where istiod is ready.
        network: the Istio network that the east-west gateway stands for.
        chart: Istio's chart `gateway`.
        settings: pods of each gateway, and the istiod that makes their proxies.
        after: what gives their proxies identities.
        load_balancers: settings of the gateways' Services.
        last_known_state: state of the cluster if it is declared down.
    """

    namespace: pulumi.Input[str]
    network: str
    chart: ChartSpec
    settings: IstioSettings
    after: Sequence[pulumi.Resource]
    load_balancers: LoadBalancerSettings = field(default_factory=LoadBalancerSettings)
    last_known_state: ClusterState | None = None


class IstioGateways(pulumi.ComponentResource):
    """Ingress and east-west gateway, ready with identities from SPIRE.

    Outputs:
        ingress_address, east_west_address: IP or name of the load balancers.
    """

    ingress_address: pulumi.Output[str]
    east_west_address: pulumi.Output[str]

    def __init__(
        self, name: str, args: IstioGatewaysArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("fedmesh:istio:IstioGateways", name, None, opts)
        self._name = name
        self._args = args
        self.ingress_address = self._gateway("ingress", INGRESS, args.load_balancers.ingress, {})
        self.east_west_address = self._gateway(
            "eastwest", EAST_WEST, args.load_balancers.east_west, {"networkGateway": args.network}
        )
        self.register_outputs(
            {"ingressAddress": self.ingress_address, "eastWestAddress": self.east_west_address}
        )

    def _gateway(
        self, label: str, gateway: str, load_balancer: LoadBalancerService, values: Document
    ) -> pulumi.Output[str]:
        args = self._args
        own = load_one("istio/gateway-values.yaml")
        patch = {
            **values,
            **({"revision": args.settings.revision} if args.settings.revision else {}),
            "replicaCount": args.settings.replicas,
            "lifecycle": {"preStop": {"sleep": {"seconds": load_balancer.drain_seconds}}},
            "terminationGracePeriodSeconds": load_balancer.drain_seconds + STOP_SECONDS,
            "topologySpreadConstraints": [
                {
                    **each,
                    "labelSelector": {"matchLabels": {"app": gateway}},
                    "matchLabelKeys": ["pod-template-hash"],
                }
                for each in own["topologySpreadConstraints"]
            ],
            "service": {"annotations": dict(load_balancer.annotations), **load_balancer.spec},
        }
        made = release(
            f"{self._name}-{label}",
            args.chart,
            name=gateway,
            namespace=args.namespace,
            values=merged(own, patch),
            opts=child_of(self, *args.after),
        )
        if args.last_known_state:
            return args.last_known_state.addresses[label]
        service = k8s.core.v1.Service.get(
            f"{self._name}-{label}-service",
            made.status.apply(lambda status: f"{status.namespace}/{gateway}"),
            opts=pulumi.ResourceOptions(parent=self),
        )
        return service.status.apply(load_balancer_address)
