"""The settings of one EKS cluster."""

from collections.abc import Mapping, Sequence
from datetime import date
from ipaddress import IPv4Network
from typing import Annotated, Literal, Self, cast

from pydantic import (
    AfterValidator,
    Field,
    Strict,
    ValidationInfo,
    field_validator,
    model_validator,
)

from components.config.accounts import AccountSpec
from components.config.aws_facts import (
    KUBERNETES_VERSIONS,
    LOG_DAYS,
    MINORS_AHEAD,
    architecture_of,
    supported_versions,
)
from components.config.cidr import (
    LARGEST_VPC_PREFIX,
    SMALLEST_VPC_PREFIX,
    addresses_in,
    is_private,
    reserved_for,
)
from components.config.fields import (
    Cidr,
    DnsLabel,
    Flag,
    Matching,
    Model,
    PrivateCidr,
    Rule,
    refusal,
    setting,
    whole,
)

SPIRE_SERVER = "spire-server"
GENERAL = "general"
LATEST = "latest"

# One range for the callers of a public API server, and all ranges together: no larger than this.
LARGEST_CALLERS_PREFIX = 8
MOST_INSTANCE_TYPES = 20
MOST_SUBNETS = 16  # of one cluster

InstanceType = Annotated[
    str,
    Matching(
        "an instance type such as m5.large",
        r"^[a-z][a-z0-9-]*\.(nano|micro|small|medium|large|metal|[0-9]*xlarge|metal-[0-9]+xl)$",
    ),
]
PrincipalArn = Annotated[
    str,
    Matching(
        "the ARN of an IAM role or user such as arn:aws:iam::123456789012:role/platform-admin",
        r"^arn:aws(-cn|-us-gov)?:iam::[0-9]{12}:(role|user)/([A-Za-z0-9_+=,.@-]+/)*[A-Za-z0-9_+=,.@-]{1,64}$",
    ),
]
Version = Annotated[str, Matching('a quoted Kubernetes version such as "1.36"', r"^1\.[0-9]{2}$")]
Zone = Annotated[str, Matching("an availability zone such as us-east-1a", r"^[a-z0-9-]+$")]
AddonVersion = Annotated[
    str,
    Matching(
        f"{LATEST} or a version such as v1.11.4-eksbuild.2",
        rf"^({LATEST}|v[0-9]+\.[0-9]+\.[0-9]+-eksbuild\.[0-9]+)$",
    ),
]


def _public(address: str) -> str:
    use = reserved_for(f"{address}/32")
    if use or is_private(f"{address}/32"):
        raise refusal(f"must be an address on the internet, not {address}")
    return address


PublicAddress = Annotated[
    str,
    Matching(
        "an IPv4 address", r"^(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}$"
    ),
    AfterValidator(_public),
]
VpcId = Annotated[str, Matching("a VPC's id such as vpc-0123456789abcdef0", r"^vpc-[0-9a-f]{8,17}$")]
SubnetId = Annotated[
    str, Matching("a subnet's id such as subnet-0123456789abcdef0", r"^subnet-[0-9a-f]{8,17}$")
]
RouteTableId = Annotated[
    str, Matching("a route table's id such as rtb-0123456789abcdef0", r"^rtb-[0-9a-f]{8,17}$")
]
Nodes = Annotated[int, whole(0, 450)]
MostNodes = Annotated[int, whole(1, 450)]
DiskSize = Annotated[int, whole(20, 16384)]


def _log_days(value: int) -> int:
    if value not in LOG_DAYS:
        raise refusal(f"must be one of {', '.join(map(str, LOG_DAYS))}, as CloudWatch asks, not {value}")
    return value


LogDays = Annotated[
    int,
    Strict(),
    Field(ge=LOG_DAYS[0], le=LOG_DAYS[-1]),
    Rule(f"one of {', '.join(map(str, LOG_DAYS))}"),
    AfterValidator(_log_days),
]
LogType = Literal["api", "audit", "authenticator", "controllerManager", "scheduler"]
ALL_LOGS: tuple[LogType, ...] = ("api", "audit", "authenticator", "controllerManager", "scheduler")


