"""Breaks every rule once; the names of the resources are the names of the rules."""

import json

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as k8s

anything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
cluster = pulumi.ResourceOptions(provider=k8s.Provider("nowhere", render_yaml_to_directory="rendered"))

aws.eks.Cluster(
    "no-public-endpoint-without-ranges",
    role_arn="arn:aws:iam::1:role/r",
    vpc_config={"subnet_ids": ["a", "b"]},
)
aws.kms.Key("encryption-on")
aws.iam.RolePolicy("no-wildcard-iam", role="r", policy=json.dumps(anything))
aws.vpc.SecurityGroupIngressRule(
    "no-world-ingress-but-at-the-edge", security_group_id="sg-1", ip_protocol="-1", cidr_ipv4="0.0.0.0/0"
)
aws.ec2.LaunchTemplate("imdsv2-only")
aws.ec2.Vpc("required-tags", cidr_block="10.0.0.0/16")
k8s.core.v1.Pod(
    "images-pinned-and-trusted", spec={"containers": [{"name": "a", "image": "evil.example/a"}]}, opts=cluster
)
k8s.apiextensions.CustomResource(
    "strict-mtls",
    api_version="security.istio.io/v1",
    kind="PeerAuthentication",
    spec={"mtls": {"mode": "PERMISSIVE"}},
    opts=cluster,
)
k8s.networking.v1.NetworkPolicy(
    "network-policies-close",
    spec={"pod_selector": {}, "policy_types": ["Ingress"], "ingress": [{}]},
    opts=cluster,
)
