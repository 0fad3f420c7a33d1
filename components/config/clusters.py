"""The settings of one cluster, and what holds for all clusters of a stack together."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Self, cast

from pydantic import model_validator

from components.config.accounts import AccountSpec
from components.config.aws import AwsSettings
from components.config.aws_facts import (
    ENDPOINT_RANGES,
    LONGEST_CLUSTER_NAME,
    REGIONS_BY_PARTITION,
    ZONE_LETTERS,
    partition_of,
)
from components.config.cidr import first_overlap
from components.config.eks import EksSpec
from components.config.fields import DnsLabel, Flag, Matching, Model, refusal, setting

TrustDomain = Annotated[
    str, Matching("a SPIFFE trust domain (a-z, 0-9, '.', '-', '_')", r"^[a-z0-9._-]{1,255}$")
]
Region = Annotated[str, Matching("a region such as us-east-1", r"^[A-Za-z0-9._-]{1,63}$")]
Zone = Annotated[str, Matching("a zone such as us-east-1a", r"^[A-Za-z0-9._-]{0,63}$")]
ApiServer = Annotated[str, Matching("a URL such as https://10.90.0.11:6443", r"^(https://.+)?$")]
KubeconfigPath = Annotated[str, Matching("the path of a kubeconfig file", r"^.+$")]
Context = Annotated[str, Matching("the name of a context in that file", r"^.*$")]


class KubeconfigSpec(Model):
    """The kubeconfig of a cluster that exists."""

    path: KubeconfigPath = setting(example="~/.kube/config")
    """The path of the kubeconfig file, relative to the project; `~` is the home folder."""
    context: Context = setting("", example="production", default_text="the current context")
    """The name of a context in that file."""

    def file(self, project: Path) -> Path:
        """Where the kubeconfig is, for a project in a folder."""
        return project / Path(self.path).expanduser()


NodeFolder = Annotated[str, Matching("a folder of the node such as /opt/cni/bin", r"^/[^ ]*$")]


class CniSettings(Model):
    """Istio's CNI plugin on the nodes of one cluster.

    It redirects a pod's calls to its proxy in place of a container with NET_ADMIN in each pod, so that namespaces of
    the mesh may have the Pod Security level `restricted`.
    """

    enabled: Flag = setting(False, example=True, since="0.2")
    """Whether the plugin is installed. It is chained to the cluster's own CNI plugin, so nodes must let
    DaemonSets change their CNI configuration. Pods change over when they are recreated."""
    bin_dir: NodeFolder = setting("/opt/cni/bin", example="/var/lib/rancher/k3s/data/cni", since="0.2")
    """The nodes' folder of CNI plugins."""
    conf_dir: NodeFolder = setting(
        "/etc/cni/net.d", example="/var/lib/rancher/k3s/agent/etc/cni/net.d", since="0.2"
    )
    """The nodes' folder of CNI configurations."""