class NodeGroupSpec(Model):
    """One managed node group."""

    instance_types: tuple[InstanceType, ...] = setting(
        ("m5.large",), example=["m7g.large", "m6g.large"], replaces="the node group"
    )
    """Instance types of one architecture, the preferred first, 1 to 20."""
    min_size: Nodes = setting(1, alias="min", example=2)
    """The least number of nodes, from 0 to 450."""
    desired_size: Nodes = setting(2, alias="desired", example=3, default_text="2, `spire-server`: 1")
    """The number of nodes to begin with, from `min` to `max`."""
    max_size: MostNodes = setting(4, alias="max", example=6, default_text="4, `spire-server`: 2")
    """The largest number of nodes, from 1 to 450."""
    spot: Flag = setting(False, example=True, replaces="the node group")
    """Whether the nodes are spot instances, which AWS may take back at any time."""
    os: Literal["al2023", "bottlerocket"] = setting(
        "al2023", example="bottlerocket", replaces="the node group"
    )
    """The nodes' operating system."""
    autoscaled: Flag = setting(False, example=True, since="0.2")
    """Whether an autoscaler of yours sets the number of nodes; `desired` is then the number to begin with."""
    patched: Flag = setting(False, example=True, since="0.2")
    """Whether `up` moves the nodes to EKS's newest image for the cluster's version, one node after the other. Otherwise
    images change with the version alone."""
    disk_size: DiskSize = setting(50, example=100, replaces="the nodes, one after the other")
    """The size of each node's disk in GiB, from 20 to 16384."""

    @field_validator("instance_types", mode="after")
    @classmethod
    def _one_architecture(cls, types: tuple[str, ...]) -> tuple[str, ...]:
        if not 1 <= len(types) <= MOST_INSTANCE_TYPES:
            raise refusal(f"must list 1 to {MOST_INSTANCE_TYPES} instance types, not {len(types)}")
        architectures = {each: architecture_of(each) for each in types}
        if len(set(architectures.values())) > 1:
            listed = ", ".join(f"{each} is {architecture}" for each, architecture in architectures.items())
            raise refusal(f"must be of one architecture, as a node group has one image: {listed}")
        return types

    @model_validator(mode="after")
    def _sizes_are_in_order(self) -> Self:
        if not self.min_size <= self.desired_size <= self.max_size:
            sizes = f"{self.min_size}, {self.desired_size}, {self.max_size}"
            raise refusal(f"must be min <= desired <= max, not {sizes}", "desired")
        return self

    def release_parameter(self, version: str) -> str:
        """The public parameter in which AWS publishes the newest image's version for a Kubernetes version."""
        architecture = architecture_of(self.instance_types[0])
        if self.os == "bottlerocket":
            return f"/aws/service/bottlerocket/aws-k8s-{version}/{architecture}/latest/image_version"
        return (
            f"/aws/service/eks/optimized-ami/{version}/amazon-linux-2023/{architecture}/standard/recommended/"
            "release_version"
        )

    @property
    def ami_type(self) -> str:
        """The EKS name of the image family that goes with operating system and architecture."""
        architecture = "ARM_64" if architecture_of(self.instance_types[0]) == "arm64" else "x86_64"
        return (
            f"BOTTLEROCKET_{architecture}" if self.os == "bottlerocket" else f"AL2023_{architecture}_STANDARD"
        )


