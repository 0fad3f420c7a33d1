"""Monitoring for one cluster: Prometheus with alert rules and, if enabled, Grafana."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast
from urllib.parse import urlsplit

import pulumi
import pulumi_kubernetes as k8s

from components.config.fields import mebibytes, seconds
from components.config.images import ImageSettings
from components.config.mesh import ObservabilitySettings, SpireSettings
from components.kube.manifests import FOLDER, Document, as_json, load, load_one, with_images
from components.kube.objects import child_of, register, register_all
from components.kube.workloads import restart_on

NAMESPACE = "observability"
DASHBOARDS = FOLDER / "observability" / "dashboards"


@dataclass(frozen=True)
class PeerMetrics:
    """Access to the metrics of another cluster.

    Attributes:
        api_server: URL of its API server.
        token: data of a token Secret: `ca.crt` and `token`, in base64.
    """

    api_server: pulumi.Input[str]
    token: pulumi.Output[Mapping[str, str]]


@dataclass(frozen=True)
class PrometheusArgs:
    """Args of Prometheus.

    Attributes:
        cluster: the cluster's name in the mesh.
        spire: SPIRE's settings, whose lifetimes the alerts use.
        settings: retention, volume size and dashboards.
        storage_class: StorageClass of the volume, None for the cluster's default.
        peers: other clusters whose metrics of the mesh are read as well, by name.
        images: where images come from.
        read: whether a peer reads the metrics through the API server.
    """

    cluster: str
    spire: SpireSettings
    settings: ObservabilitySettings
    storage_class: pulumi.Input[str] | None
    peers: Mapping[str, PeerMetrics]
    images: ImageSettings = field(default_factory=ImageSettings)
    read: bool = False


class Prometheus(pulumi.ComponentResource):
    """Prometheus outside the mesh and, if enabled, Grafana. Neither can be reached from outside the cluster.

    Outputs:
        namespace: namespace of Prometheus and Grafana.
        reader: data of a token Secret (`ca.crt`, `token`) whose owner may read the metrics through the API server;
            None unless a peer reads them.
    """

    namespace: k8s.core.v1.Namespace
    reader: pulumi.Output[Mapping[str, str]] | None

    def __init__(self, name: str, args: PrometheusArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:observability:Prometheus", name, None, opts)
        self._name = name
        self._args = args
        document = load_one("observability/namespace.yaml")
        self.namespace = cast(
            k8s.core.v1.Namespace, register(name, document, pulumi.ResourceOptions(parent=self))
        )
        after_namespace = child_of(self, self.namespace)
        access = register_all(name, load("observability/access.yaml"), after_namespace)
        credentials = self._peers(after_namespace)
        self._prometheus(child_of(self, *access.values(), *credentials))
        if args.settings.grafana.enabled:
            self._grafana(after_namespace)
        self.reader = self._reader(after_namespace) if args.read else None
        self.register_outputs({})

    def _peers(self, opts: pulumi.ResourceOptions) -> list[pulumi.CustomResource]:
        peers = self._args.peers
        if not peers:
            return []
        data = {
            f"{peer}.{kind}": access.token.apply(lambda data, key=key: data[key])
            for peer, access in peers.items()
            for kind, key in (("token", "token"), ("crt", "ca.crt"))
        }
        document = load_one("observability/peers.yaml", {"data": data})
        return [register(self._name, document, opts)]

    def _prometheus(self, opts: pulumi.ResourceOptions) -> None:
        data = prometheus_data(self._args)
        patches: dict[str, Document] = {"ConfigMap/prometheus": {"data": data}}
        if self._args.read:
            # peers come through the API server, whose address no policy knows
            patches["NetworkPolicy/prometheus"] = {"spec": {"ingress": [{"ports": [{"port": "http"}]}]}}
        patches |= restart_on("StatefulSet/prometheus", pulumi.Output.all(**data))
        *parts, workload = with_images(load("observability/prometheus.yaml", patches), self._args.images)
        fill_in(workload, self._args)
        self._workload(parts, workload, opts)

    def _grafana(self, opts: pulumi.ResourceOptions) -> None:
        data = grafana_data()
        patches: dict[str, Document] = {
            "ConfigMap/grafana": {"data": data},
            "ConfigMap/grafana-dashboards": {"data": dashboards()},
        }
        patches |= restart_on("Deployment/grafana", data)
        *parts, workload = with_images(load("observability/grafana.yaml", patches), self._args.images)
        self._workload(parts, workload, opts)

    def _workload(self, parts: Sequence[Document], workload: Document, opts: pulumi.ResourceOptions) -> None:
        made = register_all(self._name, parts, opts)
        after = pulumi.ResourceOptions(depends_on=list(made.values()))
        register(self._name, workload, pulumi.ResourceOptions.merge(opts, after))

    def _reader(self, opts: pulumi.ResourceOptions) -> pulumi.Output[Mapping[str, str]]:
        *access, token = load("observability/reader.yaml")
        made = register_all(self._name, access, opts)
        # Kubernetes fills in the data
        own = pulumi.ResourceOptions(
            depends_on=list(made.values()), ignore_changes=["data"], additional_secret_outputs=["data"]
        )
        secret = cast(
            k8s.core.v1.Secret, register(self._name, token, pulumi.ResourceOptions.merge(opts, own))
        )
        return pulumi.Output.secret(secret.data)


def prometheus_data(args: PrometheusArgs) -> dict[str, pulumi.Input[str]]:
    """The files of Prometheus' ConfigMap: scrape configs, and rules with this cluster's names and lifetimes."""
    config = load_one(
        "observability/prometheus-config.yaml",
        {"global": {"external_labels": {"cluster": args.cluster}}},
    )
    rules = load_one("observability/alerts.yaml")
    facts, *_ = cast(list[Document], rules["groups"])
    for rule in cast(list[dict[str, Any]], facts["rules"]):
        rule.update(fact(str(rule["record"]), args))
    config["scrape_configs"] += [peer_job(peer) for peer in args.peers]
    targets = {
        f"{peer}.json": pulumi.Output.from_input(access.api_server).apply(partial(peer_targets, peer))
        for peer, access in args.peers.items()
    }
    return {"prometheus.yml": as_json(config), "alerts.yaml": as_json(rules), **targets}


def peer_job(peer: str) -> Document:
    """The scrape job of a peer's metrics."""
    return load_one(
        "observability/peer-config.yaml",
        {
            "job_name": f"peer-{peer}",
            "authorization": {"credentials_file": f"/etc/prometheus-peers/{peer}.token"},
            "tls_config": {"ca_file": f"/etc/prometheus-peers/{peer}.crt"},
            "file_sd_configs": [{"files": [f"{peer}.json"]}],
        },
    )


