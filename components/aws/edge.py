"""The way in for users outside the mesh: they land on a cluster that lives, whichever fails."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import pulumi
import pulumi_aws as aws

from components.aws.dns import TTL_SECONDS, record_type
from components.config.aws import EdgeSpec

CHECK_SECONDS = 10
FAILED_CHECKS = 2
USER_PORTS = (80, 443)


@dataclass(frozen=True)
class EdgeTarget:
    """The ingress gateway of one cluster.

    Attributes:
        name: the cluster's name.
        region: its AWS region.
        address: name or IPv4 of the gateway's load balancer.
        load_balancer: name of that load balancer in AWS (used by Global Accelerator).
    """

    name: str
    region: str
    address: pulumi.Input[str]
    load_balancer: str


@dataclass(frozen=True)
class EdgeArgs:
    """Args of Edge: where users may land, best first, how they get there, and tags."""

    targets: Sequence[EdgeTarget]
    spec: EdgeSpec
    tags: Mapping[str, str]


class Edge(pulumi.ComponentResource):
    """Route 53 failover records with health checks, or a Global Accelerator, by config.

    With Route 53 the first target takes all users while it lives; then the living others share them.
    With Global Accelerator every user lands on the nearest living target.

    Outputs:
        address: the name that users call.
    """

    address: pulumi.Output[str]

    def __init__(self, name: str, args: EdgeArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:dns:Edge", name, None, opts)
        self._name = name
        self._args = args
        self._child = pulumi.ResourceOptions(parent=self)
        self.address = self._records() if args.spec.mode == "route53" else self._accelerator()
        self.register_outputs({"address": self.address})

    def _tags(self, part: str) -> dict[str, str]:
        return {**self._args.tags, "Name": f"{self._name}-{part}"}

    def _records(self) -> pulumi.Output[str]:
        spec = self._args.spec
        checks = {target.name: self._health_check(target) for target in self._args.targets}
        first, *standby = self._args.targets
        primary = aws.route53.Record(
            f"{self._name}-{first.name}",
            zone_id=spec.zone_id,
            name=spec.domain,
            type=pulumi.Output.from_input(first.address).apply(record_type),
            ttl=TTL_SECONDS,
            records=[first.address],
            set_identifier=first.name,
            health_check_id=checks[first.name].id,
            failover_routing_policies=[{"type": "PRIMARY"}],
            opts=self._child,
        )
        shared = [
            aws.route53.Record(
                f"{self._name}-{target.name}",
                zone_id=spec.zone_id,
                name=f"standby.{spec.domain}",
                type=pulumi.Output.from_input(target.address).apply(record_type),
                ttl=TTL_SECONDS,
                records=[target.address],
                set_identifier=target.name,
                health_check_id=checks[target.name].id,
                weighted_routing_policies=[{"weight": 100}],
                opts=self._child,
            )
            for target in standby
        ]
        aws.route53.Record(
            f"{self._name}-standby",
            zone_id=spec.zone_id,
            name=spec.domain,
            type=primary.type,
            set_identifier="standby",
            failover_routing_policies=[{"type": "SECONDARY"}],
            aliases=[
                {
                    "name": f"standby.{spec.domain}",
                    "zone_id": spec.zone_id,
                    "evaluate_target_health": True,
                }
            ],
            opts=pulumi.ResourceOptions(parent=self, depends_on=[*shared]),
        )
        return primary.fqdn

    def _health_check(self, target: EdgeTarget) -> aws.route53.HealthCheck:
        address = pulumi.Output.from_input(target.address)
        return aws.route53.HealthCheck(
            f"{self._name}-{target.name}",
            type="HTTP",
            fqdn=address.apply(lambda text: cast(str, text if record_type(text) == "CNAME" else None)),
            ip_address=address.apply(lambda text: cast(str, text if record_type(text) == "A" else None)),
            port=self._args.spec.health_port,
            resource_path="/healthz/ready",
            request_interval=CHECK_SECONDS,
            failure_threshold=FAILED_CHECKS,
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
                        "weight": 100,
                        "client_ip_preservation_enabled": True,
                    }
                    for target in self._args.targets
                    if target.region == region
                ],
                opts=self._child,
            )
        return accelerator.dns_name

    def _load_balancer_arn(self, target: EdgeTarget) -> pulumi.Output[str]:
        # The controller has made it once its address is known: the look-up waits for that.
        name = pulumi.Output.from_input(target.address).apply(lambda _: target.load_balancer)
        found = aws.lb.get_load_balancer_output(
            name=name, region=target.region, opts=pulumi.InvokeOutputOptions(parent=self)
        )
        return found.arn
