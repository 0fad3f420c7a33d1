"""Istio's control plane on one cluster, and the rules that hold for the whole mesh."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from components.config.clusters import ClusterSpec
from components.config.fields import seconds
from components.config.images import ImageSettings
from components.config.mesh import (
    EVERY_HOST,
    UNNAMED_REVISION,
    ChartSettings,
    ChartSpec,
    FailoverSettings,
    FailoverSpec,
    IstioSettings,
    Retries,
    RetryBudget,
)
from components.kube.charts import release, rendered, template_of, version_of
from components.kube.manifests import Document, as_json, checksum, load, load_one, merged
from components.kube.objects import child_of, register, register_all, register_chain
from components.kube.workloads import RESTART_ON
from components.mesh.injection import spire_templates
from components.mesh.outliers import outlier_figures

NAMESPACE = "istio-system"
OFFICIAL_HUB = "docker.io"
# Names of objects end at 253 characters, and have a prefix and a checksum beside the host.
LONGEST_HOST_NAME = 200
# What servers outside of the mesh have to take a connection, as in manifests/istio/dead-peers.yaml.
OUTSIDE_CONNECT_MILLISECONDS = 10_000


@dataclass(frozen=True)
class IstioArgs:
    """Args of Istio.

    Attributes:
        cluster, peers: this cluster, and all others.
        mesh_id: the mesh's id, the same on all.
        cert_manager: resources that Issuers and Certificates depend on.
        charts: Istio's charts.
        settings: replicas and the kind of proxy.
        failover: when calls fail over to another endpoint or cluster.
        service_settings: Istio's serviceSettings: the hosts whose callers stay in their cluster.
        after: resources that must exist when istiod starts.
        images: where images come from.
    """

    cluster: ClusterSpec
    peers: Sequence[ClusterSpec]
    mesh_id: str
    cert_manager: Sequence[pulumi.Resource]
    charts: ChartSettings
    settings: IstioSettings
    failover: FailoverSettings
    service_settings: Sequence[Document] = ()
    after: pulumi.Input[Sequence[pulumi.Resource]] = ()
    images: ImageSettings = field(default_factory=ImageSettings)


class Istio(pulumi.ComponentResource):
    """CRDs, istiod with a CA that can name istiod only, STRICT mTLS and failover.

    Outputs:
        namespace: where Istio is installed, known when istiod is ready to inject proxies.
    """

    namespace: pulumi.Output[str]

    def __init__(self, name: str, args: IstioArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:istio:Istio", name, None, opts)
        namespace = register(
            name,
            load_one(
                "istio/istio-system.yaml",
                {"metadata": {"labels": {"topology.istio.io/network": args.cluster.network}}},
            ),
            pulumi.ResourceOptions(parent=self),
        )
        register_all(name, load("istio/network-policies.yaml"), child_of(self, namespace))
        base = rendered(
            f"{name}-base",
            args.charts.istio_base,
            namespace=NAMESPACE,
            values={
                "defaultRevision": args.settings.revision or UNNAMED_REVISION,
                "global": {"enableReaderRBAC": args.settings.migrating},
            },
            parent=self,
            after=[namespace],
        )
        root = register_chain(name, load("istio/root.yaml"), child_of(self, namespace, *args.cert_manager))
        # changed in place, a Certificate stays Ready at first: istiod would start with the former issuer's signature
        anew = pulumi.ResourceOptions(replace_on_changes=["spec"], delete_before_replace=True)
        ca = register(
            name,
            load_one("istio/cacerts.yaml"),
            pulumi.ResourceOptions.merge(child_of(self, root), anew),
        )
        peers = load_one("istio/no-peers.yaml", {"data": peers_data()})
        no_peers = register(name, peers, child_of(self, namespace))
        made = pulumi.Output.all(base, args.after).apply(lambda each: [*each[0], ca, no_peers, *each[1]])
        opts = pulumi.ResourceOptions(parent=self, depends_on=made)
        istiod = self._istiod(name, args, args.settings.revision, opts)
        if args.settings.previous_revision is not None:
            # pods that have not restarted yet need the previous revision, unchanged
            kept = pulumi.ResourceOptions(ignore_changes=["chart", "repositoryOpts", "values", "version"])
            previous = args.settings.previous_revision
            self._istiod(name, args, previous, pulumi.ResourceOptions.merge(opts, kept))
        after_istiod = child_of(self, istiod)
        register_all(name, load("istio/mesh-policies.yaml"), after_istiod)
        register(name, dead_peers(args.settings.dead_peers.user_timeout), after_istiod)
        if args.settings.migrating:
            register(
                name,
                load_one("istio/cross-network-gateway.yaml", {"metadata": {"namespace": NAMESPACE}}),
                after_istiod,
            )
        for rule in [*failover_rules(args.failover), *retry_routes(args.failover)]:
            register(name, rule, after_istiod)
        self.namespace = istiod.status.apply(lambda _: NAMESPACE)
        self.register_outputs({"namespace": self.namespace})

    def _istiod(
        self, name: str, args: IstioArgs, revision: str, opts: pulumi.ResourceOptions
    ) -> k8s.helm.v3.Release:
        named = istiod_name(revision)
        own = istiod_values(args, revision)
        chart = template_of(args.charts.istiod, namespace=NAMESPACE, values=own, parent=self)
        templates = own["sidecarInjectorWebhook"]["templates"]
        values = chart.apply(lambda documents: merged(own, spire_templates(documents, templates)))
        return release(
            f"{name}-{named}", args.charts.istiod, name=named, namespace=NAMESPACE, values=values, opts=opts
        )


def peers_data() -> dict[str, str]:
    """The initial configuration files of the Envoy beside istiod, without peers."""
    return {
        "bootstrap.json": as_json(load_one("istio/peers-bootstrap.yaml")),
        "clusters.json": resources([]),
        "routes.json": resources([load_one("istio/peers-routes.yaml")]),
    }


def resources(found: Sequence[Document]) -> str:
    """A file of Envoy resources."""
    return as_json({"resources": list(found)})


def image_hub(registry: str) -> str:
    """Where Istio's images are ("": the official registry)."""
    return f"{registry or OFFICIAL_HUB}/istio"


