"""The AWS role of the load balancer controller of one cluster."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from components.aws.iam import document_json, pod_identity
from components.config.aws_facts import partition_of


@dataclass(frozen=True)
class ControllerIdentityArgs:
    """Args of ControllerIdentity.

    Attributes:
        cluster: the control plane, and `cluster_name`, its name in EKS.
        region, vpc_id: region and VPC in which the controller may open ports.
        namespace, service_account: of the controller's pods.
        permissions_boundary: ARN of the role's boundary, None for none.
        tags: tags of all resources.
    """

    cluster: pulumi.Resource
    cluster_name: str
    region: str
    vpc_id: pulumi.Input[str]
    namespace: str
    service_account: str
    permissions_boundary: pulumi.Input[str] | None
    tags: Mapping[str, str]


class ControllerIdentity(pulumi.ComponentResource):
    """The controller's role, by pod identity, which lets it change only resources with its cluster's tag.

    Identities reach nodes with a delay, and a pod that started without one stays without. This component needs nothing
    on the cluster: it exists minutes before nodes can run the controller's pods.
    """

    def __init__(
        self, name: str, args: ControllerIdentityArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("fedmesh:eks:ControllerIdentity", name, None, opts)
        partition = partition_of(args.region) or "aws"
        account = aws.get_caller_identity_output(opts=pulumi.InvokeOutputOptions(parent=self)).account_id
        vpc_arn = pulumi.Output.concat(f"arn:{partition}:ec2:{args.region}:", account, ":vpc/", args.vpc_id)
        pod_identity(
            name,
            cluster=args.cluster,
            cluster_name=args.cluster_name,
            namespace=args.namespace,
            service_account=args.service_account,
            policies={
                "policy": vpc_arn.apply(
                    lambda arn: document_json(
                        "load-balancer-controller",
                        {"PARTITION": partition, "VPC_ARN": arn, "CLUSTER_NAME": args.cluster_name},
                    )
                )
            },
            boundary=args.permissions_boundary,
            tags=args.tags,
            parent=self,
        )
        self.register_outputs({})