class EndpointSpec(Model):
    """From where the Kubernetes API server of an EKS cluster can be reached."""

    public: Flag = setting(False, example=True)
    """Whether the API server also answers from the internet, to the ranges in `cidrs` and the clusters of the
    mesh alone."""
    cidrs: tuple[Cidr, ...] = setting((), example=["<your address>/32"])
    """The ranges on the internet that may call a public API server, such as your office's, as small as
    possible. Each is a /8 or smaller, and all together have no more addresses than a /8. Reserved ranges are
    refused, as EKS refuses them. A public API server needs one at least."""

    private_cidrs: tuple[PrivateCidr, ...] = setting((), example=["10.100.0.0/16"], since="0.2")
    """Private ranges outside the mesh that may call the API server inside the networks, such as those of a VPN
    or of build machines. The clusters' own networks always reach it."""

    @field_validator("cidrs", mode="after")
    @classmethod
    def _callers_on_the_internet(cls, cidrs: tuple[str, ...]) -> tuple[str, ...]:
        for place, cidr in enumerate(cidrs):
            if cidr == "0.0.0.0/0":
                raise refusal("0.0.0.0/0 opens the API server to everybody: list your own ranges", place)
            if IPv4Network(cidr).prefixlen < LARGEST_CALLERS_PREFIX:
                raise refusal(
                    f"{cidr} opens the API server to a large part of the internet: list your own ranges, each a "
                    f"/{LARGEST_CALLERS_PREFIX} or smaller",
                    place,
                )
            use = reserved_for(cidr)
            if use:
                raise refusal(
                    f"{cidr} is or holds a range reserved for {use}, which EKS refuses: list ranges on the internet",
                    place,
                )
        if addresses_in(cidrs) > IPv4Network((0, LARGEST_CALLERS_PREFIX)).num_addresses:
            raise refusal(
                f"together the ranges are larger than a /{LARGEST_CALLERS_PREFIX}: list your own ranges alone"
            )
        return cidrs

    @model_validator(mode="after")
    def _ranges_go_with_public(self) -> Self:
        if self.public and not self.cidrs:
            raise refusal(
                "a public endpoint needs the list of ranges that may reach it, such as that of your own address",
                "cidrs",
            )
        if self.cidrs and not self.public:
            raise refusal("is only used with public: true", "cidrs")
        return self


class AddonVersions(Model):
    """The versions of the addons of an EKS cluster."""

    vpc_cni: AddonVersion = setting(LATEST, alias="vpc-cni", example="v1.22.4-eksbuild.3")
    """The VPC CNI, which gives pods their addresses."""
    kube_proxy: AddonVersion = setting(LATEST, alias="kube-proxy", example="v1.36.0-eksbuild.17")
    """kube-proxy, at most as new as the cluster."""
    coredns: AddonVersion = setting(LATEST, example="v1.14.3-eksbuild.14")
    """CoreDNS."""
    aws_ebs_csi_driver: AddonVersion = setting(
        LATEST, alias="aws-ebs-csi-driver", example="v1.65.0-eksbuild.1"
    )
    """The driver of EBS volumes."""
    eks_pod_identity_agent: AddonVersion = setting(
        LATEST, alias="eks-pod-identity-agent", example="v1.3.10-eksbuild.3"
    )
    """The agent that gives pods their IAM roles."""

    def of(self, addon: str) -> str:
        """The version of an addon by the name that EKS gives it: as pinned, or `latest`."""
        return cast(str, getattr(self, addon.replace("-", "_")))


