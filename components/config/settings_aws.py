"""The AWS half of the stack configuration, typed and validated before the first resource.

`parse_eks` reads the `eks` key of one cluster, `parse_aws` the key `fedmesh:aws`, and `check_topology`
what only shows when all clusters are seen together. All are pure: no Pulumi runtime, no network.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from ipaddress import IPv4Network
from typing import Literal

from components.config.aws_facts import REGIONS_BY_PARTITION, partition_of, supported_versions
from components.config.cidr import LARGEST_VPC_PREFIX, SMALLEST_VPC_PREFIX, first_overlap
from components.config.errors import ConfigError
from components.config.settings_section import Section

INSTANCE_TYPE = r"[a-z][a-z0-9-]*\.(nano|micro|small|medium|large|metal|[0-9]*xlarge|metal-[0-9]+xl)"
DOMAIN = r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]*[a-z0-9])?"
ROLE_ARN = r"arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/.+"
POLICY_ARN = r"arn:aws[a-z-]*:iam::[0-9]{12}:policy/[A-Za-z0-9_+=,.@/-]+"
LOG_TYPES = ("api", "audit", "authenticator", "controllerManager", "scheduler")
ADDONS = ("vpc-cni", "kube-proxy", "coredns", "aws-ebs-csi-driver", "eks-pod-identity-agent")
SPIRE_SERVER = "spire-server"
GENERAL = "general"
LATEST = "latest"


@dataclass(frozen=True)
class NodeGroupSpec:
    """One managed node group. Disk in GiB."""

    name: str
    instance_types: tuple[str, ...]
    min_size: int
    desired_size: int
    max_size: int
    spot: bool
    os: str
    disk_size: int

    @property
    def ami_type(self) -> str:
        """The EKS name of the image family; Graviton instance types end their family in `g`."""
        arm = all(kind.split(".")[0].rstrip("nd").endswith("g") for kind in self.instance_types)
        architecture = "ARM_64" if arm else "x86_64"
        return (
            f"BOTTLEROCKET_{architecture}" if self.os == "bottlerocket" else f"AL2023_{architecture}_STANDARD"
        )


@dataclass(frozen=True)
class EksSpec:
    """One EKS cluster with its VPC."""

    version: str
    vpc_cidr: str
    service_cidr: str
    zones: tuple[str, ...]
    nat: str
    public_endpoint_cidrs: tuple[str, ...]
    private_endpoint_cidrs: tuple[str, ...]
    support_type: str
    node_groups: Mapping[str, NodeGroupSpec]
    addons: Mapping[str, str]
    admins: tuple[str, ...]
    log_types: tuple[str, ...]
    flow_log_days: int
    deletion_protection: bool
    ingress_scheme: str

    @property
    def public_endpoint(self) -> bool:
        """The API server answers from outside the VPC, to the listed ranges only."""
        return bool(self.public_endpoint_cidrs)


@dataclass(frozen=True)
class EdgeSpec:
    """How users outside the mesh reach a living cluster. `domain` and `zone_id` are set for route53 only."""

    mode: str
    domain: str
    zone_id: str
    health_port: int
    health_protocol: str
    health_path: str


@dataclass(frozen=True)
class ControllerSpec:
    """The AWS Load Balancer Controller's chart: `chart` is its name in `repository`, or a path."""

    enabled: bool
    chart: str
    repository: str
    version: str


@dataclass(frozen=True)
class AwsSettings:
    """What holds for all EKS clusters of a stack.

    `mesh_cidrs` are ranges outside the stack's VPCs whose hosts belong to the mesh, such as those of existing clusters.
    `permissions_boundary` is the ARN of a policy that bounds every role the program creates, "" for none.
    Without `private_zone` (""), clusters know each other by the addresses of their load balancers alone.
    `mesh` unset stops the program after clusters and storage: the AWS half alone, for a first look.
    """

    join: Literal["peering", "transit-gateway"]
    private_zone: str
    edge: EdgeSpec
    controller: ControllerSpec
    mesh_cidrs: tuple[str, ...]
    permissions_boundary: str
    tags: Mapping[str, str]
    mesh: bool


