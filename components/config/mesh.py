"""The settings of the software on the clusters: charts, storage, SPIRE, Istio, failover, samples, observability."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal, Self, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    field_validator,
    model_validator,
)

from components.config.database import RdsSettings
from components.config.fields import (
    Between,
    ChartVersion,
    DnsLabel,
    Duration,
    Flag,
    Matching,
    Model,
    Repository,
    Size,
    Text,
    refusal,
    seconds,
    setting,
    whole,
)
from components.config.oidc import CLUSTER, IssuerUrl, OidcSettings
from components.config.upstream import SecretName, Upstream
from components.config.versions import OFFICIAL_CHARTS

# What Istio calls the revision without a name.
UNNAMED_REVISION = "default"
EVERY_HOST = "*.local"
# What Istio's names of services in the mesh end with.
MESH_DOMAIN = ".svc.cluster.local"


def _user_timeout(value: str) -> str:
    if seconds(value) and not 1 <= seconds(value) <= 300:
        raise refusal(f"must be 1s to 5m, or 0s for none, not {value}")
    return value


def _complete(value: str) -> str:
    # Istio completes names without a dot only: a rule for another short name matches no call
    if value.endswith((".svc", ".svc.cluster")):
        raise refusal(f"must end with {MESH_DOMAIN} to be a service of the mesh")
    return value


Host = Annotated[
    str,
    Matching(
        "a host such as helloworld.helloworld.svc.cluster.local or *.shop.svc.cluster.local",
        r"^(\*|[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+$",
        253,
    ),
    AfterValidator(_complete),
]
# The Helm release istiod-<revision> may have 53 characters.
Revision = Annotated[
    str,
    Matching(
        "a revision's name such as v1-32, of 46 characters at most, or default for the one without a name",
        r"^[a-z]([a-z0-9-]{0,44}[a-z0-9])?$",
    ),
]
RetryConditions = Annotated[
    str, Matching("Envoy's retry conditions, separated by commas without spaces", r"^[a-z0-9,-]+$")
]
ClassName = Annotated[str, Matching("the name of a StorageClass", r"^([a-z]([a-z0-9-]{0,61}[a-z0-9])?)?$")]
Sha256 = Annotated[str, Matching("a SHA-256 in hexadecimal digits", r"^([0-9a-f]{64})?$")]
AnyText = Annotated[str, Matching("text", r"^.*$")]
Failures = Annotated[int, whole(0, 1000)]
# Istio takes 0 for Envoy's default of 5
LocalFailures = Annotated[int, whole(1, 1000)]
Attempts = Annotated[int, whole(0, 20)]
Percent = Annotated[int, whole(0, 100)]
Limit = Annotated[int, whole(1, 2147483647)]
Replicas = Annotated[int, whole(1, 10)]
NodeLabel = Annotated[
    str,
    Matching(
        "a label's key such as node-restriction.kubernetes.io/dedicated",
        r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$",
    ),
]
ProxyDuration = Annotated[Duration, Between("1ms", "1h")]
BudgetInterval = Annotated[Duration, Between("1s", "1h")]
UserTimeout = Annotated[Duration, AfterValidator(_user_timeout)]
VolumeSize = Annotated[Size, Between("100Mi", "16Ti")]


class MeshSettings(Model):
    """The mesh as a whole."""

    id: DnsLabel = setting("mesh1", example="mesh1")
    """The id that Istio gives the mesh, the same on every cluster."""


class ChartSpec(Model):
    """One Helm chart: a local folder or archive, or a chart in a repository at a version."""

    name: Text = setting("", example="istiod", default_text="the official name")
    """The chart's name in its repository."""
    repository: Repository = setting(
        "", example="https://charts.example.com", default_text="the official repository"
    )
    """The repository's URL, with https, http or oci."""
    version: ChartVersion = setting("", example="1.31.0", default_text="the tested version")
    """The chart's version. Another than the default is not tested with fedmesh."""
    path: AnyText = setting("", example="charts/istiod")
    """A local folder or archive (.tgz) that holds the chart, relative to the project. It excludes `repository` and
    `name`."""
    sha256: Sha256 = setting("", example="0" * 64, default_text="not compared", since="0.2")
    """The SHA-256 of the archive under `path`, as `sha256sum` prints it: another archive is refused. What Helm takes
    from a repository can't be compared: `helm pull` makes an archive of it."""


