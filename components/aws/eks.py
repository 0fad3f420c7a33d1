"""One EKS cluster: control plane, node groups, addons, and who reaches its API server."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pulumi
import pulumi_aws as aws
import pulumi_eks as eks

from components.aws.iam import ROLE_PATH, managed_policy, role
from components.config.aws_facts import partition_of
from components.config.eks import (
    GENERAL,
    LATEST,
    SPIRE_SERVER,
    EksSpec,
    NodeGroupSpec,
    is_listed,
    log_group_of,
)

API_PORT = 443
NODE_POLICIES = (
    "AmazonEKSWorkerNodePolicy",
    "AmazonEKS_CNI_Policy",
    "AmazonEC2ContainerRegistryPullOnly",
    "AmazonSSMManagedInstanceCore",
)
EBS_CSI = "aws-ebs-csi-driver"
DEDICATED = "dedicated"
COMPUTE_TYPE = "eks.amazonaws.com/compute-type"  # a label of nodes
OWNER = "fedmesh:stack"  # a tag of every EKS cluster, with the name of the stack that created it
AUTO_MODE = eks.AutoModeOptionsArgs(
    enabled=True, compute_config=eks.ClusterComputeConfigArgs(node_pools=["general-purpose"])
)
AUTOSCALED = pulumi.ResourceOptions(ignore_changes=["scalingConfig.desiredSize"])
LONGEST_GROUP_PREFIX = 36  # the provider adds 26 characters, and EKS takes 63


@dataclass(frozen=True)
class EksClusterArgs:
    """Args of EksCluster.

    Attributes:
        cluster_name: name of the cluster in EKS.
        alias: name of the context in the exported kubeconfig.
        region: AWS region.
        spec: versions, node groups, endpoint and addons.
        vpc_id, private_subnet_ids, public_subnet_ids: the network of the cluster.
        network: the component of that network, which nodes depend on.
        peer_cidrs: range of each peer's network by the peer's name.
        peer_addresses: public addresses of the peers' NAT gateways. The name of a public endpoint resolves to public
            addresses outside its own VPC, so that peers connect from these.
        mesh_cidrs: further ranges whose hosts belong to the mesh.
        permissions_boundary: ARN of the boundary of all roles, None for none.
        tags: tags of all resources.
        spire_servers: the number of SPIRE's servers.
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
    network: pulumi.Resource | None = None
    mesh_cidrs: Sequence[str] = ()
    permissions_boundary: pulumi.Input[str] | None = None
    spire_servers: int = 1


