"""The plugin `aws` through its protocol: strict arguments, real answers from a simulated AWS, honest previews."""

import json
from collections.abc import Iterator
from datetime import date
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import struct_pb2
from pulumi.runtime.proto import provider_pb2 as proto

from components.config.settings import parse
from testbed.lab import paths
from testbed.sandbox import changes, complete, inventory, schema
from testbed.sandbox.cloud import running
from testbed.sandbox.cluster_component import refuse_unsupported
from testbed.sandbox.kinds import KINDS
from testbed.sandbox.plugin import AwsProvider
from testbed.sandbox.schema import schema_of
from testbed.sandbox.values import UNKNOWN, from_struct, to_struct
from testbed.tests.unit.plugin_client import REGION, Context, Plugin, RefusedError, returned, urn

VPC = "aws:ec2/vpc:Vpc"
SUBNET = "aws:ec2/subnet:Subnet"
ROLE = "aws:iam/role:Role"
CLUSTER = "aws:eks/cluster:Cluster"
TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plugin]:
    with (
        running.running(tmp_path_factory.mktemp("aws") / "log") as environment,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in environment.items():
            patch.setenv(name, value)
        yield Plugin()


@pytest.fixture
def network(plugin: Plugin) -> tuple[str, list[str]]:
    vpc, _ = plugin.create(VPC, {"cidrBlock": "10.2.0.0/16"})
    subnets = [
        plugin.create(
            SUBNET, {"vpcId": vpc, "cidrBlock": f"10.2.{n}.0/24", "availabilityZone": f"{REGION}{zone}"}
        )[0]
        for n, zone in enumerate("ab")
    ]
    return vpc, subnets


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({"cidrblock": "10.0.0.0/16"}, "cidrblock: unexpected argument"),
        ({"cidrBlock": 10}, "cidrBlock: must be of type str"),
        ({"cidrBlock": "10.0.0.0/16", "tags": ["a"]}, "tags: must be a map"),
        ({"cidrBlock": "10.0.0.0/16", "enableDnsSupport": "yes"}, "enableDnsSupport: must be of type bool"),
    ],
)
def test_arguments_that_the_real_provider_refuses_are_refused(
    plugin: Plugin, inputs: dict[str, Any], text: str
) -> None:
    _, failures = plugin.check(VPC, inputs)
    assert failures[0].startswith(text)


def test_missing_and_nested_arguments_are_found(plugin: Plugin) -> None:
    group = {"clusterName": "c", "subnetIds": ["s"], "scalingConfig": {"minSize": 1, "maxSize": "2"}}
    _, failures = plugin.check("aws:eks/nodeGroup:NodeGroup", group)
    paths = [failure.split(":")[0] for failure in failures]
    assert paths == ["nodeRoleArn", "scalingConfig.desiredSize", "scalingConfig.maxSize"]


def test_every_kind_is_one_that_pulumi_aws_has() -> None:
    for token in KINDS:
        assert schema_of(token).token == token


def test_a_kind_whose_name_a_nested_type_shares_has_its_own_inputs() -> None:
    accepter = "aws:ec2/vpcPeeringConnectionAccepter:VpcPeeringConnectionAccepter"
    assert "vpcPeeringConnectionId" in schema_of(accepter).inputs


def test_a_name_is_made_up_once_and_kept(plugin: Plugin) -> None:
    first, _ = plugin.check(ROLE, {"assumeRolePolicy": TRUST}, "node")
    assert first["name"].startswith("node-")
    asked = proto.CheckRequest(
        urn=urn(ROLE, "node"), name="node", olds=to_struct(first), news=to_struct({"assumeRolePolicy": TRUST})
    )
    again = AwsProvider("7.0.0").Check(asked, Context())
    assert from_struct(again.inputs)["name"] == first["name"]


def test_a_preview_knows_the_inputs_and_nothing_that_aws_computes(plugin: Plugin) -> None:
    foreseen = plugin.preview(VPC, {"cidrBlock": "10.0.0.0/16"})
    assert foreseen["cidrBlock"] == "10.0.0.0/16"
    assert foreseen["arn"] is UNKNOWN


def test_outputs_are_those_of_the_real_resource(plugin: Plugin) -> None:
    _, state = plugin.create(VPC, {"cidrBlock": "10.9.0.0/16"})
    assert set(state) <= set(schema_of(VPC).outputs)
    assert state["arn"].startswith("arn:aws:ec2:us-east-1:")