def parse_eks(raw: object, key: str, source: str, today: date | None = None) -> EksSpec:
    """Reads one cluster's `eks` section.

    Args:
        raw: the parsed mapping.
        key: where it stands, for errors, such as `fedmesh:clusters[0].eks`.
        source: the stack file, for errors.
        today: the day on which the version must be supported, today by default.

    Raises:
        ConfigError: a value is missing, unknown or not allowed.
    """
    section = Section(raw, key, source)
    endpoint = section.section("endpoint")
    spec = EksSpec(
        version=_version(section, today or date.today()),
        vpc_cidr=_vpc_cidr(section),
        service_cidr=_service_cidr(section),
        zones=_zones(section),
        nat=section.choice("nat", ("one", "per-zone"), "one"),
        private_endpoint_cidrs=_private_cidrs(endpoint, "privateCidrs"),
        public_endpoint_cidrs=_endpoint_cidrs(endpoint),
        support_type=section.choice("supportType", ("standard", "extended"), "standard"),
        node_groups=_node_groups(section.section("nodeGroups")),
        addons=_addons(section.section("addons")),
        admins=section.texts("admins", pattern=ROLE_ARN, allowed="ARNs of IAM roles or users"),
        log_types=_log_types(section),
        flow_log_days=section.number("flowLogDays", 30, 1, 3653),
        deletion_protection=section.flag("deletionProtection", False),
        ingress_scheme=section.choice("ingressScheme", ("internet-facing", "internal"), "internet-facing"),
    )
    section.finish()
    return spec


def parse_aws(raw: object, source: str, key: str = "fedmesh:aws") -> AwsSettings:
    """Reads the section that all EKS clusters share. Every key has a default, so `{}` is allowed.

    Raises:
        ConfigError: a value is unknown or not allowed.
    """
    section = Section(raw if raw is not None else {}, key, source)
    join = section.choice("join", ("peering", "transit-gateway"), "peering")
    settings = AwsSettings(
        join="transit-gateway" if join == "transit-gateway" else "peering",
        private_zone=section.text(
            "privateZone", "mesh.internal", f"({DOMAIN})?", 'a domain name, or "" for none'
        ),
        edge=_edge(section.section("edge")),
        controller=_controller(section.section("loadBalancerController")),
        mesh_cidrs=_private_cidrs(section, "meshCidrs"),
        permissions_boundary=section.text(
            "permissionsBoundary", "", POLICY_ARN, "the ARN of an IAM policy of your account"
        ),
        tags={"project": "fedmesh"} | section.text_map("tags"),
        mesh=section.flag("mesh", True),
    )
    section.finish()
    return settings


def check_topology(clusters: Mapping[str, tuple[str, EksSpec]], aws: AwsSettings, source: str) -> None:
    """Refuses what no single cluster shows: overlapping ranges, regions that can't be joined.

    Args:
        clusters: region and spec by cluster name.
        aws: the shared settings.
        source: the stack file, for errors.

    Raises:
        ConfigError: names both offenders.
    """
    for name, (region, spec) in clusters.items():
        _check_region(name, region, spec, source)
    partitions = {name: partition_of(region) for name, (region, _) in clusters.items()}
    if len(set(partitions.values())) > 1:
        listed = ", ".join(f"{name} in {partition}" for name, partition in partitions.items())
        raise ConfigError(
            "fedmesh:clusters[].region", source, f"regions of different partitions can't be joined: {listed}"
        )
    _check_ranges(clusters, source)
    internal = [name for name, (_, spec) in clusters.items() if spec.ingress_scheme == "internal"]
    if aws.edge.mode == "route53" and internal:
        raise ConfigError(
            "fedmesh:aws.edge.mode",
            source,
            f"route53 health checks come from the internet and can't reach the internal ingress of "
            f"{internal[0]}: set its eks.ingressScheme to internet-facing or the mode to none",
        )


