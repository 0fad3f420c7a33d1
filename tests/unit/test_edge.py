"""Users outside the mesh reach a living cluster, and clusters reach each other by names that last."""

from functools import partial
from typing import Any

import pytest

from components.aws.dns import (
    MeshName,
    MeshNameArgs,
    PrivateZone,
    PrivateZoneArgs,
    ZoneNetwork,
    record_type,
)
from components.aws.edge import Edge, EdgeArgs, EdgeTarget
from components.config.aws import AwsSettings, EdgeSpec
from components.config.errors import ConfigError, validated
from tests.unit.recording import Recorder, record

ROUTE53 = {"mode": "route53", "domain": "app.example.com", "hostedZoneId": "Z0123456789ABC"}


def edge(config: dict[str, Any], clusters: int = 2, regions: tuple[str, ...] = ("us-east-1",)) -> Recorder:
    targets = [
        EdgeTarget(f"c{n}", regions[n % len(regions)], f"nlb-{n}.elb.amazonaws.com", f"c{n}-ingress")
        for n in range(clusters)
    ]
    spec = validated(EdgeSpec, config, "fedmesh:aws.edge", "Pulumi.dev.yaml")
    return record(lambda: Edge("edge", EdgeArgs(targets, spec, {"project": "fedmesh"})))


def test_the_first_cluster_takes_the_users_while_it_is_healthy() -> None:
    made = edge(ROUTE53)
    first = made.one("edge-c0", "Record").inputs
    assert first["failoverRoutingPolicies"] == [{"type": "PRIMARY"}]
    assert first["healthCheckId"] == "edge-c0-id"
    assert (first["name"], first["type"]) == ("app.example.com", "A")
    assert first["aliases"] == [
        {"name": "nlb-0.elb.amazonaws.com", "zoneId": "Z26RNL4JYFTOTI", "evaluateTargetHealth": True}
    ]


def test_a_domain_may_be_the_apex_of_its_zone() -> None:
    apex = {**ROUTE53, "domain": "example.com"}
    for each in edge(apex, clusters=3).of("Record"):
        assert each.inputs["type"] == "A"  # a zone's apex can't be a CNAME
        assert each.inputs["aliases"]


def test_an_edge_of_one_cluster_has_no_standby_without_a_target() -> None:
    made = edge(ROUTE53, clusters=1)
    assert [record.name for record in made.of("Record")] == ["edge-c0"]


FAILOVER = {"mode": "origin-failover"}
CERTIFICATE = "arn:aws:acm:us-east-1:123456789012:certificate/12345678-1234-1234-1234-123456789012"


def test_a_get_that_the_first_cluster_does_not_answer_goes_to_the_second() -> None:
    (made,) = edge(FAILOVER, clusters=3).of("Distribution")
    (group,) = made.inputs["originGroups"]
    assert [member["originId"] for member in group["members"]] == ["c0", "c1"]
    assert group["failoverCriteria"]["statusCodes"] == [502, 503, 504]  # not the application's own 500
    default = made.inputs["defaultCacheBehavior"]
    assert default["targetOriginId"] == group["originId"]
    assert set(default["allowedMethods"]) == {"GET", "HEAD", "OPTIONS"}
    for origin in made.inputs["origins"]:
        assert (origin["connectionAttempts"], origin["connectionTimeout"]) == (1, 1)
        assert origin["customOriginConfig"]["originReadTimeout"] == 60


def test_writes_go_to_one_cluster_by_their_paths() -> None:
    (made,) = edge({**FAILOVER, "writePaths": ["/api/*"]}).of("Distribution")
    (behavior,) = made.inputs["orderedCacheBehaviors"]
    assert (behavior["pathPattern"], behavior["targetOriginId"]) == ("/api/*", "c0")
    assert "POST" in behavior["allowedMethods"]