def _with_official(key: str, raw: object) -> object:
    if not isinstance(raw, Mapping):
        return raw
    given = cast(Mapping[str, object], raw)
    if given.get("path") and (given.get("repository") or given.get("name")):
        raise refusal("is a local folder: remove repository and name, or remove path", "path")
    if given.get("sha256") and not str(given.get("path", "")).endswith(".tgz"):
        raise refusal("needs path, with an archive (.tgz) that it is compared to", "sha256")
    return {
        **vars(OFFICIAL_CHARTS[key]),
        **{name: value for name, value in given.items() if value is not None},
    }


def _official(key: str) -> Any:
    return BeforeValidator(partial(_with_official, key))


def _chart(key: str, software: str) -> Any:
    return setting(
        {},
        description=f"The chart of {software}.",
        example={"version": OFFICIAL_CHARTS[key].version},
    )


class ChartSettings(Model):
    """The Helm charts that the mesh is made of. Each is the official one where nothing else is set."""

    cert_manager: Annotated[ChartSpec, _official("certManager")] = _chart("certManager", "cert-manager")
    istio_base: Annotated[ChartSpec, _official("istioBase")] = _chart("istioBase", "Istio's CRDs")
    istiod: Annotated[ChartSpec, _official("istiod")] = _chart("istiod", "istiod")
    istio_gateway: Annotated[ChartSpec, _official("istioGateway")] = _chart(
        "istioGateway", "Istio's gateways"
    )
    istio_cni: Annotated[ChartSpec, _official("istioCni")] = _chart("istioCni", "Istio's CNI plugin")
    spire_crds: Annotated[ChartSpec, _official("spireCrds")] = _chart("spireCrds", "SPIRE's CRDs")
    kiali: Annotated[ChartSpec, _official("kiali")] = _chart("kiali", "Kiali")


class StorageSettings(Model):
    """The StorageClass of the volumes of SPIRE and Prometheus.

    Without settings, EKS clusters get a class of encrypted gp3 volumes, and other clusters use their own default class.
    """

    class_name: ClassName = setting(
        "",
        alias="class",
        example="local",
        default_text='`gp3` on EKS, else `""`',
        replaces="the StorageClass and the StatefulSets that use it",
    )
    """The name of the StorageClass. With `provisioner` it is made, else it must exist."""
    provisioner: AnyText = setting("", example="ebs.csi.aws.com", replaces="the StorageClass")
    """The volume provisioner of a StorageClass to make."""
    parameters: Mapping[AnyText, Text] = setting(
        {}, example={"type": "gp3", "encrypted": "true"}, replaces="the StorageClass"
    )
    """The parameters of the StorageClass to make, as its provisioner documents them."""

    @model_validator(mode="after")
    def _provisioner_has_a_class(self) -> Self:
        if self.provisioner and not self.class_name:
            raise refusal("is missing: a provisioner needs the name of the class to make", "class")
        return self


class Datastore(Model):
    """The PostgreSQL database that the SPIRE servers of a cluster share. Each cluster has one of its own.

    It is yours (`secret`), or it is made (`rds`).
    """

    secret: SecretName | None = setting(None, example="spire-datastore", since="0.2")
    """The name of a Secret in namespace `spire` of every cluster. Its key `connectionString` says how to connect:
    `host=... dbname=... user=... password=... sslmode=verify-full`. The server finds all its keys as files in
    `/run/spire/datastore`, such as one that `sslrootcert` names. Exactly one of `secret` and `rds` is set."""
    rds: RdsSettings | None = setting(None, example={"caBundle": "global-bundle.pem"}, since="0.2")
    """A database of Amazon RDS to make for each cluster, where all are EKS clusters of the stack. Exactly one of
    `secret` and `rds` is set."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.secret is None) == (self.rds is None):
            raise refusal("set exactly one of secret and rds", "secret")
        return self

    @property
    def secret_name(self) -> str:
        """The Secret that holds the connection: the user's, or that which the program makes."""
        return self.secret or "spire-database"


