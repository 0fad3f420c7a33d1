"""The AWS Load Balancer Controller of one cluster: it makes the NLBs of Services of type LoadBalancer."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as k8s
import yaml

from components.aws.iam import document_json
from components.config.aws import ControllerSpec
from components.config.aws_facts import partition_of

NAMESPACE = "kube-system"
GATEWAY_HEALTH_PORT = 15021
SERVICE_ACCOUNT = "aws-load-balancer-controller"
VALUES = Path(__file__).parents[2] / "manifests" / "load_balancer_controller" / "values.yaml"


@dataclass(frozen=True)
class LoadBalancerControllerArgs:
    """Args of LoadBalancerController.

    Attributes:
        cluster_name: its cluster in EKS.
        region, vpc_id: where it may open ports.
        ingress_scheme: `internet-facing` or `internal`, for the gateway that users call.
        mesh_ranges: ranges of all networks of the mesh, which may call the internal load balancers.
        chart: the controller's chart.
        tags: tags of all that is made, by the controller too.
        provider: AWS in the cluster's region.
    """

    cluster_name: str
    region: str
    vpc_id: pulumi.Input[str]
    ingress_scheme: str
    mesh_ranges: tuple[str, ...]
    chart: ControllerSpec
    tags: Mapping[str, str]
    provider: aws.Provider


@dataclass(frozen=True)
class Doors:
    """How Services of one cluster ask for their load balancers; empty where no controller of AWS's is there.

    Attributes:
        annotations: by door: `spire`, `eastwest` (both internal) and `ingress`.
        sources: ranges that may call the internal ones.
    """

    annotations: Mapping[str, Mapping[str, pulumi.Input[str]]]
    sources: tuple[str, ...]


NO_DOORS = Doors({"spire": {}, "eastwest": {}, "ingress": {}}, ())


class LoadBalancerController(pulumi.ComponentResource):
    """The controller, allowed by pod identity to change only what carries its cluster's tag.

    Outputs:
        doors: what Services ask with. Its values are known once the controller is ready, so that a Service that
            uses them is made after it, and on destroy is removed before it: load balancers and their network
            interfaces are gone by the time that the network goes.
    """

    doors: Doors

    def __init__(
        self, name: str, args: LoadBalancerControllerArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("fedmesh:eks:LoadBalancerController", name, None, opts)
        in_aws = pulumi.ResourceOptions(parent=self, provider=args.provider)
        identity = self._identity(name, args, in_aws)
        values = cast(dict[str, Any], yaml.safe_load(VALUES.read_text(encoding="utf-8")))
        release = k8s.helm.v3.Release(
            f"{name}-release",
            name=SERVICE_ACCOUNT,
            namespace=NAMESPACE,
            chart=args.chart.chart,
            version=args.chart.version,
            repository_opts={"repo": args.chart.repository} if args.chart.repository else None,
            values={**values, "clusterName": args.cluster_name, "region": args.region, "vpcId": args.vpc_id},
            opts=pulumi.ResourceOptions(parent=self, depends_on=[identity]),
        )
        self.doors = Doors(
            {door: self._annotations(door, args, release) for door in NO_DOORS.annotations}, args.mesh_ranges
        )
        self.register_outputs({})

    def _annotations(
        self, door: str, args: LoadBalancerControllerArgs, release: k8s.helm.v3.Release
    ) -> dict[str, pulumi.Input[str]]:
        name = load_balancer_name(args.cluster_name, door)
        return nlb_annotations(
            release.status.apply(lambda _: name),
            internal=door != "ingress" or args.ingress_scheme == "internal",
            tags=args.tags,
            health_port=None if door == "spire" else GATEWAY_HEALTH_PORT,
        )

    def _identity(
        self, name: str, args: LoadBalancerControllerArgs, opts: pulumi.ResourceOptions
    ) -> aws.eks.PodIdentityAssociation:
        partition = partition_of(args.region) or "aws"
        account = aws.get_caller_identity_output(
            opts=pulumi.InvokeOutputOptions(parent=self, provider=args.provider)
        ).account_id
        vpc_arn = pulumi.Output.concat(f"arn:{partition}:ec2:{args.region}:", account, ":vpc/", args.vpc_id)
        role = aws.iam.Role(
            f"{name}-role",
            assume_role_policy=document_json("trust-pod-identity"),
            tags=dict(args.tags),
            opts=opts,
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
            opts=opts,
        )
        return aws.eks.PodIdentityAssociation(
            f"{name}-identity",
            cluster_name=args.cluster_name,
            namespace=NAMESPACE,
            service_account=SERVICE_ACCOUNT,
            role_arn=role.arn,
            tags=dict(args.tags),
            opts=pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[policy])),
        )


def load_balancer_name(cluster_name: str, door: str) -> str:
    """The name in AWS of a cluster's load balancer, within the 32 characters that AWS allows."""
    return f"{cluster_name[: 31 - len(door)]}-{door}"


def nlb_annotations(
    name: pulumi.Input[str], *, internal: bool, tags: Mapping[str, str], health_port: int | None = None
) -> dict[str, pulumi.Input[str]]:
    """Annotations that give a Service an NLB straight to its pods.

    Args:
        name: name of the load balancer in AWS, by which the edge finds it.
        internal: reachable from the joined networks only, not from the internet.
        tags: AWS tags of what the controller makes.
        health_port: port of an HTTP /healthz/ready answer (Istio's gateways: 15021); else TCP is tried.
    """
    prefix = "service.beta.kubernetes.io/aws-load-balancer"
    health: dict[str, pulumi.Input[str]] = {
        f"{prefix}-healthcheck-protocol": "HTTP",
        f"{prefix}-healthcheck-port": str(health_port),
        f"{prefix}-healthcheck-path": "/healthz/ready",
    }
    return {
        **(health if health_port else {}),
        f"{prefix}-name": name,
        f"{prefix}-type": "external",
        f"{prefix}-nlb-target-type": "ip",
        f"{prefix}-scheme": "internal" if internal else "internet-facing",
        f"{prefix}-attributes": "load_balancing.cross_zone.enabled=true",
        f"{prefix}-healthcheck-interval": "5",
        f"{prefix}-additional-resource-tags": ",".join(f"{key}={value}" for key, value in tags.items()),
    }
