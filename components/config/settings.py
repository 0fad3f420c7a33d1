"""The stack configuration as one typed, validated value. A mistake stops the program before any resource.

`parse` and `load_stack_file` are pure; `load_settings` is the only place that reads the program's configuration.
"""

import json
from collections.abc import Mapping
from datetime import date
from itertools import cycle
from pathlib import Path
from typing import Annotated, Any, Self, cast

import pulumi
import yaml
from pulumi.runtime import config as runtime
from pydantic import PrivateAttr, field_validator, model_validator

from components.config.aws import AwsSettings
from components.config.clusters import ClusterSpec, check_clusters
from components.config.database import RdsSettings
from components.config.errors import ConfigError, validated
from components.config.fields import Model, Rule, keys_of, refusal, setting
from components.config.images import ImageSettings
from components.config.ingress import IngressSettings, check_ingress
from components.config.mesh import (
    ChartSettings,
    FailoverSettings,
    IstioSettings,
    MeshSettings,
    ObservabilitySettings,
    SampleSettings,
    SpireSettings,
    StorageSettings,
)
from components.config.services import (
    GatewayApiSettings,
    Namespaces,
    Services,
    check_namespaces,
    check_services,
)

NAMESPACE = "fedmesh"
PREFIX = f"{NAMESPACE}:"
# The default StorageClass of EKS clusters.
GP3: Mapping[str, Any] = {
    "class_name": "gp3",
    "provisioner": "ebs.csi.aws.com",
    "parameters": {"type": "gp3", "encrypted": "true"},
}
SAMPLE_VERSIONS = ("v1", "v2")
# The label of the nodes that components/aws/eks.py makes for SPIRE's server.
EKS_NODE_LABEL = "dedicated"
FEWEST_CLUSTERS = "a list of two clusters or more"


class Settings(Model):
    """All that a stack says. Each attribute is a key of the stack file, with the prefix `fedmesh:`."""

    _source: str = PrivateAttr("")

    clusters: Annotated[tuple[ClusterSpec, ...], Rule(FEWEST_CLUSTERS)] = setting(
        example=[
            {
                "name": "cluster-1",
                "trustDomain": "cluster-1.example.com",
                "network": "network-1",
                "region": "us-east-1",
                "kubeconfig": {"path": "~/.kube/config", "context": "cluster-1"},
            }
        ],
        replaces="nothing; clusters are added or removed",
    )
    """The clusters of the mesh, two or more. Each exists already (`kubeconfig`) or is made (`eks`)."""
    mesh: MeshSettings = setting({}, example={"id": "mesh1"})
    """The mesh as a whole."""
    images: ImageSettings = setting({}, example={"registry": "registry.example/mirror"})
    """Where container images come from."""
    charts: ChartSettings = setting({}, example={"istiod": {"path": "charts/istiod"}})
    """Where Helm charts come from: the official repositories where nothing is set."""
    storage: StorageSettings = setting({}, example={"class": "local", "provisioner": "rancher.io/local-path"})
    """The StorageClass of the volumes of SPIRE and Prometheus."""
    spire: SpireSettings = setting({}, example={"caTtl": "48h", "svidTtl": "2h"})
    """SPIRE's lifetimes, its servers, and where they keep their data."""
    istio: IstioSettings = setting({}, example={"replicas": 2, "trust": "strict"})
    """How Istio is set up."""
    failover: FailoverSettings = setting({}, example={"connectTimeout": "500ms", "retries": {"attempts": 2}})
    """How fast calls leave a failing endpoint or cluster."""
    services: Services = setting(
        {}, example={"shop.shop.svc.cluster.local": {"idempotent": "reads", "timeout": "15s"}}, since="0.2"
    )
    """What the owners of services ask of the mesh, by host. Each entry holds on all clusters."""
    namespaces: Namespaces = setting({}, example={"shop": {"podSecurity": "restricted"}}, since="0.2")
    """Namespaces that are in the mesh on all clusters. They are made where they are missing, and stay with all
    that is in them when they are removed from here."""
    gateway_api: GatewayApiSettings = setting({}, example={"install": False}, since="0.2")
    """The CRDs of Gateway API."""
    ingress: IngressSettings = setting(
        {},
        example={"hosts": {"shop.example.com": {"namespace": "shop"}}, "issuer": {"name": "users-ca"}},
        since="0.2",
    )
    """Hosts that users call by HTTPS at the ingress gateways, and their certificates."""
    samples: SampleSettings = setting({}, example={"enabled": False})
    """The sample applications."""
    observability: ObservabilitySettings = setting(
        {}, example={"retention": "720h", "grafana": {"enabled": True}}
    )
    """Prometheus with alert rules on every cluster, and dashboards for it."""
    aws: AwsSettings = setting({}, example={"join": "transit-gateway", "tags": {"environment": "dev"}})
    """What all EKS clusters of the stack share."""

    @field_validator("clusters", mode="before")
    @classmethod
    def _two_clusters(cls, clusters: object) -> object:
        if not isinstance(clusters, list | tuple) or len(cast(list[object], clusters)) < 2:
            raise refusal(f"must be {FEWEST_CLUSTERS}")
        return cast(object, clusters)

    @model_validator(mode="after")
    def _clusters_go_together(self) -> Self:
        check_clusters(self.clusters, self.aws)
        names = tuple(cluster.name for cluster in self.clusters)
        check_namespaces(self.namespaces, self.samples.enabled)
        check_services(self.services, self.namespaces, names, tuple(self.failover.hosts))
        check_ingress(self.ingress, self.clusters, self.aws, self.istio)
        without = [cluster.name for cluster in self.clusters if not cluster.istio_cni.enabled]
        for name, namespace in self.namespaces.items():
            if without and namespace.pod_security in ("baseline", "restricted"):
                raise refusal(
                    f"refuses the pods' init containers: set istioCni.enabled for {', '.join(without)}",
                    *("namespaces", name, "podSecurity"),
                )
        others = [cluster.name for cluster in self.clusters if not cluster.eks]
        if self.spire.needs_aws and others:
            in_kms = self.spire.key_manager == "aws_kms"
            key, value = ("keyManager", "disk") if in_kms else ("nodeAttestor", "k8s_psat")
            reason = f"must be {value}: {', '.join(others)} is no EKS cluster of the stack"
            raise refusal(reason, "spire", key)
        for tag in self.aws.tags:
            if self.spire.key_manager == "aws_kms" and tag.lower().startswith("spire-"):
                raise refusal("must not begin with spire-, as SPIRE tags its keys so", "aws", "tags", tag)
        if self.rds and others:
            raise refusal(
                f"is for EKS clusters that the stack makes, and {', '.join(others)} exist already: use secret",
                *("spire", "datastore", "rds"),
            )
        if self.spire.node_label != EKS_NODE_LABEL and any(cluster.eks for cluster in self.clusters):
            raise refusal(
                f"must be {EKS_NODE_LABEL}, as EKS clusters of the stack have it", "spire", "nodeLabel"
            )
        return self

    @property
    def source(self) -> str:
        """Name of the stack file, for errors."""
        return self._source

    @property
    def mesh_id(self) -> str:
        """The id that Istio gives the mesh."""
        return self.mesh.id

    @property
    def rds(self) -> RdsSettings | None:
        """The databases to make for SPIRE, None for none."""
        return self.spire.datastore.rds if self.spire.datastore else None

    def peers_of(self, cluster: ClusterSpec) -> tuple[ClusterSpec, ...]:
        """All clusters but this one."""
        return tuple(other for other in self.clusters if other.name != cluster.name)

    @property
    def meshed(self) -> tuple[ClusterSpec, ...]:
        """The clusters that get the mesh: all, unless the stack asks for the AWS half alone."""
        return self.clusters if self.aws.mesh else ()

    @property
    def sample_versions(self) -> dict[str, str]:
        """The version of the sample helloworld on each cluster: they take turns. Empty without samples."""
        return (
            dict(zip((each.name for each in self.meshed), cycle(SAMPLE_VERSIONS)))
            if self.samples.enabled
            else {}
        )

    def storage_of(self, cluster: ClusterSpec) -> StorageSettings:
        """The StorageClass of a cluster: what the stack says, else encrypted gp3 on EKS."""
        return StorageSettings(**GP3) if cluster.eks and not self.storage.class_name else self.storage

    def has_auto_storage(self, cluster: ClusterSpec) -> bool:
        """Whether a cluster has the StorageClass of EKS Auto Mode beside its own."""
        return bool(cluster.eks and cluster.eks.auto_mode and not self.storage.class_name)

    @classmethod
    def read(cls, raw: Mapping[str, object], source: str, today: date | None = None) -> "Settings":
        """Validates a stack's values; see `parse`."""
        settings = validated(cls, raw, PREFIX, source, {"today": today or date.today()})
        settings._source = source
        return settings