def test_a_distribution_takes_its_own_name_or_the_users() -> None:
    (own,) = edge(FAILOVER).of("Distribution")
    assert own.inputs["viewerCertificate"] == {"cloudfrontDefaultCertificate": True}
    assert not own.inputs["aliases"]
    named = {**FAILOVER, "domain": "app.example.com", "certificateArn": CERTIFICATE}
    (made,) = edge(named).of("Distribution")
    assert made.inputs["aliases"] == ["app.example.com"]
    assert made.inputs["viewerCertificate"]["acmCertificateArn"] == CERTIFICATE


def test_new_users_of_a_distribution_leave_a_drained_cluster() -> None:
    spec = validated(EdgeSpec, FAILOVER, "fedmesh:aws.edge", "Pulumi.dev.yaml")
    targets = [
        EdgeTarget(f"c{n}", "us-east-1", f"nlb-{n}.elb.amazonaws.com", f"c{n}-ingress", drained=n == 0)
        for n in range(2)
    ]
    made = record(lambda: Edge("edge", EdgeArgs(targets, spec, {})))
    (group,) = made.one("edge-distribution").inputs["originGroups"]
    assert [member["originId"] for member in group["members"]] == ["c1", "c0"]


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({**FAILOVER, "domain": "app.example.com"}, "certificateArn"),
        ({**FAILOVER, "certificateArn": CERTIFICATE}, "domain"),
        ({**FAILOVER, "certificateArn": CERTIFICATE.replace("us-east-1", "eu-west-1")}, "certificateArn"),
        ({**FAILOVER, "answerWithin": "1500ms"}, "answerWithin"),
        ({**FAILOVER, "answerWithin": "200s"}, "answerWithin"),
        ({**FAILOVER, "writePaths": ["api"]}, "writePaths[0]"),
        ({**ROUTE53, "writePaths": ["/api/*"]}, "writePaths"),
        ({"mode": "none", "answerWithin": "5s"}, "answerWithin"),
    ],
)
def test_what_cloudfront_does_not_take_is_refused_by_its_key(config: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        validated(EdgeSpec, config, "edge", "Pulumi.dev.yaml")
    assert refused.value.key == f"edge.{key}"


def test_a_gateway_with_an_ip_address_gets_a_record_with_that_address() -> None:
    spec = validated(AwsSettings, {"edge": ROUTE53}, "fedmesh:aws", "Pulumi.dev.yaml").edge
    targets = [EdgeTarget("c0", "us-east-1", "192.0.2.7", "c0-ingress")]
    made = record(lambda: Edge("edge", EdgeArgs(targets, spec, {})))
    inputs = made.one("edge-c0", "Record").inputs
    assert (inputs["type"], inputs["records"], inputs.get("aliases")) == ("A", ["192.0.2.7"], [])


def test_the_health_check_asks_for_what_users_are_served_where_the_stack_says_so() -> None:
    served = {"healthProtocol": "https", "healthPort": 443, "healthPath": "/status"}
    for check in edge({**ROUTE53, **served}).of("HealthCheck"):
        inputs = check.inputs
        assert (inputs["type"], inputs["port"], inputs["resourcePath"]) == ("HTTPS", 443, "/status")


def test_the_others_share_the_users_when_the_first_fails() -> None:
    made = edge(ROUTE53, clusters=3)
    second = made.one("edge-standby", "Record").inputs
    assert second["failoverRoutingPolicies"] == [{"type": "SECONDARY"}]
    assert second["aliases"][0]["evaluateTargetHealth"] is True
    shared = [made.one(f"edge-c{n}", "Record").inputs for n in (1, 2)]
    assert {record["name"] for record in shared} == {second["aliases"][0]["name"]}
    assert [record["healthCheckId"] for record in shared] == ["edge-c1-id", "edge-c2-id"]


def test_a_dead_gateway_is_noticed_within_twenty_seconds() -> None:
    for check in edge(ROUTE53).of("HealthCheck"):
        assert check.inputs["requestInterval"] * check.inputs["failureThreshold"] <= 20
        assert (check.inputs["port"], check.inputs["resourcePath"]) == (15021, "/healthz/ready")


def test_global_accelerator_has_a_group_per_region_with_all_its_load_balancers() -> None:
    made = edge({"mode": "global-accelerator"}, clusters=3, regions=("us-east-1", "eu-west-1"))
    groups = {g.inputs["endpointGroupRegion"]: g.inputs for g in made.of("EndpointGroup")}
    assert len(groups["us-east-1"]["endpointConfigurations"]) == 2
    assert len(groups["eu-west-1"]["endpointConfigurations"]) == 1
    looked_up = sorted(args["name"] for token, args in made.calls if "getLoadBalancer" in token)
    assert looked_up == ["c0-ingress", "c1-ingress", "c2-ingress"]


@pytest.mark.parametrize("ends_tls", [True, False])
def test_an_accelerator_keeps_client_addresses_where_load_balancers_do_not_end_tls(ends_tls: bool) -> None:
    spec = validated(EdgeSpec, {"mode": "global-accelerator"}, "fedmesh:aws.edge", "Pulumi.dev.yaml")
    targets = [EdgeTarget("c0", "us-east-1", "nlb-0.elb.amazonaws.com", "c0-ingress")]
    made = record(lambda: Edge("edge", EdgeArgs(targets, spec, {}, tls_ends_there=ends_tls)))
    (endpoint,) = made.one("edge-us-east-1", "EndpointGroup").inputs["endpointConfigurations"]
    assert endpoint["clientIpPreservationEnabled"] is not ends_tls


@pytest.mark.parametrize("drained", [True, False])
def test_a_drained_cluster_gets_no_new_users(drained: bool) -> None:
    targets = [
        EdgeTarget(f"c{n}", "us-east-1", f"nlb-{n}.elb.amazonaws.com", f"c{n}-ingress", drained and n == 0)
        for n in range(2)
    ]
    spec = validated(EdgeSpec, ROUTE53, "fedmesh:aws.edge", "Pulumi.dev.yaml")
    made = record(lambda: Edge("edge", EdgeArgs(targets, spec, {})))
    for number in range(2):
        check = made.one(f"edge-c{number}", "HealthCheck").inputs
        out = drained and number == 0
        assert (check["disabled"], check["invertHealthcheck"]) == (out, out)
    spec = validated(EdgeSpec, {"mode": "global-accelerator"}, "fedmesh:aws.edge", "Pulumi.dev.yaml")
    (group,) = record(lambda: Edge("edge", EdgeArgs(targets, spec, {}))).of("EndpointGroup")
    weights = [each["weight"] for each in group.inputs["endpointConfigurations"]]
    assert weights == [0 if drained else 100, 100]


def test_the_private_zone_is_seen_by_every_network() -> None:
    networks = [ZoneNetwork("one", "us-east-1", "vpc-1"), ZoneNetwork("two", "eu-west-1", "vpc-2")]
    args = PrivateZoneArgs("mesh.internal", networks, {"project": "fedmesh"})
    (zone,) = record(lambda: PrivateZone("dns", args)).of("Zone")
    assert zone.inputs["vpcs"] == [
        {"vpcId": "vpc-1", "vpcRegion": "us-east-1"},
        {"vpcId": "vpc-2", "vpcRegion": "eu-west-1"},
    ]


def test_a_load_balancer_gets_a_record_that_fits_its_address() -> None:
    for address, kind in (("nlb.elb.amazonaws.com", "CNAME"), ("10.2.3.4", "A")):
        args = MeshNameArgs("spire.cluster-1.mesh.internal", "Z1", address)
        (made,) = record(partial(MeshName, "one", args)).of("Record")
        assert (made.inputs["type"], made.inputs["records"]) == (kind, [address])


@pytest.mark.parametrize(
    ("address", "kind"), [("10.0.0.1", "A"), ("a.b.c", "CNAME"), ("10.example", "CNAME")]
)
def test_the_record_type_follows_the_address(address: str, kind: str) -> None:
    assert record_type(address) == kind
