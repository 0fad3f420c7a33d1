"""What pulumi-eks makes of `eks.Cluster`, for the arguments that the sandbox stands for.

The children, their names and their inputs follow pulumi-eks 4 (nodejs/eks/cluster/cluster.ts): role, cluster, access
entries, addons. Node groups, OIDC and aws-auth are left out; asking for them is refused.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import pulumi
import pulumi_aws as aws

Inputs = Mapping[str, Any]
Kubeconfig = Callable[[str, str, str, str], dict[str, Any]]
SUPPORTED = frozenset(
    {
        "accessEntries",
        "authenticationMode",
        "bootstrapSelfManagedAddons",
        "clusterTags",
        "corednsAddonOptions",
        "createInstanceRole",
        "createOidcProvider",
        "deletionProtection",
        "enabledClusterLogTypes",
        "encryptionConfigKeyArn",
        "endpointPrivateAccess",
        "endpointPublicAccess",
        "kubeProxyAddonOptions",
        "kubernetesServiceIpAddressRange",
        "name",
        "privateSubnetIds",
        "providerCredentialOpts",
        "publicAccessCidrs",
        "publicSubnetIds",
        "skipDefaultNodeGroup",
        "skipDefaultSecurityGroups",
        "subnetIds",
        "tags",
        "upgradePolicy",
        "useDefaultVpcCni",
        "version",
        "vpcCniOptions",
        "vpcId",
    }
)
OVERWRITE = "OVERWRITE"


class ClusterComponent(pulumi.ComponentResource):
    """`eks:index:Cluster`. `kubeconfig` makes the cluster's kubeconfig of its name, endpoint, CA and region."""

    def __init__(
        self, name: str, inputs: Inputs, kubeconfig: Kubeconfig, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("eks:index:Cluster", name, dict(inputs), opts)
        self._name = name
        self._inputs = inputs
        self._child = pulumi.ResourceOptions(parent=self)
        refuse_unsupported(inputs)
        role, attached = self._service_role()
        cluster = self._control_plane(role, attached)
        self._access_entries(cluster)
        self._addons(cluster)
        config = pulumi.Output.all(
            cluster.name, cluster.endpoint, cluster.certificate_authority, cluster.arn
        ).apply(
            lambda all_: _with_role(
                kubeconfig(all_[0], all_[1], all_[2]["data"], all_[3].split(":")[3]),
                (inputs.get("providerCredentialOpts") or {}).get("roleArn"),
            )
        )
        issuer = cluster.identities.apply(lambda found: found[0]["oidcs"][0]["issuer"])
        group = cluster.vpc_config.apply(lambda vpc: vpc["cluster_security_group_id"])
        self.state = {
            "kubeconfig": config,
            "kubeconfigJson": config.apply(json.dumps),
            "eksCluster": cluster,
            "clusterSecurityGroupId": group,
            "nodeSecurityGroupId": group,
            "clusterIngressRuleId": "",
            "defaultNodeGroupAsgName": "",
            "fargateProfileId": "",
            "fargateProfileStatus": "",
            "oidcProviderArn": "",
            "oidcProviderUrl": issuer,
            "oidcIssuer": issuer.apply(lambda url: url.removeprefix("https://")),
            "autoModeNodeRoleName": "",
            "instanceRoles": [],
        }
        self.register_outputs(self.state)

    def _service_role(self) -> tuple[aws.iam.Role, aws.iam.RolePolicyAttachment]:
        component = ServiceRole(f"{self._name}-eksRole", self._inputs.get("tags"), self._child)
        return component.role, component.attachment

    def _control_plane(self, role: aws.iam.Role, attached: aws.iam.RolePolicyAttachment) -> aws.eks.Cluster:
        given = self._inputs
        subnets = given.get("subnetIds") or [
            *given.get("publicSubnetIds", []),
            *given.get("privateSubnetIds", []),
        ]
        key = given.get("encryptionConfigKeyArn")
        service_range = given.get("kubernetesServiceIpAddressRange")
        return aws.eks.Cluster(
            f"{self._name}-eksCluster",
            name=given.get("name"),
            role_arn=role.arn,
            version=given.get("version"),
            vpc_config={
                "subnet_ids": subnets,
                "endpoint_private_access": given.get("endpointPrivateAccess"),
                "endpoint_public_access": given.get("endpointPublicAccess"),
                "public_access_cidrs": given.get("publicAccessCidrs"),
            },
            kubernetes_network_config={"service_ipv4_cidr": service_range, "ip_family": "ipv4"}
            if service_range
            else None,
            encryption_config={"provider": {"key_arn": key}, "resources": ["secrets"]} if key else None,
            enabled_cluster_log_types=given.get("enabledClusterLogTypes"),
            access_config={
                "authentication_mode": given["authenticationMode"],
                "bootstrap_cluster_creator_admin_permissions": True,
            }
            if given.get("authenticationMode")
            else None,
            bootstrap_self_managed_addons=given.get("bootstrapSelfManagedAddons", True),
            upgrade_policy={"support_type": given["upgradePolicy"]["supportType"]}
            if given.get("upgradePolicy")
            else None,
            deletion_protection=given.get("deletionProtection"),
            tags={
                "Name": f"{self._name}-eksCluster",
                **(given.get("clusterTags") or {}),
                **(given.get("tags") or {}),
            },
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[attached],
                ignore_changes=[
                    "accessConfig.bootstrapClusterCreatorAdminPermissions",
                    "bootstrapSelfManagedAddons",
                ],
            ),
        )

    def _access_entries(self, cluster: aws.eks.Cluster) -> None:
        for key, entry in (self._inputs.get("accessEntries") or {}).items():
            made = aws.eks.AccessEntry(
                f"{self._name}-{key}",
                cluster_name=cluster.name,
                principal_arn=entry["principalArn"],
                kubernetes_groups=entry.get("kubernetesGroups"),
                type=entry.get("type"),
                opts=self._child,
            )
            for name, policy in (entry.get("accessPolicies") or {}).items():
                aws.eks.AccessPolicyAssociation(
                    f"{self._name}-{key}-{name}",
                    cluster_name=cluster.name,
                    principal_arn=entry["principalArn"],
                    policy_arn=policy["policyArn"],
                    access_scope={
                        "type": policy["accessScope"]["type"],
                        "namespaces": policy["accessScope"].get("namespaces"),
                    },
                    opts=pulumi.ResourceOptions(parent=made),
                )

    def _addons(self, cluster: aws.eks.Cluster) -> None:
        if not self._inputs.get("useDefaultVpcCni"):
            options = self._inputs.get("vpcCniOptions") or {}
            policy = {"enableNetworkPolicy": "true"} if options.get("enableNetworkPolicy") else {}
            self._addon(
                "vpc-cni", cluster, options.get("addonVersion"), json.dumps(policy) if policy else None
            )
        for addon, option in (("kube-proxy", "kubeProxyAddonOptions"), ("coredns", "corednsAddonOptions")):
            options = self._inputs.get(option) or {}
            if options.get("enabled", True):
                self._addon(addon, cluster, options.get("version"))

    def _addon(self, addon: str, cluster: aws.eks.Cluster, version: Any, values: str | None = None) -> None:
        latest = aws.eks.get_addon_version_output(
            addon_name=addon,
            kubernetes_version=cluster.version,
            most_recent=True,
            opts=pulumi.InvokeOutputOptions(parent=self),
        )
        aws.eks.Addon(
            f"{self._name}-{addon}",
            cluster_name=cluster.name,
            addon_name=addon,
            addon_version=version if version is not None else latest.version,
            configuration_values=values,
            preserve=addon != "vpc-cni",
            resolve_conflicts_on_create=OVERWRITE,
            resolve_conflicts_on_update=OVERWRITE,
            tags=self._inputs.get("tags"),
            opts=self._child,
        )


