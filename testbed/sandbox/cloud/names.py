"""What Route 53 refuses of records and moto lets pass.

Sources: the error InvalidChangeBatch (Route 53 API reference, ChangeResourceRecordSets), and the developer guide on
choosing between alias and non-alias records.
"""

from typing import Any

from moto.core.exceptions import ServiceException
from moto.route53 import models
from moto.route53.models import Route53Backend


class InvalidChangeBatch(ServiceException):
    """A change that no zone takes."""

    code = "InvalidChangeBatch"


def install() -> None:
    """Adds the checks to moto's Route 53."""
    fresh_id = models.create_route53_zone_id
    models.create_route53_zone_id = lambda *given, **named: (
        f"Z{fresh_id(*given, **named)[1:]}"
    )  # as AWS has it
    original = Route53Backend.change_resource_record_sets

    def checked(self: Any, zoneid: str, change_list: list[dict[str, Any]]) -> None:
        for change in change_list:
            if change["Action"] != "DELETE":
                _check(self.get_hosted_zone(zoneid), change["ResourceRecordSet"])
        original(self, zoneid, change_list)

    Route53Backend.change_resource_record_sets = checked


def _check(zone: Any, record: dict[str, Any]) -> None:
    name, apex = record["Name"].strip("."), zone.name.strip(".")
    if record["Type"] == "CNAME" and name == apex:
        raise InvalidChangeBatch(
            "InvalidChangeBatch",
            f"RRSet of type CNAME with DNS name {name}. is not permitted at apex in zone {apex}.",
        )
    target = record.get("AliasTarget")
    if target and str(target["HostedZoneId"]) == zone.resource_id:
        there = {each.name.strip(".") for each in zone.rrsets}
        if str(target["DNSName"]).strip(".") not in there:
            raise InvalidChangeBatch(
                "InvalidChangeBatch",
                f"Tried to create an alias that targets {target['DNSName']}., type {record['Type']} in zone "
                f"{zone.resource_id}, but the alias target name does not exist there",
            )