class EksCluster(pulumi.ComponentResource):
    """An EKS cluster with managed node groups `general` and `spire-server`.

    Outputs:
        kubeconfig: JSON, a secret; its context has the alias as name. Known when nodes and addons are there.
        endpoint: URL of the API server.
        security_group_id: the group that EKS gives to control plane and nodes.
        node_role_arn: the role of the nodes of managed groups.
        control_plane: the cluster in EKS, which exists long before its nodes.
    """

    kubeconfig: pulumi.Output[str]
    endpoint: pulumi.Output[str]
    security_group_id: pulumi.Output[str]
    node_role_arn: pulumi.Output[str]
    control_plane: pulumi.Resource

    def __init__(self, name: str, args: EksClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:eks:EksCluster", name, None, opts)
        self._name = name
        self._args = args
        self._child = pulumi.ResourceOptions(parent=self)
        self._partition = partition_of(args.region) or "aws"
        self._network = [args.network] if args.network else []

        self.control_plane = cluster = self._cluster(self._key())
        after_cluster = pulumi.ResourceOptions(parent=self, depends_on=[cluster])
        self.security_group_id = cluster.cluster_security_group_id
        self._api_rules()
        groups = self._node_groups(after_cluster)
        # CoreDNS stays DEGRADED until EKS gives up if no node can run it: the general nodes come first, or what Auto
        # Mode needs to make nodes for it.
        nodes = [groups[GENERAL]] if GENERAL in groups else [cluster, *self._network]
        addons = self._addons(pulumi.ResourceOptions(parent=self, depends_on=nodes))

        ready = pulumi.Output.all(*(group.id for group in groups.values()), *(addon.id for addon in addons))
        raw = pulumi.Output.all(cluster.kubeconfig_json, ready).apply(lambda both: str(both[0]))
        profile = args.spec.account.profile if args.spec.account else ""
        self.kubeconfig = pulumi.Output.secret(
            raw.apply(lambda text: named_kubeconfig(text, args.alias, profile))
        )
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

    def _log_group(self) -> list[pulumi.Resource]:
        """Creates the log group before EKS would, which sets no retention and leaves it behind."""
        if not self._args.spec.log_types:
            return []
        return [
            aws.cloudwatch.LogGroup(
                f"{self._name}-control-plane",
                name=log_group_of(self._args.cluster_name),
                retention_in_days=self._args.spec.flow_log_days,
                tags=self._tags("control-plane"),
                opts=self._child,
            )
        ]

    def _cluster(self, key: aws.kms.Key) -> eks.Cluster:
        spec = self._args.spec
        transform = child_transform(
            creator_is_admin=not spec.admins, boundary=self._args.permissions_boundary
        )
        return eks.Cluster(
            self._name,
            name=self._args.cluster_name,
            version=spec.version,
            vpc_id=self._args.vpc_id,
            private_subnet_ids=list(self._args.private_subnet_ids),
            public_subnet_ids=self._public_subnets(),
            authentication_mode=eks.AuthenticationMode.API,
            access_entries=self._admins(),
            endpoint_private_access=True,
            endpoint_public_access=spec.endpoint.public,
            public_access_cidrs=self._public_cidrs() if spec.endpoint.public else None,
            encryption_config_key_arn=key.arn,
            enabled_cluster_log_types=list(spec.log_types),
            kubernetes_service_ip_address_range=spec.service_cidr,
            skip_default_node_group=True,
            # The nodes of managed groups are in the security group that EKS creates; another one would be unused.
            skip_default_security_groups=True,
            create_instance_role=False,
            bootstrap_self_managed_addons=False,
            vpc_cni_options=eks.VpcCniOptionsArgs(
                addon_version=self._pin("vpc-cni"), enable_network_policy=True
            ),
            kube_proxy_addon_options=eks.KubeProxyAddonOptionsArgs(
                version=self._pin("kube-proxy"), enabled=True if spec.auto_mode else None
            ),
            # the nodes of managed groups need the addons that Auto Mode's own nodes do without
            use_default_vpc_cni=False if spec.auto_mode else None,
            auto_mode=AUTO_MODE if spec.auto_mode else None,
            coredns_addon_options=eks.CoreDnsAddonOptionsArgs(enabled=False),
            deletion_protection=spec.deletion_protection,
            upgrade_policy=aws.eks.ClusterUpgradePolicyArgs(support_type=spec.support_type.upper()),
            provider_credential_opts=eks.KubeconfigOptionsArgs(role_arn=spec.account.role_arn or None)
            if spec.account
            else eks.KubeconfigOptionsArgs(),
            tags=dict(self._args.tags),
            cluster_tags={OWNER: pulumi.get_stack()},
            opts=pulumi.ResourceOptions(parent=self, depends_on=self._log_group(), transforms=[transform]),
        )

    def _public_subnets(self) -> list[pulumi.Input[str]] | None:
        """Auto Mode makes nodes in all subnets of the cluster, and in a public one, without a public address, they have
        no way to AWS. Load balancers find their subnets by tags.
        """
        return None if self._args.spec.auto_mode else list(self._args.public_subnet_ids)

    def _public_cidrs(self) -> list[pulumi.Input[str]]:
        peers = [pulumi.Output.concat(address, "/32") for address in self._args.peer_addresses]
        return [*self._args.spec.endpoint.cidrs, *peers]

    def _admins(self) -> dict[str, eks.AccessEntryArgs]:
        admin = eks.AccessPolicyAssociationArgs(
            access_scope=aws.eks.AccessPolicyAssociationAccessScopeArgs(type="cluster"),
            policy_arn=f"arn:{self._partition}:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy",
        )
        admins = self._args.spec.admins
        if not admins:
            return {}
        caller = aws.get_caller_identity_output(opts=pulumi.InvokeOutputOptions(parent=self)).arn
        allowed = caller.apply(lambda arn: check_caller(arn, admins, self._args.alias))
        return {
            key: eks.AccessEntryArgs(
                principal_arn=pulumi.Output.all(arn, allowed).apply(lambda both: str(both[0])),
                access_policies={"admin": admin},
            )
            for key, arn in entry_names(admins).items()
        }

    def _pin(self, addon: str) -> pulumi.Output[str]:
        """Returns the version of an addon: as configured, or EKS's default for the cluster's version."""
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

    def _api_rules(self) -> None:
        """Lets into the API server: the own VPC, operators' ranges, and the peers, where Kiali reads it.

        EKS opens it to the cluster's own nodes alone. All other traffic between clusters arrives at load balancers,
        whose controller opens the pods' ports.
        """
        for peer, cidr in self._args.peer_cidrs.items():
            self._api_rule(f"from-{peer}-api", f"api from {peer}", cidr)
        own = self._args.spec.vpc_cidr
        self._api_rule("api-from-vpc", "api from the own VPC", own)
        ranges = [*self._args.spec.endpoint.private_cidrs, *self._args.mesh_cidrs]
        for cidr in sorted({*ranges} - {own, *self._args.peer_cidrs.values()}):
            self._api_rule(f"api-from-{cidr.replace('/', '-')}", f"api from {cidr}", cidr)

    def _api_rule(self, label: str, description: str, cidr: str) -> None:
        aws.vpc.SecurityGroupIngressRule(
            f"{self._name}-{label}",
            security_group_id=self.security_group_id,
            description=description,
            ip_protocol="tcp",
            from_port=API_PORT,
            to_port=API_PORT,
            cidr_ipv4=cidr,
            tags=self._tags(label),
            opts=self._child,
        )

    def _node_groups(self, after_cluster: pulumi.ResourceOptions) -> dict[str, aws.eks.NodeGroup]:
        node_role, attachments = role(
            f"{self._name}-node",
            trust="trust-ec2",
            policies=[managed_policy(policy, self._partition) for policy in NODE_POLICIES],
            boundary=self._args.permissions_boundary,
            tags=self._tags("node"),
            opts=self._child,
        )
        self.node_role_arn = node_role.arn
        # without its routes a node neither joins nor, on destroy, releases its network interfaces
        opts = pulumi.ResourceOptions.merge(
            after_cluster, pulumi.ResourceOptions(depends_on=[*attachments, *self._network])
        )
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
            # a group that must be replaced is created beside the old one, before that is deleted
            node_group_name_prefix=f"{group_name}-",
            node_role_arn=node_role.arn,
            subnet_ids=self._subnets_of(group_name),
            version=self._args.spec.version,
            release_version=self._release(group) if group.patched else None,
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
            opts=pulumi.ResourceOptions.merge(opts, AUTOSCALED) if group.autoscaled else opts,
        )

    def _release(self, group: NodeGroupSpec) -> pulumi.Output[str]:
        """Returns the version of EKS's newest image of a node group's kind."""
        name = group.release_parameter(self._args.spec.version)
        return aws.ssm.get_parameter_output(name=name, opts=pulumi.InvokeOutputOptions(parent=self)).value

    def _subnets_of(self, group_name: str) -> list[pulumi.Input[str]]:
        """A volume of SPIRE lives in one zone, and so must a node that can attach it.

        Several servers are in as many zones as they have nodes, so that each zone keeps a node: AWS makes a new one in
        the zone that has the fewest.
        """
        subnets = list(self._args.private_subnet_ids)
        if group_name != SPIRE_SERVER:
            return subnets
        nodes = self._args.spec.node_groups[SPIRE_SERVER].desired_size
        return subnets[: max(1, min(self._args.spire_servers, nodes))]

    def _launch_template(self, group_name: str, group: NodeGroupSpec) -> aws.ec2.LaunchTemplate:
        tags = self._tags(group_name)
        return aws.ec2.LaunchTemplate(
            f"{self._name}-{group_name}",
            description=f"Nodes {group_name} of {self._args.cluster_name}",
            update_default_version=True,
            # IMDSv2 with one hop: pods have credentials by pod identity, and can't read the node's own.
            metadata_options={
                "http_endpoint": "enabled",
                "http_tokens": "required",
                "http_put_response_hop_limit": 1,
            },
            block_device_mappings=[
                aws.ec2.LaunchTemplateBlockDeviceMappingArgs(device_name=device, ebs=disk)
                for device, disk in disks(group).items()
            ],
            tag_specifications=[{"resource_type": kind, "tags": tags} for kind in ("instance", "volume")],
            tags=tags,
            opts=self._child,
        )

    def _addons(self, after_nodes: pulumi.ResourceOptions) -> list[aws.eks.Addon]:
        driver, attachments = role(
            f"{self._name}-ebs-csi",
            trust="trust-pod-identity",
            policies=[managed_policy("AmazonEBSCSIDriverPolicyV2", self._partition)],
            boundary=self._args.permissions_boundary,
            tags=self._tags("ebs-csi"),
            opts=self._child,
        )
        # Auto Mode's nodes have an agent of their own, which this one leaves to them; managed ones need it all the same
        agent = self._addon("eks-pod-identity-agent", after_nodes)
        with_role = pulumi.ResourceOptions.merge(
            after_nodes, pulumi.ResourceOptions(depends_on=[agent, *attachments])
        )
        return [
            agent,
            self._addon("coredns", after_nodes),
            self._addon(
                EBS_CSI,
                with_role,
                {"ebs-csi-controller-sa": driver.arn},
                {"controller": self._volume_controller()},
            ),
        ]

    def _volume_controller(self) -> dict[str, Any]:
        """The EBS driver's controller: its volumes' tags, and which nodes it runs on.

        By default it tolerates every NoExecute taint for five minutes: it would go to SPIRE's nodes, be evicted, and
        come back. In Auto Mode it would also prefer managed nodes.
        """
        return {
            # a volume that outlived its cluster can be told apart, and its owner found
            "extraVolumeTags": self._tags("volume"),
            "tolerations": [{"key": "CriticalAddonsOnly", "operator": "Exists"}],
            **({"nodeSelector": {COMPUTE_TYPE: "auto"}} if self._args.spec.auto_mode else {}),
        }

    def _addon(
        self,
        addon: str,
        opts: pulumi.ResourceOptions,
        pod_identities: Mapping[str, pulumi.Input[str]] | None = None,
        values: Mapping[str, Any] | None = None,
    ) -> aws.eks.Addon:
        return aws.eks.Addon(
            f"{self._name}-{addon}",
            cluster_name=self._args.cluster_name,
            addon_name=addon,
            addon_version=self._pin(addon),
            configuration_values=json.dumps(values) if values else None,
            resolve_conflicts_on_create="OVERWRITE",
            resolve_conflicts_on_update="OVERWRITE",
            pod_identity_associations=[
                {"service_account": account, "role_arn": arn}
                for account, arn in (pod_identities or {}).items()
            ],
            tags=self._tags(addon),
            opts=opts,
        )


