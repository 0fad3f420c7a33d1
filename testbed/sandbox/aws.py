"""Calls to the simulated AWS, one boto3 client per service, region and identity."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from testbed.sandbox.permissions import record

RETRIES = Config(retries={"max_attempts": 2}, connect_timeout=5, read_timeout=60)


@dataclass(frozen=True)
class Identity:
    """Who calls: the credentials at hand, those of a profile or a key id, or a role that is assumed with them."""

    profile: str = ""
    role: str = ""
    key: str = ""

    @classmethod
    def of_provider(cls, inputs: Mapping[str, Any]) -> "Identity":
        """The identity of an AWS provider of the program; what it has of lists is JSON in text."""
        roles = inputs.get("assumeRoles") or []
        roles = json.loads(roles) if isinstance(roles, str) else roles
        return cls(profile=inputs.get("profile") or "", role=roles[0]["roleArn"] if roles else "")


AT_HAND = Identity()


class Aws:
    """One region of the AWS that AWS_ENDPOINT_URL points to, as an identity sees it."""

    def __init__(self, region: str, identity: Identity = AT_HAND) -> None:
        self.region = region
        self.identity = identity

    def client(self, service: str, region: str | None = None) -> Any:
        """A boto3 client; `region` overrides the region of this view."""
        return _client(service, region or self.region, os.environ.get("AWS_ENDPOINT_URL"), self.identity)

    def account(self) -> str:
        """The account ID."""
        return str(self.client("sts").get_caller_identity()["Account"])

    def arn(self, service: str, resource: str, region: str | None = None) -> str:
        """An ARN in this account and region."""
        return f"arn:aws:{service}:{region or self.region}:{self.account()}:{resource}"


@cache
def _client(service: str, region: str, endpoint: str | None, identity: Identity) -> Any:
    session = _session(identity, endpoint)
    client = session.client(service, region_name=region, endpoint_url=endpoint, config=RETRIES)
    record(client)
    return client


@cache
def _session(identity: Identity, endpoint: str | None) -> boto3.Session:
    if identity.key:
        return boto3.Session(aws_access_key_id=identity.key, aws_secret_access_key=identity.key)
    session = boto3.Session(profile_name=identity.profile or None)
    if not identity.role:
        return session
    sts = session.client("sts", region_name="us-east-1", endpoint_url=endpoint, config=RETRIES)
    record(sts)
    given = sts.assume_role(RoleArn=identity.role, RoleSessionName="fedmesh")["Credentials"]
    return boto3.Session(
        aws_access_key_id=given["AccessKeyId"],
        aws_secret_access_key=given["SecretAccessKey"],
        aws_session_token=given["SessionToken"],
    )


def forget() -> None:
    """Has clients read their credentials, and assume their roles, again."""
    _client.cache_clear()
    _session.cache_clear()


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