def test_aws_itself_refuses_what_is_wrong(plugin: Plugin, network: tuple[str, list[str]]) -> None:
    vpc, _ = network
    with pytest.raises(RefusedError, match=r"InvalidSubnet\.Range"):
        plugin.create(SUBNET, {"vpcId": vpc, "cidrBlock": "10.9.0.0/24"})
    with pytest.raises(RefusedError, match="InvalidVpcID"):
        plugin.create(SUBNET, {"vpcId": "vpc-none", "cidrBlock": "10.2.9.0/24"})


def test_a_policy_that_aws_does_not_have_can_not_be_attached(plugin: Plugin) -> None:
    role, _ = plugin.create(ROLE, {"assumeRolePolicy": TRUST}, "attach")
    wrong = {"role": role, "policyArn": "arn:aws:iam::aws:policy/AmazonEKSWorkerPolicy"}
    with pytest.raises(RefusedError, match="NoSuchEntity"):
        plugin.create("aws:iam/rolePolicyAttachment:RolePolicyAttachment", wrong)


COUNT = count()


def cluster_inputs(plugin: Plugin, subnets: list[str], **changed: Any) -> dict[str, Any]:
    _, role = plugin.create(ROLE, {"assumeRolePolicy": TRUST}, f"eks-{next(COUNT)}")
    inputs = {"name": "c", "version": "1.33", "roleArn": role["arn"], "vpcConfig": {"subnetIds": subnets}}
    return {**inputs, **changed}


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"roleArn": "arn:aws:iam::123456789012:role/none"}, "no such role"),
        ({"version": "1.19"}, "unsupported Kubernetes version"),
        (
            {"version": "1.33", "upgradePolicy": {"supportType": "STANDARD"}},
            r"standard support for Kubernetes 1\.33 ended on 2026-07-29",
        ),
        ({"vpcConfig": {"publicAccessCidrs": ["203.0.113.0/24"]}}, "not allowed in publicAccessCidrs"),
        ({"vpcConfig": {"publicAccessCidrs": ["0.0.0.0/1"]}}, "not allowed in publicAccessCidrs"),
    ],
)
def test_eks_refuses_what_it_would(
    plugin: Plugin, network: tuple[str, list[str]], changed: dict[str, Any], text: str
) -> None:
    inputs = cluster_inputs(plugin, network[1], **changed)
    inputs["vpcConfig"] = {"subnetIds": network[1], **inputs["vpcConfig"]}
    with pytest.raises(RefusedError, match=text):
        plugin.create(CLUSTER, inputs)


def test_eks_takes_no_subnet_of_the_zones_that_it_does_not_support(
    plugin: Plugin, network: tuple[str, list[str]]
) -> None:
    vpc, subnets = network
    zones = returned(plugin.invoke("aws:index/getAvailabilityZones:getAvailabilityZones", {}))
    refused = dict(zip(zones["zoneIds"], zones["names"], strict=True))["use1-az3"]
    third, _ = plugin.create(SUBNET, {"vpcId": vpc, "cidrBlock": "10.2.9.0/24", "availabilityZone": refused})
    with pytest.raises(RefusedError, match="use1-az3 is not supported"):
        plugin.create(CLUSTER, cluster_inputs(plugin, [*subnets, third]))


@pytest.mark.parametrize("bootstrapped", [True, False])
def test_eks_makes_the_creators_access_entry_unless_it_is_told_not_to(
    plugin: Plugin, network: tuple[str, list[str]], bootstrapped: bool
) -> None:
    access = {"authenticationMode": "API", "bootstrapClusterCreatorAdminPermissions": bootstrapped}
    name = f"created-{bootstrapped}".lower()
    plugin.create(CLUSTER, cluster_inputs(plugin, network[1], name=name, accessConfig=access))
    entry = {"clusterName": name, "principalArn": "arn:aws:iam::123456789012:user/moto"}
    if bootstrapped:
        with pytest.raises(RefusedError, match="already in use"):
            plugin.create("aws:eks/accessEntry:AccessEntry", entry)
    else:
        plugin.create("aws:eks/accessEntry:AccessEntry", entry)


def test_a_log_group_that_eks_made_can_not_be_made_again(
    plugin: Plugin, network: tuple[str, list[str]]
) -> None:
    logs = {"enabledClusterLogTypes": ["audit"]}
    plugin.create(CLUSTER, cluster_inputs(plugin, network[1], name="logged", **logs))
    with pytest.raises(RefusedError, match="already exists"):
        plugin.create("aws:cloudwatch/logGroup:LogGroup", {"name": "/aws/eks/logged/cluster"})


