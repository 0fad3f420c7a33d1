"""The settings that all EKS clusters of a stack share."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, Strict, StringConstraints, field_validator, model_validator

from components.config.fields import Flag, Model, PrivateCidr, Rule, Text, refusal, setting

MOST_TAGS = 40  # of the 50 that a resource can have; the program and the controller add some

Domain = Annotated[
    str,
    Strict(),
    StringConstraints(
        # with room for the `standby.` that Route 53's second record has in front
        pattern=r"^(([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$",
        max_length=245,
    ),
    Rule("a domain name such as app.example.com"),
]
HostedZoneId = Annotated[
    str,
    Strict(),
    StringConstraints(pattern=r"^(Z[A-Z0-9]{1,31})?$"),
    Rule("the id of a public hosted zone such as Z0123456789ABC"),
]
ControllerVersion = Annotated[
    str,
    Strict(),
    StringConstraints(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$"),
    Rule("a chart version such as 3.5.0"),
]
ControllerRepository = Annotated[
    str,
    Strict(),
    StringConstraints(pattern=r"^((https?|oci)://.+)?$"),
    Rule("a URL of a Helm repository"),
]
TagKey = Annotated[
    str,
    Strict(),
    StringConstraints(pattern=r"^[A-Za-z0-9 _.:/=+@-]{1,128}$"),
    Rule("a tag's key, of 1 to 128 letters, digits, spaces and _.:/=+-@"),
]
TagValue = Annotated[
    str,
    Strict(),
    StringConstraints(pattern=r"^[A-Za-z0-9 _.:/=+@-]{0,256}$"),
    Rule("a tag's value, of up to 256 letters, digits, spaces and _.:/=+-@"),
]
PolicyArn = Annotated[
    str,
    Strict(),
    StringConstraints(pattern=r"^(arn:aws(-cn|-us-gov)?:iam::[0-9]{12}:policy/[A-Za-z0-9_+=,.@/-]+)?$"),
    Rule("the ARN of an IAM policy of your account"),
]
HealthPath = Annotated[
    str, Strict(), StringConstraints(pattern=r"^/\S{0,254}$"), Rule("a path such as /healthz/ready")
]
Port = Annotated[int, Strict(), Field(ge=1, le=65535), Rule("a whole number from 1 to 65535")]


class EdgeSpec(Model):
    """How users outside the mesh reach a healthy cluster."""

    mode: Literal["none", "route53", "global-accelerator"] = setting(
        "none",
        description="`route53`: a DNS name that leads to the first healthy cluster, for two EKS clusters or more. "
        "`global-accelerator`: fixed addresses that lead to the nearest healthy cluster.",
        example="route53",
        replaces="the records, health checks or accelerator",
    )
    domain: Domain = setting(
        "",
        description="With `route53`: the domain name that users call, in the hosted zone.",
        example="app.example.com",
        default_text="required with `route53`",
        replaces="the records",
    )
    zone_id: HostedZoneId = setting(
        "",
        alias="hostedZoneId",
        description="With `route53`: the id of the public hosted zone that holds the domain.",
        example="Z0123456789ABC",
        default_text="required with `route53`",
        replaces="the records",
    )
    health_port: Port = setting(
        15021, description="The gateway's port that health checks call, from 1 to 65535.", example=15021
    )
    health_protocol: Literal["http", "https", "tcp"] = setting(
        "http", description="The protocol of the health checks.", example="https", since="0.2"
    )
    health_path: HealthPath = setting(
        "/healthz/ready",
        description="The path that HTTP health checks call. With the port of users and a path of your application, a "
        "cluster counts as healthy only while the application behind its gateway answers.",
        example="/healthz",
        since="0.2",
    )

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

    enabled: Flag = setting(True, description="Whether the controller is installed.", example=False)
    chart: Text = setting(
        "aws-load-balancer-controller",
        description="The chart's name in `repository`, or a local path.",
        example="charts/aws-load-balancer-controller",
    )
    repository: ControllerRepository = setting(
        "https://aws.github.io/eks-charts",
        description='The repository of the chart; "" where `chart` is a path.',
        example="https://charts.example.com",
    )
    version: ControllerVersion = setting("3.5.0", description="The chart's version.", example="3.5.0")


class AwsSettings(Model):
    """What all EKS clusters of a stack share."""

    join: Literal["peering", "transit-gateway"] = setting(
        "peering",
        description="How the networks are joined: VPC peering, or a transit gateway in each region.",
        example="transit-gateway",
        replaces="the peering connections or transit gateways, and the routes",
    )
    private_zone: Domain = setting(
        "mesh.internal",
        description='The private DNS zone in which clusters find each other\'s gateways. With "" they use the '
        "addresses of the load balancers.",
        example="mesh.example.internal",
        replaces="the zone and its records",
    )
    edge: EdgeSpec = setting(
        {},
        description="How users outside the mesh reach a healthy cluster.",
        example={"mode": "global-accelerator"},
    )
    controller: ControllerSpec = setting(
        {},
        alias="loadBalancerController",
        description="The AWS Load Balancer Controller.",
        example={"version": "3.5.0"},
    )
    mesh_cidrs: tuple[PrivateCidr, ...] = setting(
        (),
        description="Private ranges outside the stack's VPCs whose hosts belong to the mesh, such as those of existing "
        "clusters: they may call gateways and bundle endpoints.",
        example=["10.50.0.0/16"],
        since="0.2",
    )
    permissions_boundary: PolicyArn = setting(
        "",
        description="The ARN of an IAM policy that bounds every role which the program creates.",
        example="arn:aws:iam::123456789012:policy/fedmesh-boundary",
        since="0.2",
    )
    tags: Mapping[TagKey, TagValue] = setting(
        {"project": "fedmesh"},
        description=f"Tags of all AWS resources, {MOST_TAGS} at most, in addition to `project: fedmesh`.",
        example={"environment": "dev", "owner": "platform"},
    )
    mesh: Flag = setting(
        True,
        description="Whether the mesh is installed. `false` makes networks, clusters and storage alone, for a first "
        "look.",
        example=False,
        replaces="nothing; all that belongs to the mesh is installed or removed",
    )

    @field_validator("tags", mode="after")
    @classmethod
    def _tags_of_the_program(cls, tags: Mapping[str, str]) -> Mapping[str, str]:
        if len(tags) > MOST_TAGS:
            raise refusal(f"must be {MOST_TAGS} tags at most, not {len(tags)}")
        foreign = next((key for key in tags if key.lower().startswith("aws:")), None)
        if foreign:
            raise refusal("must not begin with aws:, which AWS keeps for itself", foreign)
        return {"project": "fedmesh", **tags}
