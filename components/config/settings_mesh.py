"""The part of the stack configuration that is about software, not clusters: charts, SPIRE, Istio, failover."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from components.config.settings_section import Section

DURATION = r"[0-9]+(ms|s|m|h)"
A_DURATION = "a duration such as 500ms, 30s, 5m or 24h"
QUANTITY = r"[0-9]+(Mi|Gi|Ti)"
DNS_LABEL = r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?"
HOST = r"(\*|[a-z0-9-]+)(\.[a-z0-9-]+)+"
CHART_VERSION = r"v?[0-9]+\.[0-9]+\.[0-9]+([-+].+)?"

SAMPLE_VERSIONS = ("v1", "v2")
# What Istio calls the revision without a name.
UNNAMED_REVISION = "default"

ISTIO_CHARTS = "https://istio-release.storage.googleapis.com/charts"
OFFICIAL_CHARTS = {
    "certManager": ("cert-manager", "https://charts.jetstack.io", "v1.21.2"),
    "istioBase": ("base", ISTIO_CHARTS, "1.31.0"),
    "istiod": ("istiod", ISTIO_CHARTS, "1.31.0"),
    "istioGateway": ("gateway", ISTIO_CHARTS, "1.31.0"),
    "spireCrds": ("spire-crds", "https://spiffe.github.io/helm-charts-hardened", "0.6.0"),
    "kiali": ("kiali-server", "https://kiali.org/helm-charts", "2.31.0"),
}


@dataclass(frozen=True)
class ChartSpec:
    """Where one Helm chart comes from: `path` is a local folder, else `name` in `repository` at `version`."""

    name: str
    repository: str
    version: str
    path: str


@dataclass(frozen=True)
class ChartSettings:
    """The charts of others that the mesh is made of."""

    cert_manager: ChartSpec
    istio_base: ChartSpec
    istiod: ChartSpec
    istio_gateway: ChartSpec
    spire_crds: ChartSpec
    kiali: ChartSpec


@dataclass(frozen=True)
class StorageSettings:
    """The StorageClass of clusters that bring none: without a provisioner the cluster's own default is used."""

    class_name: str
    provisioner: str
    parameters: Mapping[str, str]


GP3 = StorageSettings("gp3", "ebs.csi.aws.com", {"type": "gp3", "encrypted": "true"})


@dataclass(frozen=True)
class SpireSettings:
    """Lifetimes are durations such as 24h; `refresh_hint` is asked of peers: they poll four times as often."""

    ca_ttl: str
    svid_ttl: str
    refresh_hint: str
    volume_size: str
    log_level: str


@dataclass(frozen=True)
class IstioSettings:
    """How Istio is set up.

    Attributes:
        plain_envoy: the proxy image holds upstream Envoy, without Istio's own filters.
        replicas: pods of istiod and of each gateway.
        trust: `aliases` makes one principal of a service account that exists on several clusters, so that
            AuthorizationPolicy rules hold wherever a service runs; `strict` keeps the clusters apart.
        revision: name of the istiod that proxies are made by, "" for the one without a name.
        previous_revision: one that stays beside it as it is, None for none.
    """

    plain_envoy: bool
    replicas: int
    trust: str
    revision: str = ""
    previous_revision: str | None = None


@dataclass(frozen=True)
class FailoverSpec:
    """How fast a call leaves a failing endpoint for another, and a failing cluster for the others.

    Durations as in Istio's DestinationRule and retry policy. `retry_on` is Envoy's list of conditions.
    """

    connect_timeout: str
    consecutive_5xx: int
    consecutive_local_failures: int
    interval: str
    base_ejection: str
    attempts: int
    per_try_timeout: str
    retry_on: str


@dataclass(frozen=True)
class FailoverSettings:
    """The default of every service in the mesh, and what differs for single hosts."""

    default: FailoverSpec
    hosts: Mapping[str, FailoverSpec]


@dataclass(frozen=True)
class SampleSettings:
    """Samples sleep and helloworld; the clusters take turns with the versions of helloworld."""

    enabled: bool


@dataclass(frozen=True)
class ObservabilitySettings:
    """Prometheus on every cluster; Grafana on every cluster and Kiali on the first one where asked for.

    Attributes:
        retention: how long Prometheus keeps what it scraped, as a duration.
        volume_size: size of its volume.
    """

    enabled: bool
    retention: str
    volume_size: str
    grafana: bool
    kiali: bool


def parse_charts(section: Section) -> ChartSettings:
    """Reads `fedmesh:charts`; the official repositories by default. Raises ConfigError."""
    specs = {key: _chart(section.section(key), key) for key in OFFICIAL_CHARTS}
    section.finish()
    return ChartSettings(
        cert_manager=specs["certManager"],
        istio_base=specs["istioBase"],
        istiod=specs["istiod"],
        istio_gateway=specs["istioGateway"],
        spire_crds=specs["spireCrds"],
        kiali=specs["kiali"],
    )


def _chart(section: Section, key: str) -> ChartSpec:
    name, repository, version = OFFICIAL_CHARTS[key]
    path = section.text("path", "")
    if path and (section.has("repository") or section.has("name")):
        raise section.error("path", "is a local folder: leave out repository and name, or leave out path")
    spec = ChartSpec(
        name=section.text("name", name),
        repository=section.text("repository", repository, r"(https?|oci)://.+", "a URL of a Helm repository"),
        version=section.text("version", version, CHART_VERSION, f"a chart version such as {version}"),
        path=path,
    )
    section.finish()
    return spec


