"""Calls to the simulated AWS, one boto3 client per service and region."""

import hashlib
import os
from collections.abc import Mapping
from functools import cache
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from testbed.sandbox.permissions import record

RETRIES = Config(retries={"max_attempts": 2}, connect_timeout=5, read_timeout=60)


class Aws:
    """One region of the AWS that AWS_ENDPOINT_URL points to."""

    def __init__(self, region: str) -> None:
        self.region = region

    def client(self, service: str, region: str | None = None) -> Any:
        """A boto3 client; `region` overrides the region of this view."""
        return _client(service, region or self.region, os.environ.get("AWS_ENDPOINT_URL"))

    def account(self) -> str:
        """The account ID."""
        return str(self.client("sts").get_caller_identity()["Account"])

    def arn(self, service: str, resource: str, region: str | None = None) -> str:
        """An ARN in this account and region."""
        return f"arn:aws:{service}:{region or self.region}:{self.account()}:{resource}"


@cache
def _client(service: str, region: str, endpoint: str | None) -> Any:
    client = boto3.Session().client(service, region_name=region, endpoint_url=endpoint, config=RETRIES)
    record(client)
    return client


def is_missing(error: ClientError) -> bool:
    """Whether the error says that the resource does not exist."""
    code = error.response["Error"]["Code"]
    return "NotFound" in code or code.startswith(("NoSuch", "404"))


def tag_list(tags: Mapping[str, str] | None) -> list[dict[str, str]]:
    """Tags in the form that most AWS APIs use."""
    return [{"Key": key, "Value": value} for key, value in (tags or {}).items()]


def tag_map(tags: list[dict[str, str]] | None) -> dict[str, str]:
    """Tags in the form that Pulumi uses."""
    return {tag["Key"]: tag["Value"] for tag in tags or []}


def pascal(value: Any) -> Any:
    """The structure with keys in Pascal case, as in EC2's API: `fooBar` becomes `FooBar`."""
    if isinstance(value, Mapping):
        return {key[0].upper() + key[1:]: pascal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [pascal(item) for item in value]
    return value


def given(**arguments: Any) -> dict[str, Any]:
    """The arguments that have a value."""
    return {name: value for name, value in arguments.items() if value not in (None, [], {})}


def digest(*parts: str) -> str:
    """A short stable hash, for IDs that are derived from names."""
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:12]
