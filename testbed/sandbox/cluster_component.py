"""What pulumi-eks makes of `eks.Cluster`, for the arguments that the sandbox stands for.

The children, their names and their inputs follow pulumi-eks 4 (nodejs/eks/cluster/cluster.ts): role, cluster, access
entries, addons. Node groups, OIDC and aws-auth are left out; asking for them is refused.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

Inputs = Mapping[str, Any]
Kubeconfig = Callable[[str, str, str, str], dict[str, Any]]
SUPPORTED = frozenset(
    {
        "accessEntries",
        "authenticationMode",
        "autoMode",
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
ASSUME, TAG = "sts:AssumeRole", "sts:TagSession"
AUTO_MODE_POLICIES = (
    "AmazonEKSComputePolicy",
    "AmazonEKSBlockStoragePolicy",
    "AmazonEKSLoadBalancingPolicy",
    "AmazonEKSNetworkingPolicy",
)
NODE_POLICIES = ("AmazonEKSWorkerNodeMinimalPolicy", "AmazonEC2ContainerRegistryPullOnly")


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
        self._auto = bool((inputs.get("autoMode") or {}).get("enabled"))
        nodes = self._auto_node_role()
        cluster = self._control_plane(self._service_role(), nodes)
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
            "autoModeNodeRoleName": nodes.role.name if nodes else "",
            "instanceRoles": [],
        }
        self.register_outputs(self.state)

    def _service_role(self) -> "ServiceRole":
        policies = ("AmazonEKSClusterPolicy", *(AUTO_MODE_POLICIES if self._auto else ()))
        trust = Trust("eks.amazonaws.com", (ASSUME, TAG), "Allows EKS to manage clusters on your behalf.")
        return ServiceRole(f"{self._name}-eksRole", trust, policies, self._inputs.get("tags"), self._child)

    def _auto_node_role(self) -> "ServiceRole | None":
        if not self._auto or self._inputs["autoMode"].get("createNodeRole") is False:
            return None
        trust = Trust("ec2.amazonaws.com", (ASSUME,))
        return ServiceRole(
            f"{self._name}-nodeRole", trust, NODE_POLICIES, self._inputs.get("tags"), self._child
        )

    def _auto_mode(self, node_role: "ServiceRole | None") -> dict[str, Any]:
        if not self._auto:
            return {}
        own = self._inputs["autoMode"].get("computeConfig") or {}
        role = (
            {"node_role_arn": node_role.role.arn} if node_role else {"node_role_arn": own.get("nodeRoleArn")}
        )
        pools = own.get("nodePools") or ["general-purpose", "system"]
        return {
            "compute_config": {"enabled": True, **role, "node_pools": pools},
            "storage_config": {"block_storage": {"enabled": True}},
        }

    def _control_plane(self, service: "ServiceRole", nodes: "ServiceRole | None") -> aws.eks.Cluster:
        given = self._inputs
        subnets = given.get("subnetIds") or [
            *(given.get("publicSubnetIds") or []),
            *given.get("privateSubnetIds", []),
        ]
        key = given.get("encryptionConfigKeyArn")
        service_range = given.get("kubernetesServiceIpAddressRange")
        network: aws.eks.ClusterKubernetesNetworkConfigArgsDict = {
            "service_ipv4_cidr": service_range,
            "ip_family": "ipv4",
        }
        if self._auto:
            network["elastic_load_balancing"] = {"enabled": True}
        return aws.eks.Cluster(
            f"{self._name}-eksCluster",
            name=given.get("name"),
            role_arn=service.role.arn,
            **self._auto_mode(nodes),
            version=given.get("version"),
            vpc_config={
                "subnet_ids": subnets,
                "endpoint_private_access": given.get("endpointPrivateAccess"),
                "endpoint_public_access": given.get("endpointPublicAccess"),
                "public_access_cidrs": given.get("publicAccessCidrs"),
            },
            kubernetes_network_config=network if service_range or self._auto else None,
            encryption_config={"provider": {"key_arn": key}, "resources": ["secrets"]} if key else None,
            enabled_cluster_log_types=given.get("enabledClusterLogTypes"),
            access_config={
                "authentication_mode": given["authenticationMode"],
                "bootstrap_cluster_creator_admin_permissions": True,
            }
            if given.get("authenticationMode")
            else None,
            bootstrap_self_managed_addons=False
            if self._auto
            else given.get("bootstrapSelfManagedAddons", True),
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
                depends_on=[each for role in (service, nodes) if role for each in role.attachments],
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
        if not self._inputs.get("useDefaultVpcCni", self._auto):
            options = self._inputs.get("vpcCniOptions") or {}
            policy = {"enableNetworkPolicy": "true"} if options.get("enableNetworkPolicy") else {}
            self._addon(
                "vpc-cni", cluster, options.get("addonVersion"), json.dumps(policy) if policy else None
            )
        for addon, option in (("kube-proxy", "kubeProxyAddonOptions"), ("coredns", "corednsAddonOptions")):
            options = self._inputs.get(option) or {}
            if options.get("enabled", not self._auto):
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


@dataclass(frozen=True)
class Trust:
    """Who may assume a role, and how."""

    service: str
    actions: tuple[str, ...]
    description: str | None = None


class ServiceRole(pulumi.ComponentResource):
    """`eks:index:ServiceRole`: a role that a service of AWS takes, with managed policies."""

    def __init__(
        self, name: str, trust: Trust, policies: Sequence[str], tags: Any, opts: pulumi.ResourceOptions
    ) -> None:
        super().__init__("eks:index:ServiceRole", name, None, opts)
        self._own_name = name
        child = pulumi.ResourceOptions(parent=self)
        statement = {
            "Action": list(trust.actions),
            "Effect": "Allow",
            "Principal": {"Service": [trust.service]},
        }
        self.role = aws.iam.Role(
            f"{name}-role",
            description=trust.description,
            assume_role_policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
            tags=tags,
            opts=child,
        )
        self.attachments = [self._attached(f"arn:aws:iam::aws:policy/{policy}", child) for policy in policies]
        self.register_outputs({})

    def _attached(self, policy: str, child: pulumi.ResourceOptions) -> aws.iam.RolePolicyAttachment:
        suffix = hashlib.sha1(policy.encode(), usedforsecurity=False).hexdigest()[:8]
        return aws.iam.RolePolicyAttachment(
            f"{self._own_name}-{suffix}", role=self.role.name, policy_arn=policy, opts=child
        )


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
