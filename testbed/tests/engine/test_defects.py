"""Defects that the AWS half once had, put back one by one: the simulated AWS or the program must refuse each.

The whole program is recorded and carried out on the simulated AWS without the engine (testbed/sandbox/rehearsal.py),
with the deployer's and the controllers' permissions, routes and security groups judged at every call.
"""

import json
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import date
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pulumi
import pulumi_aws as aws
import pytest
import yaml
from botocore.exceptions import ClientError

from components.aws import addresses, controller_identity, dns, edge, eks, links, load_balancer_controller
from components.aws import clusters as aws_clusters
from components.aws.fleet import EksFleet
from components.aws.iam import document_json
from components.config import aws_facts
from components.config import eks as eks_config
from components.config.errors import ConfigError
from components.config.settings import parse
from components.kube import clusters as kube_clusters
from testbed.sandbox import account, changes, inventory
from testbed.sandbox.aws import Identity, forget
from testbed.sandbox.cloud import running
from testbed.sandbox.rehearsal import PROJECT, RefusedError, Rehearsal, record
from testbed.tests.unit.plugin_client import REGION, Plugin
from tests.unit.program import CRD, INJECTOR, kubeconfig
from tests.unit.test_database import ROOT, roots

CALLER = str(IPv4Network(changes.CALLERS)[10])
Config = dict[str, Any]


def templates(options: dict[str, Any]) -> list[dict[str, Any]]:
    return [INJECTOR if options["release_name"] == "istiod" else CRD]


def committed(stack: str) -> Config:
    text = (PROJECT / f"Pulumi.{stack}.yaml").read_text(encoding="utf-8")
    config = changes.with_callers(yaml.safe_load(text)["config"])
    # clusters alone count here, and two say as much as all with everything that can run on them
    off = {"fedmesh:gatewayApi": {"install": False}, "fedmesh:samples": {"enabled": False}}
    return {**config, **off, "fedmesh:observability": {"enabled": False}}


def dev(**aws_config: Any) -> Config:
    config = deepcopy(committed("dev"))
    config[changes.AWS] = {**config[changes.AWS], **aws_config}
    return config


def with_admins(config: Config, *admins: str) -> Config:
    for cluster in config[changes.CLUSTERS]:
        cluster["eks"]["admins"] = list(admins)
    return config


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log, policy = tmp_path_factory.mktemp("aws") / "aws.log", PROJECT / "docs" / "iam-policy.json"
    with running.running(log, policy) as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield environment["AWS_ENDPOINT_URL"]


@pytest.fixture
def cloud(server: str) -> str:
    """The URL of a simulated AWS that holds what an administrator makes first, and nothing else."""
    urlopen(Request(f"{server}/moto-api/reset", method="POST")).close()  # noqa: S310 - on this machine
    account.prepare(server)
    forget()
    return server


def rehearsed(config: Config, endpoint: str) -> Rehearsal:
    return Rehearsal(record(config, templates), CALLER, endpoint)


def left(endpoint: str, number: str = account.HOME) -> dict[str, int]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        return inventory.take((REGION,), Identity(key=f"observer.{number}")).left


@pytest.mark.parametrize("edge", ["none", "route53", "origin-failover", "global-accelerator"])
def test_a_sound_stack_is_made_and_destroyed_and_nothing_is_left(cloud: str, edge: str) -> None:
    """Peering with users led from an apex by Route 53; transit gateways, also with users led by CloudFront and by
    Global Accelerator.
    """
    config = (
        route53(cloud, "example.com")
        if edge == "route53"
        else dev(edge={"mode": edge}, join="transit-gateway")
    )
    before = left(cloud)
    life = rehearsed(config, cloud)
    life.create()
    balancers = account.observer(cloud, "elbv2").describe_load_balancers()["LoadBalancers"]
    assert len(balancers) == 6
    assert open_groups(cloud) == {"internet-facing"}
    life.destroy()
    assert left(cloud) == before


USERS = "shop.example.com"


def test_load_balancers_end_users_tls_with_a_certificate_of_acm(cloud: str) -> None:
    arn = account.observer(cloud, "acm").request_certificate(DomainName=USERS)["CertificateArn"]
    ingress = {"hosts": {USERS: {}}, "acm": {"certificateArns": [arn]}}
    rehearsed({**with_accelerator(), "fedmesh:ingress": ingress}, cloud).create()
    elb = account.observer(cloud, "elbv2")
    listeners = [
        each
        for balancer in elb.describe_load_balancers()["LoadBalancers"]
        if balancer["Scheme"] == "internet-facing"
        for each in elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
    ]
    assert {each["Port"]: each["Protocol"] for each in listeners} == {15021: "TCP", 80: "TCP", 443: "TLS"}
    for each in listeners:
        if each["Port"] == 443:
            assert each["Certificates"] == [{"CertificateArn": arn}]
            assert each["SslPolicy"] == "ELBSecurityPolicy-TLS13-1-2-2021-06"