def _with_role(kubeconfig: dict[str, Any], role: str | None) -> dict[str, Any]:
    """With tokens of a role, where they come from the command aws. A profile is left out, as pulumi-eks has it."""
    for each in kubeconfig["users"]:
        if role and "exec" in each["user"]:
            each["user"]["exec"]["args"] = [*each["user"]["exec"]["args"], "--role", role]
    return kubeconfig


class ServiceRole(pulumi.ComponentResource):
    """`eks:index:ServiceRole`: the role that EKS takes for the control plane."""

    def __init__(self, name: str, tags: Any, opts: pulumi.ResourceOptions) -> None:
        super().__init__("eks:index:ServiceRole", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        trust = {
            "Action": ["sts:AssumeRole", "sts:TagSession"],
            "Effect": "Allow",
            "Principal": {"Service": ["eks.amazonaws.com"]},
        }
        self.role = aws.iam.Role(
            f"{name}-role",
            description="Allows EKS to manage clusters on your behalf.",
            assume_role_policy=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
            tags=tags,
            opts=child,
        )
        policy = "arn:aws:iam::aws:policy/AmazonEKSClusterPolicy"
        suffix = hashlib.sha1(policy.encode(), usedforsecurity=False).hexdigest()[:8]
        self.attachment = aws.iam.RolePolicyAttachment(
            f"{name}-{suffix}", role=self.role.name, policy_arn=policy, opts=child
        )
        self.register_outputs({})


def refuse_unsupported(inputs: Inputs) -> None:
    """Raises ValueError for what the sandbox does not stand for, and for what pulumi-eks itself refuses."""
    unsupported = sorted(set(inputs) - SUPPORTED)
    if unsupported:
        raise ValueError(f"the sandbox does not stand for eks.Cluster's {', '.join(unsupported)}")
    if not inputs.get("skipDefaultNodeGroup") or not inputs.get("skipDefaultSecurityGroups"):
        raise ValueError("the sandbox needs skipDefaultNodeGroup and skipDefaultSecurityGroups")
    if inputs.get("createOidcProvider"):
        raise ValueError("the sandbox has no OIDC provider: use pod identity")
    if inputs.get("subnetIds") and (inputs.get("publicSubnetIds") or inputs.get("privateSubnetIds")):
        raise ValueError("subnetIds, and publicSubnetIds or privateSubnetIds, are mutually exclusive")
    if inputs.get("publicAccessCidrs") and inputs.get("endpointPublicAccess") is False:
        raise ValueError("`publicAccessCidrs` can only be set when `endpointPublicAccess` is true")
