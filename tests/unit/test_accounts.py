"""EKS clusters in several AWS accounts: whose credentials make what, and what only one account can have."""

import json
from typing import Any

import pytest

from components.aws.clusters import AwsCluster, AwsClusters, AwsClustersArgs
from components.aws.eks import named_kubeconfig
from components.aws.fleet import aws_providers
from components.config.accounts import check_accounts
from components.config.aws import AwsSettings
from components.config.errors import ConfigError, validated
from components.config.settings import parse
from tests.unit import recording
from tests.unit.recording import Recorder, record
from tests.unit.test_settings_aws import FILE, TODAY, eks_cluster, spec

HERE, OTHER = "123456789012", "210987654321"
ROLE = {"roleArn": f"arn:aws:iam::{OTHER}:role/fedmesh-deployer"}
BOUNDARY = f"arn:aws:iam::{HERE}:policy/fedmesh-boundary"
REGIONS = ("us-east-1", "us-east-1", "eu-west-1")


class Accounts(Recorder):
    """Gives each provider the number of its account, and remembers which provider makes what."""

    def call(self, args: Any) -> dict[str, Any]:
        answer = super().call(args)
        if "getCallerIdentity" in args.token and args.provider.split("::")[-2].endswith((OTHER, "payments")):
            return {**answer, "accountId": OTHER}
        return answer


def clusters(
    monkeypatch: pytest.MonkeyPatch, *accounts: dict[str, str] | None, **aws_config: Any
) -> Recorder:
    monkeypatch.setattr(recording, "Recorder", Accounts)

    def build() -> None:
        specs = [
            AwsCluster(
                f"c{n}",
                f"c{n}",
                REGIONS[n],
                spec(n, zones=[f"{REGIONS[n]}{zone}" for zone in "ab"], account=each),
            )
            for n, each in enumerate(accounts)
        ]
        providers = aws_providers({each.name: each for each in specs})
        settings = validated(AwsSettings, aws_config, "fedmesh:aws", FILE)
        AwsClusters("aws", AwsClustersArgs(specs, settings, providers, FILE))

    return record(build)


def maker(made: Recorder, name: str, kind: str) -> str:
    """The provider that makes a resource."""
    (found,) = [
        each
        for each in made.dependencies[made.one(name, kind).urn]
        if each.startswith("pulumi:providers:aws")
    ]
    return found.rsplit("::", 1)[1]


def test_without_accounts_providers_are_those_of_the_regions_and_nothing_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = clusters(monkeypatch, None, None, None)
    assert sorted(each.name for each in made.of("aws") if "providers" in each.type) == [
        "aws-eu-west-1",
        "aws-us-east-1",
    ]
    assert not [token for token, _ in made.calls if "getCallerIdentity" in token]
    assert not made.of("ZoneAssociation")


