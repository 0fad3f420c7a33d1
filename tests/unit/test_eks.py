"""One EKS cluster: what it is made of, who may reach it, and in which order it comes up."""

import json
from typing import Any

import pulumi
import pytest

from components.aws.eks import (
    OWNER,
    EksCluster,
    EksClusterArgs,
    check_caller,
    check_owner,
    child_transform,
    named_kubeconfig,
)
from components.config.eks import EksSpec
from components.config.errors import ConfigError, validated
from tests.unit.recording import Recorder, record, value
from tests.unit.stacks import TODAY

EKS: dict[str, Any] = {
    "version": "1.36",
    "vpcCidr": "10.2.0.0/16",
    "serviceCidr": "172.20.0.0/16",
    "zones": ["us-east-1a", "us-east-1b", "us-east-1c"],
    "nodeGroups": {"general": {}, "spire-server": {}},
}


def cluster(spire_servers: int = 1, **changes: Any) -> Recorder:
    spec = validated(EksSpec, {**EKS, **changes}, "eks", "Pulumi.dev.yaml", {"today": TODAY})
    args = EksClusterArgs(
        cluster_name="istio-eks-cluster-1",
        alias="cluster-1",
        region="us-east-1",
        spec=spec,
        vpc_id="vpc-1",
        private_subnet_ids=["subnet-a", "subnet-b"],
        public_subnet_ids=["subnet-public"],
        peer_cidrs={"cluster-2": "10.3.0.0/16", "cluster-3": "10.4.0.0/16"},
        peer_addresses=["198.51.100.7"],
        tags={"project": "fedmesh"},
        mesh_cidrs=["10.90.0.0/16"],
        permissions_boundary="arn:aws:iam::123456789012:policy/boundary",
        spire_servers=spire_servers,
    )
    return record(lambda: EksCluster("one", args))


def control_plane(**changes: Any) -> dict[str, Any]:
    return cluster(**changes).one("one", "eks:index:Cluster").inputs


def test_the_api_server_is_private_unless_ranges_are_listed_and_then_peers_may_reach_it_too() -> None:
    private = control_plane()
    assert (private["endpointPrivateAccess"], private["endpointPublicAccess"]) == (True, False)
    assert "publicAccessCidrs" not in private
    public = control_plane(endpoint={"public": True, "cidrs": ["8.8.4.0/24"]})
    assert (public["endpointPublicAccess"], public["publicAccessCidrs"]) == (
        True,
        ["8.8.4.0/24", "198.51.100.7/32"],
    )


def test_access_is_by_entries_and_the_listed_admins_have_one() -> None:
    made = control_plane(admins=["arn:aws:iam::123456789012:role/deployer"])
    assert made["authenticationMode"] == "API"
    entry = made["accessEntries"]["deployer"]
    assert entry["principalArn"] == "arn:aws:iam::123456789012:role/deployer"
    assert entry["accessPolicies"]["admin"]["policyArn"].endswith("AmazonEKSClusterAdminPolicy")


def test_secrets_are_encrypted_with_a_rotating_key_of_their_own() -> None:
    made = cluster()
    (key,) = made.of("Key")
    assert key.inputs["enableKeyRotation"] is True
    used = made.one("one", "eks:index:Cluster").inputs["encryptionConfigKeyArn"]
    assert used == "arn:aws:mock:::one-secrets"


def test_all_logs_of_the_control_plane_are_kept() -> None:
    assert len(control_plane()["enabledClusterLogTypes"]) == 5


def test_nothing_is_made_by_default_that_would_need_nodes_first() -> None:
    made = control_plane()
    assert made["skipDefaultNodeGroup"] is True
    assert made["corednsAddonOptions"]["enabled"] is False


def api_sources(**changes: Any) -> list[str]:
    rules = [rule.inputs for rule in cluster(**changes).of("SecurityGroupIngressRule")]
    assert all((rule["fromPort"], rule["toPort"], rule["ipProtocol"]) == (443, 443, "tcp") for rule in rules)
    assert {rule["securityGroupId"] for rule in rules} == {"sg-of-eks"}
    return sorted(rule["cidrIpv4"] for rule in rules)


def test_the_api_server_lets_in_its_own_network_the_peers_and_the_mesh() -> None:
    assert api_sources() == ["10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16", "10.90.0.0/16"]


def test_operators_reach_a_private_api_server_from_the_ranges_that_the_stack_lists() -> None:
    assert "192.168.7.0/24" in api_sources(endpoint={"privateCidrs": ["192.168.7.0/24", "10.90.0.0/16"]})