class SpireSettings(Model):
    """SPIRE's lifetimes, its servers, and where they keep their data."""

    ca_ttl: Annotated[Duration, Between("1h", "8760h")] = setting("24h", example="24h")
    """The lifetime of the CA of a trust domain, from 1h to 8760h. SPIRE renews it at half of that."""
    svid_ttl: Annotated[Duration, Between("5m", "168h")] = setting("1h", example="1h")
    """The lifetime of X.509-SVIDs, from 5m to 168h and a sixth of `caTtl` at most. Workloads get new ones at
    half of it."""
    refresh_hint: Annotated[Duration, Between("1m", "24h")] = setting("1m", example="5m")
    """How often peers are asked to fetch the bundle, from 1m to 24h and a sixth of `caTtl` at most, so that
    peers know a new CA before it signs."""
    volume_size: VolumeSize = setting(
        "1Gi", example="1Gi", replaces="the SPIRE server's StatefulSet; a volume that exists keeps its size"
    )
    """The size of the SPIRE server's volume, from 100Mi to 16Ti."""
    replicas: Replicas = setting(1, example=2, since="0.2")
    """The number of SPIRE servers of a cluster, from 1 to 10. More than one need `datastore`."""
    datastore: Datastore | None = setting(
        None,
        example={"secret": "spire-datastore"},
        default_text="none",
        replaces="the servers' data: agents attest themselves anew, and the CA changes under the same root",
        since="0.2",
    )
    """The database of the SPIRE servers. Without it, the one server keeps its data on its volume."""
    log_level: Literal["DEBUG", "INFO", "WARN", "ERROR"] = setting("INFO", example="DEBUG")
    """The least severity of the log lines of SPIRE's servers and agents."""
    upstream: Upstream = setting(
        {},
        example={
            "vault": {
                "vault_addr": "https://vault.example.com:8200/",
                "k8s_auth": {"k8s_auth_role_name": "spire"},
            }
        },
        replaces="the roots of the trust domains, see docs/operations.md",
        since="0.2",
    )
    """The authority that signs the CA of every SPIRE server. Without it, cert-manager keeps a root of its own
    on each cluster."""
    jwt_issuer: IssuerUrl | None = setting(None, example="https://{cluster}.oidc.example.com", since="0.2")
    """The issuer in JWT-SVIDs: the URL under which OIDC relying parties find the keys. `{cluster}` in it stands for
    the cluster's name, as each cluster signs with keys of its own."""
    oidc: OidcSettings | None = setting(
        None, example={"issuer": {"name": "letsencrypt", "kind": "ClusterIssuer"}}, since="0.2"
    )
    """SPIRE's OIDC discovery provider, two pods on every cluster, which serve the keys under `jwtIssuer`."""
    key_manager: Literal["disk", "aws_kms"] = setting(
        "disk",
        example="aws_kms",
        replaces="the servers' keys: each makes a new CA under the same root",
        since="0.2",
    )
    """Where SPIRE's servers keep their keys: on their volumes, or in AWS KMS of their region, which signs for them
    and gives no key away. `aws_kms` is for EKS clusters of the stack; the program gives the servers a role. The
    keys in KMS carry the stack's tags, and stay after a `destroy`."""
    node_attestor: Literal["k8s_psat", "aws_iid"] = setting(
        "k8s_psat",
        example="aws_iid",
        replaces="the agents' identities, and all entries with them: choose it before the first `pulumi up`",
        since="0.2",
    )
    """How an agent proves on which node it runs: by its pod's token, or by the document that AWS signs for the
    instance. `aws_iid` is for EKS clusters of the stack; an instance attests once (docs/aws.md)."""
    node_label: NodeLabel = setting(
        "dedicated",
        example="node-restriction.kubernetes.io/dedicated",
        replaces="nothing; the server's pod moves",
        since="0.2",
    )
    """The label, and the taint, with the value `spire-server` of the nodes that run SPIRE's server. A kubelet
    cannot give itself one that begins with `node-restriction.kubernetes.io/`. EKS clusters of the stack have
    `dedicated`."""

    @model_validator(mode="after")
    def _keys_go_together(self) -> Self:
        if self.replicas > 1 and not self.datastore:
            raise refusal(
                "must be 1 without datastore: each server would have entries of its own", "replicas"
            )
        if self.oidc and not self.jwt_issuer:
            raise refusal("is missing: oidc serves the keys under it", "jwtIssuer")
        if self.oidc and CLUSTER not in str(self.jwt_issuer):
            raise refusal(f"must contain {CLUSTER}: each cluster signs with keys of its own", "jwtIssuer")
        # SPIRE shortens certificates that would outlive a sixth of their CA's life, silently
        for key, value in (("svidTtl", self.svid_ttl), ("refreshHint", self.refresh_hint)):
            if seconds(value) * 6 > seconds(self.ca_ttl):
                raise refusal(f"must be a sixth of caTtl ({self.ca_ttl}) or less, not {value}", key)
        return self

    @property
    def needs_aws(self) -> bool:
        """Whether the servers call AWS, with a role that EKS gives their pods."""
        return self.key_manager == "aws_kms" or self.node_attestor == "aws_iid"

    def issuer_of(self, cluster: str) -> str:
        """The issuer of a cluster's JWT-SVIDs, "" for none."""
        return (self.jwt_issuer or "").replace(CLUSTER, cluster)