def test_a_role_is_assumed_and_a_profile_taken_for_all_that_is_in_its_account(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = clusters(monkeypatch, None, ROLE)
    provider = made.one(f"aws-us-east-1-{OTHER}").inputs
    assert json.loads(provider["assumeRoles"]) == [{**ROLE, "sessionName": "fedmesh"}]
    assert maker(made, "c1-network-vpc", "Vpc") == f"aws-us-east-1-{OTHER}"
    assert maker(made, "c0-network-vpc", "Vpc") == "aws-us-east-1"
    by_profile = clusters(monkeypatch, None, {"profile": "payments"})
    assert by_profile.one("aws-us-east-1-payments").inputs["profile"] == "payments"


def test_tokens_of_kubeconfigs_are_those_of_the_role_or_the_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    made = clusters(monkeypatch, None, ROLE)
    options = [made.one(f"c{n}-eks", "eks:index:Cluster").inputs["providerCredentialOpts"] for n in (0, 1)]
    assert options == [{}, ROLE]
    user = {"name": "aws", "user": {"exec": {"command": "aws", "args": ["eks", "get-token"]}}}
    given = {"clusters": [{}], "users": [user], "contexts": [{"context": {}}]}
    named = json.loads(named_kubeconfig(json.dumps(given), "c1", "payments"))
    assert named["users"][0]["user"]["exec"]["args"] == ["eks", "get-token", "--profile", "payments"]
    assert json.loads(named_kubeconfig(json.dumps(given), "c1"))["users"][0]["user"] == user["user"]


def test_the_peers_account_accepts_a_peering_and_lays_its_own_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    made = clusters(monkeypatch, None, ROLE)
    (asked,) = made.of("VpcPeeringConnection")
    assert asked.inputs["peerOwnerId"] == OTHER
    assert "autoAccept" not in asked.inputs
    assert "peerRegion" not in asked.inputs
    foreign = f"aws-us-east-1-{OTHER}"
    assert maker(made, "aws-links-c0-c1-accepter", "VpcPeeringConnectionAccepter") == foreign
    for side, provider in (("requester", "aws-us-east-1"), ("accepter", foreign)):
        assert maker(made, f"aws-links-c0-c1-{side}-dns", "PeeringConnectionOptions") == provider
    assert maker(made, "aws-links-c1-to-c0-0", "Route") == foreign
    assert maker(made, "aws-links-c0-to-c1-0", "Route") == "aws-us-east-1"


def test_two_networks_of_the_other_account_peer_within_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = clusters(monkeypatch, None, ROLE, ROLE)
    inner = made.one("aws-links-c1-c2", "VpcPeeringConnection")
    assert "peerOwnerId" not in inner.inputs
    assert inner.inputs["peerRegion"] == "eu-west-1"
    assert maker(made, "aws-links-c1-c2-accepter", "VpcPeeringConnectionAccepter") == f"aws-eu-west-1-{OTHER}"


def test_a_network_of_another_account_associates_itself_once_it_is_allowed_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = clusters(monkeypatch, None, ROLE, None)
    (zone,) = made.of("Zone")
    assert zone.inputs["vpcs"] == [{"vpcId": "c0-network-vpc-id", "vpcRegion": "us-east-1"}]
    assert made.ignored[zone.urn] == ("vpcs",)
    (allowed,) = made.of("VpcAssociationAuthorization")
    foreign, own = (made.one(f"aws-dns-{name}", "ZoneAssociation") for name in ("c1", "c2"))
    assert allowed.inputs["vpcId"] == foreign.inputs["vpcId"] == "c1-network-vpc-id"
    assert maker(made, allowed.name, "VpcAssociationAuthorization") == "aws-us-east-1"
    assert maker(made, foreign.name, "ZoneAssociation") == f"aws-us-east-1-{OTHER}"
    assert made.outlives(allowed, foreign)
    assert own.inputs["vpcRegion"] == "eu-west-1"


@pytest.mark.parametrize("account", [ROLE, {"profile": "payments"}])
def test_roles_are_bounded_by_a_policy_of_their_own_account(
    monkeypatch: pytest.MonkeyPatch, account: dict[str, str]
) -> None:
    made = clusters(monkeypatch, None, account, permissionsBoundary=BOUNDARY)
    bounds = {each.name[:2]: each.inputs["permissionsBoundary"] for each in made.of("Role")}
    assert bounds == {"c0": BOUNDARY, "c1": BOUNDARY.replace(HERE, OTHER)}


def test_two_ways_into_one_account_are_refused_before_anything_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ConfigError, match=rf"c2\].eks.account in {FILE}: {OTHER} is the account of c1 too"):
        clusters(monkeypatch, None, ROLE, {"profile": "payments"})
    assert check_accounts({"": HERE, OTHER: OTHER}, {"": "c0", OTHER: "c1"}, FILE)


def refused(*accounts: dict[str, str] | None, **aws: Any) -> str:
    made = [eks_cluster(n, **({"account": each} if each else {})) for n, each in enumerate(accounts)]
    with pytest.raises(ConfigError) as error:
        parse({"clusters": made, "aws": aws}, FILE, TODAY)
    return str(error.value)


@pytest.mark.parametrize(
    ("account", "reason"),
    [
        ({}, "account.roleArn in Pulumi.dev.yaml: set exactly one of roleArn and profile"),
        (
            {**ROLE, "profile": "p"},
            "account.roleArn in Pulumi.dev.yaml: set exactly one of roleArn and profile",
        ),
        ({"roleArn": "deployer"}, "must be the ARN of an IAM role"),
        ({"profile": "two words"}, "must be the name of a profile"),
        (
            {**ROLE, "externalId": "x"},
            "account.externalId in Pulumi.dev.yaml: can't be had: `aws eks get-token`",
        ),
        ({"roleArn": "arn:aws-cn:iam::210987654321:role/d"}, "is not of the partition aws"),
    ],
)
def test_an_account_that_can_not_be_used_is_refused_by_its_key(account: dict[str, str], reason: str) -> None:
    assert reason in refused(None, account or {"roleArn": ""})


def test_what_only_one_account_can_have_names_what_several_can() -> None:
    assert "use peering, or none" in refused(None, ROLE, join="transit-gateway")
    assert "use route53, origin-failover or none" in refused(None, ROLE, edge={"mode": "global-accelerator"})
    second = {"roleArn": f"arn:aws:iam::{OTHER}:role/second"}
    assert "is another role of the account of c0" in refused(ROLE, second)