def disks(group: NodeGroupSpec) -> dict[str, aws.ec2.LaunchTemplateBlockDeviceMappingEbsArgs]:
    """Returns the encrypted disks of a node by device name.

    Bottlerocket keeps containers and images on its second disk; the first holds the system, in the image's own size.
    """

    def disk(size: int | None) -> aws.ec2.LaunchTemplateBlockDeviceMappingEbsArgs:
        return aws.ec2.LaunchTemplateBlockDeviceMappingEbsArgs(
            volume_size=size, volume_type="gp3", encrypted="true", delete_on_termination="true"
        )

    if group.os == "bottlerocket":
        return {"/dev/xvda": disk(None), "/dev/xvdb": disk(group.disk_size)}
    return {"/dev/xvda": disk(group.disk_size)}


def entry_names(admins: Sequence[str]) -> dict[str, str]:
    """Returns the principals' ARNs by the names of their access entries.

    A name is the last part of the ARN, and the whole of it for principals that share their last part.
    """
    last = [arn.rsplit("/", 1)[1] for arn in admins]
    whole = [re.sub(r"[^A-Za-z0-9-]+", "-", arn) for arn in admins]
    return {
        short if last.count(short) == 1 else long: arn
        for short, long, arn in zip(last, whole, admins, strict=True)
    }