def _version(section: Section, today: date) -> str:
    version = section.text("version", None, r"1\.[0-9]{2}", 'a quoted Kubernetes version such as "1.34"')
    supported = supported_versions(today)
    if int(version[2:]) < int(supported[0][2:]):
        raise section.error("version", f"EKS no longer supports {version}: use {supported[0]} or newer")
    return version


def _vpc_cidr(section: Section) -> str:
    cidr = section.cidr("vpcCidr")
    if not LARGEST_VPC_PREFIX <= IPv4Network(cidr).prefixlen <= SMALLEST_VPC_PREFIX:
        raise section.error(
            "vpcCidr", f"must be a /{LARGEST_VPC_PREFIX} to a /{SMALLEST_VPC_PREFIX}, not {cidr}"
        )
    if not IPv4Network(cidr).is_private:
        raise section.error("vpcCidr", f"must be a private range, not {cidr}")
    return cidr


def _service_cidr(section: Section) -> str:
    cidr = section.cidr("serviceCidr")
    if not (12 <= IPv4Network(cidr).prefixlen <= 24 and IPv4Network(cidr).is_private):
        raise section.error("serviceCidr", f"must be a private /12 to /24 range, as EKS asks, not {cidr}")
    return cidr


def _zones(section: Section) -> tuple[str, ...]:
    zones = section.texts(
        "zones", pattern=r"[a-z0-9-]+[0-9][a-z]", allowed="availability zones such as us-east-1a"
    )
    if not 2 <= len(set(zones)) == len(zones) <= 6:
        raise section.error("zones", f"must list 2 to 6 different zones (EKS needs two), not {list(zones)}")
    return zones


def _endpoint_cidrs(endpoint: Section) -> tuple[str, ...]:
    public = endpoint.flag("public", False)
    cidrs = endpoint.texts("cidrs", pattern=r"[0-9.]+/[0-9]+", allowed="IPv4 ranges")
    endpoint.finish()
    if public and not cidrs:
        raise endpoint.error("cidrs", "a public endpoint needs the list of ranges that may reach it")
    if cidrs and not public:
        raise endpoint.error("cidrs", "is only used with public: true")
    if "0.0.0.0/0" in cidrs:
        raise endpoint.error("cidrs", "0.0.0.0/0 opens the API server to everybody: list your own ranges")
    return cidrs


def _private_cidrs(section: Section, name: str) -> tuple[str, ...]:
    cidrs = section.texts(name, pattern=r"[0-9.]+/[0-9]+", allowed="IPv4 ranges")
    for cidr in cidrs:
        try:
            private = IPv4Network(cidr).is_private
        except ValueError as error:
            raise section.error(name, f"must hold IPv4 ranges such as 10.2.0.0/16: {error}") from None
        if not private:
            raise section.error(name, f"must hold private ranges, not {cidr}")
    return cidrs


def _node_groups(groups: Section) -> dict[str, NodeGroupSpec]:
    for name in (GENERAL, SPIRE_SERVER):
        if not groups.has(name):
            raise groups.error(
                name, f"is missing: every cluster needs the node groups {GENERAL} and {SPIRE_SERVER}"
            )
    return {name: _node_group(name, groups.section(name)) for name in groups.names()}