def pinned(name: str, chart: ChartSpec, images: ImageSettings) -> dict[str, str]:
    """The value `image` of one of Istio's charts, if the image has a digest: else the chart itself knows its tag."""
    official = f"{image_hub('')}/{name}:{version_of(chart)}"
    return {"image": images.of(official)} if images.digest(official) else {}


def istiod_name(revision: str) -> str:
    """Name of the Helm release, the Deployment and the service account of a revision's istiod."""
    return f"istiod-{revision}" if revision else "istiod"


def injected_by(revision: str) -> dict[str, str]:
    """Labels of a namespace whose pods are injected by the istiod of a revision."""
    return {"istio.io/rev": revision} if revision else {"istio-injection": "enabled"}


def istiod_values(args: IstioArgs, revision: str = "") -> Document:
    """Values of the chart istiod for one revision."""
    chart = args.charts.istiod
    proxy = pinned("proxyv2", chart, args.images)
    # version 0.1's gateways serve Gateway objects of all namespaces until they are removed
    scoped = args.settings.scope_gateways and not args.settings.migrating
    values = load_one(
        "istio/istiod-values.yaml",
        {
            "pilot": {"cni": {"enabled": args.cluster.istio_cni.enabled}},
            **pinned("pilot", chart, args.images),
            **({"revision": revision} if revision else {}),
            "replicaCount": args.settings.replicas,
            "env": {"PILOT_SCOPE_GATEWAY_TO_NAMESPACE": str(scoped).lower()},
            "podAnnotations": {RESTART_ON: checksum(peers_data())},
            "global": {
                "enableReaderRBAC": args.settings.migrating,
                "hub": image_hub(args.images.registry),
                **({"proxy": proxy, "proxy_init": proxy} if proxy else {}),
                "meshID": args.mesh_id,
                "multiCluster": {"clusterName": args.cluster.name},
                "network": args.cluster.network,
            },
            "meshConfig": {
                "trustDomain": args.cluster.trust_domain,
                **accepted([peer.trust_domain for peer in args.peers], args.settings.trust),
                "connectTimeout": args.failover.connect_timeout,
                "defaultHttpRetryPolicy": retry_policy(args.failover.retries),
                **({"serviceSettings": list(args.service_settings)} if args.service_settings else {}),
                "defaultConfig": {
                    "proxyMetadata": {"ISTIO_META_DNS_CAPTURE": str(args.settings.dns_proxy).lower()}
                },
                "defaultTrafficPolicy": {
                    "outlierDetection": outlier_figures(args.failover.outlier_detection)
                },
            },
        },
    )
    values["initContainers"][0]["image"] = args.images.of(f"{image_hub('')}/proxyv2:{version_of(chart)}")
    return merged(values, load_one("istio/plain-envoy-values.yaml")) if args.settings.plain_envoy else values


