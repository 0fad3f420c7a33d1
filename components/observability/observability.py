"""Monitoring for the whole mesh: metrics, alerts and dashboards."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from components.config.settings import Settings
from components.observability.kiali import Kiali, KialiArgs, KialiMember
from components.observability.prometheus import PeerMetrics, Prometheus, PrometheusArgs


@dataclass(frozen=True)
class ObservabilityMember:
    """One cluster.

    Attributes:
        storage_class: StorageClass of Prometheus' volume, None for the cluster's default.
        api_server: URL under which the peers reach its API server.
        provider: access to the cluster.
    """

    storage_class: pulumi.Input[str] | None
    api_server: pulumi.Input[str]
    provider: k8s.Provider


@dataclass(frozen=True)
class ObservabilityArgs:
    """Args of Observability.

    Attributes:
        settings: settings of the stack.
        members: the clusters by name.
    """

    settings: Settings
    members: Mapping[str, ObservabilityMember]


class Observability(pulumi.ComponentResource):
    """Prometheus on every cluster and Kiali on the first one, if the stack enables them."""

    def __init__(
        self, name: str, args: ObservabilityArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("fedmesh:observability:Observability", name, None, opts)
        self._args = args
        if args.settings.observability.enabled and args.members:
            home, *others = args.members
            kiali = args.settings.observability.kiali.enabled
            made = {cluster: self._prometheus(cluster, {}, read=kiali) for cluster in others}
            peers = {
                cluster: PeerMetrics(args.members[cluster].api_server, each.reader)
                for cluster, each in made.items()
                if each.reader is not None
            }
            made = {home: self._prometheus(home, peers, read=False), **made}
            if kiali:
                self._kiali(name, made)
        self.register_outputs({})

    def _prometheus(self, cluster: str, peers: Mapping[str, PeerMetrics], *, read: bool) -> Prometheus:
        settings, member = self._args.settings, self._args.members[cluster]
        return Prometheus(
            f"{cluster}-prometheus",
            PrometheusArgs(
                cluster,
                settings.spire,
                settings.observability,
                member.storage_class,
                peers,
                settings.images,
                read,
            ),
            pulumi.ResourceOptions(parent=self, providers=[member.provider]),
        )

    def _kiali(self, name: str, made: Mapping[str, Prometheus]) -> None:
        settings, members = self._args.settings, self._args.members
        Kiali(
            f"{name}-kiali",
            KialiArgs(
                {
                    cluster: KialiMember(
                        members[cluster].api_server, each.namespace, members[cluster].provider
                    )
                    for cluster, each in made.items()
                },
                settings.charts.kiali,
                settings.images,
            ),
            pulumi.ResourceOptions(parent=self),
        )
