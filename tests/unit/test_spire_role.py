"""SPIRE on AWS: keys in KMS, agents attested by their instance; which rights the servers get, and what configs say."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pulumi
import pytest

from components.aws.fleet import EksFleet, create_fleet
from components.aws.spire_role import spire_roles
from components.config.errors import ConfigError
from components.config.mesh import ChartSettings
from components.config.settings import Settings, parse
from components.kube.last_known import ClusterState
from components.mesh.spire import AwsRole, Spire, SpireArgs, server_data
from tests.unit.program import LOCAL, members, run
from tests.unit.recording import Recorder, record, value
from tests.unit.test_fleet import config

KMS = {"keyManager": "aws_kms"}
IID = {"nodeAttestor": "aws_iid"}
# doc/plugin_server_keymanager_aws_kms.md of SPIRE 1.15.3, with discovery by tags.
DOCUMENTED = {
    *("kms:CreateAlias", "kms:CreateKey", "kms:DescribeKey", "kms:GetPublicKey", "kms:ListAliases"),
    *("kms:ScheduleKeyDeletion", "kms:Sign", "kms:UpdateAlias", "kms:DeleteAlias", "kms:TagResource"),
    "tag:GetResources",
}
# What the policy of each key gives to the role that created it.
BY_THE_KEY = {"kms:DescribeKey", "kms:GetPublicKey", "kms:ScheduleKeyDeletion", "kms:Sign"}


def stack(**sections: Any) -> Settings:
    return parse({**config("dev"), "spire": KMS, **sections}, "Pulumi.dev.yaml")


def created(settings: Settings) -> tuple[Recorder, dict[str, AwsRole]]:
    made: list[dict[str, AwsRole]] = []

    def use(fleet: EksFleet) -> None:
        made.append(spire_roles(fleet))

    recorder = record(lambda: use(create_fleet(settings)))
    return recorder, {
        name: replace(role, key_policy=value(role.key_policy)) for name, role in made[0].items()
    }


@pytest.fixture(scope="module")
def dev() -> tuple[Recorder, dict[str, AwsRole]]:
    return created(stack())


def statements(recorder: Recorder, cluster: str) -> dict[str, Any]:
    policy = json.loads(recorder.one(f"{cluster}-spire-aws-keys").inputs["policy"])
    return {each["Sid"]: each for each in policy["Statement"]}


def test_keys_are_on_the_servers_volumes_by_default() -> None:
    recorder, keys = created(parse(config("dev"), "Pulumi.dev.yaml"))
    assert keys == {}
    assert not [each for each in recorder.resources if "spire-aws" in each.name]
    plugins = json.loads(server_data(args(stack(spire={}), None))["server.json"])["plugins"]
    assert list(plugins["KeyManager"]) == ["disk"]


def test_the_servers_of_each_cluster_have_a_role_of_their_own(
    dev: tuple[Recorder, dict[str, AwsRole]],
) -> None:
    recorder, keys = dev
    assert {name: each.region for name, each in keys.items()} == {
        spec.name: spec.region for spec in stack().clusters
    }
    for name in keys:
        identity = recorder.one(f"{name}-spire-aws-identity").inputs
        assert (identity["namespace"], identity["serviceAccount"]) == ("spire", "spire-server")
        assert identity["roleArn"] == f"arn:aws:mock:::{name}-spire-aws-role"
        assert recorder.one(f"{name}-spire-aws-role").inputs["path"] == "/fedmesh/"


def test_the_role_may_what_spire_documents_and_use_no_key_but_its_own(
    dev: tuple[Recorder, dict[str, AwsRole]],
) -> None:
    recorder, _ = dev
    found = statements(recorder, "cluster-1")
    actions = {action for each in found.values() for action in each["Action"]}
    assert actions | BY_THE_KEY == DOCUMENTED
    assert not actions & BY_THE_KEY
    domain = stack().clusters[0].trust_domain
    create = found["CreateKeysOfItsTrustDomain"]["Condition"]
    assert create["StringEquals"] == {"aws:RequestTag/spire-server-td": domain}
    assert create["ForAllValues:StringLike"]["aws:TagKeys"] == ["spire-*", *sorted(stack().aws.tags)]
    assert found["NameThoseKeys"]["Resource"].endswith(f":alias/SPIRE_SERVER/{domain.replace('.', '_')}/*")
    assert [name for name, each in found.items() if each["Resource"] == "*" and "Condition" not in each] == [
        "FindKeys"
    ]


def test_nobody_else_signs_with_a_servers_keys(dev: tuple[Recorder, dict[str, AwsRole]]) -> None:
    recorder, keys = dev
    server, administrators = json.loads(str(keys["cluster-1"].key_policy))["Statement"]
    assert server["Principal"]["AWS"] == recorder.one("cluster-1-spire-aws-identity").inputs["roleArn"]
    assert server["Action"] == "kms:*"
    assert administrators["Principal"]["AWS"] == "arn:aws:iam::123456789012:root"
    assert not {"kms:*", "kms:Sign", "kms:CreateGrant"} & set(administrators["Action"])


def args(settings: Settings, role: AwsRole | None) -> SpireArgs:
    return SpireArgs(
        cluster=settings.clusters[0],
        cert_manager=[],
        storage_class=None,
        crds=ChartSettings().spire_crds,
        settings=settings.spire,
        last_known_state=ClusterState(pulumi.Output.from_input("{}"), pulumi.Output.from_input({})),
        aws_role=role,
    )


def on_a_cluster(settings: Settings) -> Recorder:
    def build() -> None:
        ready = pulumi.ComponentResource("test:index:Identity", "identity")
        policy = pulumi.Output.from_input('{"Version": "2012-10-17"}')
        Spire("one-spire", args(settings, AwsRole("us-east-1", policy, {"team": "platform"}, ready)))

    with patch("components.mesh.spire.load_balancer_address", return_value="10.0.0.1"):
        return record(build)


def test_a_server_finds_its_keys_by_the_id_on_its_volume_and_its_policy_in_its_config() -> None:
    recorder = on_a_cluster(stack())
    data = recorder.one("one-spire-spire-server-configmap").inputs["data"]
    assert data["key-policy.json"] == '{"Version": "2012-10-17"}'
    (plugin,) = json.loads(data["server.json"])["plugins"]["KeyManager"].items()
    assert plugin == (
        "aws_kms",
        {
            "plugin_data": {
                "region": "us-east-1",
                "key_identifier_file": "/run/spire/data/server-id",
                "key_policy_file": "/run/spire/config/key-policy.json",
                "enable_tag_based_key_discovery": True,
                "key_tags": {"team": "platform"},
            }
        },
    )
    pod = recorder.one("one-spire-spire-server-statefulset").inputs["spec"]["template"]["spec"]
    mounts = {each["name"]: each["mountPath"] for each in pod["containers"][0]["volumeMounts"]}
    assert (mounts["config"], mounts["data"]) == ("/run/spire/config", "/run/spire/data")


def test_agents_that_aws_vouches_for_are_found_by_their_instance() -> None:
    recorder = on_a_cluster(stack(spire=IID))
    data = recorder.one("one-spire-spire-server-configmap").inputs["data"]
    assert sorted(data) == ["controller-manager.json", "server.json"]
    server, manager = json.loads(data["server.json"]), json.loads(data["controller-manager.json"])
    (attestor,) = server["plugins"]["NodeAttestor"].items()
    # nothing is asked of IAM
    assert attestor == (
        "aws_iid",
        {
            "plugin_data": {
                "agent_path_template": "/aws_iid/{{ .InstanceID }}",
                "disable_instance_profile_selectors": True,
            }
        },
    )
    assert manager["parentIDTemplate"].startswith("spiffe://{{ .TrustDomain }}/spire/agent/aws_iid/{{ slice")
    assert (server["server"]["prune_attested_nodes_expired_for"], server["server"]["prune_tofu_nodes"]) == (
        "1m",
        True,
    )


def test_an_instance_attests_once_so_its_agent_keeps_key_and_identity() -> None:
    recorder = on_a_cluster(stack(spire=IID))
    agent = json.loads(recorder.one("one-spire-spire-agent-configmap").inputs["data"]["agent.json"])
    assert agent["plugins"]["NodeAttestor"] == {"aws_iid": {"plugin_data": {}}}
    assert agent["plugins"]["KeyManager"] == {"disk": {"plugin_data": {"directory": "/run/spire/data"}}}
    pod = recorder.one("one-spire-spire-agent-daemonset").inputs["spec"]["template"]["spec"]
    # the instance's metadata are one hop away
    assert pod["hostNetwork"] is True
    volumes = {each["name"]: each for each in pod["volumes"]}
    assert volumes["data"]["hostPath"] == {"path": "/var/lib/spire-agent", "type": "DirectoryOrCreate"}
    assert "emptyDir" not in volumes["data"]


def test_the_servers_may_look_at_instances_and_no_more() -> None:
    recorder, _ = created(stack(spire=IID))
    (statement,) = json.loads(recorder.one("cluster-1-spire-aws-nodes").inputs["policy"])["Statement"]
    assert statement["Action"] == ["ec2:DescribeInstances"]
    assert not [each for each in recorder.resources if each.name.endswith("spire-aws-keys")]


@pytest.mark.parametrize(
    ("spire", "key", "must"), [(KMS, "keyManager", "disk"), (IID, "nodeAttestor", "k8s_psat")]
)
def test_clusters_that_the_stack_does_not_make_have_no_role(
    tmp_path: Path, spire: dict[str, str], key: str, must: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        run({"clusters": members(2, tmp_path), "storage": LOCAL, "spire": spire})
    assert f"fedmesh:spire.{key}" in str(caught.value)
    assert f"must be {must}: cluster-1, cluster-2 is no EKS cluster" in str(caught.value)


def test_tags_that_spire_keeps_for_itself_are_refused() -> None:
    with pytest.raises(ConfigError, match="must not begin with spire-"):
        stack(aws={"tags": {"spire-server-td": "other"}})
