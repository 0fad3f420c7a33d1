"""Distributions of CloudFront."""

from typing import Any

from testbed.sandbox.aws import Aws, given, tag_list
from testbed.sandbox.kinds.base import Inputs, Kind, Properties


class Distribution(Kind):
    resource = "aws:cloudfront/distribution:Distribution"

    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        tagged = {
            "DistributionConfig": _config(inputs),
            "Tags": {"Items": tag_list(inputs.get("tags"))},
        }
        made = aws.client("cloudfront").create_distribution_with_tags(DistributionConfigWithTags=tagged)
        found = made["Distribution"]
        return found["Id"], {"arn": found["ARN"], "domainName": found["DomainName"], "etag": made["ETag"]}

    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        config = aws.client("cloudfront").get_distribution(Id=id_)["Distribution"]["DistributionConfig"]
        return {"enabled": config["Enabled"], "comment": config["Comment"]}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> Properties:
        self._put(aws, id_, _config(new))
        return {}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        """Disables the distribution first, as CloudFront asks."""
        etag = self._put(aws, id_, {**_config(state), "Enabled": False})
        aws.client("cloudfront").delete_distribution(Id=id_, IfMatch=etag)

    def _put(self, aws: Aws, id_: str, config: dict[str, Any]) -> str:
        cloudfront = aws.client("cloudfront")
        etag = cloudfront.get_distribution(Id=id_)["ETag"]
        changed = cloudfront.update_distribution(Id=id_, IfMatch=etag, DistributionConfig=config)
        return str(changed["ETag"])


def _config(inputs: Inputs) -> dict[str, Any]:
    return {
        "CallerReference": inputs["comment"],
        "Comment": inputs["comment"],
        "Enabled": inputs["enabled"],
        "Aliases": _items(inputs.get("aliases", [])),
        "Origins": _items([_origin(each) for each in inputs["origins"]]),
        "OriginGroups": _items([_group(each) for each in inputs.get("originGroups", [])]),
        "DefaultCacheBehavior": _behavior(inputs["defaultCacheBehavior"]),
        "CacheBehaviors": _items([_behavior(each) for each in inputs.get("orderedCacheBehaviors", [])]),
        "ViewerCertificate": _certificate(inputs["viewerCertificate"]),
        "Restrictions": {
            "GeoRestriction": {
                "RestrictionType": inputs["restrictions"]["geoRestriction"]["restrictionType"],
                "Quantity": 0,
            }
        },
        "HttpVersion": inputs.get("httpVersion", "http2"),
        "IsIPV6Enabled": inputs.get("isIpv6Enabled", False),
    }


def _items(values: list[Any]) -> dict[str, Any]:
    return {"Quantity": len(values), **({"Items": values} if values else {})}


def _origin(origin: Inputs) -> dict[str, Any]:
    custom = origin["customOriginConfig"]
    return {
        "Id": origin["originId"],
        "DomainName": origin["domainName"],
        "OriginPath": "",
        "CustomHeaders": {"Quantity": 0},
        "ConnectionAttempts": origin.get("connectionAttempts", 3),
        "ConnectionTimeout": origin.get("connectionTimeout", 10),
        "CustomOriginConfig": given(
            HTTPPort=custom["httpPort"],
            HTTPSPort=custom["httpsPort"],
            OriginProtocolPolicy=custom["originProtocolPolicy"],
            OriginSslProtocols=_items(custom["originSslProtocols"]),
            OriginReadTimeout=custom.get("originReadTimeout"),
        ),
    }


def _group(group: Inputs) -> dict[str, Any]:
    return {
        "Id": group["originId"],
        "FailoverCriteria": {"StatusCodes": _items(group["failoverCriteria"]["statusCodes"])},
        "Members": _items([{"OriginId": member["originId"]} for member in group["members"]]),
    }


def _behavior(behavior: Inputs) -> dict[str, Any]:
    return given(
        PathPattern=behavior.get("pathPattern"),
        TargetOriginId=behavior["targetOriginId"],
        ViewerProtocolPolicy=behavior["viewerProtocolPolicy"],
        AllowedMethods={
            **_items(behavior["allowedMethods"]),
            "CachedMethods": _items(behavior["cachedMethods"]),
        },
        CachePolicyId=behavior.get("cachePolicyId"),
        OriginRequestPolicyId=behavior.get("originRequestPolicyId"),
        Compress=behavior.get("compress"),
    )


def _certificate(certificate: Inputs) -> dict[str, Any]:
    if certificate.get("cloudfrontDefaultCertificate"):
        return {"CloudFrontDefaultCertificate": True}
    return given(
        ACMCertificateArn=certificate["acmCertificateArn"],
        SSLSupportMethod=certificate["sslSupportMethod"],
        MinimumProtocolVersion=certificate.get("minimumProtocolVersion"),
    )


KINDS = (Distribution,)