def test_a_role_name_ends_where_iam_ends_it(plugin: Plugin) -> None:
    with pytest.raises(RefusedError, match="more than the 64 characters"):
        plugin.create(ROLE, {"assumeRolePolicy": TRUST, "name": "r" * 65})


def test_a_node_group_with_a_prefix_is_replaced_without_being_deleted_first(plugin: Plugin) -> None:
    kind = "aws:eks/nodeGroup:NodeGroup"
    old = {"clusterName": "c", "nodeGroupNamePrefix": "general-", "instanceTypes": ["m5.large"]}
    changed = plugin.diff(kind, old, {**old, "instanceTypes": ["m7i.large"]})
    assert (list(changed.replaces), changed.deleteBeforeReplace) == (["instanceTypes"], False)
    named = {**old, "nodeGroupName": "general", "nodeGroupNamePrefix": ""}
    assert plugin.diff(kind, named, {**named, "instanceTypes": ["m7i.large"]}).deleteBeforeReplace


def test_a_cluster_needs_subnets_in_two_zones(plugin: Plugin, network: tuple[str, list[str]]) -> None:
    with pytest.raises(RefusedError, match="two different AZs"):
        plugin.create(CLUSTER, cluster_inputs(plugin, network[1][:1]))


def test_a_cluster_is_upgraded_by_one_version_at_a_time(
    plugin: Plugin, network: tuple[str, list[str]]
) -> None:
    inputs = cluster_inputs(plugin, network[1], name="upgraded")
    id_, state = plugin.create(CLUSTER, inputs)
    assert state["vpcConfig"]["clusterSecurityGroupId"].startswith("sg-")
    with pytest.raises(RefusedError, match=r"minor version update from 1\.33 to 1\.35"):
        plugin.update(CLUSTER, id_, state, inputs, {**inputs, "version": "1.35"})
    plugin.update(CLUSTER, id_, state, inputs, {**inputs, "version": "1.34"})
    assert from_struct(plugin.read(CLUSTER, id_, state, inputs).inputs)["version"] == "1.34"
    plugin.delete(CLUSTER, id_, state)
    assert plugin.read(CLUSTER, id_, state, inputs).id == ""


def test_a_change_is_an_update_or_a_replacement_as_aws_has_it(plugin: Plugin) -> None:
    old = {"cidrBlock": "10.0.0.0/16", "tags": {"a": "1"}}
    assert list(plugin.diff(VPC, old, {**old, "tags": {"a": "2"}}).replaces) == []
    assert list(plugin.diff(VPC, old, {**old, "cidrBlock": "10.1.0.0/16"}).replaces) == ["cidrBlock"]
    assert plugin.diff(VPC, old, old).changes == proto.DiffResponse.DIFF_NONE


def test_what_was_changed_by_hand_is_seen(plugin: Plugin, network: tuple[str, list[str]]) -> None:
    inputs = {"vpcId": network[0]}
    id_, state = plugin.create("aws:ec2/routeTable:RouteTable", {**inputs, "tags": {"a": "1"}})
    from testbed.sandbox.aws import Aws

    Aws(REGION).client("ec2").create_tags(Resources=[id_], Tags=[{"Key": "a", "Value": "2"}])
    found = plugin.read("aws:ec2/routeTable:RouteTable", id_, state, {**inputs, "tags": {"a": "1"}})
    assert from_struct(found.inputs)["tags"] == {"a": "2"}
    plugin.delete("aws:ec2/routeTable:RouteTable", id_, state)


def test_what_is_gone_already_is_no_error_to_delete(plugin: Plugin) -> None:
    id_, state = plugin.create(VPC, {"cidrBlock": "10.8.0.0/16"})
    plugin.delete(VPC, id_, state)
    plugin.delete(VPC, id_, state)


def test_unknown_kinds_and_functions_are_refused_by_name(plugin: Plugin) -> None:
    with pytest.raises(RefusedError, match="does not stand for aws:sns/topic:Topic"):
        plugin.check("aws:sns/topic:Topic", {})
    with pytest.raises(RefusedError, match="no function aws:s3"):
        plugin.invoke("aws:s3/getBucket:getBucket", {})