def peer_targets(peer: str, api_server: str) -> str:
    """The target of a peer's job, from the URL of its API server."""
    url = urlsplit(api_server)
    target = f"{url.hostname}:{url.port or 443}"
    return json.dumps([{"targets": [target], "labels": {"cluster": peer}}])


def fact(record: str, args: PrometheusArgs) -> Mapping[str, Any]:
    """The fields of a recording rule that describe this cluster."""
    known: Mapping[str, Mapping[str, Any]] = {
        "fedmesh:this_cluster": {"labels": {"destination_cluster": args.cluster}},
        "fedmesh:svid_ttl_seconds": {"expr": f"vector({seconds(args.spire.svid_ttl):.0f})"},
        "fedmesh:spire_ca_ttl_seconds": {"expr": f"vector({seconds(args.spire.ca_ttl):.0f})"},
    }
    return known[record]


def fill_in(workload: Document, args: PrometheusArgs) -> None:
    """Sets retention, size and StorageClass of Prometheus' volume."""
    claim = workload["spec"]["volumeClaimTemplates"][0]["spec"]
    claim["resources"]["requests"]["storage"] = args.settings.volume_size
    if args.storage_class is not None:
        claim["storageClassName"] = args.storage_class
    container = workload["spec"]["template"]["spec"]["containers"][0]
    # Prometheus writes MB for MiB
    container["args"] += [
        f"--storage.tsdb.retention.time={args.settings.retention}",
        f"--storage.tsdb.retention.size={mebibytes(args.settings.volume_size) * 4 // 5}MB",
    ]


def dashboards() -> dict[str, str]:
    """Grafana's dashboards, by file name."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(DASHBOARDS.glob("*.json"))}


def grafana_data() -> dict[str, str]:
    """The files of Grafana's ConfigMap: data source and dashboard provider."""
    return {
        "datasources.yaml": as_json(load_one("observability/grafana-datasources.yaml")),
        "dashboards.yaml": as_json(load_one("observability/grafana-dashboards.yaml")),
    }