def test_an_accelerator_that_keeps_client_addresses_of_tls_listeners_is_refused(
    cloud: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arn = account.observer(cloud, "acm").request_certificate(DomainName=USERS)["CertificateArn"]
    ingress = {"hosts": {USERS: {}}, "acm": {"certificateArns": [arn]}}
    with monkeypatch.context() as patch:
        patch.setattr(
            addresses, "EdgeArgs", lambda **given: edge.EdgeArgs(**{**given, "tls_ends_there": False})
        )
        life = rehearsed({**with_accelerator(), "fedmesh:ingress": ingress}, cloud)
    with pytest.raises(RefusedError, match="has a TLS listener: client IP address preservation"):
        life.create()


def test_cert_manager_proves_hosts_of_one_zone_and_changes_nothing_else(cloud: str) -> None:
    zones = [
        account.observer(cloud, "route53").create_hosted_zone(Name=name, CallerReference=name)["HostedZone"][
            "Id"
        ]
        for name in ("example.com", "other.example")
    ]
    own, other = (zone.rsplit("/", 1)[1] for zone in zones)
    ingress = {"hosts": {USERS: {}}, "acme": {"hostedZoneId": own}}
    rehearsed({**dev(), "fedmesh:ingress": ingress}, cloud).create()
    pod = boto3.Session(
        aws_access_key_id="pod.istio-eks-cluster-1.cert-manager.cert-manager",
        aws_secret_access_key="pod",
        region_name=REGION,
    ).client("route53", endpoint_url=cloud)

    def change(zone: str, name: str, kind: str, value: str) -> str:
        record = {"Name": name, "Type": kind, "TTL": 60, "ResourceRecords": [{"Value": value}]}
        batch = {"Changes": [{"Action": "UPSERT", "ResourceRecordSet": record}]}
        return pod.change_resource_record_sets(HostedZoneId=zone, ChangeBatch=batch)["ChangeInfo"]["Id"]

    proof = ("TXT", '"proof"')
    pod.get_change(Id=change(own, f"_acme-challenge.{USERS}", *proof))
    pod.list_resource_record_sets(HostedZoneId=own)
    refused: list[tuple[str, str, str, str]] = [
        (other, "_acme-challenge.other.example", *proof),
        (own, USERS, *proof),
        (own, f"_acme-challenge.{USERS}", "A", "192.0.2.1"),
    ]
    for call in refused:
        with pytest.raises(ClientError, match="AccessDenied"):
            change(*call)
    with pytest.raises(ClientError, match="AccessDenied"):
        pod.list_resource_record_sets(HostedZoneId=other)


ROWS = {
    "control planes": "control planes",
    "nodes": "nodes",
    "disks of nodes": "disks",
    "NAT gateways": "NAT gateways",
    "public addresses": "public addresses",
    "VPC endpoints": "VPC endpoints",
    "keys, zones, health checks": "keys, zones, checks",
    "load balancers": r"NLBs \(three a cluster\)",
}


@pytest.mark.parametrize(("stack", "column", "most"), [("dev", 1, 600.0), ("prod", 2, 2450.0)])
def test_a_stack_costs_what_the_documents_say(cloud: str, stack: str, column: int, most: float) -> None:
    config = committed(stack)
    config[changes.AWS] = {**config[changes.AWS], "edge": {"mode": "none"}}
    inside = str(IPv4Network(config[changes.CLUSTERS][0]["eks"]["vpcCidr"])[10])
    private = stack == "prod"
    life = Rehearsal(record(config, templates, stack), inside if private else CALLER, cloud, in_vpc=private)
    life.create()
    costs = inventory.take(tuple(sorted({each["region"] for each in config[changes.CLUSTERS]}))).costs
    text = (PROJECT / "docs" / "aws.md").read_text(encoding="utf-8")
    for kind, row in ROWS.items():
        (figures,) = re.findall(rf"^\| {row} \| ([\d.]+) \| ([\d.]+) \|$", text, re.MULTILINE)
        assert figures[column - 1] == f"{costs[kind]:.2f}", kind
    (sums,) = re.findall(r"^\| \*\*sum\*\* \| \*\*([\d.]+)\*\* \| \*\*([\d.]+)\*\* \|$", text, re.MULTILINE)
    assert sums[column - 1] == f"{sum(costs.values()):.2f}"
    assert sum(costs.values()) <= most


def open_groups(endpoint: str) -> set[str]:
    """The schemes of the load balancers whose security groups let everybody in."""
    ec2 = account.observer(endpoint, "ec2")
    balancers = account.observer(endpoint, "elbv2").describe_load_balancers()["LoadBalancers"]
    return {
        each["Scheme"]
        for each in balancers
        for group in ec2.describe_security_groups(GroupIds=each["SecurityGroups"])["SecurityGroups"]
        for permission in group["IpPermissions"]
        if any(found["CidrIp"] == "0.0.0.0/0" for found in permission["IpRanges"])
    }


def route53(endpoint: str, domain: str = "app.example.com") -> Config:
    """The first clusters of the stack, found by users through Route 53."""
    zone = account.observer(endpoint, "route53").create_hosted_zone(Name="example.com", CallerReference="1")
    id_ = zone["HostedZone"]["Id"].rsplit("/", 1)[1]
    return dev(edge={"mode": "route53", "domain": domain, "hostedZoneId": id_})


def mixed(config: Config, folder: Path, patch: pytest.MonkeyPatch) -> Config:
    """With a cluster that exists already before those on EKS."""
    patch.setattr(kube_clusters, "check_answers", lambda *_: None)
    file = folder / "existing.kubeconfig"
    file.write_text(yaml.safe_dump(kubeconfig("https://10.90.0.11")), encoding="utf-8")
    existing = {"name": "on-premises", "network": "network-9", "region": "dc-1", "trustDomain": "dc.example"}
    config[changes.CLUSTERS].insert(0, {**existing, "kubeconfig": {"path": str(file)}})
    return config


def test_a_cluster_that_exists_may_stand_first_beside_eks_clusters(
    cloud: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearsed(mixed(dev(), tmp_path, monkeypatch), cloud).create()


def network_of_others(endpoint: str, eks: Config) -> None:
    """Moves a cluster of the config into a network that somebody else has made: a NAT gateway and two zones."""
    ec2 = account.observer(endpoint, "ec2")
    vpc = ec2.create_vpc(CidrBlock=eks["vpcCidr"])["Vpc"]["VpcId"]
    ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(VpcId=vpc, InternetGatewayId=gateway)
    ranges = IPv4Network(eks["vpcCidr"]).subnets(new_prefix=20)
    subnets: dict[str, list[str]] = {"internal-elb": [], "elb": []}
    tables: dict[str, str] = {}
    for role, ids in subnets.items():
        tables[role] = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
        for zone in eks["zones"][:2]:
            tags = [{"ResourceType": "subnet", "Tags": [{"Key": f"kubernetes.io/role/{role}", "Value": "1"}]}]
            made = ec2.create_subnet(
                VpcId=vpc, CidrBlock=str(next(ranges)), AvailabilityZone=zone, TagSpecifications=tags
            )
            ids.append(made["Subnet"]["SubnetId"])
            ec2.associate_route_table(RouteTableId=tables[role], SubnetId=ids[-1])
    everywhere = {"DestinationCidrBlock": "0.0.0.0/0"}
    ec2.create_route(RouteTableId=tables["elb"], GatewayId=gateway, **everywhere)
    address = ec2.allocate_address(Domain="vpc")
    nat = ec2.create_nat_gateway(SubnetId=subnets["elb"][0], AllocationId=address["AllocationId"])
    ec2.create_route(
        RouteTableId=tables["internal-elb"], NatGatewayId=nat["NatGateway"]["NatGatewayId"], **everywhere
    )
    for key in ("zones", "nat", "vpcEndpoints"):
        eks.pop(key, None)
    eks["network"] = {
        "vpcId": vpc,
        "privateSubnetIds": subnets["internal-elb"],
        "publicSubnetIds": subnets["elb"],
        "routeTableIds": list(tables.values()),
        "natAddresses": ["8.8.4.4"],  # the simulated AWS gives out addresses of 127.0.0.0/8
    }


def test_a_cluster_goes_into_a_network_that_exists_and_leaves_it_as_it_was(cloud: str) -> None:
    config = dev()
    network_of_others(cloud, config[changes.CLUSTERS][0]["eks"])
    before = left(cloud)
    life = rehearsed(config, cloud)
    life.create()
    assert len(account.observer(cloud, "eks").list_clusters()["clusters"]) == 2
    life.destroy()
    assert left(cloud) == before


def with_databases(config: Config, folder: Path, **rds: Any) -> Config:
    file = roots(folder, *{ROOT.format(each["region"]) for each in config[changes.CLUSTERS]})
    datastore = {"rds": {"caBundle": str(file), **rds}}
    return {**config, "fedmesh:spire": {"replicas": 2, "datastore": datastore}}


def test_databases_are_made_for_spire_and_nothing_of_them_is_left(cloud: str, tmp_path: Path) -> None:
    before = left(cloud)
    life = rehearsed(with_databases(dev(), tmp_path), cloud)
    life.create()
    found = account.observer(cloud, "rds").describe_db_instances()["DBInstances"]
    names = [each["DBInstanceIdentifier"] for each in found]
    assert sorted(names) == ["istio-eks-cluster-1-spire", "istio-eks-cluster-2-spire"]
    life.destroy()
    assert left(cloud) == before


def test_a_protected_database_refuses_to_be_destroyed_and_a_last_snapshot_stays(
    cloud: str, tmp_path: Path
) -> None:
    config = with_databases(dev(), tmp_path, finalSnapshot=True)
    for cluster in config[changes.CLUSTERS]:
        cluster["eks"]["deletionProtection"] = True
    life = rehearsed(config, cloud)
    life.create()
    with pytest.raises(RefusedError, match="Cannot delete protected DB Instance"):
        life.destroy()
    rds, eks_ = account.observer(cloud, "rds"), account.observer(cloud, "eks")
    for number in (1, 2):
        rds.modify_db_instance(
            DBInstanceIdentifier=f"istio-eks-cluster-{number}-spire", DeletionProtection=False
        )
        eks_.update_cluster_config(name=f"istio-eks-cluster-{number}", deletionProtection=False)
    life.destroy()
    snapshots = rds.describe_db_snapshots(SnapshotType="manual")["DBSnapshots"]
    assert sorted(each["DBInstanceIdentifier"] for each in snapshots) == [
        "istio-eks-cluster-1-spire",
        "istio-eks-cluster-2-spire",
    ]


def test_an_up_whose_session_ends_goes_on_with_the_next_one(
    cloud: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = rehearsed(dev(), cloud)
    life.create(until="aws:ec2/natGateway:NatGateway")
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "expired")
        forget()
        with pytest.raises(
            RefusedError, match=r"ExpiredToken.*The security token included in the request is expired"
        ):
            life.create()
    forget()
    life.create(until="aws:eks/nodeGroup:NodeGroup")
    assert len(account.observer(cloud, "ec2").describe_nat_gateways()["NatGateways"]) == 2


def test_a_transit_gateway_that_exists_joins_the_networks_and_stays(cloud: str) -> None:
    ec2 = account.observer(cloud, "ec2")
    gateway = ec2.create_transit_gateway()["TransitGateway"]["TransitGatewayId"]
    config = dev(join="transit-gateway", transitGatewayId=gateway)
    before = left(cloud)
    life = rehearsed(config, cloud)
    life.create()
    attached = ec2.describe_transit_gateway_vpc_attachments()["TransitGatewayVpcAttachments"]
    assert {each["TransitGatewayId"] for each in attached} == {gateway}
    assert len(attached) == 2
    life.destroy()
    assert left(cloud) == before


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"DefaultRouteTableAssociation": "disable"}, "needs default route table association, which is off"),
        ({"DnsSupport": "disable"}, "needs DNS support, which is off"),
        (None, "no matching EC2 Transit Gateway found"),
    ],
)
def test_a_transit_gateway_that_does_not_do_is_refused_before_anything_is_made(
    cloud: str, options: Config | None, reason: str
) -> None:
    ec2 = account.observer(cloud, "ec2", REGION if options else "eu-west-1")
    gateway = ec2.create_transit_gateway(Options=options or {})["TransitGateway"]["TransitGatewayId"]
    with pytest.raises(Exception, match=reason):
        record(dev(join="transit-gateway", transitGatewayId=gateway), templates)


