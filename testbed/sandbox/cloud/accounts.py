"""What holds between the accounts of the simulated AWS, and moto lets pass or does not know.

Sources: AssumeRole (STS API reference), ModifyVpcPeeringConnectionOptions (EC2 API reference: each account sets the
options of its own side), and CreateVPCAssociationAuthorization and AssociateVPCWithHostedZone (Route 53 API reference).
"""

import json
import re
from typing import Any

from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult, BaseResponse
from moto.core.utils import utcnow
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import EC2Backend, ec2_backends
from moto.eks.models import eks_backends
from moto.iam.models import iam_backends
from moto.route53 import urls
from moto.route53.models import Route53Backend, route53_backends
from moto.route53.responses import Route53
from moto.sts.models import STSBackend

from testbed.sandbox.cloud.checks import check_before

OBSERVER, POD = "observer.", "pod."
PATHS = ("authorizevpcassociation", "deauthorizevpcassociation")


class NotTrustedError(ServiceException):
    """The answer to a role that does not exist or does not trust the caller: AWS does not tell which."""

    code = "AccessDenied"


class NotAuthorizedError(ServiceException):
    """The answer to an association that the zone's account has not authorized."""

    code = "NotAuthorizedException"


class ConflictingDomainError(ServiceException):
    """The answer to an association that there is already."""

    code = "ConflictingDomainExists"


def install() -> None:
    """Adds the rules, and what moto lacks of Route 53."""
    original = BaseResponse.get_current_account

    def account_of(self: Any) -> str:
        key = key_of(self)
        if key.startswith(OBSERVER):
            return key.removeprefix(OBSERVER)
        if key.startswith(POD):
            return _account_of_cluster(key.split(".")[1]) or original(self)
        return original(self)

    BaseResponse.get_current_account = account_of
    check_before(STSBackend, "assume_role", _require_trust)
    check_before(EC2Backend, "modify_vpc_peering_connection_options", _require_own_side)
    for path in PATHS:
        urls.url_paths[rf"{{0}}/(?P<api_version>[\d_-]+)/hostedzone/(?P<zone_id>[^/]+)/{path}/?$"] = (
            Route53.dispatch
        )
    calls = {
        "create_vpc_association_authorization": _authorize,
        "delete_vpc_association_authorization": _unauthorize,
        "list_vpc_association_authorizations": _authorized,
        "associate_vpc_with_hosted_zone": _associate,
        "disassociate_vpc_from_hosted_zone": _disassociate,
    }
    for name, call in calls.items():
        setattr(Route53, name, call)
    by_vpc = Route53Backend.list_hosted_zones_by_vpc

    def by_vpc_everywhere(_self: Any, vpc_id: str) -> list[dict[str, Any]]:
        every = [partitions["aws"] for _, partitions in list(route53_backends.items())]
        return [zone for backend in every for zone in by_vpc(backend, vpc_id)]

    setattr(Route53Backend, by_vpc.__name__, by_vpc_everywhere)


def key_of(response: Any) -> str:
    """The key id of a call, which says who calls."""
    found = re.search(r"Credential=([^/]+)/", response.headers.get("Authorization", ""))
    return found[1] if found else ""


def _account_of_cluster(cluster: str) -> str:
    for number, regions in list(eks_backends.items()):
        if any(cluster in backend.clusters for backend in regions.values()):
            return str(number)
    return ""


def _require_trust(sts: Any, *_: Any, role_arn: str, **__: Any) -> None:
    number, name = role_arn.split(":")[4], role_arn.rsplit("/", 1)[-1]
    for role in iam_backends[number]["aws"].roles.values():
        trusted = json.loads(role.assume_role_policy_document)["Statement"] if role.name == name else []
        if any(f"::{sts.account_id}:" in str(each["Principal"].get("AWS", "")) for each in trusted):
            return
    raise NotTrustedError(
        "AccessDenied", f"not authorized to perform: sts:AssumeRole on resource: {role_arn}"
    )


def _require_own_side(
    ec2: Any, vpc_pcx_id: str, accepter_options: Any = None, requester_options: Any = None
) -> None:
    found = ec2.get_vpc_peering_connection(vpc_pcx_id)
    for options, vpc in ((accepter_options, found.peer_vpc), (requester_options, found.vpc)):
        if options and vpc.owner_id != ec2.account_id:
            raise EC2ClientError("OperationNotPermitted", f"{vpc.id} is of the account {vpc.owner_id}")


def _zone(response: Any) -> tuple[str, Any]:
    """The zone of a call, with the number of its account."""
    id_ = response._get_param("HostedZoneId")
    for number, partitions in list(route53_backends.items()):
        if id_ in partitions["aws"].zones:
            return str(number), partitions["aws"].zones[id_]
    return response.current_account, response.backend.get_hosted_zone(id_)


def _vpc(response: Any) -> tuple[str, str]:
    return response._get_param("VPC.VPCId"), response._get_param("VPC.VPCRegion")


def _allowed(zone: Any) -> set[tuple[str, str]]:
    return zone.__dict__.setdefault("_allowed", set())


def _authorize(response: Any) -> ActionResult:
    zone, vpc = response.backend.get_hosted_zone(response._get_param("HostedZoneId")), _vpc(response)
    _allowed(zone).add(vpc)
    return ActionResult({"HostedZoneId": zone.resource_id, "VPC": {"VPCId": vpc[0], "VPCRegion": vpc[1]}})


def _unauthorize(response: Any) -> ActionResult:
    _allowed(response.backend.get_hosted_zone(response._get_param("HostedZoneId"))).discard(_vpc(response))
    return ActionResult({})


def _authorized(response: Any) -> ActionResult:
    zone = response.backend.get_hosted_zone(response._get_param("HostedZoneId"))
    vpcs = [{"VPCId": vpc, "VPCRegion": region} for vpc, region in sorted(_allowed(zone))]
    return ActionResult({"HostedZoneId": zone.resource_id, "VPCs": vpcs})


def _associate(response: Any) -> ActionResult:
    (owner, zone), (vpc, region) = _zone(response), _vpc(response)
    ec2_backends[response.current_account][region].get_vpc(
        vpc
    )  # an account associates its own networks alone
    if owner != response.current_account and (vpc, region) not in _allowed(zone):
        raise NotAuthorizedError(
            "NotAuthorizedException", f"{owner} has not authorized the association of {vpc}"
        )
    if vpc in [each["vpc_id"] for each in zone.vpcs]:
        raise ConflictingDomainError(
            "ConflictingDomainExists", f"{vpc} is associated with {zone.name} already"
        )
    zone.add_vpc(vpc, region)
    return _changed()


def _disassociate(response: Any) -> ActionResult:
    number, zone = _zone(response)
    route53_backends[number]["aws"].disassociate_vpc_from_hosted_zone(zone.resource_id, _vpc(response)[0])
    return _changed()


def _changed() -> ActionResult:
    return ActionResult({"ChangeInfo": {"Id": "/change/1", "Status": "INSYNC", "SubmittedAt": utcnow()}})
