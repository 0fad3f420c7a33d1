"""The stack configuration as one typed, validated value. A mistake stops the program before any resource.

`parse` and `load_stack_file` are pure; `load_settings` is the only place that reads pulumi.Config.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, cast

import pulumi
import yaml

from components.config.errors import ConfigError
from components.config.settings_aws import AwsSettings, EksSpec, check_topology, parse_aws, parse_eks
from components.config.settings_mesh import (
    DNS_LABEL,
    GP3,
    SAMPLE_VERSIONS,
    ChartSettings,
    FailoverSettings,
    IstioSettings,
    ObservabilitySettings,
    SampleSettings,
    SpireSettings,
    StorageSettings,
    parse_charts,
    parse_failover,
    parse_istio,
    parse_observability,
    parse_samples,
    parse_spire,
    parse_storage,
)
from components.config.settings_section import Section

PREFIX = "fedmesh:"
SECTIONS = (
    "clusters",
    "mesh",
    "images",
    "charts",
    "storage",
    "spire",
    "istio",
    "failover",
    "samples",
    "observability",
    "aws",
)
TRUST_DOMAIN = r"[a-z0-9._-]{1,255}"
REGISTRY = r"[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._/-]+)?"


@dataclass(frozen=True)
class KubeconfigSpec:
    """An existing cluster. `path` is relative to the project folder; without a context, the current one."""

    path: str
    context: str


@dataclass(frozen=True)
class ClusterSpec:
    """One cluster of the mesh: exactly one of `kubeconfig` (it exists) and `eks` (it is made) is set.

    Attributes:
        name: its name in the mesh, in Istio and in resource names.
        alias: name of its context in the kubeconfig that the program exports.
        trust_domain: SPIFFE trust domain of its SPIRE.
        network: Istio network.
        region, zone: where it is.
        api_server: URL under which the peers reach its API server, where it is not the kubeconfig's.
        down: it does not answer for now: nothing on it is read or changed.
    """

    name: str
    alias: str
    trust_domain: str
    network: str
    region: str
    zone: str
    api_server: str
    kubeconfig: KubeconfigSpec | None
    eks: EksSpec | None
    down: bool = False


@dataclass(frozen=True)
class Settings:
    """All that a stack says."""

    source: str
    clusters: tuple[ClusterSpec, ...]
    mesh_id: str
    registry: str
    charts: ChartSettings
    storage: StorageSettings
    spire: SpireSettings
    istio: IstioSettings
    failover: FailoverSettings
    samples: SampleSettings
    observability: ObservabilitySettings
    aws: AwsSettings

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
        return GP3 if cluster.eks and not self.storage.class_name else self.storage


def parse(raw: Mapping[str, object], source: str) -> Settings:
    """Reads the stack's values.

    Args:
        raw: the values by key, without the prefix `fedmesh:`.
        source: name of the stack file, for errors.

    Raises:
        ConfigError: a value is missing, unknown or not allowed.
    """
    unknown = sorted(set(raw) - set(SECTIONS))
    if unknown:
        allowed = ", ".join(f"{PREFIX}{name}" for name in SECTIONS)
        raise ConfigError(f"{PREFIX}{unknown[0]}", source, f"is unknown; allowed: {allowed}")

    def section(name: str) -> Section:
        value = raw.get(name)
        return Section(value if value is not None else {}, f"{PREFIX}{name}", source)

    clusters = _clusters(raw.get("clusters"), source)
    aws = parse_aws(raw.get("aws"), source)
    check_topology({c.name: (c.region, c.eks) for c in clusters if c.eks}, aws, source)
    return Settings(
        source=source,
        clusters=clusters,
        mesh_id=_only(section("mesh"), "id", "mesh1", DNS_LABEL, "a DNS label such as mesh1"),
        registry=_only(
            section("images"), "registry", "", REGISTRY, "a registry such as registry.example/mirror"
        ),
        charts=parse_charts(section("charts")),
        storage=parse_storage(section("storage")),
        spire=parse_spire(section("spire")),
        istio=parse_istio(section("istio")),
        failover=parse_failover(section("failover")),
        samples=parse_samples(section("samples")),
        observability=parse_observability(section("observability")),
        aws=aws,
    )


def load_stack_file(path: Path) -> Settings:
    """Reads Pulumi.<stack>.yaml without Pulumi.

    Raises:
        ConfigError: the file or a value in it is faulty.
        FileNotFoundError: there is no such file.
    """
    try:
        document: object = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError("config", path.name, f"must be YAML: {error}") from None
    config = Section(document, "config", path.name).value("config")
    values = cast(Mapping[str, object], config if isinstance(config, Mapping) else {})
    own = {key.removeprefix(PREFIX): value for key, value in values.items() if key.startswith(PREFIX)}
    return parse(own, path.name)


def load_settings() -> Settings:
    """Reads the running program's stack. Raises ConfigError."""
    config = pulumi.Config("fedmesh")
    values: dict[str, Any] = {name: config.get_object(name) for name in SECTIONS}
    return parse(values, f"Pulumi.{pulumi.get_stack()}.yaml")


