"""Users' hosts: HTTPS at the ingress gateways, with a certificate of an issuer, of an ACME authority or of ACM."""

import json
from pathlib import Path
from typing import Any

import pulumi
import pytest

from components.aws.dns_solver import DnsSolver, DnsSolverArgs
from components.aws.load_balancers import PREFIX
from components.config.errors import ConfigError
from components.config.ingress import IngressSettings
from components.config.settings import parse
from components.mesh.ingress import certificate, gateways
from policies.iam import allowed_actions
from tests.unit.program import LOCAL, Program, members, run
from tests.unit.recording import record
from tests.unit.stacks import TODAY, values
from tests.unit.test_load_balancers import controller

SHOP, APPS = "shop.example.com", "*.apps.example.com"
ISSUER = {"issuer": {"name": "users-ca"}}
ACME = {"acme": {"hostedZoneId": "Z0123456789ABC", "email": "ops@example.com"}}
ARN = "arn:aws:acm:us-east-1:123456789012:certificate/12345678-1234-1234-1234-123456789012"
ACM = {"acm": {"certificateArns": [ARN]}}
EDGE = {
    "mode": "origin-failover",
    "domain": SHOP,
    "certificateArn": ARN,
}


def ingress(*hosts: str, **source: Any) -> IngressSettings:
    named = {host: {"namespace": "shop"} if host == SHOP else {"routes": "http-routes"} for host in hosts}
    return IngressSettings.model_validate({"hosts": named, **source})


def on_eks(**sections: Any) -> None:
    given = values("dev")
    for cluster in given["clusters"]:
        cluster["eks"]["endpoint"] = {"public": False}
    parse({**given, **sections}, "Pulumi.dev.yaml", TODAY)


def existing(folder: Path, **sections: Any) -> dict[str, Any]:
    return {"clusters": members(2, folder), "storage": LOCAL, **sections}


@pytest.fixture(scope="module")
def hosted(folder: Path) -> Program:
    hosts = {
        "hello.example.com": {"namespace": "helloworld"},
        SHOP: {},
        APPS: {"routes": "http-routes"},
    }
    return run(existing(folder, ingress={"hosts": hosts, **ISSUER}))