def check_caller(caller: str, admins: Sequence[str], cluster: str) -> bool:
    """Checks that the identity which runs Pulumi will be let into the cluster.

    Args:
        caller: its ARN, as STS gives it: an assumed role without its path.
        admins: ARNs of the listed principals.
        cluster: name of the cluster, for the error.

    Raises:
        pulumi.RunError: it is not among them.
    """
    if not is_listed(caller, admins):
        raise pulumi.RunError(
            f"{caller} runs Pulumi and is not among the admins of {cluster}: it could create the cluster and "
            f"nothing in it; list it in eks.admins, or use one of {', '.join(admins)}"
        )
    return True


def check_owner(tags: Mapping[str, str], stack: str, name: str) -> bool:
    """Checks that no other stack has created the EKS cluster of a name, which is unique in an account and region.

    Args:
        tags: tags of the cluster; empty where there is none, and without owner where an earlier version created it.
        stack: name of the Pulumi stack.
        name: name of the cluster in EKS.

    Raises:
        pulumi.RunError: another stack has.
    """
    owner = tags.get(OWNER, stack)
    if owner != stack:
        raise pulumi.RunError(
            f"{name} exists and belongs to the stack {owner}: use another account or region, other names of clusters, "
            f"or, where that stack was renamed, set the cluster's tag {OWNER} to {stack}"
        )
    return True


