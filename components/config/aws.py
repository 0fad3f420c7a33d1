"""The settings that all EKS clusters of a stack share."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import field_validator, model_validator
from pydantic.alias_generators import to_camel

from components.config.fields import (
    Between,
    Duration,
    Flag,
    Matching,
    Model,
    PrivateCidr,
    Text,
    refusal,
    seconds,
    setting,
    whole,
)

MOST_TAGS = 40  # of the 50 that a resource can have; the program and the controller add some

# with room for the `standby.` that Route 53's second record has in front
Domain = Annotated[
    str,
    Matching(
        "a domain name such as app.example.com",
        r"^(([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$",
        245,
    ),
]
HostedZoneId = Annotated[
    str, Matching("the id of a public hosted zone such as Z0123456789ABC", r"^(Z[A-Z0-9]{1,31})?$")
]
ControllerVersion = Annotated[str, Matching("a chart version such as 3.5.0", r"^[0-9]+\.[0-9]+\.[0-9]+$")]
ControllerRepository = Annotated[str, Matching("a URL of a Helm repository", r"^((https?|oci)://.+)?$")]
TagKey = Annotated[
    str,
    Matching(
        "a tag's key, of 1 to 128 letters, digits, spaces and _.:/=+-@", r"^[A-Za-z0-9 _.:/=+@-]{1,128}$"
    ),
]
TagValue = Annotated[
    str,
    Matching(
        "a tag's value, of up to 256 letters, digits, spaces and _.:/=+-@", r"^[A-Za-z0-9 _.:/=+@-]{0,256}$"
    ),
]
PolicyArn = Annotated[
    str,
    Matching(
        "the ARN of an IAM policy of your account",
        r"^(arn:aws(-cn|-us-gov)?:iam::[0-9]{12}:policy/[A-Za-z0-9_+=,.@/-]+)?$",
    ),
]
CertificateArn = Annotated[
    str,
    Matching(
        "the ARN of a certificate in us-east-1",
        r"^(arn:aws[a-z-]*:acm:us-east-1:[0-9]{12}:certificate/[0-9a-f-]{36})?$",
    ),
]
TransitGatewayId = Annotated[
    str, Matching("a transit gateway's id such as tgw-0123456789abcdef0", r"^(tgw-[0-9a-f]{8,17})?$")
]
PathPattern = Annotated[
    str, Matching("a path pattern of CloudFront such as /api/*", r"^/[A-Za-z0-9_.*$/~\"'@:+&?-]{0,254}$")
]
HealthPath = Annotated[str, Matching("a path such as /healthz/ready", r"^/\S{0,254}$")]
Port = Annotated[int, whole(1, 65535)]


class EdgeSpec(Model):
    """How users outside the mesh reach a healthy cluster."""

    mode: Literal["none", "route53", "global-accelerator", "origin-failover"] = setting(
        "none", example="route53", replaces="the records, health checks, accelerator or distribution"
    )
    """`route53`: a DNS name that leads to the first healthy cluster, for two EKS clusters or more.
    `global-accelerator`: fixed addresses that lead to the nearest healthy cluster. `origin-failover`: CloudFront sends
    each GET that the first cluster does not answer to the second, for two EKS clusters or more."""
    domain: Domain = setting(
        "",
        example="app.example.com",
        default_text="required with `route53`; CloudFront's own name with `origin-failover`",
        replaces="the records",
    )
    """With `route53`: the domain name that users call, in the hosted zone. With `origin-failover`: the name that users
    call, whose record you make."""
    certificate_arn: CertificateArn = setting(
        "",
        example="arn:aws:acm:us-east-1:123456789012:certificate/12345678-1234-1234-1234-123456789012",
        default_text="required with `origin-failover` and `domain`",
        since="0.2",
    )
    """With `origin-failover`: the certificate of `domain` in ACM, in us-east-1, as CloudFront asks."""
    write_paths: tuple[PathPattern, ...] = setting((), example=["/api/*"], since="0.2")
    """With `origin-failover`: the paths that take POST, PUT, PATCH and DELETE. CloudFront takes these methods for one
    origin only: calls to these paths go to the first cluster that is not drained, without a second try. Elsewhere
    CloudFront answers them with 403."""
    origin_protocol: Literal["http", "https"] = setting("http", example="https", since="0.2")
    """With `origin-failover`: how CloudFront calls the gateways. `https` needs certificates there that CloudFront
    trusts, for the host that users call."""
    answer_within: Annotated[Duration, Between("1s", "120s")] = setting("60s", example="5s", since="0.2")
    """With `origin-failover`: how long CloudFront waits for an answer, from 1s to 120s, before it tries the second
    cluster. A cluster that is gone is noticed after 1 s; one that takes calls and does not answer, after this."""
    zone_id: HostedZoneId = setting(
        "",
        alias="hostedZoneId",
        example="Z0123456789ABC",
        default_text="required with `route53`",
        replaces="the records",
    )
    """With `route53`: the id of the public hosted zone that holds the domain."""
    health_port: Port = setting(15021, example=15021)
    """The gateway's port that health checks call, from 1 to 65535."""
    health_protocol: Literal["http", "https", "tcp"] = setting("http", example="https", since="0.2")
    """The protocol of the health checks."""
    health_path: HealthPath = setting("/healthz/ready", example="/healthz", since="0.2")
    """The path that HTTP health checks call. With the port of users and a path of your application, a cluster
    counts as healthy only while the application behind its gateway answers."""

    @model_validator(mode="after")
    def _origin_failover_has_its_own(self) -> Self:
        if self.mode != "origin-failover":
            for name in ("certificate_arn", "write_paths", "origin_protocol", "answer_within"):
                if name in self.model_fields_set:
                    raise refusal("is used with the mode origin-failover alone", to_camel(name))
            return self
        if bool(self.domain) != bool(self.certificate_arn):
            missing = "certificateArn" if self.domain else "domain"
            raise refusal("is missing: domain and certificateArn go together", missing)
        if seconds(self.answer_within) != int(seconds(self.answer_within)):
            raise refusal("must be whole seconds, as CloudFront asks", "answerWithin")
        return self

    @model_validator(mode="after")
    def _route53_has_a_name(self) -> Self:
        if self.mode != "route53":
            return self
        for name, value in (("domain", self.domain), ("hostedZoneId", self.zone_id)):
            if not value:
                raise refusal("is missing: the mode route53 needs domain and hostedZoneId", name)
        return self