class ClusterSpec(Model):
    """One cluster of the mesh: it exists (`kubeconfig`), or it is made (`eks`)."""

    name: DnsLabel = setting(
        description="The cluster's name in the mesh, in Istio and in the names of its resources. An EKS cluster's name "
        f"has {LONGEST_CLUSTER_NAME} characters at most.",
        example="cluster-1",
        replaces="all that the cluster has, an EKS cluster and its network included",
    )
    alias: DnsLabel = setting("", example="production-1", default_text="the name")
    """The name of the cluster's context in the kubeconfig that the stack exports."""
    trust_domain: TrustDomain = setting(example="cluster-1.example.com")
    """The SPIFFE trust domain of the cluster's SPIRE. All workloads get new identities when it changes."""
    network: DnsLabel = setting(example="network-1")
    """The Istio network that the cluster's pods are in, one for each cluster."""
    region: Region = setting(
        example="us-east-1", replaces="an EKS cluster and its network; nothing of a cluster that exists"
    )
    """The region; for EKS clusters, an AWS region."""
    zone: Zone = setting("", example="us-east-1a")
    """The zone of a cluster that exists, for information."""
    api_server: ApiServer = setting("", example="https://10.90.0.11:6443", default_text="the kubeconfig's")
    """The URL under which Kiali on the first cluster reaches the API server."""
    kubeconfig: KubeconfigSpec | None = setting(
        None, example={"path": "~/.kube/config", "context": "production"}
    )
    """The kubeconfig of a cluster that exists. Exactly one of `kubeconfig` and `eks` is set."""
    eks: EksSpec | None = setting(
        None,
        example={
            "version": "1.36",
            "vpcCidr": "10.2.0.0/16",
            "serviceCidr": "172.20.0.0/16",
            "zones": ["us-east-1a", "us-east-1b"],
            "nodeGroups": {"general": {}, "spire-server": {}},
        },
    )
    """An EKS cluster to make. Exactly one of `kubeconfig` and `eks` is set."""
    istio_cni: CniSettings = setting({}, example={"enabled": True}, since="0.2")
    """Istio's CNI plugin on the nodes of this cluster."""
    down: Flag = setting(False, example=True)
    """Whether the cluster does not answer for now. Nothing on it is read or changed then, and the other
    clusters use its last known state."""

    drained: Flag = setting(False, example=True, since="0.2")
    """Whether the other clusters and the edge send no new calls to the cluster, as before it is maintained or leaves.
    Calls and connections that it has are not cut, its own callers stay. `fedmesh drain` sets this and takes the
    cluster out of the rotation at once."""

    @model_validator(mode="before")
    @classmethod
    def _one_origin(cls, raw: object) -> object:
        if not isinstance(raw, Mapping):
            return raw
        given = cast(Mapping[str, object], raw)
        if (given.get("kubeconfig") is None) == (given.get("eks") is None):
            raise refusal("set exactly one of kubeconfig and eks", "kubeconfig")
        if given.get("alias") is None and isinstance(given.get("name"), str):
            return {**given, "alias": given["name"]}
        return given

    @model_validator(mode="after")
    def _place_on_aws(self) -> Self:
        if self.eks is None:
            return self
        if len(self.name) > LONGEST_CLUSTER_NAME:
            raise refusal(
                f"must have {LONGEST_CLUSTER_NAME} characters at most, as IAM roles are named after it, not "
                f"{len(self.name)}",
                "name",
            )
        partition = partition_of(self.region)
        if partition is None:
            known = ", ".join(sorted(REGIONS_BY_PARTITION["aws"]))
            raise refusal(f"{self.region!r} is not an AWS region: {known}, ...", "region")
        for place, zone in enumerate(self.eks.zones):
            if not zone.startswith(self.region):
                raise refusal(f"{zone} is not in the region {self.region}", "eks", "zones", place)
            if zone.removeprefix(self.region) not in tuple(ZONE_LETTERS):
                raise refusal(
                    f"{zone} is not an availability zone of {self.region}: the region and a letter from a to "
                    f"{ZONE_LETTERS[-1]}; EKS has no control plane in local zones",
                    *("eks", "zones", place),
                )
        for place, arn in enumerate(self.eks.admins):
            if arn.split(":")[1] != partition:
                raise refusal(
                    f"{arn} is not of the partition {partition}, which has {self.region}",
                    "eks",
                    "admins",
                    place,
                )
        role = self.eks.account.role_arn if self.eks.account else ""
        if role and role.split(":")[1] != partition:
            raise refusal(
                f"{role} is not of the partition {partition}, which has {self.region}",
                *("eks", "account", "roleArn"),
            )
        return self


CALLS_FROM_THE_INTERNET = {
    "route53": "route53 health checks come",
    "origin-failover": "CloudFront calls",
}


def check_clusters(clusters: Sequence[ClusterSpec], aws: AwsSettings) -> None:
    """Refuses what no single cluster shows. The paths of the refusals are those of the whole configuration.

    Args:
        clusters: all clusters, in the order of the file.
        aws: the settings that EKS clusters share.

    Raises:
        PydanticCustomError: names all offenders.
    """
    for key in ("name", "alias", "trustDomain", "network"):
        _check_unique(clusters, key)
    if all(cluster.down for cluster in clusters):
        raise refusal("must be false: with every cluster down nothing can be done", "clusters", 0, "down")
    if all(cluster.drained or cluster.down for cluster in clusters):
        raise refusal("must be false: one cluster at least must take calls", "clusters", 0, "drained")
    made = [(place, cluster, cluster.eks) for place, cluster in enumerate(clusters) if cluster.eks]
    _check_partitions([(place, cluster) for place, cluster, _ in made])
    _check_ranges(made)
    _check_callers(made)
    _check_routes(made, aws)
    _check_gateway(made, aws)
    _check_edge(made, aws)
    _check_accounts(made, aws)


def _check_unique(clusters: Sequence[ClusterSpec], key: str) -> None:
    seen: dict[str, str] = {}
    for place, cluster in enumerate(clusters):
        value = str(cluster.model_dump(include={_attribute(key)}, by_alias=True)[key])
        if value in seen:
            raise refusal(
                f"must be unique: {value} is the {key} of {seen[value]} and of {cluster.name}",
                *("clusters", place, key),
            )
        seen[value] = cluster.name


def _attribute(key: str) -> str:
    return "trust_domain" if key == "trustDomain" else key


Made = Sequence[tuple[int, ClusterSpec, EksSpec]]