class DeadPeers(Model):
    """How soon connections to peers that vanished end."""

    user_timeout: UserTimeout = setting("3s", example="30s", since="0.2")
    """The time in which the peer of an outgoing connection must acknowledge data, from 1s to 5m, or 0s for the
    kernel's quarter of an hour. It also ends an upload to a server that reads nothing for so long."""


class IstioSettings(Model):
    """How Istio is set up."""

    dns_proxy: Flag = setting(True, example=False, since="0.2")
    """Whether proxies answer their pods' DNS queries, so that a service that runs in one cluster only has its
    name in all. Pods take a change when they are recreated."""
    dead_peers: DeadPeers = setting({}, example={"userTimeout": "30s"}, since="0.2")
    """How soon connections to peers that vanished end."""

    plain_envoy: Flag = setting(False, example=True)
    """Whether the proxy image holds upstream Envoy, without Istio's own filters."""
    replicas: Replicas = setting(2, example=3)
    """The number of pods of istiod, of each gateway and of the reader for the peers' istiods, from 1 to 10. They are
    spread over zones and nodes; with one, its loss is an outage until another is ready."""
    trust: Literal["aliases", "strict"] = setting("strict", example="aliases")
    """`aliases` makes a service account one principal wherever it runs, so that an AuthorizationPolicy holds on
    every cluster. `strict` keeps the principals of the clusters apart."""
    authorization: Literal["allow", "default-deny"] = setting("allow", example="default-deny", since="0.2")
    """What happens to calls that no AuthorizationPolicy names. `default-deny` refuses them in the whole mesh,
    and allows what the platform itself needs; the owner of a workload allows its callers. `allow` is the
    default, as it refuses nothing of a mesh whose owners have no policies yet."""
    revision: Revision = setting(
        "",
        example="v1-32",
        replaces="istiod; the one of the former revision stays while `previousRevision` names it",
    )
    """The revision of the istiod that makes new proxies. Without it, or as `default`, istiod has no revision."""
    previous_revision: Revision | None = setting(None, example="default")
    """A revision that stays as it is beside `revision` until all pods have moved."""

    ingress_tls: Flag = setting(False, example=True, since="0.2")
    """Whether Gateways of teams may have the ingress gateway serve certificates from Secrets of `istio-gateways`
    (`credentialName`). Its account may then read the Secrets of that namespace; its pods have no token of the
    account. The hosts of `fedmesh:ingress` need no such right."""
    scope_gateways: Flag = setting(False, example=True, since="0.2")
    """Whether gateways serve only the `Gateway` objects of their own namespace. With false, the `Gateway`
    objects of teams in other namespaces may select the ingress gateway too."""
    migrating: Flag = setting(False, example=True, since="0.2")
    """Whether what version 0.1 made stays beside its successors during the upgrade: the gateways in
    `istio-system`, and the rights of the peers' readers."""

    @field_validator("revision", "previous_revision", mode="after")
    @classmethod
    def _without_a_name(cls, value: str | None) -> str | None:
        return "" if value == UNNAMED_REVISION else value

    @model_validator(mode="after")
    def _revisions_differ(self) -> Self:
        if self.previous_revision == self.revision:
            raise refusal("must differ from revision; remove it when it is unused", "previousRevision")
        return self

    @model_validator(mode="after")
    def _one_change_at_a_time(self) -> Self:
        if not self.migrating:
            return self
        if self.authorization != "allow":
            # the policies know the gateways of istio-gateways only
            raise refusal("must be allow while migrating is true", "authorization")
        if self.previous_revision is not None:
            raise refusal(
                "must be unset while migrating is true: change one after the other", "previousRevision"
            )
        return self


