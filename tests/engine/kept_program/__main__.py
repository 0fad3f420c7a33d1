"""Keeps every rule; the names of the resources are the names of the rules."""

import json

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as k8s

tags = {"project": "fedmesh", "environment": "test", "owner": "nobody"}
write = {
    "Effect": "Allow",
    "Action": ["logs:PutLogEvents"],
    "Resource": ["arn:aws:logs:us-east-1:1:log-group:a"],
}
image = "ghcr.io/spiffe/spire-agent:1.15.3"
cluster = pulumi.ResourceOptions(provider=k8s.Provider("nowhere", render_yaml_to_directory="rendered"))

aws.eks.Cluster(
    "no-public-endpoint-without-ranges",
    role_arn="arn:aws:iam::1:role/r",
    vpc_config={
        "subnet_ids": ["a", "b"],
        "endpoint_public_access": True,
        "public_access_cidrs": ["203.0.113.0/24"],
    },
    encryption_config={"provider": {"key_arn": "arn:aws:kms:us-east-1:1:key/k"}, "resources": ["secrets"]},
    tags=tags,
)
aws.kms.Key("encryption-on", enable_key_rotation=True, tags=tags)
aws.iam.RolePolicy(
    "no-wildcard-iam", role="r", policy=json.dumps({"Version": "2012-10-17", "Statement": [write]})
)
aws.vpc.SecurityGroupIngressRule(
    "no-world-ingress-but-at-the-edge",
    security_group_id="sg-1",
    ip_protocol="-1",
    cidr_ipv4="10.3.0.0/16",
    tags=tags,
)
aws.ec2.LaunchTemplate(
    "imdsv2-only",
    metadata_options={"http_tokens": "required"},
    block_device_mappings=[{"device_name": "/dev/xvda", "ebs": {"encrypted": "true"}}],
    tags=tags,
)
aws.ec2.Vpc("required-tags", cidr_block="10.0.0.0/16", tags=tags)
k8s.core.v1.Pod(
    "images-pinned-and-trusted", spec={"containers": [{"name": "a", "image": image}]}, opts=cluster
)
k8s.apiextensions.CustomResource(
    "strict-mtls",
    api_version="security.istio.io/v1",
    kind="PeerAuthentication",
    spec={"mtls": {"mode": "STRICT"}},
    opts=cluster,
)
k8s.networking.v1.NetworkPolicy(
    "network-policies-close",
    spec={
        "pod_selector": {},
        "policy_types": ["Ingress"],
        "ingress": [{"ports": [{"port": 8443}]}, {"from": [{"pod_selector": {}}]}],
    },
    opts=cluster,
)