def accepted(trust_domains: Sequence[str], trust: str) -> Document:
    """The part of meshConfig that accepts the peers' trust domains; SPIRE's bundles verify their certificates."""
    if trust == "strict":
        return {"caCertificates": [{"trustDomains": list(trust_domains)}]}
    return {"trustDomainAliases": list(trust_domains)}


def retry_policy(retries: Retries) -> dict[str, Any]:
    """Istio's HTTPRetry: retries may go to other clusters and, under consistentHash, to other endpoints."""
    return {
        "attempts": retries.attempts,
        **({"perTryTimeout": retries.per_try_timeout} if retries.per_try_timeout else {}),
        "retryOn": retries.retry_on,
        "retryRemoteLocalities": True,
        "retryIgnorePreviousHosts": True,
    }


def retry_budget(budget: RetryBudget) -> Document:
    """Istio's RetryBudget. meshConfig has none, so it is in every DestinationRule of the program."""
    return {
        "percent": budget.percent,
        "minRetryConcurrency": budget.min_concurrency,
        "budgetInterval": budget.interval,
    }


def dead_peers(user_timeout: str) -> Document:
    """The EnvoyFilter whose socket options end connections to peers that vanished."""
    document = load_one("istio/dead-peers.yaml")
    patches: list[Document] = document["spec"]["configPatches"]
    milliseconds = int(seconds(user_timeout) * 1000)
    bound = [each for each in patches if "upstream_bind_config" in each["patch"]["value"]]
    for patch in bound:
        least = OUTSIDE_CONNECT_MILLISECONDS if "cluster" in patch["match"] else 0
        for option in patch["patch"]["value"]["upstream_bind_config"]["socket_options"]:
            option["int_value"] = max(milliseconds, least)
    if not milliseconds:
        document["spec"]["configPatches"] = [each for each in patches if each not in bound]
    return document


def failover_rules(failover: FailoverSettings) -> list[Document]:
    """The mesh-wide DestinationRule and one for each host with settings of its own."""
    return [
        failover_rule("failover", EVERY_HOST, failover),
        *(
            failover_rule(f"failover-{name}", host, failover.hosts[host])
            for host, name in object_names(failover.hosts).items()
        ),
    ]


def retry_routes(failover: FailoverSettings) -> list[Document]:
    """A VirtualService for each host whose retries differ from the mesh's."""
    return [
        load_one(
            "istio/retries.yaml",
            {
                "metadata": {"name": f"retries-{name}"},
                "spec": {
                    "hosts": [host],
                    "http": [
                        {
                            "route": [{"destination": {"host": host}}],
                            "retries": retry_policy(failover.hosts[host].retries),
                        }
                    ],
                },
            },
        )
        for host, name in object_names(failover.hosts).items()
        if failover.hosts[host].retries != failover.retries
    ]


def object_names(hosts: Iterable[str]) -> dict[str, str]:
    """Part of an object's name for each host: the host with hyphens for dots.

    A wildcard has a legal name and a checksum in its place, as have a very long host and one whose name is taken.
    """
    names: dict[str, str] = {}
    for host in hosts:
        name = host.replace(".", "-")
        if "*" in host or len(name) > LONGEST_HOST_NAME or name in names.values():
            checksum = hashlib.sha256(host.encode()).hexdigest()[:8]
            name = f"{name.replace('*', 'any')[:LONGEST_HOST_NAME]}-{checksum}"
        names[host] = name
    return names


def failover_rule(name: str, host: str, spec: FailoverSpec) -> Document:
    """A DestinationRule: calls to `host` stay in this zone, region and network until endpoints fail."""
    return load_one(
        "istio/failover.yaml",
        {
            "metadata": {"name": name},
            "spec": {
                "host": host,
                "trafficPolicy": {
                    "connectionPool": {"tcp": {"connectTimeout": spec.connect_timeout}},
                    "outlierDetection": outlier_figures(spec.outlier_detection),
                    "retryBudget": retry_budget(spec.retry_budget),
                },
            },
        },
    )
