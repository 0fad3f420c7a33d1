"""The edge: it routes users outside the mesh to a healthy cluster."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pulumi
import pulumi_aws as aws

from components.aws.dns import TTL_SECONDS, record_type
from components.config.aws import EdgeSpec
from components.config.fields import seconds

CHECK_SECONDS = 10
FAILED_CHECKS = 2
USER_PORTS = (80, 443)
# AWS's managed policies of CloudFront: no answer is kept, and the origin gets what the user sent.
CACHING_DISABLED = "4135ea2d-6df8-44a3-9df3-4b5a84be39ad"
ALL_VIEWER = "216adef6-5c7f-47e4-b989-5492eafa07d3"
ORIGIN_GROUP = "clusters"
# A gateway's errors; the application's own 500 is its answer.
GATEWAY_ERRORS = (502, 503, 504)


@dataclass(frozen=True)
class EdgeTarget:
    """The ingress gateway of one cluster.

    Attributes:
        name: the cluster's name.
        region: its AWS region.
        address: name or IPv4 of the gateway's load balancer.
        load_balancer: name of that load balancer in AWS (used by Global Accelerator).
        drained: whether no new users are sent to it, healthy or not.
    """

    name: str
    region: str
    address: pulumi.Input[str]
    load_balancer: str
    drained: bool = False


@dataclass(frozen=True)
class EdgeArgs:
    """Args of Edge.

    Attributes:
        targets: the gateways that take users, the preferred one first.
        spec: the edge's settings.
        tags: tags of all resources.
        tls_ends_there: whether the gateways' load balancers end TLS: an accelerator keeps no client addresses then.
    """

    targets: Sequence[EdgeTarget]
    spec: EdgeSpec
    tags: Mapping[str, str]
    tls_ends_there: bool = False


class Edge(pulumi.ComponentResource):
    """Route 53 failover records with health checks, a Global Accelerator, or a CloudFront distribution, by config.

    With Route 53 the first target takes all users while it is healthy; if not, the healthy others share them.
    With Global Accelerator every user is routed to the nearest healthy target. CloudFront sends every GET that the
    first target does not answer to the second.

    Outputs:
        address: the name that users connect to.
    """

    address: pulumi.Output[str]

    def __init__(self, name: str, args: EdgeArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:dns:Edge", name, None, opts)
        self._name = name
        self._args = args
        self._child = pulumi.ResourceOptions(parent=self)
        make = {
            "route53": self._records,
            "global-accelerator": self._accelerator,
            "origin-failover": self._distribution,
        }
        self.address = make[args.spec.mode]()
        self.register_outputs({"address": self.address})

    def _tags(self, part: str) -> dict[str, str]:
        return {**self._args.tags, "Name": f"{self._name}-{part}"}

    def _records(self) -> pulumi.Output[str]:
        first, *standby = self._args.targets
        primary = self._record(first, self._args.spec.domain, failover_routing_policies=[{"type": "PRIMARY"}])
        if standby:
            self._standby(standby)
        return primary.fqdn

    def _standby(self, targets: Sequence[EdgeTarget]) -> None:
        """Creates the records that answer while the first target is unhealthy."""
        domain = self._args.spec.domain
        shared = [
            self._record(target, f"standby.{domain}", weighted_routing_policies=[{"weight": 100}])
            for target in targets
        ]
        aws.route53.Record(
            f"{self._name}-standby",
            zone_id=self._args.spec.zone_id,
            name=domain,
            type="A",
            set_identifier="standby",
            failover_routing_policies=[{"type": "SECONDARY"}],
            aliases=[
                {
                    "name": f"standby.{domain}",
                    "zone_id": self._args.spec.zone_id,
                    "evaluate_target_health": True,
                }
            ],
            opts=pulumi.ResourceOptions(parent=self, depends_on=[*shared]),
        )

    def _record(self, target: EdgeTarget, name: str, **routing: Any) -> aws.route53.Record:
        """Creates one target's record: an alias, which may stand at a zone's apex, or the address itself."""
        balancers = aws.lb.get_hosted_zone_id_output(
            load_balancer_type="network", region=target.region, opts=pulumi.InvokeOutputOptions(parent=self)
        )
        address = pulumi.Output.from_input(target.address)
        aliases = pulumi.Output.all(address, balancers.id).apply(lambda known: alias_of(known[0], known[1]))
        records = address.apply(lambda text: cast(list[str], None if is_name(text) else [text]))
        ttl = address.apply(lambda text: cast(int, None if is_name(text) else TTL_SECONDS))
        return aws.route53.Record(
            f"{self._name}-{target.name}",
            zone_id=self._args.spec.zone_id,
            name=name,
            type="A",
            aliases=aliases,
            records=records,
            ttl=ttl,
            set_identifier=target.name,
            health_check_id=self._health_check(target).id,
            opts=self._child,
            **routing,
        )

    def _health_check(self, target: EdgeTarget) -> aws.route53.HealthCheck:
        spec = self._args.spec
        address = pulumi.Output.from_input(target.address)
        return aws.route53.HealthCheck(
            f"{self._name}-{target.name}",
            type=spec.health_protocol.upper(),
            fqdn=address.apply(lambda text: cast(str, text if is_name(text) else None)),
            ip_address=address.apply(lambda text: cast(str, None if is_name(text) else text)),
            port=spec.health_port,
            resource_path=None if spec.health_protocol == "tcp" else spec.health_path,
            request_interval=CHECK_SECONDS,
            failure_threshold=FAILED_CHECKS,
            # a disabled check is healthy, and inverted it is not
            disabled=target.drained,
            invert_healthcheck=target.drained,
            tags=self._tags(target.name),
            opts=self._child,
        )

    def _accelerator(self) -> pulumi.Output[str]:
        accelerator = aws.globalaccelerator.Accelerator(
            f"{self._name}-accelerator",
            ip_address_type="IPV4",
            enabled=True,
            tags=self._tags("accelerator"),
            opts=self._child,
        )
        listener = aws.globalaccelerator.Listener(
            f"{self._name}-listener",
            accelerator_arn=accelerator.id,
            protocol="TCP",
            port_ranges=[{"from_port": port, "to_port": port} for port in USER_PORTS],
            opts=self._child,
        )
        for region in sorted({target.region for target in self._args.targets}):
            aws.globalaccelerator.EndpointGroup(
                f"{self._name}-{region}",
                listener_arn=listener.id,
                endpoint_group_region=region,
                health_check_interval_seconds=CHECK_SECONDS,
                health_check_port=self._args.spec.health_port,
                health_check_protocol="TCP",
                threshold_count=FAILED_CHECKS,
                endpoint_configurations=[
                    {
                        "endpoint_id": self._load_balancer_arn(target),
                        # connections that it has stay
                        "weight": 0 if target.drained else 100,
                        # Global Accelerator refuses it for network load balancers with TLS listeners
                        "client_ip_preservation_enabled": not self._args.tls_ends_there,
                    }
                    for target in self._args.targets
                    if target.region == region
                ],
                opts=self._child,
            )
        return accelerator.dns_name

    def _distribution(self) -> pulumi.Output[str]:
        spec = self._args.spec
        # an origin group has two origins; new users go to drained clusters last
        first, second = sorted(self._args.targets, key=lambda target: target.drained)[:2]
        common: dict[str, Any] = {
            "viewer_protocol_policy": "redirect-to-https",
            "cached_methods": ["GET", "HEAD"],
            "cache_policy_id": CACHING_DISABLED,
            "origin_request_policy_id": ALL_VIEWER,
            "compress": True,
        }
        made = aws.cloudfront.Distribution(
            f"{self._name}-distribution",
            enabled=True,
            is_ipv6_enabled=True,
            http_version="http2and3",
            comment=f"Users of {pulumi.get_stack()}",
            aliases=[spec.domain] if spec.domain else [],
            origins=[self._origin(target) for target in (first, second)],
            origin_groups=[
                {
                    "origin_id": ORIGIN_GROUP,
                    "failover_criteria": {"status_codes": list(GATEWAY_ERRORS)},
                    "members": [{"origin_id": target.name} for target in (first, second)],
                }
            ],
            default_cache_behavior=aws.cloudfront.DistributionDefaultCacheBehaviorArgs(
                target_origin_id=ORIGIN_GROUP, allowed_methods=["GET", "HEAD", "OPTIONS"], **common
            ),
            ordered_cache_behaviors=[
                aws.cloudfront.DistributionOrderedCacheBehaviorArgs(
                    path_pattern=pattern,
                    target_origin_id=first.name,
                    allowed_methods=["GET", "HEAD", "OPTIONS", "PUT", "POST", "PATCH", "DELETE"],
                    **common,
                )
                for pattern in spec.write_paths
            ],
            restrictions={"geo_restriction": {"restriction_type": "none"}},
            viewer_certificate=_certificate(spec),
            tags=self._tags("distribution"),
            opts=self._child,
        )
        return pulumi.Output.from_input(spec.domain) if spec.domain else made.domain_name

    def _origin(self, target: EdgeTarget) -> aws.cloudfront.DistributionOriginArgs:
        spec = self._args.spec
        return aws.cloudfront.DistributionOriginArgs(
            origin_id=target.name,
            domain_name=target.address,
            connection_attempts=1,
            connection_timeout=1,
            custom_origin_config=aws.cloudfront.DistributionOriginCustomOriginConfigArgs(
                http_port=80,
                https_port=443,
                origin_protocol_policy=f"{spec.origin_protocol}-only",
                origin_ssl_protocols=["TLSv1.2"],
                origin_read_timeout=int(seconds(spec.answer_within)),
            ),
        )

    def _load_balancer_arn(self, target: EdgeTarget) -> pulumi.Output[str]:
        # The controller has made it once its address is known: the look-up waits for that.
        name = pulumi.Output.from_input(target.address).apply(lambda _: target.load_balancer)
        found = aws.lb.get_load_balancer_output(
            name=name, region=target.region, opts=pulumi.InvokeOutputOptions(parent=self)
        )
        return found.arn


def _certificate(spec: EdgeSpec) -> aws.cloudfront.DistributionViewerCertificateArgs:
    if not spec.domain:
        return aws.cloudfront.DistributionViewerCertificateArgs(cloudfront_default_certificate=True)
    return aws.cloudfront.DistributionViewerCertificateArgs(
        acm_certificate_arn=spec.certificate_arn,
        ssl_support_method="sni-only",
        minimum_protocol_version="TLSv1.2_2021",
    )


def is_name(address: str) -> bool:
    """Whether the address of a load balancer is a DNS name, not an IPv4 address."""
    return record_type(address) == "CNAME"


def alias_of(address: str, zone_id: str) -> list[aws.route53.RecordAliasArgs]:
    """Returns the alias of a load balancer's name in its hosted zone; empty for an IPv4 address."""
    if not is_name(address):
        return []
    return [aws.route53.RecordAliasArgs(name=address, zone_id=zone_id, evaluate_target_health=True)]