def with_auto_mode() -> Config:
    config = dev()
    for cluster in config[changes.CLUSTERS]:
        eks = cluster["eks"]
        eks |= {"autoMode": True, "nodeGroups": {"spire-server": eks["nodeGroups"]["spire-server"]}}
    return config


def test_clusters_of_auto_mode_are_made_and_destroyed_and_nothing_is_left(cloud: str) -> None:
    before = left(cloud)
    life = rehearsed(with_auto_mode(), cloud)
    life.create()
    eks = account.observer(cloud, "eks")
    found = eks.describe_cluster(name="istio-eks-cluster-1")["cluster"]
    assert found["computeConfig"]["nodePools"] == ["general-purpose"]
    assert found["storageConfig"] == {"blockStorage": {"enabled": True}}
    assert found["kubernetesNetworkConfig"]["elasticLoadBalancing"] == {"enabled": True}
    (group,) = eks.list_nodegroups(clusterName=found["name"])["nodegroups"]
    assert group.startswith("spire-server-")
    assert eks.list_addons(clusterName=found["name"])["addons"] == [
        *("aws-ebs-csi-driver", "coredns", "eks-pod-identity-agent", "kube-proxy", "vpc-cni")
    ]
    life.destroy()
    assert left(cloud) == before


OTHER = "210987654321"