def child_transform(
    *, creator_is_admin: bool, boundary: pulumi.Input[str] | None
) -> Callable[[pulumi.ResourceTransformArgs], pulumi.ResourceTransformResult | None]:
    """Returns a transform of the resources inside pulumi-eks' component, which has no arguments for these inputs.

    Args:
        creator_is_admin: whether EKS itself creates an access entry for the cluster's creator. With listed admins it
            must not: an entry of the creator in that list would be refused as a duplicate.
        boundary: ARN of the permissions boundary of roles, None for none.
    """
    role_inputs = {"path": ROLE_PATH, **({} if boundary is None else {"permissionsBoundary": boundary})}

    def transform(args: pulumi.ResourceTransformArgs) -> pulumi.ResourceTransformResult | None:
        if args.type_ == "aws:iam/role:Role":
            return pulumi.ResourceTransformResult(props={**args.props, **role_inputs}, opts=args.opts)
        if args.type_ == "aws:eks/cluster:Cluster":
            # a zone that fails can be taken out by a zonal shift
            changed = {"zonalShiftConfig": {"enabled": True}}
            access = {
                **cast(dict[str, Any], args.props.get("accessConfig") or {}),
                "bootstrapClusterCreatorAdminPermissions": creator_is_admin,
            }
            return pulumi.ResourceTransformResult(
                props={**args.props, **changed, "accessConfig": access}, opts=args.opts
            )
        return None

    return transform


def named_kubeconfig(text: str, alias: str, profile: str = "") -> str:
    """Returns the kubeconfig (JSON) with its one context, cluster and user named by the alias.

    With a profile, its token is that profile's: pulumi-eks leaves profiles out of the kubeconfig that it gives.
    """
    config = cast(dict[str, Any], json.loads(text))
    if profile:
        config["users"][0]["user"]["exec"]["args"] += ["--profile", profile]
    for kind in ("clusters", "users", "contexts"):
        config[kind][0]["name"] = alias
    config["contexts"][0]["context"] |= {"cluster": alias, "user": alias}
    config["current-context"] = alias
    return json.dumps(config)


def server_of(kubeconfig: str) -> str:
    """Returns the URL of the API server in a kubeconfig (JSON)."""
    return str(json.loads(kubeconfig)["clusters"][0]["cluster"]["server"])
