"""What an administrator does in an account before the first `up`, as docs/aws.md has it."""

from pathlib import Path
from typing import Any

import boto3

BOUNDARY = "fedmesh-boundary"
DOCUMENT = Path(__file__).parents[2] / "docs" / "iam-boundary.json"


def observer(endpoint: str, service: str, region: str = "us-east-1") -> Any:
    """A boto3 client of somebody who may do everything, and who is no part of what is tested."""
    session = boto3.Session(
        aws_access_key_id="observer",
        aws_secret_access_key="observer",  # noqa: S106 - nothing checks it
        region_name=region,
    )
    return session.client(service, endpoint_url=endpoint)


def prepare(endpoint: str) -> str:
    """Creates the permissions boundary; returns its ARN."""
    made = observer(endpoint, "iam").create_policy(
        PolicyName=BOUNDARY, PolicyDocument=DOCUMENT.read_text(encoding="utf-8")
    )
    return str(made["Policy"]["Arn"])
