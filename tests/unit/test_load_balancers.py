"""Load balancers: what Services ask the AWS Load Balancer Controller for, and what the controller is allowed."""

import json
import re
from dataclasses import replace
from typing import Any

import pulumi
import pulumi_aws as aws
import pytest

from components.aws.load_balancer_controller import LoadBalancerController, LoadBalancerControllerArgs
from components.aws.load_balancers import PREFIX, HealthCheck, load_balancer_name, nlb_annotations
from components.config.aws import AwsSettings
from components.config.images import ImageSettings
from components.kube.load_balancers import LoadBalancerSettings
from tests.unit.recording import Recorder, record

MESH = ("10.2.0.0/16", "10.3.0.0/16")


def controller(**changes: Any) -> tuple[Recorder, LoadBalancerSettings]:
    chart = AwsSettings().controller
    created: list[LoadBalancerController] = []

    def build() -> None:
        args = LoadBalancerControllerArgs(
            cluster=pulumi.ComponentResource("test:index:Cluster", "cluster"),
            cluster_name="istio-eks-cluster-1",
            region="us-east-1",
            vpc_id="vpc-1",
            ingress_scheme="internet-facing",
            mesh_ranges=MESH,
            chart=chart,
            tags={"project": "fedmesh"},
            provider=aws.Provider("aws-us-east-1", region="us-east-1"),
        )
        created.append(LoadBalancerController("one-lb", replace(args, **changes)))

    return record(build), created[0].settings


def values(**changes: Any) -> dict[str, Any]:
    return controller(**changes)[0].one("one-lb-release").inputs["values"]


def policy() -> list[dict[str, Any]]:
    return json.loads(controller()[0].one("one-lb-policy").inputs["policy"])["Statement"]


def test_only_the_ingress_load_balancer_is_on_the_internet() -> None:
    _, settings = controller()
    scheme = f"{PREFIX}-scheme"
    assert settings.ingress.annotations[scheme] == "internet-facing"
    assert settings.east_west.annotations[scheme] == "internal"
    assert settings.spire_bundle.annotations[scheme] == "internal"


def test_pods_behind_an_nlb_are_ready_only_once_it_routes_to_them() -> None:
    _, settings = controller()
    assert settings.ingress.gated and settings.east_west.gated
    assert not LoadBalancerSettings().ingress.gated


def test_the_controller_has_ten_minutes_to_be_ready() -> None:
    assert controller()[0].one("one-lb-release").inputs["timeout"] == 600


def test_subnets_are_named_where_the_network_exists_and_found_by_tags_elsewhere() -> None:
    _, settings = controller(subnets={"internal": "subnet-a,subnet-b", "internet-facing": "subnet-c"})
    assert settings.ingress.annotations[f"{PREFIX}-subnets"] == "subnet-c"
    assert settings.east_west.annotations[f"{PREFIX}-subnets"] == "subnet-a,subnet-b"
    assert f"{PREFIX}-subnets" not in controller()[1].ingress.annotations


def test_the_internal_load_balancers_let_in_the_mesh_alone() -> None:
    _, settings = controller()
    assert settings.east_west.source_ranges == settings.spire_bundle.source_ranges == MESH
    assert settings.ingress.source_ranges == ()


def test_a_health_check_ends_before_the_next_one_starts() -> None:
    for health_port in (None, 15021):
        made = nlb_annotations("x", internal=True, tags={}, health_port=health_port)
        interval = int(str(made[f"{PREFIX}-healthcheck-interval"]))
        # the controller's default time-out is 10 s, and ELBv2 asks for a shorter time-out than the interval
        assert 2 <= int(str(made.get(f"{PREFIX}-healthcheck-timeout", 10))) < interval


@pytest.mark.parametrize("timeout", [1, 5, 10])
def test_a_time_out_that_elbv2_refuses_is_refused_here(timeout: int) -> None:
    with pytest.raises(ValueError, match="shorter than 5"):
        HealthCheck(interval=5, timeout=timeout)


def test_gateways_keep_serving_as_long_as_the_load_balancer_routes_to_them() -> None:
    _, settings = controller()
    attributes = str(settings.ingress.annotations[f"{PREFIX}-target-group-attributes"])
    assert attributes == f"deregistration_delay.timeout_seconds={settings.ingress.drain_seconds}"
    assert settings.east_west.drain_seconds >= 60


