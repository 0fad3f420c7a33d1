"""The AWS Load Balancer Controller of one cluster: it makes the NLBs of Services of type LoadBalancer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as k8s
import yaml

from components.aws_facts import partition_of
from components.iam import document_json
from components.settings_aws import ControllerSpec

NAMESPACE = "kube-system"
SERVICE_ACCOUNT = "aws-load-balancer-controller"
VALUES = Path(__file__).parent.parent / "manifests" / "load_balancer_controller" / "values.yaml"


@dataclass(frozen=True)
class LoadBalancerControllerArgs:
    """Args of LoadBalancerController: its cluster, the network in which it may open ports, and its chart."""

    cluster_name: str
    region: str
    vpc_id: pulumi.Input[str]
    chart: ControllerSpec
    tags: Mapping[str, str]


class LoadBalancerController(pulumi.ComponentResource):
    """The controller, allowed by pod identity to change only what carries its cluster's tag.

    What makes Services of type LoadBalancer must depend on this: on destroy the Services then go first, the
    controller removes their load balancers and network interfaces, and only then goes itself.
    """

    def __init__(
        self, name: str, args: LoadBalancerControllerArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("fedmesh:eks:LoadBalancerController", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        partition = partition_of(args.region) or "aws"
        vpc_arn = (
            aws.get_caller_identity_output(opts=pulumi.InvokeOutputOptions(parent=self))
            .account_id.apply(lambda account: f"arn:{partition}:ec2:{args.region}:{account}:vpc/")
            .apply(lambda prefix: pulumi.Output.concat(prefix, args.vpc_id))
        )
        role = aws.iam.Role(
            f"{name}-role",
            assume_role_policy=document_json("trust-pod-identity"),
            tags=dict(args.tags),
            opts=child,
        )
        policy = aws.iam.RolePolicy(
            f"{name}-policy",
            role=role.id,
            policy=vpc_arn.apply(
                lambda arn: document_json(
                    "load-balancer-controller",
                    {"PARTITION": partition, "VPC_ARN": arn, "CLUSTER_NAME": args.cluster_name},
                )
            ),
            opts=child,
        )
        identity = aws.eks.PodIdentityAssociation(
            f"{name}-identity",
            cluster_name=args.cluster_name,
            namespace=NAMESPACE,
            service_account=SERVICE_ACCOUNT,
            role_arn=role.arn,
            tags=dict(args.tags),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[policy]),
        )
        values = cast(dict[str, Any], yaml.safe_load(VALUES.read_text(encoding="utf-8")))
        k8s.helm.v3.Release(
            f"{name}-release",
            name=SERVICE_ACCOUNT,
            namespace=NAMESPACE,
            chart=args.chart.chart,
            version=args.chart.version,
            repository_opts={"repo": args.chart.repository} if args.chart.repository else None,
            values={**values, "clusterName": args.cluster_name, "region": args.region, "vpcId": args.vpc_id},
            opts=pulumi.ResourceOptions(parent=self, depends_on=[identity]),
        )
        self.register_outputs({"roleArn": role.arn})


def nlb_annotations(
    name: str, *, internal: bool, tags: Mapping[str, str], health_port: int | None = None
) -> dict[str, str]:
    """Annotations that give a Service an NLB straight to its pods.

    Args:
        name: name of the load balancer in AWS, 32 characters at most, by which the edge finds it.
        internal: reachable from the joined networks only, not from the internet.
        tags: AWS tags of what the controller makes.
        health_port: port of an HTTP /healthz/ready answer (Istio's gateways: 15021); else TCP is tried.
    """
    prefix = "service.beta.kubernetes.io/aws-load-balancer"
    health = (
        {
            f"{prefix}-healthcheck-protocol": "HTTP",
            f"{prefix}-healthcheck-port": str(health_port),
            f"{prefix}-healthcheck-path": "/healthz/ready",
        }
        if health_port
        else {}
    )
    return health | {
        f"{prefix}-name": name,
        f"{prefix}-type": "external",
        f"{prefix}-nlb-target-type": "ip",
        f"{prefix}-scheme": "internal" if internal else "internet-facing",
        f"{prefix}-attributes": "load_balancing.cross_zone.enabled=true",
        f"{prefix}-healthcheck-interval": "5",
        f"{prefix}-additional-resource-tags": ",".join(f"{key}={value}" for key, value in tags.items()),
    }


def peer_sources(vpc_cidrs: Sequence[str]) -> list[str]:
    """`loadBalancerSourceRanges` of an internal load balancer: the networks of the mesh and no others."""
    return sorted(vpc_cidrs)