class ControllerSpec(Model):
    """The AWS Load Balancer Controller, which makes the load balancers of the gateways."""

    enabled: Flag = setting(True, example=False)
    """Whether the controller is installed."""
    chart: Text = setting("aws-load-balancer-controller", example="charts/aws-load-balancer-controller")
    """The chart's name in `repository`, or a local path."""
    repository: ControllerRepository = setting(
        "https://aws.github.io/eks-charts", example="https://charts.example.com"
    )
    """The repository of the chart; "" where `chart` is a path."""
    version: ControllerVersion = setting("3.5.0", example="3.5.0")
    """The chart's version."""


class AwsSettings(Model):
    """What all EKS clusters of a stack share."""

    join: Literal["peering", "transit-gateway", "none"] = setting(
        "peering",
        example="transit-gateway",
        replaces="the peering connections or transit gateways, and the routes",
    )
    """How the networks are joined: VPC peering, or a transit gateway in each region. `none` is for networks that
    something else joins, such as a transit gateway of yours: every network must have routes to all others."""
    transit_gateway_id: TransitGatewayId = setting(
        "",
        example="tgw-0123456789abcdef0",
        default_text="a gateway is made in each region",
        replaces="the attachments and the routes",
        since="0.2",
    )
    """With `transit-gateway`, and all EKS clusters in one region: a gateway that exists, in place of one to make. Its
    default route table must associate and propagate attachments."""
    private_zone: Domain = setting(
        "mesh.internal", example="mesh.example.internal", replaces="the zone and its records"
    )
    """The private DNS zone in which clusters find each other's gateways. With "" they use the addresses of the
    load balancers."""
    edge: EdgeSpec = setting({}, example={"mode": "global-accelerator"})
    """How users outside the mesh reach a healthy cluster."""
    controller: ControllerSpec = setting({}, alias="loadBalancerController", example={"version": "3.5.0"})
    """The AWS Load Balancer Controller."""
    mesh_cidrs: tuple[PrivateCidr, ...] = setting((), example=["10.50.0.0/16"], since="0.2")
    """Private ranges outside the stack's VPCs whose hosts belong to the mesh, such as those of existing
    clusters: they may call gateways and bundle endpoints."""
    permissions_boundary: PolicyArn = setting(
        "", example="arn:aws:iam::123456789012:policy/fedmesh-boundary", since="0.2"
    )
    """The ARN of an IAM policy that bounds every role which the program creates."""
    tags: Mapping[TagKey, TagValue] = setting(
        {"project": "fedmesh"},
        description=f"Tags of all AWS resources, {MOST_TAGS} at most, in addition to `project: fedmesh`.",
        example={"environment": "dev", "owner": "platform"},
    )
    mesh: Flag = setting(
        True, example=False, replaces="nothing; all that belongs to the mesh is installed or removed"
    )
    """Whether the mesh is installed. `false` makes networks and clusters alone, and nothing on a cluster but the
    StorageClass that `storage` asks for: for a first look, or until private API servers can be reached."""

    @model_validator(mode="after")
    def _a_gateway_is_for_joining(self) -> Self:
        if self.transit_gateway_id and self.join != "transit-gateway":
            raise refusal("is used with join: transit-gateway alone", "transitGatewayId")
        return self

    @field_validator("tags", mode="after")
    @classmethod
    def _tags_of_the_program(cls, tags: Mapping[str, str]) -> Mapping[str, str]:
        if len(tags) > MOST_TAGS:
            raise refusal(f"must be {MOST_TAGS} tags at most, not {len(tags)}")
        foreign = next((key for key in tags if key.lower().startswith("aws:")), None)
        if foreign:
            raise refusal("must not begin with aws:, which AWS keeps for itself", foreign)
        return {"project": "fedmesh", **tags}
