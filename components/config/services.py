"""What owners declare: settings of single services and namespaces, and Gateway API."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Annotated, Literal, Self

from pydantic import model_validator

from components.config.fields import Between, DnsLabel, Duration, Flag, Matching, Model, refusal
from components.config.fields import setting as described
from components.config.mesh import MESH_DOMAIN, AnyText, Attempts, Host, Limit, ProxyDuration

# All keys of this module came with one release.
setting = partial(described, since="0.2")

HeaderName = Annotated[str, Matching("the name of an HTTP header", r"^[A-Za-z0-9-]+$")]
GatewayApiVersion = Annotated[str, Matching("a version such as v1.6.0", r"^v[0-9]+\.[0-9]+\.[0-9]+$")]
# A call may take long, unlike the steps of a connection.
CallDuration = Annotated[Duration, Between("1ms", "24h")]


class Cookie(Model):
    """A cookie that the proxy sets and recognizes."""

    name: HeaderName = setting(example="sid")
    """The cookie's name."""
    ttl: Duration = setting("0s", example="1h")
    """Its lifetime; with 0s it ends with the browser's session."""


class Stickiness(Model):
    """What sends a caller to the same endpoint again, in its own cluster and in the next one after a failover."""

    cookie: Cookie | None = setting(None, example={"name": "sid", "ttl": "1h"})
    """A cookie."""
    header: HeaderName | None = setting(None, example="x-user")
    """The value of a header."""
    source_ip: Flag = setting(False, example=True)
    """The caller's IP address."""

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if [self.cookie is not None, self.header is not None, self.source_ip].count(True) != 1:
            raise refusal("must have exactly one of cookie, header and sourceIp")
        return self


class ServiceSpec(Model):
    """What the owner of a service asks of the mesh. It holds on all clusters, for callers in the mesh."""

    local_only: Flag | None = setting(None, example=True, default_text="as its namespace")
    """Whether calls stay in the caller's cluster, even where the service has no endpoint there. `false` excepts
    a service from a namespace that is local."""
    cluster: DnsLabel | None = setting(None, example="cluster-1", default_text="none: the nearest endpoints")
    """The one cluster whose endpoints all clusters call, such as that of a database's primary. In a namespace that is
    local it needs `localOnly: false`."""
    idempotent: Literal["reads", "all"] | None = setting(None, example="reads")
    """Which requests may be executed twice, and so are sent again after any failure: `reads` (GET, HEAD and
    OPTIONS) or `all`, which gRPC needs."""
    attempts: Attempts = setting(3, example=5)
    """The number of retries of idempotent requests, from 0 to 20."""
    per_try_timeout: ProxyDuration | None = setting(None, example="2s")
    """The time in which each attempt of an idempotent request must be answered, from 1ms to 1h."""
    timeout: CallDuration | None = setting(None, example="15s")
    """The time in which a request must be answered with all its attempts, from 1ms to 24h."""
    warmup: ProxyDuration | None = setting(None, example="1m")
    """The time in which a new endpoint gets more and more calls, from 1ms to 1h."""
    stickiness: Stickiness | None = setting(None, example={"cookie": {"name": "sid"}})
    """What sends a caller to the same endpoint again."""
    max_connections: Limit | None = setting(None, example=100, default_text="no limit")
    """The most connections that one proxy has to the service."""
    max_pending_requests: Limit | None = setting(None, example=100, default_text="no limit")
    """The most requests of one proxy that wait for a connection."""
    max_requests: Limit | None = setting(None, example=1000, default_text="no limit")
    """The most requests of one proxy at a time, with HTTP/2."""
    max_requests_per_connection: Limit | None = setting(None, example=10000, default_text="no limit")
    """The number of requests after which a connection is replaced."""

    @model_validator(mode="after")
    def _wishes_go_together(self) -> Self:
        if self.local_only and self.cluster:
            raise refusal(
                "excludes localOnly: one says the caller's cluster, the other one cluster", "cluster"
            )
        if self.per_try_timeout and not self.idempotent:
            raise refusal("needs idempotent: an attempt that ran out of time is made again", "perTryTimeout")
        if self.warmup and self.stickiness:
            raise refusal("excludes stickiness: new endpoints get their callers at once", "warmup")
        return self

    @property
    def beyond_scope(self) -> bool:
        """Whether more than `localOnly` is asked for."""
        return self != ServiceSpec(local_only=self.local_only)


class NamespaceSpec(Model):
    """A namespace in the mesh, on all clusters."""

    pod_security: Literal["privileged", "baseline", "restricted"] | None = setting(
        None, example="restricted", default_text="the cluster's"
    )
    """The Pod Security level that the namespace enforces. `baseline` and `restricted` need `istioCni` on every
    cluster."""
    local_only: Flag = setting(False, example=True)
    """Whether calls to its services stay in the caller's cluster, as those to databases of one name on several
    clusters must."""