def in_two_accounts(
    endpoint: str, folder: Path, patch: pytest.MonkeyPatch, *, profile: bool = False
) -> Config:
    """With the second cluster in another account, by a role or by a profile that assumes it."""
    role = account.prepare_other(endpoint, OTHER)
    profiles = folder / "config"
    profiles.write_text(
        f"[profile payments]\nrole_arn = {role}\ncredential_source = Environment\n", encoding="utf-8"
    )
    patch.setenv("AWS_CONFIG_FILE", str(profiles))
    config = dev()
    by = {"profile": "payments"} if profile else {"roleArn": role}
    config[changes.CLUSTERS][1]["eks"]["account"] = by
    return config


@pytest.mark.parametrize("profile", [False, True])
def test_a_stack_in_two_accounts_is_made_and_destroyed_and_nothing_is_left_in_either(
    cloud: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: bool
) -> None:
    config = in_two_accounts(cloud, tmp_path, monkeypatch, profile=profile)
    before = left(cloud), left(cloud, OTHER)
    life = rehearsed(config, cloud)
    life.create()
    for number, name in ((account.HOME, "cluster-1"), (OTHER, "cluster-2")):
        assert account.observer(cloud, "eks", number=number).list_clusters()["clusters"] == [
            f"istio-eks-{name}"
        ]
        balancers = account.observer(cloud, "elbv2", number=number).describe_load_balancers()
        assert len(balancers["LoadBalancers"]) == 3
        (vpc,) = [
            each
            for each in account.observer(cloud, "ec2", number=number).describe_vpcs()["Vpcs"]
            if not each["IsDefault"]
        ]
        zones = account.observer(cloud, "route53", number=number).list_hosted_zones_by_vpc(
            VPCId=vpc["VpcId"], VPCRegion=REGION
        )
        assert [zone["Name"] for zone in zones["HostedZoneSummaries"]] == ["mesh.internal."]
        iam = account.observer(cloud, "iam", number=number)
        for each in iam.list_roles(PathPrefix="/fedmesh/")["Roles"]:
            role = iam.get_role(RoleName=each["RoleName"])["Role"]
            bound = role["PermissionsBoundary"]["PermissionsBoundaryArn"]
            assert bound == f"arn:aws:iam::{number}:policy/fedmesh-boundary"
    life.destroy()
    assert (left(cloud), left(cloud, OTHER)) == before