def _only(section: Section, name: str, default: str, pattern: str, allowed: str) -> str:
    value = section.text(name, default, pattern, allowed)
    section.finish()
    return value


def _clusters(raw: object, source: str) -> tuple[ClusterSpec, ...]:
    key = f"{PREFIX}clusters"
    if not isinstance(raw, Sequence) or isinstance(raw, str) or len(cast(Sequence[object], raw)) < 2:
        raise ConfigError(key, source, "must be a list of two clusters or more")
    items = cast(Sequence[object], raw)
    clusters = tuple(_cluster(item, f"{key}[{index}]", source) for index, item in enumerate(items))
    for field in ("name", "alias", "trust_domain", "network"):
        _check_unique(clusters, field, key, source)
    if all(cluster.down for cluster in clusters):
        raise ConfigError(
            f"{key}[0].down", source, "must be false: with every cluster down nothing can be done"
        )
    return clusters


def _cluster(raw: object, key: str, source: str) -> ClusterSpec:
    section = Section(raw, key, source)
    name = section.text("name", None, DNS_LABEL, "a DNS label such as cluster-1")
    if section.has("kubeconfig") == section.has("eks"):
        raise section.error("kubeconfig", "must be set, or eks, and not both")
    spec = ClusterSpec(
        name=name,
        alias=section.text("alias", name, DNS_LABEL, "a DNS label such as cluster-1"),
        trust_domain=section.text(
            "trustDomain", None, TRUST_DOMAIN, "a SPIFFE trust domain (a-z, 0-9, '.', '-', '_')"
        ),
        network=section.text("network", None, DNS_LABEL, "a DNS label such as network-1"),
        region=section.text("region", None, r"[A-Za-z0-9._-]+", "a region such as us-east-1"),
        zone=section.text("zone", "", r"[A-Za-z0-9._-]+", "a zone such as us-east-1a"),
        api_server=section.text("apiServer", "", r"https://.+", "a URL such as https://10.90.0.11:6443"),
        kubeconfig=_kubeconfig(section.section("kubeconfig")) if section.has("kubeconfig") else None,
        eks=parse_eks(section.value("eks"), f"{key}.eks", source) if section.has("eks") else None,
        down=section.flag("down", False),
    )
    section.finish()
    return spec


def _kubeconfig(section: Section) -> KubeconfigSpec:
    spec = KubeconfigSpec(
        path=section.text("path", None, allowed="the path of a kubeconfig file"),
        context=section.text("context", "", allowed="the name of a context in that file"),
    )
    section.finish()
    return spec


def _check_unique(clusters: Sequence[ClusterSpec], field: str, key: str, source: str) -> None:
    spelled = "trustDomain" if field == "trust_domain" else field
    seen: dict[str, str] = {}
    for index, cluster in enumerate(clusters):
        value = str(getattr(cluster, field))
        if value in seen:
            raise ConfigError(
                f"{key}[{index}].{spelled}",
                source,
                f"must be unique: {value} is the {spelled} of {seen[value]} and of {cluster.name}",
            )
        seen[value] = cluster.name