def _check_partitions(made: Sequence[tuple[int, ClusterSpec]]) -> None:
    partitions = {cluster.name: partition_of(cluster.region) for _, cluster in made}
    if len(set(partitions.values())) > 1:
        listed = ", ".join(f"{name} in {partition}" for name, partition in partitions.items())
        first = partition_of(made[0][1].region)
        place = next(place for place, cluster in made if partition_of(cluster.region) != first)
        raise refusal(
            f"regions of different partitions can't be joined: {listed}", "clusters", place, "region"
        )


def _check_ranges(made: Made) -> None:
    ranges = {(place, "vpcCidr"): eks.vpc_cidr for place, _, eks in made}
    ranges |= {(place, "serviceCidr"): eks.service_cidr for place, _, eks in made}
    overlap = first_overlap(ranges)
    if overlap:
        one, other = overlap
        names = {place: cluster.name for place, cluster, _ in made}
        raise refusal(
            f"{ranges[one]} overlaps {ranges[other]}, the {other[1]} of {names[other[0]]}; joined networks need "
            "disjoint ranges",
            *("clusters", one[0], "eks", one[1]),
        )


def _check_callers(made: Made) -> None:
    for place, cluster, eks in made:
        peers = sum(peer.addresses_on_the_internet for _, other, peer in made if other.name != cluster.name)
        if eks.endpoint.public and len(eks.endpoint.cidrs) + peers > ENDPOINT_RANGES:
            raise refusal(
                f"must be {max(ENDPOINT_RANGES - peers, 0)} ranges at most: EKS takes {ENDPOINT_RANGES}, and the "
                f"peers' NAT gateways need {peers}",
                *("clusters", place, "eks", "endpoint", "cidrs"),
            )


def _check_routes(made: Made, aws: AwsSettings) -> None:
    """An existing network joins the others by routes in tables that the stack names, or by nothing of the stack's."""
    for place, cluster, eks in made:
        if not eks.network or len(made) < 2:
            continue
        path = ("clusters", place, "eks", "network", "routeTableIds")
        if aws.join == "none" and eks.network.route_table_ids:
            raise refusal("is not used with fedmesh:aws: {join: none}, which makes no routes", *path)
        if aws.join != "none" and not eks.network.route_table_ids:
            raise refusal(
                f"is missing: {aws.join} needs the route tables of {cluster.name} that lead to the other networks; or "
                "set fedmesh:aws: {join: none} where something else joins them",
                *path,
            )


def _check_gateway(made: Made, aws: AwsSettings) -> None:
    regions = sorted({cluster.region for _, cluster, _ in made})
    if aws.transit_gateway_id and len(regions) > 1:
        raise refusal(
            f"joins the networks of one region, and the stack's are in {', '.join(regions)}: leave it out, and a "
            "gateway is made in each; or use peering, or none where something else joins them",
            *("aws", "transitGatewayId"),
        )


def _check_edge(made: Made, aws: AwsSettings) -> None:
    mode = aws.edge.mode
    if mode == "none":
        return
    least = 1 if mode == "global-accelerator" else 2
    if len(made) < least:
        clusters = f"{least} EKS clusters or more" if least > 1 else "an EKS cluster"
        raise refusal(
            f"{mode} needs {clusters}, and the stack has {len(made)}: set it to none", "aws", "edge", "mode"
        )
    internal = [cluster.name for _, cluster, eks in made if eks.ingress_scheme == "internal"]
    if mode in CALLS_FROM_THE_INTERNET and internal:
        raise refusal(
            f"{CALLS_FROM_THE_INTERNET[mode]} from the internet and can't reach the internal ingress of {internal[0]}: "
            "set its eks.ingressScheme to internet-facing or the mode to none",
            *("aws", "edge", "mode"),
        )


def _check_accounts(made: Made, aws: AwsSettings) -> None:
    accounts: dict[str, tuple[str, AccountSpec | None]] = {}
    for place, cluster, eks in made:
        other, account = accounts.setdefault(eks.account_label, (cluster.name, eks.account))
        if account != eks.account:
            raise refusal(
                f"is another role of the account of {other}: give both clusters the same",
                *("clusters", place, "eks", "account", "roleArn"),
            )
    if len(accounts) < 2:
        return
    listed = ", ".join(name for name, _ in accounts.values())
    if aws.join == "transit-gateway":
        raise refusal(
            f"transit-gateway joins networks of one AWS account, and {listed} are in several: use peering, or "
            "none where something else joins them",
            *("aws", "join"),
        )
    if aws.edge.mode == "global-accelerator":
        raise refusal(
            f"global-accelerator takes load balancers of one AWS account, and {listed} are in several: use route53, "
            "origin-failover or none",
            *("aws", "edge", "mode"),
        )