class GatewayApiSettings(Model):
    """The CRDs of Gateway API."""

    install: Flag = setting(True, example=False, replaces="nothing; the CRDs are installed or removed")
    """Whether the stack installs them. Set it to false where the clusters bring them, as GKE does, or other
    programs use them: `destroy` removes them with all objects of their kinds."""
    version: GatewayApiVersion = setting("v1.6.0", example="v1.6.0")
    """The release of the standard channel. Another than the default is not tested with fedmesh."""
    path: AnyText = setting("", example="charts/gateway-api.yaml")
    """A local file that holds the CRDs, relative to the project, in place of the release."""


Services = Mapping[Host, ServiceSpec]
Namespaces = Mapping[DnsLabel, NamespaceSpec]


# Namespaces that the platform makes, or Kubernetes for itself. The admission policies exempt most of them by name.
PLATFORM_NAMESPACES = (
    "cert-manager",
    "istio-gateways",
    "istio-remote-access",
    "istio-system",
    "kube-node-lease",
    "kube-public",
    "kube-system",
    "observability",
    "spire",
    "spire-oidc",
)
# As in manifests/samples/namespaces.yaml.
SAMPLE_NAMESPACES = ("helloworld", "sleep")


def check_services(
    services: Services, namespaces: Namespaces, clusters: tuple[str, ...], failover_hosts: tuple[str, ...]
) -> None:
    """Refuses declarations that name what the stack doesn't have, or that another entry or section decides.

    Raises:
        PydanticCustomError: with the key below `fedmesh:`.
    """
    local = localities(services, namespaces)
    for host, spec in services.items():
        path = ("services", host)
        if host.startswith("*") and spec.beyond_scope:
            raise refusal("can have localOnly only: name each host", *path)
        if spec.cluster and spec.cluster not in clusters:
            raise refusal(f"must be one of {', '.join(clusters)}, not {spec.cluster!r}", *path, "cluster")
        if spec.beyond_scope and host in failover_hosts:
            raise refusal("is in failover.hosts, too: only one of two rules for a host holds", *path)
        for key, value in (("localOnly", spec.local_only), ("cluster", spec.cluster)):
            if value is not None and not _of_the_mesh(host):
                raise refusal(
                    "is for services of the mesh: name them <service>.<namespace>.svc.cluster.local, or "
                    "*.<namespace>.svc.cluster.local for localOnly",
                    *(*path, key),
                )
        wildcard = _most_specific(host, local)
        if spec.cluster and spec.local_only is None and local.get(wildcard):
            raise refusal(
                f"excludes localOnly of {wildcard}: set localOnly to false beside it, or remove that of "
                f"{wildcard} from services and namespaces",
                *(*path, "cluster"),
            )
    for name, namespace in namespaces.items():
        host = every_service_of(name)
        if namespace.local_only and host in services and services[host].local_only is False:
            raise refusal(f"must be true, as in namespaces.{name}", "services", host, "localOnly")


def check_namespaces(namespaces: Namespaces, samples: bool) -> None:
    """Refuses namespaces that are not a team's.

    Raises:
        PydanticCustomError: with the key below `fedmesh:`.
    """
    for name in namespaces:
        if name in PLATFORM_NAMESPACES:
            raise refusal(
                "is the platform's: must be a team's namespace, and none of "
                + ", ".join(PLATFORM_NAMESPACES),
                *("namespaces", name),
            )
        if samples and name in SAMPLE_NAMESPACES:
            raise refusal("is made by samples: set samples.enabled to false", "namespaces", name)


def localities(services: Services, namespaces: Namespaces) -> dict[str, bool]:
    """For each host whether it is called within a cluster only; of several that match, the most specific holds."""
    local = {every_service_of(name): True for name, spec in namespaces.items() if spec.local_only}
    return local | {host: spec.local_only for host, spec in services.items() if spec.local_only is not None}


def every_service_of(namespace: str) -> str:
    """The host that stands for all services of a namespace."""
    return f"*.{namespace}{MESH_DOMAIN}"


def _of_the_mesh(host: str) -> bool:
    """Whether a host is a service of the mesh, or a wildcard that some match."""
    if host.startswith("*") and MESH_DOMAIN.endswith(host[1:]):
        return True
    return host.endswith(MESH_DOMAIN) and host.removesuffix(MESH_DOMAIN).count(".") == 1


def _most_specific(host: str, hosts: Iterable[str]) -> str:
    """The longest wildcard that matches a host, "" for none."""
    matching = (each for each in hosts if each.startswith("*") and host.endswith(each[1:]))
    return max(matching, key=len, default="")