def test_an_addon_without_a_version_for_the_cluster_is_said(plugin: Plugin) -> None:
    asked = {"addonName": "coredns", "kubernetesVersion": "1.12"}
    answer = plugin.invoke("aws:eks/getAddonVersion:getAddonVersion", asked)
    assert "no version of the addon coredns" in answer.failures[0].reason


def test_an_inventory_counts_and_prices(plugin: Plugin) -> None:
    taken = inventory.take((REGION,))
    assert taken.counts["VPCs"][REGION] > 0
    assert "total" in inventory.as_text(taken)


def test_missing_credentials_are_said_before_anything_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(RefusedError, match="No valid credential sources"):
        AwsProvider("7.0.0").Configure(proto.ConfigureRequest(args=struct_pb2.Struct()), Context())


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({"fargate": True}, "does not stand for eks.Cluster's fargate"),
        ({}, "skipDefaultNodeGroup"),
        ({"subnetIds": ["a"], "publicSubnetIds": ["b"]}, "mutually exclusive"),
        ({"publicAccessCidrs": ["a"], "endpointPublicAccess": False}, "can only be set when"),
    ],
)
def test_the_cluster_component_refuses_what_pulumi_eks_or_the_sandbox_can_not_do(
    inputs: dict[str, Any], text: str
) -> None:
    skipped = {"skipDefaultNodeGroup": True, "skipDefaultSecurityGroups": True} if inputs else {}
    with pytest.raises(ValueError, match=text):
        refuse_unsupported({**skipped, **inputs})


def test_secrets_and_unknowns_survive_the_wire() -> None:
    value = {"a": [1, {"b": True}], "c": UNKNOWN, "d": "x", "e": None}
    assert from_struct(to_struct(value)) == {"a": [1, {"b": True}], "c": UNKNOWN, "d": "x"}


CONFIG = {
    "fedmesh:clusters": [
        {
            "name": f"cluster-{n}",
            "eks": {
                "version": "1.33",
                "vpcCidr": f"10.{n}.0.0/16",
                "nodeGroups": {"general": {"desired": 2, "max": 2}},
            },
        }
        for n in (1, 2)
    ]
}


def test_changes_leave_the_config_that_they_were_given_alone() -> None:
    before = json.dumps(CONFIG)
    grown = changes.grown(changes.upgraded(changes.resized(CONFIG, 1)), 4)
    assert json.dumps(CONFIG) == before
    names = [cluster["name"] for cluster in grown["fedmesh:clusters"]]
    assert names == ["cluster-1", "cluster-2", "cluster-3", "cluster-4"]
    assert {cluster["eks"]["version"] for cluster in grown["fedmesh:clusters"]} == {"1.34"}
    assert len({cluster["eks"]["vpcCidr"] for cluster in grown["fedmesh:clusters"]}) == 4
    assert grown["fedmesh:clusters"][0]["eks"]["nodeGroups"]["general"] == {"desired": 3, "max": 3}


def test_an_accelerator_leads_to_load_balancers_that_exist_and_goes_again(
    plugin: Plugin, network: tuple[str, list[str]]
) -> None:
    from testbed.sandbox.aws import Aws

    balancers = Aws(REGION).client("elbv2")
    asked = balancers.create_load_balancer(Name="ingress", Type="network", Subnets=network[1])
    arn = asked["LoadBalancers"][0]["LoadBalancerArn"]
    kind = "aws:globalaccelerator/{}:{}".format
    accelerator, state = plugin.create(kind("accelerator", "Accelerator"), {"enabled": True})
    assert state["dnsName"].endswith(".awsglobalaccelerator.com")
    ports = {"acceleratorArn": accelerator, "protocol": "TCP", "portRanges": [{"fromPort": 80, "toPort": 80}]}
    listener, ports_state = plugin.create(kind("listener", "Listener"), ports)
    group = {
        "listenerArn": listener,
        "endpointGroupRegion": REGION,
        "endpointConfigurations": [{"endpointId": arn}],
    }
    with pytest.raises(RefusedError, match="is no load balancer"):
        wrong = {**group, "endpointConfigurations": [{"endpointId": "arn:none"}]}
        plugin.create(kind("endpointGroup", "EndpointGroup"), wrong)
    made, group_state = plugin.create(kind("endpointGroup", "EndpointGroup"), group)
    with pytest.raises(RefusedError, match="still has children"):
        plugin.delete(kind("listener", "Listener"), listener, ports_state)
    plugin.delete(kind("endpointGroup", "EndpointGroup"), made, group_state)
    plugin.delete(kind("listener", "Listener"), listener, ports_state)
    plugin.delete(kind("accelerator", "Accelerator"), accelerator, state)
    assert plugin.read(kind("accelerator", "Accelerator"), accelerator, state, {}).id == ""