class ExistingNetwork(Model):
    """A VPC that exists already, with the subnets that EKS and load balancers use."""

    vpc_id: VpcId = setting(example="vpc-0123456789abcdef0", replaces="the cluster", since="0.2")
    """The VPC. It resolves names and gives hosts names (`enableDnsSupport`, `enableDnsHostnames`)."""
    private_subnet_ids: tuple[SubnetId, ...] = setting(
        example=["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"],
        replaces="the node groups, and the cluster where EKS takes no other subnets",
        since="0.2",
    )
    """The subnets of nodes and control plane, in two zones at least, with a way to the internet or to VPC endpoints,
    and tagged `kubernetes.io/role/internal-elb: 1`. SPIRE's server and its volume are in the zone of the first."""
    public_subnet_ids: tuple[SubnetId, ...] = setting(
        (),
        example=["subnet-0123456789abcdef2", "subnet-0123456789abcdef3"],
        replaces="the cluster where EKS takes no other subnets",
        since="0.2",
    )
    """The subnets of load balancers on the internet, tagged `kubernetes.io/role/elb: 1`. An `internal` ingress needs
    none."""
    route_table_ids: tuple[RouteTableId, ...] = setting((), example=["rtb-0123456789abcdef0"], since="0.2")
    """The route tables that get a route to every other cluster's network. Not used with `join: none`."""
    nat_addresses: tuple[PublicAddress, ...] = setting((), example=["52.10.20.30"], since="0.2")
    """The public addresses from which the private subnets reach the internet: peers with a public API server let them
    in."""

    @field_validator("private_subnet_ids", mode="after")
    @classmethod
    def _several_subnets(cls, ids: tuple[str, ...]) -> tuple[str, ...]:
        if not 2 <= len(set(ids)) == len(ids) <= MOST_SUBNETS:
            raise refusal(
                f"must list 2 to {MOST_SUBNETS} different subnets (EKS needs two zones), not {list(ids)}"
            )
        return ids

    @model_validator(mode="after")
    def _a_subnet_is_public_or_private(self) -> Self:
        for place, subnet in enumerate(self.public_subnet_ids):
            if subnet in self.private_subnet_ids:
                raise refusal(f"{subnet} is among the private subnets too", "publicSubnetIds", place)
        return self