def test_two_profiles_of_one_account_are_refused_before_anything_is_made(
    cloud: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = in_two_accounts(cloud, tmp_path, monkeypatch, profile=True)
    role = f"arn:aws:iam::{OTHER}:role/{account.DEPLOYER}"
    config[changes.CLUSTERS][0]["eks"]["account"] = {"roleArn": role}
    with pytest.raises(
        ConfigError, match=f"cluster-2].eks.account in .*: {OTHER} is the account of cluster-1 too"
    ):
        record(config, templates)


def accepted_by_the_requester(patch: pytest.MonkeyPatch) -> None:
    original = aws.ec2.VpcPeeringConnectionAccepter

    def accepter(name: str, *, opts: pulumi.ResourceOptions, **given: Any) -> Any:
        return original(name, opts=pulumi.ResourceOptions(parent=opts.parent), **given)

    patch.setattr(links.aws.ec2, "VpcPeeringConnectionAccepter", accepter)


def associated_without_leave(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dns.aws.route53, "VpcAssociationAuthorization", lambda *_, **__: None)
    original = aws.route53.ZoneAssociation

    def association(name: str, *, opts: pulumi.ResourceOptions, **given: Any) -> Any:
        alone = pulumi.ResourceOptions(parent=opts.parent, provider=opts.provider)
        return original(name, opts=alone, **given)

    patch.setattr(dns.aws.route53, "ZoneAssociation", association)


@pytest.mark.parametrize(
    ("put", "refusal"),
    [
        (accepted_by_the_requester, "OperationNotPermitted"),
        (associated_without_leave, "has not authorized the association"),
    ],
)
def test_what_only_the_other_account_may_do_is_refused_to_the_first(
    cloud: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put: "Put", refusal: str
) -> None:
    config = in_two_accounts(cloud, tmp_path, monkeypatch)
    with monkeypatch.context() as patch:
        put(patch)
        life = rehearsed(config, cloud)
    with pytest.raises(RefusedError, match=refusal):
        life.create()


def test_a_role_that_does_not_trust_the_caller_is_not_assumed(
    cloud: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = in_two_accounts(cloud, tmp_path, monkeypatch)
    trust = {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": {"AWS": "arn:aws:iam::333333333333:root"},
    }
    stranger = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    account.observer(cloud, "iam", number=OTHER).update_assume_role_policy(
        RoleName=account.DEPLOYER, PolicyDocument=stranger
    )
    with pytest.raises(Exception, match="not authorized to perform: sts:AssumeRole"):
        record(config, templates)


def test_another_stack_with_the_same_names_is_refused_before_anything_is_made(cloud: str) -> None:
    rehearsed(dev(), cloud).create(until="aws:eks/nodeGroup:NodeGroup")
    record(dev(), templates)
    with pytest.raises(
        pulumi.RunError, match=r"istio-eks-cluster-[12] exists and belongs to the stack dev: use another"
    ):
        record(dev(), templates, stack="trial")


# --- the defects -----------------------------------------------------------------------------------------------------

Put = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Defect:
    """A defect, how to put it back, and what refuses it: while the stack is made, or while it is destroyed."""

    put: Put
    refusal: str
    config: Callable[[], Config] = dev
    on_destroy: bool = False


def no_timeout(patch: pytest.MonkeyPatch) -> None:
    """D1: an interval without a time-out, for which the controller has 10 s."""
    original = load_balancer_controller.nlb_annotations

    def annotations(*args: Any, **kwargs: Any) -> dict[str, Any]:
        made = original(*args, **kwargs)
        return {key: value for key, value in made.items() if not key.endswith("healthcheck-timeout")}

    patch.setattr(load_balancer_controller, "nlb_annotations", annotations)


def exits_go_first(patch: pytest.MonkeyPatch) -> None:
    """D2: nothing depends on routes, NAT gateways and endpoints."""
    patch.setattr(aws_clusters.AwsClusters, "requirements", lambda self, name: (self.clusters[name],))
    original = aws_clusters.EksClusterArgs

    def args(**given: Any) -> Any:
        return original(**{**given, "network": None})

    patch.setattr(aws_clusters, "EksClusterArgs", args)


def own_network_shut_out(patch: pytest.MonkeyPatch) -> None:
    """D3: the security group lets in the peers' networks alone."""

    def rules(self: eks.EksCluster) -> None:
        for peer, cidr in self._args.peer_cidrs.items():
            self._api_rule(f"from-{peer}-api", f"api from {peer}", cidr)

    patch.setattr(eks.EksCluster, "_api_rules", rules)


def webhook_for_services(patch: pytest.MonkeyPatch) -> None:
    """D5: the chart's default, a webhook that every Service of the cluster has to pass."""
    original = load_balancer_controller.controller_values

    def values(args: Any) -> dict[str, Any]:
        return {k: v for k, v in original(args).items() if k != "enableServiceMutatorWebhook"}

    patch.setattr(load_balancer_controller, "controller_values", values)


def two_entries_of_the_creator(patch: pytest.MonkeyPatch) -> None:
    """D6: the creator's own access entry, and one for the same identity among the admins."""
    original = eks.child_transform
    patch.setattr(eks, "child_transform", lambda **given: original(**{**given, "creator_is_admin": True}))


def zones_unseen(patch: pytest.MonkeyPatch) -> None:
    """D11: zones are taken by name, whatever they are in this account."""
    patch.setattr(aws_clusters, "verified_zones", lambda zones, *_: {zone: zone for zone in zones})


def names_cut(patch: pytest.MonkeyPatch) -> None:
    """D15: the first letters of a cluster's name stand for the whole."""
    patch.setattr(
        load_balancer_controller, "load_balancer_name", lambda _stack, name, label: f"{name[:22]}-{label}"
    )


def identity_before_cluster(patch: pytest.MonkeyPatch) -> None:
    """D26: a pod identity knows its cluster by a plain name."""
    original = aws.eks.PodIdentityAssociation

    def association(name: str, *, opts: pulumi.ResourceOptions, **given: Any) -> Any:
        alone = pulumi.ResourceOptions(parent=opts.parent, provider=opts.provider)
        return original(name, opts=alone, **given)

    patch.setattr(controller_identity.aws.eks, "PodIdentityAssociation", association)


def wrong_image(patch: pytest.MonkeyPatch) -> None:
    """Code fault: a digit and `g.` alone stood for Graviton, so r8gb got an image for x86."""

    def old(instance_type: str) -> str:
        return "arm64" if re.search(r"[0-9]g[dn]?\.", instance_type) else "x86_64"

    patch.setattr(eks_config, "architecture_of", old)


def large_ranges_pass(patch: pytest.MonkeyPatch) -> None:
    """Code fault: `0.0.0.0/1` passed as a range of callers."""
    patch.setattr(eks.EksCluster, "_public_cidrs", lambda _: ["0.0.0.0/1"])


def accelerator_does_not_wait(patch: pytest.MonkeyPatch) -> None:
    """Endpoints are looked up by their names alone, whether the controller has made the load balancers or not."""

    def arn(_: edge.Edge, target: edge.EdgeTarget) -> pulumi.Output[str]:
        return aws.lb.get_load_balancer_output(name=target.load_balancer, region=target.region).arn

    patch.setattr(edge.Edge, "_load_balancer_arn", arn)


def accelerator_in_one_region(patch: pytest.MonkeyPatch) -> None:
    """Global Accelerator takes an endpoint in the group of its own region alone."""
    original = edge.aws.globalaccelerator.EndpointGroup

    def group(name: str, **given: Any) -> Any:
        return original(name, **{**given, "endpoint_group_region": "eu-west-1"})

    patch.setattr(edge.aws.globalaccelerator, "EndpointGroup", group)


def accelerator_checks_too_often(patch: pytest.MonkeyPatch) -> None:
    """Global Accelerator checks every 10 or every 30 seconds."""
    patch.setattr(edge, "CHECK_SECONDS", 5)


def with_accelerator() -> Config:
    return dev(edge={"mode": "global-accelerator"})


def with_r8gb() -> Config:
    config = dev()
    for cluster in config[changes.CLUSTERS]:
        cluster["eks"]["nodeGroups"]["general"]["instanceTypes"] = ["r8gb.large"]
    return config


def in_a_refused_zone() -> Config:
    """With the zone that has the id use1-az3 in this account."""
    config = dev()
    for cluster in config[changes.CLUSTERS]:
        cluster["eks"]["zones"] = ["us-east-1a", "us-east-1e"]
    return config


def with_long_names() -> Config:
    config = dev()
    for number, cluster in enumerate(config[changes.CLUSTERS]):
        cluster |= {"name": f"payments-production-{number}", "alias": f"p{number}"}
    return config


def with_caller_as_admin() -> Config:
    return with_admins(dev(), changes.ADMIN)


def load_balancing_off(patch: pytest.MonkeyPatch) -> None:
    """Auto Mode without its load balancing, as our controller makes the load balancers."""
    original = aws.eks.Cluster

    def cluster(name: str, **given: Any) -> Any:
        network = {
            k: v for k, v in given["kubernetes_network_config"].items() if k != "elastic_load_balancing"
        }
        return original(name, **{**given, "kubernetes_network_config": network})

    patch.setattr(aws.eks, "Cluster", cluster)


def no_class(patch: pytest.MonkeyPatch) -> None:
    """Services without a class, which Auto Mode takes for its own."""
    patch.setattr(load_balancer_controller, "CLASS", "")


def nodes_in_public_subnets(patch: pytest.MonkeyPatch) -> None:
    """Auto Mode makes nodes in public subnets too, where they have no public address."""
    patch.setattr(eks.EksCluster, "_public_subnets", lambda self: list(self._args.public_subnet_ids))


DEFECTS = {
    "Auto Mode in part": Defect(load_balancing_off, "must be all enabled or all disabled", with_auto_mode),
    "load balancers of Auto Mode": Defect(
        no_class, r"has the loadBalancerClass eks\.amazonaws\.com/nlb, which is not", with_auto_mode
    ),
    "Auto Mode in public subnets": Defect(
        nodes_in_public_subnets, "no route from subnet-[0-9a-f]+ to", with_auto_mode
    ),
    "D1": Defect(no_timeout, "Health check timeout '10' must be smaller than"),
    "D2": Defect(exits_go_first, "no route from subnet-[0-9a-f]+ to elbv2", on_destroy=True),
    "D5": Defect(webhook_for_services, "failed calling webhook"),
    "D6": Defect(two_entries_of_the_creator, "already in use", with_caller_as_admin),
    "D11": Defect(zones_unseen, "use1-az3 is not supported", in_a_refused_zone),
    "D15": Defect(names_cut, "A load balancer with the same name|DuplicateLoadBalancerName", with_long_names),
    "D26": Defect(identity_before_cluster, "No cluster found for name"),
    "accelerator before load balancers": Defect(
        accelerator_does_not_wait, "LoadBalancerNotFound", with_accelerator
    ),
    "accelerator of another region": Defect(
        accelerator_in_one_region, "is no load balancer of eu-west-1", with_accelerator
    ),
    "accelerator that checks too often": Defect(
        accelerator_checks_too_often, "HealthCheckIntervalSeconds must be 10 or 30", with_accelerator
    ),
    "image of another architecture": Defect(wrong_image, "is not a valid instance type", with_r8gb),
    "half the internet": Defect(large_ranges_pass, "not allowed in publicAccessCidrs"),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_that_is_put_back_is_refused(cloud: str, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    defect = DEFECTS[name]
    config = defect.config()
    with monkeypatch.context() as patch:
        defect.put(patch)
        life = rehearsed(config, cloud)
    if defect.on_destroy:
        life.create()
        with pytest.raises(RefusedError, match=defect.refusal):
            life.destroy()
    else:
        with pytest.raises(RefusedError, match=defect.refusal):
            life.create()


def test_d3_an_api_server_that_shuts_out_its_own_network_is_not_reached(
    cloud: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dev()
    for cluster in config[changes.CLUSTERS]:
        cluster["eks"]["endpoint"] = {}
    inside = str(IPv4Network(config[changes.CLUSTERS][0]["eks"]["vpcCidr"])[10])
    with monkeypatch.context() as patch:
        own_network_shut_out(patch)
        faulty = Rehearsal(record(config, templates), inside, cloud, in_vpc=True)
    with pytest.raises(RefusedError, match=f"istio-eks-cluster-1 does not let in {inside} at port 443"):
        faulty.create()


def test_roles_without_the_boundary_are_refused_to_the_deployer(cloud: str) -> None:
    life = rehearsed(dev(permissionsBoundary=""), cloud)
    with pytest.raises(
        RefusedError, match=r"is not authorized to perform: iam:CreateRole on resource: \S+role/fedmesh/"
    ):
        life.create()


def test_a_controller_without_its_policy_makes_no_load_balancer(
    cloud: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(
            controller_identity, "document_json", lambda name, words=None: without_creating(name, words)
        )
        life = rehearsed(dev(), cloud)
    with pytest.raises(
        RefusedError, match="is not authorized to perform: elasticloadbalancing:CreateLoadBalancer"
    ):
        life.create()


def without_creating(name: str, words: dict[str, str] | None) -> str:
    return document_json(name, words).replace('"elasticloadbalancing:CreateLoadBalancer",', "")


def test_d4_a_version_is_refused_from_the_day_after_its_standard_support() -> None:
    config = {key.removeprefix("fedmesh:"): value for key, value in committed("dev").items()}
    for cluster in config["clusters"]:
        cluster["eks"]["version"] = "1.34"
    last = aws_facts.KUBERNETES_VERSIONS["1.34"].standard
    parse(config, "Pulumi.dev.yaml", last)
    with pytest.raises(ConfigError, match=r"EKS has only extended support for 1\.34"):
        parse(config, "Pulumi.dev.yaml", date.fromordinal(last.toordinal() + 1))


@pytest.mark.parametrize("fixed", [False, True])
def test_d8_a_node_group_with_a_fixed_name_would_be_deleted_before_its_successor(
    cloud: str, fixed: bool
) -> None:
    group = record(dev(), templates)["aws:eks/nodeGroup:NodeGroup|cluster-1-eks-general"].inputs
    if fixed:
        group = {**group, "nodeGroupName": "general"}
        del group["nodeGroupNamePrefix"]
    known = {key: value for key, value in group.items() if "<<" not in str(value)}
    changed = Plugin().diff("aws:eks/nodeGroup:NodeGroup", known, {**known, "instanceTypes": ["m7i.large"]})
    assert (list(changed.replaces), changed.deleteBeforeReplace) == (["instanceTypes"], fixed)


def test_d12_an_internal_load_balancer_without_ranges_is_open_to_everybody_who_gets_to_it(
    cloud: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = load_balancer_controller.LoadBalancerService
    with monkeypatch.context() as patch:
        patch.setattr(
            load_balancer_controller,
            "LoadBalancerService",
            lambda **given: replace(original(**given), source_ranges=()),
        )
        life = rehearsed(dev(), cloud)
    life.create()
    assert open_groups(cloud) == {"internet-facing", "internal"}


def test_the_first_of_all_clusters_has_no_say_where_it_is_none_of_eks(
    cloud: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = mixed(dev(), tmp_path, monkeypatch)
    first = property(
        lambda self: pulumi.ResourceOptions(providers=[self.providers[self.settings.clusters[0].name]])
    )
    monkeypatch.setattr(EksFleet, "home", first)
    with pytest.raises(KeyError, match="on-premises"):
        record(config, templates)


def test_a_standby_without_a_target_and_a_cname_at_an_apex_are_no_records(
    cloud: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = route53(cloud)
    original = edge.Edge._standby
    with monkeypatch.context() as patch:
        patch.setattr(edge.Edge, "_standby", lambda self, _targets: original(self, []))
        life = rehearsed(config, cloud)
    with pytest.raises(RefusedError, match=r"alias that targets standby\.app\.example\.com"):
        life.create()


def test_an_origin_group_of_cloudfront_takes_no_post(cloud: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = edge.aws.cloudfront.Distribution

    def with_post(*args: Any, **kwargs: Any) -> Any:
        kwargs["default_cache_behavior"].allowed_methods = [
            *("GET", "HEAD", "OPTIONS", "PUT", "POST", "PATCH", "DELETE")
        ]
        return original(*args, **kwargs)

    monkeypatch.setattr(edge.aws.cloudfront, "Distribution", with_post)
    with pytest.raises(RefusedError, match="AllowedMethods cannot include POST"):
        rehearsed(dev(edge={"mode": "origin-failover"}), cloud).create()


def test_a_cname_can_not_stand_at_an_apex(cloud: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = route53(cloud, domain="example.com")
    original = aws.route53.Record

    def cname(name: str, **given: Any) -> Any:
        if given.get("aliases") is None or given["name"] != "example.com":
            return original(name, **given)
        return original(
            name, **{**given, "type": "CNAME", "aliases": None, "records": ["nlb.example"], "ttl": 30}
        )

    with monkeypatch.context() as patch:
        patch.setattr(edge.aws.route53, "Record", cname)
        life = rehearsed(config, cloud)
    with pytest.raises(RefusedError, match=r"CNAME with DNS name example\.com\. is not permitted at apex"):
        life.create()