class OutlierDetection(Model):
    """When an endpoint that fails gets no calls any more."""

    consecutive_5xx: Failures = setting(0, alias="consecutive5xxErrors", example=5)
    """The number of 5xx answers in a row after which an endpoint is ejected, from 0 (never) to 1000. An app's
    own 500 counts."""
    consecutive_gateway: Failures = setting(5, alias="consecutiveGatewayErrors", example=3, since="0.2")
    """The number of 502, 503 and 504 answers in a row after which an endpoint is ejected, from 0 (never) to
    1000."""
    consecutive_local_failures: LocalFailures = setting(2, alias="consecutiveLocalOriginFailures", example=3)
    """The number of failed connections in a row after which an endpoint is ejected, from 1 to 1000. Requests at
    once that run into a time-out of their own count, too."""
    interval: ProxyDuration = setting("1s", example="5s")
    """The time between two checks of the endpoints, from 1ms to 1h."""
    base_ejection: ProxyDuration = setting("5s", alias="baseEjectionTime", example="1m")
    """The time for which an endpoint is ejected, multiplied by its ejections so far, from 1ms to 1h."""


class Retries(Model):
    """How often and when a failed request is sent again, to another endpoint where there is one."""

    attempts: Attempts = setting(4, example=2)
    """The number of retries of one request, from 0 to 20."""
    per_try_timeout: ProxyDuration | None = setting(None, example="5s")
    """The time in which each attempt must be answered, from 1ms to 1h. It ends slow answers and silent gRPC
    streams."""
    retry_on: RetryConditions = setting(
        "connect-failure,refused-stream,reset-before-request", example="connect-failure,refused-stream,503"
    )
    """The conditions of Envoy under which a request is retried. With the default ones it can't have reached the
    app."""


class RetryBudget(Model):
    """How many of a proxy's retries to one service may be under way at a time, so that they make no overload worse."""

    percent: Percent = setting(10, example=20)
    """Their share of the requests of the last `interval`, from 0 to 100. With the defaults, as many requests as come
    in a second may fail at once and be sent again."""
    min_concurrency: Limit = setting(20, example=100)
    """The number that may always be under way, from 1."""
    interval: BudgetInterval = setting("10s", example="30s")
    """The time whose requests count, from 1s to 1h."""