class TestConfig:
    @pytest.mark.parametrize("source", [ISSUER, ACME, ACM])
    def test_each_source_of_certificates_is_taken_on_eks(self, source: dict[str, Any]) -> None:
        on_eks(ingress={"hosts": {SHOP: {}, APPS: {}}, **source})

    @pytest.mark.parametrize(
        ("given", "key", "text"),
        [
            ({"hosts": {SHOP: {}}}, "ingress.issuer", "exactly one of issuer, acme, acm"),
            ({"hosts": {SHOP: {}}, **ISSUER, **ACME}, "ingress.acme", "exactly one of issuer, acme, acm"),
            (ISSUER, "ingress.hosts", "name the hosts"),
            ({"hosts": [SHOP], **ISSUER}, "ingress.hosts", "a mapping"),
            *[
                ({"hosts": {host: {}}, **ISSUER}, f"ingress.hosts.{host}", "a host such as")
                for host in ("*", "*.com", "shop", "a.*.example.com", "SHOP.example.com", "10.0.0.1", "s.example.com.")
            ],
            (
                {"hosts": {APPS: {}, "one.apps.example.com": {}}, **ISSUER},
                "ingress.hosts.one.apps.example.com",
                "covered by *.apps.example.com",
            ),
            ({"hosts": {f"h{n}.example.com": {} for n in range(101)}, **ISSUER}, "ingress.hosts", "100 hosts at most"),
            (
                {"hosts": {f"h{n}.example.com": {"routes": "http-routes"} for n in range(65)}, **ISSUER},
                "ingress.hosts",
                "64 hosts with http-routes at most",
            ),
            ({"hosts": {SHOP: {"routes": "ingress"}}, **ISSUER}, f"ingress.hosts.{SHOP}.routes", "one of"),
            ({"hosts": {SHOP: {}}, "acme": {"email": "x"}}, "ingress.acme", "id of a public hosted zone"),
            (
                {"hosts": {SHOP: {}}, "acme": {"hostedZoneId": "Z1", "server": "http://ca.example"}},
                "ingress.acme.server",
                "with https",
            ),
            (
                {"hosts": {SHOP: {}}, "acm": {"certificateArns": [ARN.replace("us-east-1", "eu-west-1")]}},
                "ingress.acm.certificateArns",
                "lacks a certificate in us-east-1, the region of cluster-1",
            ),
            (
                {"hosts": {SHOP: {}}, "acm": {"certificateArns": [ARN, ARN.replace("us-east-1", "eu-west-1")]}},
                "ingress.acm.certificateArns[1]",
                "in eu-west-1, where the stack has no cluster",
            ),
            (
                {"hosts": {SHOP: {}}, "acm": {"certificateArns": [ARN, ARN]}},
                "ingress.acm.certificateArns",
                "us-east-1 has several",
            ),
            (
                {"hosts": {SHOP: {}}, "acm": {"certificateArns": [ARN.replace("aws", "aws-cn", 1)]}},
                "ingress.acm.certificateArns[0]",
                "not of the partition aws",
            ),
        ],
    )  # fmt: skip
    def test_a_wrong_section_is_refused(self, given: dict[str, Any], key: str, text: str) -> None:
        with pytest.raises(ConfigError, match=r"Pulumi\.dev\.yaml") as error:
            on_eks(ingress=given)
        assert error.value.key.startswith(f"fedmesh:{key}")
        assert text in error.value.allowed

    @pytest.mark.parametrize(("name", "source"), [("acme", ACME), ("acm", ACM)])
    def test_what_needs_aws_is_refused_beside_existing_clusters(
        self, tmp_path: Path, name: str, source: dict[str, Any]
    ) -> None:
        with pytest.raises(ConfigError, match=rf"ingress.{name}.*cluster-1 exists already: set issuer"):
            parse(existing(tmp_path, ingress={"hosts": {SHOP: {}}, **source}), "Pulumi.x.yaml")

    def test_the_load_balancers_end_tls_only_where_the_controller_makes_them(self) -> None:
        section = {"hosts": {SHOP: {}}, **ACM}
        with pytest.raises(ConfigError, match=r"ingress.acm.*needs the AWS Load Balancer Controller"):
            on_eks(ingress=section, aws={"loadBalancerController": {"enabled": False}})
        with pytest.raises(ConfigError, match=r"istio.ingressTls.*must be false with ingress\.acm"):
            on_eks(ingress=section, istio={"ingressTls": True})

    def test_cloudfront_calls_a_redirected_host_by_https(self) -> None:
        section = {"hosts": {SHOP: {}}, **ISSUER}
        with pytest.raises(ConfigError, match=rf"originProtocol.*must be https: {SHOP}"):
            on_eks(ingress=section, aws={"edge": EDGE})
        on_eks(ingress=section, aws={"edge": {**EDGE, "originProtocol": "https"}})

    @pytest.mark.parametrize("edge", [{**EDGE, "domain": "other.example.com"}, {"mode": "origin-failover"}])
    def test_cloudfront_calls_no_host_by_https_that_has_no_certificate(self, edge: dict[str, Any]) -> None:
        section = {"hosts": {SHOP: {}}, **ISSUER}
        on_eks(ingress=section, aws={"edge": edge})
        with pytest.raises(ConfigError, match=r"originProtocol.*must be http: .* is none of ingress.hosts"):
            on_eks(ingress=section, aws={"edge": {**edge, "originProtocol": "https"}})
        # a team's own Gateway may have one
        on_eks(ingress=section, aws={"edge": {**edge, "originProtocol": "https"}}, istio={"ingressTls": True})


