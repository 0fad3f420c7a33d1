"""The ingress gateway and the east-west gateway of one cluster."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pulumi
import pulumi_kubernetes as k8s

from components.config.mesh import ChartSpec, IstioSettings
from components.kube.charts import TIMEOUT_SECONDS, release
from components.kube.last_known import ClusterState
from components.kube.load_balancers import LoadBalancerService, LoadBalancerSettings
from components.kube.manifests import Document, load, load_one, merged
from components.kube.objects import child_of, register, register_all
from components.kube.workloads import load_balancer_address
from components.mesh.istio import injected_by

NAMESPACE = "istio-gateways"
INGRESS = "istio-ingressgateway"
EAST_WEST = "istio-eastwestgateway"
STOP_SECONDS = 27  # for a proxy to end its connections after it has drained
# Where a pod is ready minutes after its start, new ones are made all at once, and Helm waits longer.
ALL_AT_ONCE = {"rollingUpdate": {"maxSurge": "100%", "maxUnavailable": 0}}
GATED_SECONDS = 2 * TIMEOUT_SECONDS


@dataclass(frozen=True)
class IstioGatewaysArgs:
    """Args of IstioGateways.

    Attributes:
        istio_namespace: istiod's namespace, known when istiod is ready; version 0.1 had the gateways there.
        network: the cluster's Istio network, which the east-west gateway serves.
        chart: Istio's chart `gateway`.
        settings: number of pods of each gateway, and the revision of their proxies.
        after: resources that give the gateways' proxies identities.
        load_balancers: settings of the gateways' Services.
        last_known_state: state of the cluster if it is declared down.
    """

    istio_namespace: pulumi.Input[str]
    network: str
    chart: ChartSpec
    settings: IstioSettings
    after: Sequence[pulumi.Resource]
    load_balancers: LoadBalancerSettings = field(default_factory=LoadBalancerSettings)
    last_known_state: ClusterState | None = None


class IstioGateways(pulumi.ComponentResource):
    """Ingress and east-west gateway in a namespace of their own, ready with identities from SPIRE.

    Outputs:
        namespace: namespace of the gateways and of the Gateway objects that select them.
        ingress_address, east_west_address: IP or name of the load balancers.
    """

    namespace: pulumi.Output[str]
    ingress_address: pulumi.Output[str]
    east_west_address: pulumi.Output[str]

    def __init__(
        self, name: str, args: IstioGatewaysArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("fedmesh:istio:IstioGateways", name, None, opts)
        self._name = name
        self._args = args
        self._ready: list[pulumi.Resource] = []
        accounts = self._accounts()
        self.ingress_address = self._gateway(
            "ingress",
            INGRESS,
            args.load_balancers.ingress,
            accounts,
            # istiod serves a Secret only to a gateway whose account may read it
            {"rbac": {"enabled": args.settings.ingress_tls}},
        )
        self.east_west_address = self._gateway(
            "eastwest",
            EAST_WEST,
            args.load_balancers.east_west,
            accounts,
            load_one(
                "istio/eastwest-values.yaml",
                {
                    "labels": {"topology.istio.io/network": args.network},
                    "env": {"ISTIO_META_REQUESTED_NETWORK_VIEW": args.network},
                },
            ),
        )
        if args.settings.migrating:
            self._previous()
        self.register_outputs(
            {"ingressAddress": self.ingress_address, "eastWestAddress": self.east_west_address}
        )

    def _accounts(self) -> list[pulumi.Resource]:
        """Creates the namespace, the accounts and the mesh's Gateway; returns what the gateways' pods depend on."""
        patch = {
            "Namespace/istio-gateways": {"metadata": {"labels": injected_by(self._args.settings.revision)}}
        }
        space, *accounts = load("istio/gateways-namespace.yaml", patch)
        namespace = register(self._name, space, child_of(self, *self._args.after))
        self.namespace = namespace.id.apply(lambda _: NAMESPACE)
        inside = child_of(self, namespace)
        register(self._name, load_one("istio/cross-network-gateway.yaml"), inside)
        return list(register_all(self._name, accounts, inside).values())

    def _previous(self) -> None:
        """Keeps the gateways that version 0.1 installed in istiod's namespace, without new calls of the peers."""
        kept = pulumi.ResourceOptions(ignore_changes=["chart", "repositoryOpts", "values", "version"])
        gateways = [
            release(
                f"{self._name}-{label}",
                self._args.chart,
                name=gateway,
                namespace=self._args.istio_namespace,
                values={},
                opts=pulumi.ResourceOptions.merge(child_of(self, *self._args.after), kept),
            )
            for label, gateway in (("ingress", INGRESS), ("eastwest", EAST_WEST))
        ]
        # what the peers' proxies still have open ends by itself, and the gateway can go without a loss
        ready = [*gateways, *self._ready]
        register(self._name, load_one("istio/former-gateway.yaml"), child_of(self, *ready))

    def _gateway(
        self,
        label: str,
        gateway: str,
        load_balancer: LoadBalancerService,
        after: Sequence[pulumi.Resource],
        values: Document,
    ) -> pulumi.Output[str]:
        args = self._args
        own = load_one("istio/gateway-values.yaml")
        patch = {
            **({"revision": args.settings.revision} if args.settings.revision else {}),
            "replicaCount": args.settings.replicas,
            **({"strategy": ALL_AT_ONCE} if load_balancer.gated else {}),
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
            "serviceAccount": {"name": gateway},
            "service": {"annotations": dict(load_balancer.annotations), **load_balancer.spec},
        }
        made = release(
            f"{self._name}-{label}-gateway",
            args.chart,
            name=gateway,
            namespace=self.namespace,
            values=merged(merged(own, values), patch),
            opts=child_of(self, *args.after, *after),
            timeout=GATED_SECONDS if load_balancer.gated else TIMEOUT_SECONDS,
        )
        self._ready.append(made)
        if args.last_known_state:
            return args.last_known_state.addresses[label]
        service = k8s.core.v1.Service.get(
            f"{self._name}-{label}-service",
            made.status.apply(lambda status: f"{status.namespace}/{gateway}"),
            # what is read by an id depends on nothing by itself: what uses the address goes before the load balancer
            opts=child_of(self, made),
        )
        return service.status.apply(load_balancer_address)