class FailoverSpec(Model):
    """How fast a call leaves a failing endpoint for another, and a failing cluster for the others."""

    connect_timeout: ProxyDuration = setting("1s", example="500ms")
    """The time within which a connection must be made, from 1ms to 1h."""
    outlier_detection: OutlierDetection = setting({}, example={"consecutive5xxErrors": 5})
    """When an endpoint that fails gets no calls any more."""
    retries: Retries = setting({}, example={"attempts": 2})
    """How often and when a failed request is sent again."""
    retry_budget: RetryBudget = setting({}, example={"percent": 20}, since="0.2")
    """How many retries of a proxy to one service may be under way at a time. An owner's own DestinationRule takes the
    place of this by `retryBudget`, and has no budget without."""


class FailoverSettings(FailoverSpec):
    """How fast calls leave a failing endpoint or cluster, for every service of the mesh and for single hosts."""

    hosts: Mapping[Host, FailoverSpec] = setting(
        {}, example={"helloworld.helloworld.svc.cluster.local": {"connectTimeout": "2s"}}
    )
    """Settings for single hosts, by host. A host has the values of the whole mesh where it sets none. A host
    that begins with `*.` stands for all services below, and can't have `retries` of its own."""

    @model_validator(mode="before")
    @classmethod
    def _hosts_inherit(cls, raw: object) -> object:
        if not isinstance(raw, Mapping):
            return raw
        section = cast(Mapping[str, object], raw)
        hosts = section.get("hosts")
        if not isinstance(hosts, Mapping):
            return section
        inherited = {
            key: section[key]
            for key in ("connectTimeout", "outlierDetection", "retries", "retryBudget")
            if key in section
        }
        own = cast(Mapping[str, object], hosts)
        return {**section, "hosts": {host: _merged(inherited, own[host]) for host in own}}

    @model_validator(mode="after")
    def _wildcards_are_possible(self) -> Self:
        for host, spec in self.hosts.items():
            if host == EVERY_HOST:
                raise refusal("is the whole mesh: set its values above, not under hosts", "hosts", host)
            # a route can't lead to a wildcard: Istio would have no cluster to send the request to
            if host.startswith("*") and spec.retries != self.retries:
                raise refusal("can't be set for a wildcard host: name each host", "hosts", host, "retries")
        return self


def _merged(inherited: object, own: object) -> object:
    if own is None:
        return inherited
    if not (isinstance(inherited, Mapping) and isinstance(own, Mapping)):
        return own
    below, above = cast(Mapping[str, object], inherited), cast(Mapping[str, object], own)
    return {**below, **{key: _merged(below.get(key), value) for key, value in above.items()}}


class SampleSettings(Model):
    """The sample applications."""

    enabled: Flag = setting(True, example=False, replaces="nothing; the samples are installed or removed")
    """Whether the samples sleep and helloworld are installed. The clusters take turns with the versions of
    helloworld."""


class Dashboards(Model):
    """One program that shows what Prometheus knows."""

    enabled: Flag = setting(False, example=True)
    """Whether it is installed."""


class ObservabilitySettings(Model):
    """Prometheus with alert rules on every cluster, and dashboards for it."""

    enabled: Flag = setting(True, example=False)
    """Whether Prometheus is installed on every cluster."""
    retention: Annotated[Duration, Between("2h", "43800h")] = setting("168h", example="720h")
    """How long Prometheus keeps its data, from 2h to 43800h (5 years)."""
    volume_size: Annotated[Size, Between("512Mi", "16Ti")] = setting(
        "8Gi", example="20Gi", replaces="Prometheus' StatefulSet; a volume that exists keeps its size"
    )
    """The size of the volume of each Prometheus, from 512Mi to 16Ti. The oldest data go when it is full."""
    grafana: Dashboards = setting({}, example={"enabled": True})
    """Grafana, on every cluster."""
    kiali: Dashboards = setting({}, example={"enabled": True})
    """Kiali, on the first cluster, with a view of all clusters."""

    @model_validator(mode="after")
    def _dashboards_have_data(self) -> Self:
        for name, dashboards in (("grafana", self.grafana), ("kiali", self.kiali)):
            if dashboards.enabled and not self.enabled:
                raise refusal("shows the data of Prometheus: set observability.enabled to true as well", name)
        return self