class TestObjects:
    def test_the_certificate_is_for_all_hosts_and_by_the_issuer_of_the_user(self) -> None:
        (made,) = certificate(ingress(SHOP, APPS, issuer={"name": "ca", "kind": "ClusterIssuer"}), "region-1")
        assert made["spec"]["dnsNames"] == [SHOP, APPS]
        assert made["spec"]["issuerRef"] == {
            "group": "cert-manager.io",
            "kind": "ClusterIssuer",
            "name": "ca",
        }
        assert made["metadata"]["namespace"] == "istio-gateways"

    def test_an_acme_authority_is_asked_by_an_issuer_of_the_gateways_namespace(self) -> None:
        issuer, made = certificate(ingress(SHOP, **ACME), "us-east-1")
        assert (issuer["kind"], issuer["metadata"]["namespace"]) == ("Issuer", "istio-gateways")
        assert issuer["spec"]["acme"]["server"] == "https://acme-v02.api.letsencrypt.org/directory"
        assert issuer["spec"]["acme"]["email"] == "ops@example.com"
        route53 = {"hostedZoneID": "Z0123456789ABC", "region": "us-east-1"}
        assert issuer["spec"]["acme"]["solvers"] == [{"dns01": {"route53": route53}}]
        assert made["spec"]["issuerRef"]["name"] == issuer["metadata"]["name"]

    def test_https_serves_the_certificate_and_http_is_redirected(self) -> None:
        (gateway,) = gateways(ingress(SHOP, **ISSUER))
        https, redirect = gateway["spec"]["servers"]
        secret = certificate(ingress(SHOP, **ISSUER), "")[0]["spec"]["secretName"]
        assert https["tls"] == {
            "mode": "SIMPLE",
            "credentialName": f"kubernetes-gateway://istio-gateways/{secret}",
            "minProtocolVersion": "TLSV1_2",
        }
        assert https["hosts"] == [f"shop/{SHOP}"], "other namespaces' routes take no calls"
        # Istio makes a name of Envoy's out of it where no route is attached yet
        assert redirect["hosts"] == [SHOP]
        assert redirect["tls"] == {"httpsRedirect": True}

    def test_a_host_of_http_routes_has_a_listener_for_teams_and_one_that_redirects(self) -> None:
        settings = IngressSettings.model_validate(
            {
                "hosts": {
                    APPS: {"routes": "http-routes"},
                    SHOP: {"routes": "http-routes", "namespace": "shop"},
                },
                **ISSUER,
            }
        )
        https, redirect, route = gateways(settings)
        anybodys, own = https["spec"]["listeners"]
        assert anybodys["hostname"] == APPS
        assert anybodys["allowedRoutes"]["namespaces"] == {"from": "All"}
        assert own["allowedRoutes"]["namespaces"]["selector"] == {
            "matchLabels": {"kubernetes.io/metadata.name": "shop"}
        }
        assert {each["tls"]["certificateRefs"][0]["name"] for each in (anybodys, own)} == {"users-hosts"}
        assert [each["port"] for each in redirect["spec"]["listeners"]] == [80, 80]
        assert {each["allowedRoutes"]["namespaces"]["from"] for each in redirect["spec"]["listeners"]} == {
            "Same"
        }
        assert route["spec"]["parentRefs"] == [{"name": redirect["metadata"]["name"]}]
        (rule,) = route["spec"]["rules"]
        assert rule["filters"][0]["requestRedirect"] == {"scheme": "https", "statusCode": 301}

    def test_behind_a_load_balancer_that_ends_tls_gateways_serve_http_and_no_certificate(self) -> None:
        settings = ingress(SHOP, APPS, **ACM)
        assert certificate(settings, "us-east-1") == []
        gateway, routes, *_ = gateways(settings)
        https, redirect = gateway["spec"]["servers"]
        assert https["port"]["number"] == 443
        assert https["port"]["protocol"] == "HTTP"
        assert "tls" not in https
        assert redirect["tls"] == {"httpsRedirect": True}
        (listener,) = routes["spec"]["listeners"]
        assert (listener["port"], listener["protocol"], "tls" in listener) == (443, "HTTP", False)