def test_names_fit_into_what_elbv2_allows_and_never_collide() -> None:
    long = "istio-eks-production-europe-"
    clusters = [f"{long}{n}" for n in range(3)]
    names = {
        load_balancer_name(stack, cluster, label)
        for stack in ("dev", "prod")
        for cluster in clusters
        for label in ("ingress", "eastwest", "spire")
    }
    assert len(names) == 2 * 3 * 3
    assert all(len(name) <= 32 and not name.startswith("-") and not name.endswith("-") for name in names)
    assert load_balancer_name("dev", "istio-eks-cluster-1", "spire").startswith("istio-eks-cluster-1-")


def test_the_controller_intercepts_no_service_of_others() -> None:
    assert values()["enableServiceMutatorWebhook"] is False


def test_the_controllers_image_comes_from_the_stacks_registry() -> None:
    assert "image" not in values(images=ImageSettings(digests=False))
    mirrored = values(images=ImageSettings(registry="registry.example/mirror"))["image"]
    assert mirrored == {"repository": "registry.example/mirror/eks/aws-load-balancer-controller"}


def test_the_controllers_image_is_pulled_by_its_digest() -> None:
    image = values()["image"]
    assert image["repository"] == "public.ecr.aws/eks/aws-load-balancer-controller"
    assert re.fullmatch(r"v3\.5\.0@sha256:[0-9a-f]{64}", image["tag"])


def test_the_controller_never_asks_the_nodes_for_metadata() -> None:
    made = values()
    assert (made["region"], made["vpcId"]) == ("us-east-1", "vpc-1")
    assert made["clusterName"] == "istio-eks-cluster-1"


def test_internal_load_balancers_are_internal_and_health_checked() -> None:
    made = nlb_annotations("eastwest", internal=True, tags={"project": "fedmesh"}, health_port=15021)
    assert made[f"{PREFIX}-scheme"] == "internal"
    assert made[f"{PREFIX}-healthcheck-port"] == "15021"
    assert made[f"{PREFIX}-additional-resource-tags"] == "project=fedmesh"


CLUSTER_TAG = "elbv2.k8s.aws/cluster"


def statements(action: str) -> list[dict[str, Any]]:
    return [each for each in policy() if action in each["Action"]]


def test_the_controller_changes_only_what_is_its_clusters() -> None:
    writing = [
        each
        for each in policy()
        for action in each["Action"]
        if not action.split(":")[1].startswith(("Describe", "Get"))
    ]
    unbounded = [each["Sid"] for each in writing if "Condition" not in each]
    assert unbounded == ["CreateSecurityGroupsInItsVpc"]
    (ports,) = (each for each in policy() if each["Sid"] == "OpenPortsInItsVpc")
    assert ports["Condition"]["ArnEquals"]["ec2:Vpc"] == "arn:aws:ec2:us-east-1:123456789012:vpc/vpc-1"


@pytest.mark.parametrize("action", ["ec2:CreateTags", "elasticloadbalancing:AddTags"])
def test_the_controller_tags_what_it_creates_and_never_claims_what_others_created(action: str) -> None:
    for each in statements(action):
        condition = each["Condition"]
        tags = condition["StringEquals"]
        creates = any(key.endswith(":CreateAction") for key in tags)
        request, resource = f"aws:RequestTag/{CLUSTER_TAG}", f"aws:ResourceTag/{CLUSTER_TAG}"
        if creates:
            assert tags[request] == "istio-eks-cluster-1"
        else:
            assert tags[resource] == "istio-eks-cluster-1"
            assert condition["Null"][request] == "true"


def test_the_controller_may_use_every_action_that_it_calls_for_an_nlb() -> None:
    allowed = {action for each in policy() for action in each["Action"]}
    for action in (
        *("CreateLoadBalancer", "DeleteLoadBalancer", "ModifyLoadBalancerAttributes", "SetSubnets"),
        *("SetSecurityGroups", "SetIpAddressType", "CreateTargetGroup", "ModifyTargetGroup"),
        *("ModifyTargetGroupAttributes", "DeleteTargetGroup", "RegisterTargets", "DeregisterTargets"),
        *("CreateListener", "ModifyListener", "DeleteListener", "ModifyListenerAttributes"),
        *("AddTags", "RemoveTags"),
    ):
        assert f"elasticloadbalancing:{action}" in allowed
    for action in ("CreateSecurityGroup", "DeleteSecurityGroup", "CreateTags", "DeleteTags"):
        assert f"ec2:{action}" in allowed