def parse_storage(section: Section) -> StorageSettings:
    """Reads `fedmesh:storage`. Raises ConfigError."""
    settings = StorageSettings(
        class_name=section.text("class", "", DNS_LABEL, "the name of a StorageClass"),
        provisioner=section.text("provisioner", "", allowed="the name of a volume provisioner"),
        parameters=section.text_map("parameters"),
    )
    section.finish()
    if settings.provisioner and not settings.class_name:
        raise section.error("class", "is missing: a provisioner needs the name of the class to make")
    return settings


def parse_spire(section: Section) -> SpireSettings:
    """Reads `fedmesh:spire`. Raises ConfigError."""
    settings = SpireSettings(
        ca_ttl=_duration(section, "caTtl", "24h"),
        svid_ttl=_duration(section, "svidTtl", "1h"),
        refresh_hint=_duration(section, "refreshHint", "1m"),
        volume_size=section.text("volumeSize", "1Gi", QUANTITY, "a size such as 1Gi"),
        log_level=section.choice("logLevel", ("DEBUG", "INFO", "WARN", "ERROR"), "INFO"),
    )
    section.finish()
    # SPIRE shortens certificates that would outlive a sixth of their CA's life, silently
    if seconds(settings.svid_ttl) * 6 > seconds(settings.ca_ttl):
        raise section.error("svidTtl", f"must be a sixth of caTtl ({settings.ca_ttl}) or less")
    if seconds(settings.refresh_hint) < 60:
        raise section.error("refreshHint", "must be 1m or more, SPIRE's own floor")
    return settings


def parse_istio(section: Section) -> IstioSettings:
    """Reads `fedmesh:istio`. Raises ConfigError."""
    settings = IstioSettings(
        plain_envoy=section.flag("plainEnvoy", False),
        replicas=section.number("replicas", 1, 1, 10),
        trust=section.choice("trust", ("aliases", "strict"), "aliases"),
        revision=_revision(section, "revision") or "",
        previous_revision=_revision(section, "previousRevision"),
    )
    section.finish()
    if settings.previous_revision == settings.revision:
        raise section.error(
            "previousRevision", "must be another than revision: leave it out once nobody needs it"
        )
    return settings


def _revision(section: Section, name: str) -> str | None:
    if not section.has(name):
        section.value(name)
        return None
    given = section.text(
        name, None, DNS_LABEL, "a revision's name such as v1-32, or default for the one without"
    )
    return "" if given == UNNAMED_REVISION else given


def parse_failover(section: Section) -> FailoverSettings:
    """Reads `fedmesh:failover`; each entry of `hosts` differs from the default only in what it sets."""
    hosts = section.section("hosts")
    default = _failover(section, DEFAULT_FAILOVER)
    section.finish()
    specs: dict[str, FailoverSpec] = {}
    for host in hosts.names():
        if not re.fullmatch(HOST, host):
            raise hosts.error(host, "must be a host such as helloworld.helloworld.svc.cluster.local")
        entry = hosts.section(host)
        specs[host] = _failover(entry, default)
        entry.finish()
    return FailoverSettings(default=default, hosts=specs)


DEFAULT_FAILOVER = FailoverSpec(
    connect_timeout="1s",
    consecutive_5xx=3,
    consecutive_local_failures=2,
    interval="1s",
    base_ejection="30s",
    attempts=4,
    per_try_timeout="2s",
    retry_on="connect-failure,refused-stream,unavailable,cancelled",
)


def _failover(section: Section, default: FailoverSpec) -> FailoverSpec:
    outlier = section.section("outlierDetection")
    retries = section.section("retries")
    spec = FailoverSpec(
        connect_timeout=_duration(section, "connectTimeout", default.connect_timeout),
        consecutive_5xx=outlier.number("consecutive5xxErrors", default.consecutive_5xx, 0, 1000),
        consecutive_local_failures=outlier.number(
            "consecutiveLocalOriginFailures", default.consecutive_local_failures, 0, 1000
        ),
        interval=_duration(outlier, "interval", default.interval),
        base_ejection=_duration(outlier, "baseEjectionTime", default.base_ejection),
        attempts=retries.number("attempts", default.attempts, 0, 20),
        per_try_timeout=_duration(retries, "perTryTimeout", default.per_try_timeout),
        retry_on=retries.text("retryOn", default.retry_on, r"[a-z0-9,-]+", "Envoy's conditions, with commas"),
    )
    outlier.finish()
    retries.finish()
    return spec


def parse_samples(section: Section) -> SampleSettings:
    """Reads `fedmesh:samples`. Raises ConfigError."""
    settings = SampleSettings(enabled=section.flag("enabled", True))
    section.finish()
    return settings


def parse_observability(section: Section) -> ObservabilitySettings:
    """Reads `fedmesh:observability`. Raises ConfigError."""
    settings = ObservabilitySettings(
        enabled=section.flag("enabled", True),
        retention=_duration(section, "retention", "168h"),
        volume_size=section.text("volumeSize", "8Gi", QUANTITY, "a size such as 8Gi"),
        grafana=_enabled(section.section("grafana")),
        kiali=_enabled(section.section("kiali")),
    )
    section.finish()
    for name in ("grafana", "kiali"):
        if getattr(settings, name) and not settings.enabled:
            raise section.error(name, "shows what Prometheus knows: set enabled to true as well")
    return settings


def _enabled(section: Section) -> bool:
    enabled = section.flag("enabled", False)
    section.finish()
    return enabled


def seconds(duration: str) -> float:
    """Length of a duration such as 90s, 5m or 24h, in seconds."""
    for unit, factor in (("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)):
        if duration.endswith(unit):
            return int(duration.removesuffix(unit)) * factor
    raise ValueError(f"{duration!r} is no duration")


def _duration(section: Section, name: str, default: str) -> str:
    return section.text(name, default, DURATION, A_DURATION)