class TestProgram:
    def test_the_gateways_account_has_no_right_for_it(self, hosted: Program) -> None:
        gateway = hosted.one("cluster-1-gateways-ingress-gateway")
        assert gateway.inputs["values"]["rbac"] == {"enabled": False}

    def test_the_certificate_comes_after_cert_manager_and_goes_before_it(self, hosted: Program) -> None:
        name = "cluster-2-ingress-users-hosts-certificate"
        assert hosted.comes_after(name, "cluster-2-cert-manager-release")
        assert hosted.comes_after(name, "cluster-2-gateways-istio-gateways-namespace")

    @pytest.mark.parametrize("name", ["https-gateway", "https-routes-gateway", "http-redirect-httproute"])
    def test_no_gateway_starts_with_a_certificate_that_is_not_there(self, hosted: Program, name: str) -> None:
        assert hosted.comes_after(f"cluster-1-ingress-{name}", "cluster-1-gateways-ingress-gateway")

    def test_helloworld_answers_the_hosts_of_its_namespace_alone(self, hosted: Program) -> None:
        route = hosted.one("cluster-1-samples-helloworld-https-virtualservice").inputs["spec"]
        assert route["hosts"] == ["hello.example.com"]
        assert route["gateways"] == ["istio-gateways/https"]

    def test_cert_manager_has_no_identity_in_aws(self, hosted: Program) -> None:
        assert "extraArgs" not in hosted.one("cluster-1-cert-manager-release").inputs["values"]

    def test_a_stack_without_hosts_has_none_of_it(self, mesh: Program) -> None:
        assert not [each for each in mesh.kind("Certificate") if "ingress" in each.name]
        assert not [each.name for each in mesh.objects if "https" in each.name]


class TestAws:
    def test_the_ingress_load_balancer_ends_tls_on_443_alone(self) -> None:
        _, settings = controller(certificate_arn=ARN)
        found = settings.ingress.annotations
        assert found[f"{PREFIX}-ssl-cert"] == ARN
        assert found[f"{PREFIX}-ssl-ports"] == "443"
        assert found[f"{PREFIX}-ssl-negotiation-policy"] == "ELBSecurityPolicy-TLS13-1-2-2021-06"
        assert found[f"{PREFIX}-alpn-policy"] == "HTTP2Preferred"
        assert f"{PREFIX}-backend-protocol" not in found, "the gateway's port speaks HTTP"
        targets = {port["port"]: port["targetPort"] for port in settings.ingress.spec["ports"]}
        assert targets == {15021: 15021, 80: 80, 443: 8443}
        for other in (settings.east_west, settings.spire_bundle):
            assert f"{PREFIX}-ssl-cert" not in other.annotations
            assert "ports" not in other.spec

    def test_without_a_certificate_the_gateway_keeps_its_ports(self) -> None:
        _, settings = controller()
        assert "ports" not in settings.ingress.spec
        assert f"{PREFIX}-ssl-cert" not in settings.ingress.annotations

    def test_cert_manager_may_prove_hosts_of_one_zone_and_nothing_else(self) -> None:
        def build() -> None:
            args = DnsSolverArgs(
                cluster=pulumi.ComponentResource("test:index:Cluster", "cluster"),
                cluster_name="istio-eks-cluster-1",
                region="us-gov-west-1",
                zone_id="Z1",
                permissions_boundary="arn:aws:iam::123456789012:policy/fedmesh-boundary",
                tags={"project": "fedmesh"},
            )
            DnsSolver("solver", args)

        made = record(build)
        role = made.one("solver-role").inputs
        assert (role["path"], role["permissionsBoundary"].rsplit("/", 1)[1]) == (
            "/fedmesh/",
            "fedmesh-boundary",
        )
        document = made.one("solver-policy").inputs["policy"]
        allowed = {action: each for each in json.loads(document)["Statement"] for action in each["Action"]}
        assert set(allowed) == {
            "route53:GetChange",
            "route53:ListResourceRecordSets",
            "route53:ChangeResourceRecordSets",
        }
        zone = "arn:aws-us-gov:route53:::hostedzone/Z1"
        assert allowed["route53:ListResourceRecordSets"]["Resource"] == zone
        change = allowed["route53:ChangeResourceRecordSets"]
        assert change["Resource"] == zone
        assert change["Condition"]["ForAllValues:StringEquals"] == {
            "route53:ChangeResourceRecordSetsRecordTypes": ["TXT"]
        }
        assert list(allowed_actions("aws:iam/rolePolicy:RolePolicy", {"policy": document}, {})) == []
        identity = made.one("solver-identity").inputs
        assert (identity["namespace"], identity["serviceAccount"]) == ("cert-manager", "cert-manager")