def test_a_record_changes_its_address_and_its_type(plugin: Plugin, network: tuple[str, list[str]]) -> None:
    zone, _ = plugin.create(
        "aws:route53/zone:Zone", {"name": "mesh.internal", "vpcs": [{"vpcId": network[0]}]}
    )
    record = "aws:route53/record:Record"
    old = {"zoneId": zone, "name": "spire.mesh.internal", "type": "A", "ttl": 30, "records": ["10.2.0.1"]}
    id_, state = plugin.create(record, old)
    new = {**old, "type": "CNAME", "records": ["nlb.example"]}
    plugin.update(record, id_, state, old, new)
    assert from_struct(plugin.read(record, id_, {**state, **new}, new).inputs)["records"] == ["nlb.example"]
    plugin.delete(record, id_, {**state, **new})


DATABASE = "aws:rds/{0}:{1}".format


def database_inputs(
    plugin: Plugin, network: tuple[str, list[str]], name: str, **changed: Any
) -> dict[str, Any]:
    """The inputs of a database, whose groups are made."""
    subnets, _ = plugin.create(
        DATABASE("subnetGroup", "SubnetGroup"), {"name": name, "subnetIds": network[1]}
    )
    _, parameters = plugin.create(
        DATABASE("parameterGroup", "ParameterGroup"),
        {
            "namePrefix": f"{name}-",
            "family": "postgres17",
            "parameters": [{"name": "rds.force_ssl", "value": "1"}],
        },
    )
    return {
        "identifier": name,
        "engine": "postgres",
        "engineVersion": "17",
        "instanceClass": "db.t4g.small",
        "allocatedStorage": 20,
        "storageEncrypted": True,
        "username": "spire",
        "password": "not-a-secret-1",
        "dbSubnetGroupName": subnets,
        "parameterGroupName": parameters["name"],
        "enabledCloudwatchLogsExports": ["postgresql"],
        "skipFinalSnapshot": True,
        **changed,
    }


def test_a_database_is_made_changed_protected_and_deleted(
    plugin: Plugin, network: tuple[str, list[str]]
) -> None:
    from testbed.sandbox.aws import Aws

    kind = DATABASE("instance", "Instance")
    inputs = database_inputs(plugin, network, "kept", deletionProtection=True, skipFinalSnapshot=False)
    inputs["finalSnapshotIdentifier"] = inputs["parameterGroupName"]
    id_, state = plugin.create(kind, inputs)
    assert state["address"].startswith("kept.")
    assert state["password"] == "not-a-secret-1", "the provider keeps it, as RDS never tells it again"
    logs = Aws(REGION).client("logs").describe_log_groups(logGroupNamePrefix="/aws/rds/instance/kept/")
    assert [each["logGroupName"] for each in logs["logGroups"]] == ["/aws/rds/instance/kept/postgresql"]
    with pytest.raises(RefusedError, match="Cannot delete protected DB Instance"):
        plugin.delete(kind, id_, state)
    changed = {**inputs, "deletionProtection": False, "allocatedStorage": 30}
    assert list(plugin.diff(kind, inputs, changed).replaces) == []
    plugin.update(kind, id_, state, inputs, changed)
    read = from_struct(plugin.read(kind, id_, {**state, **changed}, changed).inputs)
    assert (read["allocatedStorage"], read["deletionProtection"]) == (30, False)
    with pytest.raises(RefusedError, match="still using it"):
        plugin.delete(DATABASE("subnetGroup", "SubnetGroup"), "kept", {})
    with pytest.raises(RefusedError, match="still members of this parameter group"):
        plugin.delete(DATABASE("parameterGroup", "ParameterGroup"), inputs["parameterGroupName"], {})
    with pytest.raises(RefusedError, match="has dependencies and cannot be deleted: kept"):
        plugin.delete(SUBNET, network[1][0], {})
    plugin.delete(kind, id_, {**state, **changed})
    assert plugin.read(kind, id_, state, inputs).id == ""
    snapshots = Aws(REGION).client("rds").describe_db_snapshots(SnapshotType="manual")["DBSnapshots"]
    assert [each["DBSnapshotIdentifier"] for each in snapshots] == [inputs["parameterGroupName"]]
    plugin.delete(DATABASE("subnetGroup", "SubnetGroup"), "kept", {})
    plugin.delete(DATABASE("parameterGroup", "ParameterGroup"), inputs["parameterGroupName"], {})