def _node_group(name: str, group: Section) -> NodeGroupSpec:
    spec = NodeGroupSpec(
        name=name,
        instance_types=group.texts(
            "instanceTypes", ("m5.large",), INSTANCE_TYPE, "instance types such as m5.large"
        ),
        min_size=group.number("min", 1, 0, 450),
        desired_size=group.number("desired", 1 if name == SPIRE_SERVER else 2, 0, 450),
        max_size=group.number("max", 2 if name == SPIRE_SERVER else 4, 1, 450),
        spot=group.flag("spot", False),
        os=group.choice("os", ("al2023", "bottlerocket"), "al2023"),
        disk_size=group.number("diskSize", 50, 20, 16384),
    )
    group.finish()
    if not spec.min_size <= spec.desired_size <= spec.max_size:
        raise group.error(
            "desired",
            f"must be min <= desired <= max, not {spec.min_size}, {spec.desired_size}, {spec.max_size}",
        )
    if not spec.instance_types:
        raise group.error("instanceTypes", "must list one type at least")
    return spec


def _addons(addons: Section) -> dict[str, str]:
    pattern = rf"{LATEST}|v[0-9]+\.[0-9]+\.[0-9]+-eksbuild\.[0-9]+"
    versions = {
        name: addons.text(name, LATEST, pattern, f"{LATEST} or a version such as v1.11.4-eksbuild.2")
        for name in ADDONS
    }
    addons.finish()
    return versions


def _log_types(section: Section) -> tuple[str, ...]:
    return section.texts("logTypes", LOG_TYPES, "|".join(LOG_TYPES), f"some of {', '.join(LOG_TYPES)}")


def _edge(edge: Section) -> EdgeSpec:
    mode = edge.choice("mode", ("none", "route53", "global-accelerator"), "none")
    spec = EdgeSpec(
        mode=mode,
        domain=edge.text("domain", "", DOMAIN, "the domain name that users call"),
        zone_id=edge.text(
            "hostedZoneId", "", r"Z[A-Z0-9]+", "the id of a public hosted zone such as Z0123456789ABC"
        ),
        health_port=edge.number("healthPort", 15021, 1, 65535),
        health_protocol=edge.choice("healthProtocol", ("http", "https", "tcp"), "http"),
        health_path=edge.text("healthPath", "/healthz/ready", r"/\S{0,254}", "a path such as /healthz"),
    )
    edge.finish()
    for name, value in (("domain", spec.domain), ("hostedZoneId", spec.zone_id)):
        if mode == "route53" and not value:
            raise edge.error(name, "is missing: the mode route53 needs domain and hostedZoneId")
    return spec


def _controller(controller: Section) -> ControllerSpec:
    spec = ControllerSpec(
        enabled=controller.flag("enabled", True),
        chart=controller.text("chart", "aws-load-balancer-controller"),
        repository=controller.text("repository", "https://aws.github.io/eks-charts"),
        version=controller.text(
            "version", "1.14.0", r"[0-9]+\.[0-9]+\.[0-9]+", "a chart version such as 1.14.0"
        ),
    )
    controller.finish()
    return spec


def _check_region(name: str, region: str, spec: EksSpec, source: str) -> None:
    if partition_of(region) is None:
        known = ", ".join(sorted(REGIONS_BY_PARTITION["aws"]))
        raise ConfigError(
            f"fedmesh:clusters[{name}].region", source, f"{region!r} is no AWS region: {known}, ..."
        )
    foreign = next((zone for zone in spec.zones if not zone.startswith(region)), None)
    if foreign:
        raise ConfigError(
            f"fedmesh:clusters[{name}].eks.zones", source, f"{foreign} is not in the region {region}"
        )


def _check_ranges(clusters: Mapping[str, tuple[str, EksSpec]], source: str) -> None:
    ranges = {f"{name}.eks.vpcCidr": spec.vpc_cidr for name, (_, spec) in clusters.items()}
    ranges |= {f"{name}.eks.serviceCidr": spec.service_cidr for name, (_, spec) in clusters.items()}
    overlap = first_overlap(ranges)
    if overlap:
        one, other = overlap
        raise ConfigError(
            f"fedmesh:clusters[{one}]",
            source,
            f"{ranges[one]} overlaps {ranges[other]} of {other}; joined networks need disjoint ranges",
        )