def test_two_principals_of_one_name_get_an_entry_each() -> None:
    admins = [
        f"arn:aws:iam::123456789012:{path}" for path in ("role/platform", "user/platform", "role/a/deployer")
    ]
    entries = control_plane(admins=admins)["accessEntries"]
    assert sorted(entry["principalArn"] for entry in entries.values()) == sorted(admins)
    assert "deployer" in entries


def transformed(type_: str, props: dict[str, Any], **changes: Any) -> Any:
    changed = child_transform(**{"creator_is_admin": True, "boundary": None, **changes})(
        pulumi.ResourceTransformArgs(True, type_, "x", props, pulumi.ResourceOptions())
    )
    return changed.props if changed else None


def test_listed_admins_may_include_the_clusters_creator() -> None:
    props = {"name": "n", "accessConfig": {"authenticationMode": "API"}}
    made = transformed("aws:eks/cluster:Cluster", props, creator_is_admin=False)
    assert made["accessConfig"] == {
        "authenticationMode": "API",
        "bootstrapClusterCreatorAdminPermissions": False,
    }
    assert made["name"] == "n"
    assert made["zonalShiftConfig"] == {"enabled": True}
    assert transformed("aws:eks/addon:Addon", {}) is None


ACCOUNT = "arn:aws:iam::123456789012"
SESSION = "arn:aws:sts::123456789012:assumed-role/AWSReservedSSO_admin_1/jane"


@pytest.mark.parametrize(
    ("caller", "admin"),
    [
        (SESSION, f"{ACCOUNT}:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_admin_1"),
        (f"{ACCOUNT}:user/ops/jane", f"{ACCOUNT}:user/ops/jane"),
    ],
)
def test_a_listed_caller_passes_as_role_session_or_user(caller: str, admin: str) -> None:
    assert check_caller(caller, [f"{ACCOUNT}:role/other", admin], "cluster-1")


@pytest.mark.parametrize("caller", [SESSION, f"{ACCOUNT}:root", f"{ACCOUNT}:user/platform"])
def test_a_caller_that_would_be_locked_out_is_refused_first(caller: str) -> None:
    with pytest.raises(pulumi.RunError, match=r"is not among the admins of cluster-1.*role/platform$"):
        check_caller(caller, [f"{ACCOUNT}:role/platform"], "cluster-1")


def test_the_role_that_pulumi_eks_creates_has_the_path_and_boundary_of_all_others() -> None:
    assert transformed("aws:iam/role:Role", {"name": "n"}) == {"name": "n", "path": "/fedmesh/"}
    bounded = transformed("aws:iam/role:Role", {}, boundary="arn:b")
    assert bounded == {"path": "/fedmesh/", "permissionsBoundary": "arn:b"}
    for role in cluster().of("Role"):
        assert role.inputs["path"] == "/fedmesh/"
        assert role.inputs["permissionsBoundary"].endswith("policy/boundary")


def test_the_log_group_of_the_control_plane_is_the_stacks_own() -> None:
    made = cluster(flowLogDays=90)
    group = made.one("one-control-plane")
    assert group.inputs["name"] == "/aws/eks/istio-eks-cluster-1/cluster"
    assert group.inputs["retentionInDays"] == 90
    assert made.outlives(group, made.one("one", "eks:index:Cluster"))


def test_support_is_standard_unless_the_stack_says_extended() -> None:
    assert control_plane()["upgradePolicy"] == {"supportType": "STANDARD"}
    assert control_plane(supportType="extended")["upgradePolicy"] == {"supportType": "EXTENDED"}


def group(name: str, **changes: Any) -> dict[str, Any]:
    return cluster(**changes).one(f"one-{name}", "NodeGroup").inputs


def test_a_replaced_node_group_is_created_before_the_old_one_is_deleted() -> None:
    for name in ("general", "spire-server"):
        inputs = group(name)
        assert inputs["nodeGroupNamePrefix"] == f"{name}-"
        assert "nodeGroupName" not in inputs


def test_the_nodes_of_spire_server_are_in_the_zone_of_its_volume() -> None:
    assert group("spire-server")["subnetIds"] == ["subnet-a"]
    assert group("general")["subnetIds"] == ["subnet-a", "subnet-b"]


def test_several_spire_servers_are_in_as_many_zones_as_they_have_nodes() -> None:
    def subnets(desired: int) -> list[str]:
        groups = {"general": {}, "spire-server": {"desired": desired, "max": 3}}
        return cluster(2, nodeGroups=groups).one("one-spire-server", "NodeGroup").inputs["subnetIds"]

    assert subnets(2) == ["subnet-a", "subnet-b"]
    assert subnets(1) == ["subnet-a"]  # a new node must be where the volume is


