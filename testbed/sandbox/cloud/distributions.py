"""What CloudFront refuses of distributions and moto lets pass.

Sources: the errors of CreateDistribution and DeleteDistribution (CloudFront API reference), and the developer guide on
origin failover: an origin group has two origins, and its behaviors take GET, HEAD and OPTIONS alone.
"""

from collections.abc import Mapping
from typing import Any

from moto.cloudfront.exceptions import CloudFrontException
from moto.cloudfront.models import CloudFrontBackend, DistributionConfig

from testbed.sandbox.cloud.checks import check_before

READS = {"GET", "HEAD", "OPTIONS"}
MEMBERS = 2
LONGEST_CONNECTION, LONGEST_ANSWER = 10, 120  # seconds


class InvalidArgument(CloudFrontException):
    """An argument that no distribution takes."""

    code = 400

    def __init__(self, message: str) -> None:
        super().__init__("InvalidArgument", message)


class DistributionNotDisabled(CloudFrontException):
    """A distribution that still serves users."""

    code = 409

    def __init__(self) -> None:
        super().__init__(
            "DistributionNotDisabled", "The distribution you are trying to delete has not been disabled."
        )


def install() -> None:
    """Adds the checks to moto's CloudFront."""
    check_before(
        CloudFrontBackend,
        "create_distribution",
        lambda _self, distribution_config, **_: check(distribution_config),
    )
    check_before(CloudFrontBackend, "update_distribution", lambda _self, dist_config, **_: check(dist_config))
    check_before(CloudFrontBackend, "delete_distribution", _refuse_enabled)
    original = DistributionConfig.__init__

    def configured(self: Any, config: dict[str, Any]) -> None:
        """moto looks for a behavior's target among the origins alone."""
        target = config["DefaultCacheBehavior"]["TargetOriginId"]
        if str(target) in {str(each["Id"]) for each in _items(config, "OriginGroups")}:
            first = _items(config, "Origins")[0]["Id"]
            config = {
                **config,
                "DefaultCacheBehavior": {**config["DefaultCacheBehavior"], "TargetOriginId": first},
            }
        original(self, config)
        self.DefaultCacheBehavior.target_origin_id = target

    DistributionConfig.__init__ = configured


def _refuse_enabled(cloudfront: Any, distribution_id: str, _if_match: Any) -> None:
    found = cloudfront.distributions.get(distribution_id)
    if found and str(found.distribution_config.Enabled).lower() == "true":
        raise DistributionNotDisabled


def check(config: Mapping[str, Any]) -> None:
    """Raises InvalidArgument for what CloudFront does not take."""
    origins = {str(each["Id"]) for each in _items(config, "Origins")}
    groups = {str(each["Id"]) for each in _items(config, "OriginGroups")}
    for each in _items(config, "Origins"):
        _limit("ConnectionTimeout", each.get("ConnectionTimeout", LONGEST_CONNECTION), LONGEST_CONNECTION)
        answer = each.get("CustomOriginConfig", {}).get("OriginReadTimeout", LONGEST_ANSWER)
        _limit("OriginReadTimeout", answer, LONGEST_ANSWER)
    for each in _items(config, "OriginGroups"):
        members = [str(member["OriginId"]) for member in _items(each, "Members")]
        if len(members) != MEMBERS or not set(members) <= origins:
            raise InvalidArgument(
                f"An origin group must have {MEMBERS} of the distribution's origins, not {members}"
            )
    for each in (config["DefaultCacheBehavior"], *_items(config, "CacheBehaviors")):
        target = str(each["TargetOriginId"])
        if target not in origins | groups:
            raise InvalidArgument(f"The behavior's origin {target} is none of the distribution's")
        methods = {str(method) for method in _items(each, "AllowedMethods")}
        if target in groups and methods - READS:
            raise InvalidArgument(
                "The parameter AllowedMethods cannot include POST, PUT, PATCH, or DELETE for a cached behavior "
                "associated with an origin group."
            )
    aliases = _items(config, "Aliases")
    if aliases and not config.get("ViewerCertificate", {}).get("ACMCertificateArn"):
        raise InvalidArgument("To add an alternate domain name you must attach a trusted certificate")


def _limit(name: str, value: object, most: int) -> None:
    if not 1 <= int(str(value)) <= most:
        raise InvalidArgument(f"{name} must be 1 to {most} seconds, not {value}")


def _items(holder: Mapping[str, Any], name: str) -> list[Any]:
    """The items of one of CloudFront's lists."""
    return (holder.get(name) or {}).get("Items") or []