class EksSpec(Model):
    """One EKS cluster with its VPC."""

    version: Version = setting(example="1.36")
    """The Kubernetes version, quoted, in EKS's standard support, or with `supportType` in extended support. EKS
    takes one minor version at a time."""
    support_type: Literal["standard", "extended"] = setting("standard", example="extended", since="0.2")
    """Whether EKS keeps the version past its standard support, at extra cost. With `standard` EKS upgrades the
    cluster by itself when standard support ends."""
    account: AccountSpec | None = setting(
        None,
        example={"roleArn": "arn:aws:iam::123456789012:role/fedmesh-deployer"},
        default_text="that of the credentials at hand",
        replaces="the network and the cluster",
        since="0.2",
    )
    """The AWS account of the cluster, where it is not that of the credentials at hand. Clusters of one account have the
    same. The first EKS cluster's account also holds the private zone and the edge."""
    vpc_cidr: Cidr = setting(example="10.2.0.0/16", replaces="the network and the cluster")
    """The private range of the VPC, a /16 to a /22 in the ranges of RFC 1918, disjoint from all other clusters'
    ranges."""
    network: ExistingNetwork | None = setting(
        None,
        example={
            "vpcId": "vpc-0123456789abcdef0",
            "privateSubnetIds": ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"],
            "publicSubnetIds": ["subnet-0123456789abcdef2", "subnet-0123456789abcdef3"],
            "routeTableIds": ["rtb-0123456789abcdef0"],
        },
        default_text="a network is made",
        replaces="the network and the cluster",
        since="0.2",
    )
    """A network that exists, in place of one to make. `vpcCidr` is its range then."""
    service_cidr: Cidr = setting(example="172.20.0.0/16", replaces="the cluster")
    """The range of the cluster's Services, a /12 to a /24 in the ranges of RFC 1918, disjoint from all other
    ranges."""
    zones: tuple[Zone, ...] = setting(
        (),
        example=["us-east-1a", "us-east-1b", "us-east-1c"],
        default_text="required without `network`",
        replaces="subnets; the cluster too where its subnets change",
    )
    """The availability zones by name, 2 to 6, of the cluster's region. Local zones are refused."""
    nat: Literal["one", "per-zone"] = setting(
        "one", example="per-zone", replaces="nothing; NAT gateways are added or removed"
    )
    """Whether the cluster has one NAT gateway or one in each zone."""
    vpc_endpoints: Literal["all", "s3"] = setting("all", example="s3", since="0.2")
    """Which services of AWS nodes reach privately. `all`: those that they need all the time, by interface endpoints,
    which cost money per zone; `s3`: S3 alone, which is free, and the others through NAT."""
    endpoint: EndpointSpec = setting({}, example={"public": True, "cidrs": ["<your address>/32"]})
    """From where the API server can be reached. The networks of the mesh always reach it."""
    auto_mode: Flag = setting(False, example=True, since="0.2")
    """Whether EKS Auto Mode makes, patches and removes the nodes that pods need, by its node pool `general-purpose`.
    The group `spire-server` stays a managed one."""
    node_groups: Mapping[DnsLabel, NodeGroupSpec] = setting(
        description=f"The managed node groups by name. `{GENERAL}` (not with `autoMode`) and `{SPIRE_SERVER}` are "
        f"required, `{{}}` gives them their defaults. Only SPIRE's server runs on `{SPIRE_SERVER}`.",
        example={GENERAL: {"instanceTypes": ["m5.large"], "max": 6}, SPIRE_SERVER: {}},
        replaces="nothing; node groups are added or removed",
    )
    addons: AddonVersions = setting(
        {},
        description=f"Versions of EKS's addons; `{LATEST}` stands for EKS's default for the cluster's version.",
        example={"coredns": "v1.14.3-eksbuild.14"},
    )
    admins: tuple[PrincipalArn, ...] = setting(
        (),
        example=["arn:aws:iam::123456789012:role/platform-admin"],
        replaces="the access entry of a changed ARN",
    )
    """IAM roles and users that administer the cluster. The one that runs Pulumi must be among them. Without
    any, the one that creates the cluster administers it alone; set them before the cluster is created."""
    log_types: tuple[LogType, ...] = setting(ALL_LOGS, example=["audit", "authenticator"])
    """The logs of the control plane that CloudWatch keeps."""
    flow_log_days: LogDays = setting(30, example=365)
    """The number of days for which CloudWatch keeps the VPC's flow logs and the control plane's logs."""
    deletion_protection: Flag = setting(False, example=True)
    """Whether EKS refuses to delete the cluster. Set it to false before `pulumi destroy`."""
    ingress_scheme: Literal["internet-facing", "internal"] = setting(
        "internet-facing", example="internal", replaces="the load balancer of the ingress gateway"
    )
    """Whether users reach the ingress gateway from the internet or from inside the networks alone."""

    @model_validator(mode="after")
    def _version_is_supported(self, info: ValidationInfo) -> Self:
        context = cast(Mapping[str, date], info.context or {})
        today = context.get("today") or date.today()
        newest = tuple(KUBERNETES_VERSIONS)[-1]
        # once the table has aged, its newest version is let through: EKS itself refuses what it does not have
        oldest = (*supported_versions(today, self.support_type), newest)[0]
        if _minor(self.version) < _minor(oldest):
            extended = self.version in supported_versions(today, "extended")
            reason = (
                f"EKS has only extended support for {self.version}: use {oldest} or newer, "
                "or set supportType to extended"
                if extended
                else f"EKS no longer supports {self.version}: use {oldest} or newer"
            )
            raise refusal(reason, "version")
        if _minor(self.version) > _minor(newest) + MINORS_AHEAD:
            raise refusal(
                f"EKS has no {self.version}; the newest version that fedmesh knows is {newest}", "version"
            )
        return self

    @field_validator("vpc_cidr", mode="after")
    @classmethod
    def _range_of_a_vpc(cls, cidr: str) -> str:
        if not LARGEST_VPC_PREFIX <= IPv4Network(cidr).prefixlen <= SMALLEST_VPC_PREFIX:
            raise refusal(f"must be a /{LARGEST_VPC_PREFIX} to a /{SMALLEST_VPC_PREFIX}, not {cidr}")
        if not is_private(cidr):
            raise refusal(
                f"must be a private range, in 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16, not {cidr}"
            )
        return cidr

    @field_validator("service_cidr", mode="after")
    @classmethod
    def _range_of_services(cls, cidr: str) -> str:
        if not (12 <= IPv4Network(cidr).prefixlen <= 24 and is_private(cidr)):
            raise refusal(
                "must be a private /12 to /24 range, in 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16, as EKS asks, "
                f"not {cidr}"
            )
        return cidr

    @model_validator(mode="after")
    def _zones_are_those_of_a_network_to_make(self) -> Self:
        if self.network:
            for name, key in (("zones", "zones"), ("nat", "nat"), ("vpc_endpoints", "vpcEndpoints")):
                if name in self.model_fields_set:
                    raise refusal("is for a network to make, and not used with network", key)
            if self.ingress_scheme == "internet-facing" and not self.network.public_subnet_ids:
                raise refusal(
                    "is missing: an internet-facing ingress needs public subnets; or set ingressScheme: internal",
                    *("network", "publicSubnetIds"),
                )
            return self
        if "zones" not in self.model_fields_set:
            raise refusal("is missing", "zones")
        zones = self.zones
        if not 2 <= len(set(zones)) == len(zones) <= 6:
            raise refusal(f"must list 2 to 6 different zones (EKS needs two), not {list(zones)}", "zones")
        return self

    @field_validator("node_groups", mode="before")
    @classmethod
    def _required_groups(cls, groups: object, info: ValidationInfo) -> object:
        if not isinstance(groups, Mapping):
            return groups
        given = cast(Mapping[str, object], groups)
        for name in (SPIRE_SERVER,) if info.data.get("auto_mode") else (GENERAL, SPIRE_SERVER):
            if given.get(name) is None:
                raise refusal(
                    f"is missing: every cluster needs the node groups {GENERAL} and {SPIRE_SERVER}", name
                )
        spire = given[SPIRE_SERVER]
        if isinstance(spire, Mapping):
            own = {
                key: value for key, value in cast(Mapping[str, object], spire).items() if value is not None
            }
            return {**given, SPIRE_SERVER: {"desired": 1, "max": 2, **own}}
        return given

    @field_validator("admins", mode="after")
    @classmethod
    def _admins_differ(cls, admins: tuple[str, ...]) -> tuple[str, ...]:
        for place, arn in enumerate(admins):
            if arn in admins[:place]:
                raise refusal(f"must differ from the others: {arn} is listed twice", place)
        return admins

    @property
    def account_label(self) -> str:
        """What tells the cluster's account apart from the stack's others, "" for that of the credentials at hand."""
        return self.account.label if self.account else ""

    @property
    def nat_gateways(self) -> int:
        """The number of NAT gateways that the program makes, each of which has a public address."""
        if self.network:
            return 0
        return len(self.zones) if self.nat == "per-zone" else 1

    @property
    def addresses_on_the_internet(self) -> int:
        """The number of public addresses from which the cluster calls."""
        return len(self.network.nat_addresses) if self.network else self.nat_gateways


def name_in_eks(cluster: str) -> str:
    """The name in EKS of a cluster of the mesh."""
    return f"istio-eks-{cluster}"


def log_group_of(eks_name: str) -> str:
    """The log group to which EKS writes what a control plane logs."""
    return f"/aws/eks/{eks_name}/cluster"


def is_listed(caller: str, principals: Sequence[str]) -> bool:
    """Whether the ARN of a caller, as STS gives it, is that of a listed role or user or of a session of it."""
    return _identity(caller) in {_identity(each) for each in principals}


def _identity(arn: str) -> tuple[str, str, str]:
    """Account, kind and name of a principal, the same for a role and for its sessions, which lack its path."""
    account, path = arn.split(":")[4], arn.split(":", 5)[5].split("/")
    if path[0] == "assumed-role":
        return account, "role", path[1]
    return account, path[0], path[-1]


def _minor(version: str) -> int:
    return int(version.split(".")[1])