def test_a_subnet_group_covers_two_zones(plugin: Plugin, network: tuple[str, list[str]]) -> None:
    with pytest.raises(RefusedError, match="DBSubnetGroupDoesNotCoverEnoughAZs"):
        plugin.create(DATABASE("subnetGroup", "SubnetGroup"), {"name": "one", "subnetIds": network[1][:1]})


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"identifier": "a--b"}, "not a valid identifier"),
        ({"password": "short"}, "not a valid password"),
        ({"password": "with a / in it"}, "not a valid password"),
        ({"allocatedStorage": 10}, "Invalid storage size"),
        ({"engineVersion": "16"}, "is of the family postgres17 and not postgres16"),
        ({"dbSubnetGroupName": "none"}, "DBSubnetGroupNotFoundFault"),
        ({"vpcSecurityGroupIds": ["sg-none"]}, "are in different VPCs"),
    ],
)
def test_rds_refuses_what_it_would(
    plugin: Plugin, network: tuple[str, list[str]], changed: dict[str, Any], text: str
) -> None:
    inputs = database_inputs(plugin, network, f"refused-{next(COUNT)}", **changed)
    with pytest.raises(RefusedError, match=text):
        plugin.create(DATABASE("instance", "Instance"), inputs)


def test_a_database_is_not_deleted_without_a_snapshot_or_a_word_about_it(
    plugin: Plugin, network: tuple[str, list[str]]
) -> None:
    kind = DATABASE("instance", "Instance")
    inputs = database_inputs(plugin, network, "unsaid", skipFinalSnapshot=False)
    id_, state = plugin.create(kind, inputs)
    with pytest.raises(RefusedError, match="FinalDBSnapshotIdentifier is required"):
        plugin.delete(kind, id_, state)
    plugin.delete(kind, id_, {**state, "skipFinalSnapshot": True})


def test_on_the_lab_a_stack_takes_what_belongs_to_the_machines_from_the_lab() -> None:
    lab = {
        "fedmesh:charts": {"istiod": {"path": "x"}},
        "fedmesh:clusters": [],
        "fedmesh:storage": {"class": "local"},
    }
    config = complete.on_the_lab({**CONFIG, "fedmesh:aws": {"join": "peering"}}, lab)
    assert config["fedmesh:clusters"] == CONFIG["fedmesh:clusters"]
    assert config["fedmesh:storage"] == {"class": "local"}
    assert config["fedmesh:aws"]["join"] == "peering"
    assert config["fedmesh:aws"]["loadBalancerController"] == {"enabled": False}


def test_on_the_lab_a_stack_takes_nothing_from_the_internet() -> None:
    def committed(stack: str) -> dict[str, Any]:
        return yaml.safe_load((paths.project() / f"Pulumi.{stack}.yaml").read_text())["config"]

    config = complete.on_the_lab(committed("dev"), committed("lab"))
    keys = {key.removeprefix("fedmesh:"): value for key, value in config.items()}
    for cluster in keys["clusters"]:
        cluster["eks"]["endpoint"]["cidrs"] = ["8.8.4.0/24"]
    settings = parse(keys, "Pulumi.dev.yaml", date(2026, 11, 25))
    taken = {"kiali", "load_balancer_controller"}  # not on the lab
    charts = {name: chart.path for name, chart in settings.charts if name not in taken}
    assert all(charts.values()), charts
    assert settings.images.digests is False, "the lab's images have other digests"
    assert settings.gateway_api.path


def test_kubeconfigs_are_merged_by_context() -> None:
    def one(name: str) -> str:
        entries = {kind: [{"name": name}] for kind in ("clusters", "users", "contexts")}
        return json.dumps({**entries, "current-context": name})

    merged = complete.merged_kubeconfigs({"a": one("a"), "b": one("b")})
    assert [context["name"] for context in merged["contexts"]] == ["a", "b"]
    assert merged["current-context"] == "a"


def test_a_schema_that_was_kept_is_the_one_that_was_read() -> None:
    for token in (
        "aws:eks/nodeGroup:NodeGroup",
        "eks:index:Cluster",
        "aws:ec2/launchTemplate:LaunchTemplate",
    ):
        assert schema._keep(schema._read(token)) == schema._kept(token)