def test_only_the_spire_server_group_is_tainted_and_labelled() -> None:
    spire_server, general = group("spire-server"), group("general")
    assert spire_server["taints"] == [{"key": "dedicated", "value": "spire-server", "effect": "NO_EXECUTE"}]
    assert spire_server["labels"] == {"dedicated": "spire-server"}
    assert not general.get("taints")
    assert not general.get("labels")


def test_nodes_take_only_tokens_for_metadata_and_have_encrypted_disks() -> None:
    for template in cluster().of("LaunchTemplate"):
        assert template.inputs["metadataOptions"]["httpTokens"] == "required"
        assert template.inputs["metadataOptions"]["httpPutResponseHopLimit"] == 1
        for disk in template.inputs["blockDeviceMappings"]:
            assert (disk["ebs"]["encrypted"], disk["ebs"]["volumeType"]) == ("true", "gp3")


@pytest.mark.parametrize(
    ("group", "ami", "sizes"),
    [
        ({}, "AL2023_x86_64_STANDARD", {"/dev/xvda": 50}),
        ({"instanceTypes": ["m7g.large"]}, "AL2023_ARM_64_STANDARD", {"/dev/xvda": 50}),
        ({"os": "bottlerocket"}, "BOTTLEROCKET_x86_64", {"/dev/xvda": None, "/dev/xvdb": 50}),
        (
            {"os": "bottlerocket", "instanceTypes": ["c7gd.xlarge"]},
            "BOTTLEROCKET_ARM_64",
            {"/dev/xvda": None, "/dev/xvdb": 50},
        ),
    ],
)
def test_images_and_disks_follow_the_system_and_the_processor(
    group: dict[str, Any], ami: str, sizes: dict[str, int | None]
) -> None:
    made = cluster(nodeGroups={"general": group, "spire-server": {}})
    assert made.one("one-general", "NodeGroup").inputs["amiType"] == ami
    disks = made.one("one-general", "LaunchTemplate").inputs["blockDeviceMappings"]
    assert {disk["deviceName"]: disk["ebs"].get("volumeSize") for disk in disks} == sizes


def test_spot_nodes_are_by_config() -> None:
    made = cluster(nodeGroups={"general": {"spot": True}, "spire-server": {}})
    kinds = {g.name: g.inputs["capacityType"] for g in made.of("NodeGroup")}
    assert kinds == {"one-general": "SPOT", "one-spire-server": "ON_DEMAND"}


def test_an_autoscaler_is_not_fought_and_images_are_patched_by_config() -> None:
    group = {"instanceTypes": ["m7g.large"], "autoscaled": True, "patched": True}
    made = cluster(nodeGroups={"general": group, "spire-server": {"os": "bottlerocket", "patched": True}})
    general, spire = (made.one(f"one-{name}", "NodeGroup") for name in ("general", "spire-server"))
    assert general.inputs["releaseVersion"] == "1.36.1-20261120"
    asked = sorted(args["name"] for token, args in made.calls if "getParameter" in token)
    assert asked == [
        "/aws/service/bottlerocket/aws-k8s-1.36/x86_64/latest/image_version",
        "/aws/service/eks/optimized-ami/1.36/amazon-linux-2023/arm64/standard/recommended/release_version",
    ]
    assert made.ignored == {general.urn: ("scalingConfig.desiredSize",)}
    assert "releaseVersion" not in cluster().one("one-general", "NodeGroup").inputs
    assert spire.inputs["taints"]


def test_volumes_carry_the_tags_of_their_stack() -> None:
    values = json.loads(cluster().one("one-aws-ebs-csi-driver").inputs["configurationValues"])
    assert values["controller"]["extraVolumeTags"] == {
        "project": "fedmesh",
        "Name": "istio-eks-cluster-1-volume",
    }


def test_the_ebs_drivers_controller_is_not_scheduled_to_nodes_that_evict_it() -> None:
    def controller(**changes: Any) -> dict[str, Any]:
        addon = cluster(**changes).one("one-aws-ebs-csi-driver")
        return json.loads(addon.inputs["configurationValues"])["controller"]

    for changes in ({}, AUTO):
        assert controller(**changes)["tolerations"] == [{"key": "CriticalAddonsOnly", "operator": "Exists"}]
    assert "nodeSelector" not in controller()
    assert controller(**AUTO)["nodeSelector"] == {"eks.amazonaws.com/compute-type": "auto"}


def test_a_cluster_says_which_stack_it_belongs_to_and_another_stack_leaves_it_alone() -> None:
    made = control_plane()["clusterTags"]
    assert list(made) == [OWNER]
    assert check_owner(made, made[OWNER], "istio-eks-cluster-1")
    assert check_owner({}, "dev", "istio-eks-cluster-1")
    with pytest.raises(
        pulumi.RunError, match="istio-eks-cluster-1 exists and belongs to the stack prod: use another"
    ):
        check_owner({OWNER: "prod"}, "dev", "istio-eks-cluster-1")


