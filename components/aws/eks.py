"""One EKS cluster: control plane, node groups, addons, and the ports that its peers may reach."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pulumi
import pulumi_aws as aws
import pulumi_eks as eks

from components.aws.iam import managed_policy, role
from components.config.aws_facts import partition_of
from components.config.eks import GENERAL, LATEST, SPIRE_SERVER, EksSpec, NodeGroupSpec

# What peers call here: the API server (their istiod watches it), istiod, its webhook, the mesh gateway, SPIRE's
# bundle endpoint, and the gateways' health.
PEER_PORTS = {
    "api": 443,
    "xds": 15012,
    "webhook": 15017,
    "mesh": 15443,
    "spire-bundle": 8443,
    "health": 15021,
}
NODE_POLICIES = (
    "AmazonEKSWorkerNodePolicy",
    "AmazonEKS_CNI_Policy",
    "AmazonEC2ContainerRegistryPullOnly",
    "AmazonSSMManagedInstanceCore",
)
EBS_CSI = "aws-ebs-csi-driver"
DEDICATED = "dedicated"


@dataclass(frozen=True)
class EksClusterArgs:
    """Args of EksCluster.

    Attributes:
        cluster_name: name of the cluster in EKS.
        alias: name of the context in the exported kubeconfig.
        region: AWS region.
        spec: versions, node groups, endpoint and addons.
        vpc_id, private_subnet_ids, public_subnet_ids: the network to live in.
        peer_cidrs: range of each peer's network by the peer's name.
        peer_addresses: public addresses of the peers' NAT gateways. Where the endpoint is public, its name gives
            public addresses outside its own VPC, so that peers come from these.
        tags: tags of everything.
    """

    cluster_name: str
    alias: str
    region: str
    spec: EksSpec
    vpc_id: pulumi.Input[str]
    private_subnet_ids: Sequence[pulumi.Input[str]]
    public_subnet_ids: Sequence[pulumi.Input[str]]
    peer_cidrs: Mapping[str, str]
    peer_addresses: Sequence[pulumi.Input[str]]
    tags: Mapping[str, str]


class EksCluster(pulumi.ComponentResource):
    """An EKS cluster with managed node groups `general` and `spire-server`.

    Outputs:
        kubeconfig: JSON, a secret; its context has the alias as name. Known when nodes and addons are there.
        endpoint: URL of the API server.
        security_group_id: the group that EKS gives to control plane and nodes.
    """

    kubeconfig: pulumi.Output[str]
    endpoint: pulumi.Output[str]
    security_group_id: pulumi.Output[str]

    def __init__(self, name: str, args: EksClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:eks:EksCluster", name, None, opts)
        self._name = name
        self._args = args
        self._child = pulumi.ResourceOptions(parent=self)
        self._partition = partition_of(args.region) or "aws"

        cluster = self._cluster(self._key())
        after_cluster = pulumi.ResourceOptions(parent=self, depends_on=[cluster])
        self.security_group_id = cluster.cluster_security_group_id
        self._peer_rules()
        groups = self._node_groups(after_cluster)
        # CoreDNS without a node that takes it stays DEGRADED until EKS gives up: general nodes first.
        addons = self._addons(pulumi.ResourceOptions(parent=self, depends_on=[groups[GENERAL]]))

        ready = pulumi.Output.all(*(group.id for group in groups.values()), *(addon.id for addon in addons))
        raw = pulumi.Output.all(cluster.kubeconfig_json, ready).apply(lambda both: str(both[0]))
        self.kubeconfig = pulumi.Output.secret(raw.apply(lambda text: named_kubeconfig(text, args.alias)))
        self.endpoint = raw.apply(server_of)
        self.register_outputs({"kubeconfig": self.kubeconfig, "endpoint": self.endpoint})

    def _tags(self, part: str) -> dict[str, str]:
        return {**self._args.tags, "Name": f"{self._args.cluster_name}-{part}"}

    def _key(self) -> aws.kms.Key:
        key = aws.kms.Key(
            f"{self._name}-secrets",
            description=f"Envelope encryption of the Kubernetes secrets of {self._args.cluster_name}",
            enable_key_rotation=True,
            deletion_window_in_days=7,
            tags=self._tags("secrets"),
            opts=self._child,
        )
        aws.kms.Alias(
            f"{self._name}-secrets",
            name=f"alias/{self._args.cluster_name}-secrets",
            target_key_id=key.key_id,
            opts=self._child,
        )
        return key

    def _cluster(self, key: aws.kms.Key) -> eks.Cluster:
        spec = self._args.spec
        return eks.Cluster(
            self._name,
            name=self._args.cluster_name,
            version=spec.version,
            vpc_id=self._args.vpc_id,
            private_subnet_ids=list(self._args.private_subnet_ids),
            public_subnet_ids=list(self._args.public_subnet_ids),
            authentication_mode=eks.AuthenticationMode.API,
            access_entries=self._admins(),
            endpoint_private_access=True,
            endpoint_public_access=spec.public_endpoint,
            public_access_cidrs=self._public_cidrs() if spec.public_endpoint else None,
            encryption_config_key_arn=key.arn,
            enabled_cluster_log_types=list(spec.log_types),
            kubernetes_service_ip_address_range=spec.service_cidr,
            skip_default_node_group=True,
            # The nodes of managed groups are in the group that EKS makes: one more would guard nothing.
            skip_default_security_groups=True,
            create_instance_role=False,
            bootstrap_self_managed_addons=False,
            vpc_cni_options=eks.VpcCniOptionsArgs(
                addon_version=self._pin("vpc-cni"), enable_network_policy=True
            ),
            kube_proxy_addon_options=eks.KubeProxyAddonOptionsArgs(version=self._pin("kube-proxy")),
            coredns_addon_options=eks.CoreDnsAddonOptionsArgs(enabled=False),
            deletion_protection=spec.deletion_protection,
            upgrade_policy=aws.eks.ClusterUpgradePolicyArgs(support_type="STANDARD"),
            # pulumi-eks refuses an explicit provider without these, even where there is nothing to say.
            provider_credential_opts=eks.KubeconfigOptionsArgs(),
            tags=dict(self._args.tags),
            opts=self._child,
        )

    def _public_cidrs(self) -> list[pulumi.Input[str]]:
        peers = [pulumi.Output.concat(address, "/32") for address in self._args.peer_addresses]
        return [*self._args.spec.public_endpoint_cidrs, *peers]

    def _admins(self) -> dict[str, eks.AccessEntryArgs]:
        admin = eks.AccessPolicyAssociationArgs(
            access_scope=aws.eks.AccessPolicyAssociationAccessScopeArgs(type="cluster"),
            policy_arn=f"arn:{self._partition}:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy",
        )
        return {
            arn.rsplit("/", 1)[1]: eks.AccessEntryArgs(principal_arn=arn, access_policies={"admin": admin})
            for arn in self._args.spec.admins
        }

    def _pin(self, addon: str) -> pulumi.Output[str]:
        """The version of an addon: as configured, or EKS's default for the cluster's version."""
        version = self._args.spec.addons.of(addon)
        if version != LATEST:
            return pulumi.Output.from_input(version)
        found = aws.eks.get_addon_version_output(
            addon_name=addon,
            kubernetes_version=self._args.spec.version,
            most_recent=False,
            opts=pulumi.InvokeOutputOptions(parent=self),
        )
        return found.version

    def _peer_rules(self) -> None:
        for peer, cidr in self._args.peer_cidrs.items():
            for label, port in PEER_PORTS.items():
                aws.vpc.SecurityGroupIngressRule(
                    f"{self._name}-from-{peer}-{label}",
                    security_group_id=self.security_group_id,
                    description=f"{label} from {peer}",
                    ip_protocol="tcp",
                    from_port=port,
                    to_port=port,
                    cidr_ipv4=cidr,
                    tags=self._tags(f"from-{peer}-{label}"),
                    opts=self._child,
                )

    def _node_groups(self, after_cluster: pulumi.ResourceOptions) -> dict[str, aws.eks.NodeGroup]:
        node_role, attachments = role(
            f"{self._name}-node",
            trust="trust-ec2",
            policies=[managed_policy(policy, self._partition) for policy in NODE_POLICIES],
            tags=self._tags("node"),
            opts=self._child,
        )
        opts = pulumi.ResourceOptions.merge(after_cluster, pulumi.ResourceOptions(depends_on=[*attachments]))
        return {
            group_name: self._node_group(group_name, group, node_role, opts)
            for group_name, group in self._args.spec.node_groups.items()
        }

    def _node_group(
        self, group_name: str, group: NodeGroupSpec, node_role: aws.iam.Role, opts: pulumi.ResourceOptions
    ) -> aws.eks.NodeGroup:
        template = self._launch_template(group_name, group)
        return aws.eks.NodeGroup(
            f"{self._name}-{group_name}",
            cluster_name=self._args.cluster_name,
            node_group_name=group_name,
            node_role_arn=node_role.arn,
            subnet_ids=list(self._args.private_subnet_ids),
            version=self._args.spec.version,
            ami_type=group.ami_type,
            capacity_type="SPOT" if group.spot else "ON_DEMAND",
            instance_types=list(group.instance_types),
            scaling_config={
                "min_size": group.min_size,
                "desired_size": group.desired_size,
                "max_size": group.max_size,
            },
            update_config={"max_unavailable": 1},
            node_repair_config={"enabled": True},
            launch_template={
                "id": template.id,
                "version": template.latest_version.apply(str),
            },
            labels={DEDICATED: SPIRE_SERVER} if group_name == SPIRE_SERVER else {},
            taints=[{"key": DEDICATED, "value": SPIRE_SERVER, "effect": "NO_EXECUTE"}]
            if group_name == SPIRE_SERVER
            else [],
            tags=self._tags(group_name),
            opts=opts,
        )

    def _launch_template(self, group_name: str, group: NodeGroupSpec) -> aws.ec2.LaunchTemplate:
        # Bottlerocket keeps containers and images on its second disk; the first holds the system alone.
        device = "/dev/xvdb" if group.os == "bottlerocket" else "/dev/xvda"
        tags = self._tags(group_name)
        return aws.ec2.LaunchTemplate(
            f"{self._name}-{group_name}",
            description=f"Nodes {group_name} of {self._args.cluster_name}",
            update_default_version=True,
            # IMDSv2 with one hop: pods get credentials by pod identity, never the node's own.
            metadata_options={
                "http_endpoint": "enabled",
                "http_tokens": "required",
                "http_put_response_hop_limit": 1,
            },
            block_device_mappings=[
                {
                    "device_name": device,
                    "ebs": {
                        "volume_size": group.disk_size,
                        "volume_type": "gp3",
                        "encrypted": "true",
                        "delete_on_termination": "true",
                    },
                }
            ],
            tag_specifications=[{"resource_type": kind, "tags": tags} for kind in ("instance", "volume")],
            tags=tags,
            opts=self._child,
        )

    def _addons(self, after_nodes: pulumi.ResourceOptions) -> list[aws.eks.Addon]:
        driver, attachments = role(
            f"{self._name}-ebs-csi",
            trust="trust-pod-identity",
            policies=[managed_policy("service-role/AmazonEBSCSIDriverPolicy", self._partition)],
            tags=self._tags("ebs-csi"),
            opts=self._child,
        )
        identity = self._addon("eks-pod-identity-agent", after_nodes)
        with_role = pulumi.ResourceOptions(parent=self, depends_on=[identity, *attachments])
        return [
            identity,
            self._addon("coredns", after_nodes),
            self._addon(EBS_CSI, with_role, {"ebs-csi-controller-sa": driver.arn}),
        ]

    def _addon(
        self,
        addon: str,
        opts: pulumi.ResourceOptions,
        pod_identities: Mapping[str, pulumi.Input[str]] | None = None,
    ) -> aws.eks.Addon:
        return aws.eks.Addon(
            f"{self._name}-{addon}",
            cluster_name=self._args.cluster_name,
            addon_name=addon,
            addon_version=self._pin(addon),
            resolve_conflicts_on_create="OVERWRITE",
            resolve_conflicts_on_update="OVERWRITE",
            pod_identity_associations=[
                {"service_account": account, "role_arn": arn}
                for account, arn in (pod_identities or {}).items()
            ],
            tags=self._tags(addon),
            opts=opts,
        )


def named_kubeconfig(text: str, alias: str) -> str:
    """The same kubeconfig (JSON) with its one context, cluster and user called by the alias."""
    config = cast(dict[str, Any], json.loads(text))
    for kind in ("clusters", "users", "contexts"):
        config[kind][0]["name"] = alias
    config["contexts"][0]["context"] |= {"cluster": alias, "user": alias}
    config["current-context"] = alias
    return json.dumps(config)


def server_of(kubeconfig: str) -> str:
    """The API server's URL in a kubeconfig (JSON)."""
    return str(json.loads(kubeconfig)["clusters"][0]["cluster"]["server"])