SECTIONS = keys_of(Settings)


def parse(raw: Mapping[str, object], source: str, today: date | None = None) -> Settings:
    """Reads the stack's values.

    Args:
        raw: the values by key, without the prefix `fedmesh:`.
        source: name of the stack file, for errors.
        today: the day on which EKS must support the clusters' versions, today by default.

    Raises:
        ConfigError: a value is missing, unknown or not allowed.
    """
    return Settings.read(raw, source, today)


def load_stack_file(path: Path, today: date | None = None) -> Settings:
    """Reads Pulumi.<stack>.yaml without Pulumi. Keys of other namespaces, such as `aws:region`, are not looked at.

    Raises:
        ConfigError: the file or a value in it is faulty.
        FileNotFoundError: there is no such file.
    """
    try:
        document: object = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError("config", path.name, f"must be YAML: {_one_line(error)}") from None
    config = cast(Mapping[str, object], document).get("config") if isinstance(document, Mapping) else None
    if not isinstance(config, Mapping):
        raise ConfigError("config", path.name, "must be a mapping of keys such as fedmesh:clusters")
    return parse(_own(cast(Mapping[str, object], config)), path.name, today)


def load_settings() -> Settings:
    """Reads the running program's stack, the keys that it does not know included. Raises ConfigError."""
    # pulumi.Config tells the value of a key that one knows, but not which keys there are
    known = {**runtime.get_config_env(), **runtime.CONFIG.get()}
    config = pulumi.Config(NAMESPACE)
    values = {name: config.get(name) for name in (*_own(known), *SECTIONS)}
    parsed = {name: _parsed(value) for name, value in values.items() if value is not None}
    return parse(parsed, f"Pulumi.{pulumi.get_stack()}.yaml")


def _own(config: Mapping[str, object]) -> dict[str, object]:
    return {
        str(key).removeprefix(PREFIX): value for key, value in config.items() if str(key).startswith(PREFIX)
    }


def _parsed(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def _one_line(error: yaml.YAMLError) -> str:
    return " ".join(str(error).split())