def test_a_pinned_addon_is_not_looked_up() -> None:
    pins = dict.fromkeys(
        ("vpc-cni", "kube-proxy", "coredns", "aws-ebs-csi-driver", "eks-pod-identity-agent"),
        "v1.2.3-eksbuild.4",
    )
    made = cluster(addons=pins)
    assert not [call for call in made.calls if "getAddonVersion" in call[0]]
    assert {a.inputs["addonVersion"] for a in made.of("Addon")} == {"v1.2.3-eksbuild.4"}


def test_latest_means_the_default_version_of_this_kubernetes_version() -> None:
    looked_up = [args for token, args in cluster().calls if "getAddonVersion" in token]
    assert {args["kubernetesVersion"] for args in looked_up} == {"1.36"}
    assert not any(args.get("mostRecent") for args in looked_up)


def test_the_ebs_driver_gets_its_rights_by_pod_identity() -> None:
    made = cluster()
    driver = made.one("one-aws-ebs-csi-driver").inputs
    assert driver["podIdentityAssociations"] == [
        {"serviceAccount": "ebs-csi-controller-sa", "roleArn": "arn:aws:mock:::one-ebs-csi"}
    ]
    attached = [each.inputs["policyArn"] for each in made.of("RolePolicyAttachment")]
    assert "arn:aws:iam::aws:policy/AmazonEBSCSIDriverPolicyV2" in attached
    trust = json.loads(made.one("one-ebs-csi", "Role").inputs["assumeRolePolicy"])
    assert trust["Statement"][0]["Action"] == ["sts:AssumeRole", "sts:TagSession"]


def test_the_kubeconfig_is_a_secret_and_names_its_context_by_the_alias() -> None:
    made: list[EksCluster] = []
    spec = validated(EksSpec, EKS, "eks", "Pulumi.dev.yaml", {"today": TODAY})
    args = EksClusterArgs("n", "cluster-1", "us-east-1", spec, "vpc", ["a"], ["b"], {}, [], {})
    record(lambda: made.append(EksCluster("one", args)))
    config = json.loads(value(made[0].kubeconfig))
    assert config["current-context"] == config["contexts"][0]["name"] == "cluster-1"
    assert value(made[0].endpoint) == "https://api.example"


def test_a_renamed_kubeconfig_still_ties_cluster_user_and_context() -> None:
    text = json.dumps(
        {
            "clusters": [{"name": "k"}],
            "users": [{"name": "aws"}],
            "contexts": [{"name": "aws", "context": {}}],
        }
    )
    config = json.loads(named_kubeconfig(text, "cluster-9"))
    assert config["contexts"][0] == {
        "name": "cluster-9",
        "context": {"cluster": "cluster-9", "user": "cluster-9"},
    }


AUTO = {"autoMode": True, "nodeGroups": {"spire-server": {}}}


def test_auto_mode_makes_all_nodes_but_those_of_spire_server() -> None:
    made = cluster(**AUTO)
    plane = made.one("one", "eks:index:Cluster").inputs
    assert plane["autoMode"]["enabled"] is True
    assert plane["autoMode"]["computeConfig"] == {"nodePools": ["general-purpose"]}
    assert [each.name for each in made.of("NodeGroup")] == ["one-spire-server"]
    assert "autoMode" not in control_plane()


def test_with_auto_mode_managed_nodes_keep_their_addons_and_the_identities_of_their_pods() -> None:
    made = cluster(**AUTO)
    plane = made.one("one", "eks:index:Cluster").inputs
    assert plane["useDefaultVpcCni"] is False
    assert plane["kubeProxyAddonOptions"]["enabled"] is True
    assert sorted(each.inputs["addonName"] for each in made.of("Addon")) == [
        "aws-ebs-csi-driver",
        "coredns",
        "eks-pod-identity-agent",
    ]


def test_nodes_of_auto_mode_are_in_private_subnets_alone() -> None:
    assert "publicSubnetIds" not in control_plane(**AUTO)
    assert control_plane()["publicSubnetIds"] == ["subnet-public"]


def test_without_auto_mode_the_general_group_is_required() -> None:
    with pytest.raises(ConfigError, match=r"nodeGroups.general in Pulumi.dev.yaml: is missing"):
        cluster(nodeGroups={"spire-server": {}})
    with pytest.raises(ConfigError, match=r"nodeGroups.spire-server in Pulumi.dev.yaml: is missing"):
        cluster(autoMode=True, nodeGroups={})
