"""One EKS cluster: what it is made of, who may reach it, and in which order it comes up."""

import json
from typing import Any

import pytest

from components.aws.eks import EksCluster, EksClusterArgs, named_kubeconfig
from components.config.settings_aws import parse_eks
from tests.unit.recording import Recorder, record, value

EKS: dict[str, Any] = {
    "version": "1.34",
    "vpcCidr": "10.2.0.0/16",
    "serviceCidr": "172.20.0.0/16",
    "zones": ["us-east-1a", "us-east-1b", "us-east-1c"],
    "nodeGroups": {"general": {}, "spire-server": {}},
}


def cluster(**changes: Any) -> Recorder:
    spec = parse_eks({**EKS, **changes}, "fedmesh:clusters[0].eks", "Pulumi.dev.yaml")
    args = EksClusterArgs(
        cluster_name="istio-eks-cluster-1",
        alias="cluster-1",
        region="us-east-1",
        spec=spec,
        vpc_id="vpc-1",
        private_subnet_ids=["subnet-private"],
        public_subnet_ids=["subnet-public"],
        peer_cidrs={"cluster-2": "10.3.0.0/16", "cluster-3": "10.4.0.0/16"},
        peer_addresses=["198.51.100.7"],
        tags={"project": "fedmesh"},
    )
    return record(lambda: EksCluster("one", args))


def control_plane(**changes: Any) -> dict[str, Any]:
    return cluster(**changes).one("one", "eks:index:Cluster").inputs


def test_the_api_server_is_private_unless_ranges_are_listed_and_then_peers_may_reach_it_too() -> None:
    private = control_plane()
    assert (private["endpointPrivateAccess"], private["endpointPublicAccess"]) == (True, False)
    assert "publicAccessCidrs" not in private
    public = control_plane(endpoint={"public": True, "cidrs": ["203.0.113.0/24"]})
    assert (public["endpointPublicAccess"], public["publicAccessCidrs"]) == (
        True,
        ["203.0.113.0/24", "198.51.100.7/32"],
    )


def test_access_is_by_entries_and_the_listed_admins_have_one() -> None:
    made = control_plane(admins=["arn:aws:iam::123456789012:role/platform"])
    assert made["authenticationMode"] == "API"
    entry = made["accessEntries"]["platform"]
    assert entry["principalArn"] == "arn:aws:iam::123456789012:role/platform"
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


@pytest.mark.parametrize("peer", ["cluster-2", "cluster-3"])
def test_each_peer_reaches_the_mesh_ports_and_no_others(peer: str) -> None:
    rules = [r.inputs for r in cluster().of("SecurityGroupIngressRule") if f"from-{peer}" in r.name]
    assert sorted(rule["fromPort"] for rule in rules) == [443, 8443, 15012, 15017, 15021, 15443]
    assert all(rule["fromPort"] == rule["toPort"] and rule["ipProtocol"] == "tcp" for rule in rules)
    cidr = {"cluster-2": "10.3.0.0/16", "cluster-3": "10.4.0.0/16"}[peer]
    assert {rule["cidrIpv4"] for rule in rules} == {cidr}


def test_peer_rules_are_on_the_group_that_eks_gives_its_nodes() -> None:
    assert {r.inputs["securityGroupId"] for r in cluster().of("SecurityGroupIngressRule")} == {"sg-of-eks"}


def test_only_the_spire_server_group_is_tainted_and_labelled() -> None:
    groups = {g.inputs["nodeGroupName"]: g.inputs for g in cluster().of("NodeGroup")}
    assert groups["spire-server"]["taints"] == [
        {"key": "dedicated", "value": "spire-server", "effect": "NO_EXECUTE"}
    ]
    assert groups["spire-server"]["labels"] == {"dedicated": "spire-server"}
    assert not groups["general"].get("taints")
    assert not groups["general"].get("labels")


def test_nodes_take_only_tokens_for_metadata_and_have_encrypted_disks() -> None:
    for template in cluster().of("LaunchTemplate"):
        assert template.inputs["metadataOptions"]["httpTokens"] == "required"
        assert template.inputs["metadataOptions"]["httpPutResponseHopLimit"] == 1
        (disk,) = template.inputs["blockDeviceMappings"]
        assert (disk["ebs"]["encrypted"], disk["ebs"]["volumeType"]) == ("true", "gp3")


@pytest.mark.parametrize(
    ("group", "ami", "device"),
    [
        ({}, "AL2023_x86_64_STANDARD", "/dev/xvda"),
        ({"instanceTypes": ["m7g.large"]}, "AL2023_ARM_64_STANDARD", "/dev/xvda"),
        ({"os": "bottlerocket"}, "BOTTLEROCKET_x86_64", "/dev/xvdb"),
        ({"os": "bottlerocket", "instanceTypes": ["c7gd.xlarge"]}, "BOTTLEROCKET_ARM_64", "/dev/xvdb"),
    ],
)
def test_images_follow_the_system_and_the_processor(group: dict[str, Any], ami: str, device: str) -> None:
    made = cluster(nodeGroups={"general": group, "spire-server": {}})
    assert made.one("one-general", "NodeGroup").inputs["amiType"] == ami
    template = made.one("one-general", "LaunchTemplate").inputs
    assert template["blockDeviceMappings"][0]["deviceName"] == device


def test_spot_nodes_are_by_config() -> None:
    made = cluster(nodeGroups={"general": {"spot": True}, "spire-server": {}})
    kinds = {g.inputs["nodeGroupName"]: g.inputs["capacityType"] for g in made.of("NodeGroup")}
    assert kinds == {"general": "SPOT", "spire-server": "ON_DEMAND"}


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
    assert {args["kubernetesVersion"] for args in looked_up} == {"1.34"}
    assert not any(args.get("mostRecent") for args in looked_up)


def test_the_ebs_driver_gets_its_rights_by_pod_identity() -> None:
    made = cluster()
    driver = made.one("one-aws-ebs-csi-driver").inputs
    assert driver["podIdentityAssociations"] == [
        {"serviceAccount": "ebs-csi-controller-sa", "roleArn": "arn:aws:mock:::one-ebs-csi"}
    ]
    trust = json.loads(made.one("one-ebs-csi", "Role").inputs["assumeRolePolicy"])
    assert trust["Statement"][0]["Action"] == ["sts:AssumeRole", "sts:TagSession"]


def test_the_kubeconfig_is_a_secret_and_names_its_context_by_the_alias() -> None:
    made: list[EksCluster] = []
    spec = parse_eks(EKS, "eks", "Pulumi.dev.yaml")
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
