"""What an administrator does in an account before the first `up`, as docs/aws.md has it."""

import json
from pathlib import Path
from typing import Any

import boto3

HOME = "123456789012"  # the account of the credentials at hand
BOUNDARY = "fedmesh-boundary"
DOCUMENT = Path(__file__).parents[2] / "docs" / "iam-boundary.json"


DEPLOYER = "fedmesh-deployer"
POLICY = DOCUMENT.with_name("iam-policy.json")


def observer(endpoint: str, service: str, region: str = "us-east-1", number: str = HOME) -> Any:
    """A boto3 client of somebody who may do everything in an account, and who is no part of what is tested."""
    session = boto3.Session(
        aws_access_key_id=f"observer.{number}",
        aws_secret_access_key="observer",  # noqa: S106 - nothing checks it
        region_name=region,
    )
    return session.client(service, endpoint_url=endpoint)


def prepare(endpoint: str, number: str = HOME) -> str:
    """Creates the permissions boundary; returns its ARN."""
    made = observer(endpoint, "iam", number=number).create_policy(
        PolicyName=BOUNDARY, PolicyDocument=DOCUMENT.read_text(encoding="utf-8")
    )
    return str(made["Policy"]["Arn"])


def prepare_other(endpoint: str, number: str) -> str:
    """Creates the boundary in another account, and the role that clusters of that account are made by; its ARN."""
    prepare(endpoint, number)
    iam = observer(endpoint, "iam", number=number)
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": f"arn:aws:iam::{HOME}:root"}}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    role = iam.create_role(RoleName=DEPLOYER, AssumeRolePolicyDocument=document)["Role"]["Arn"]
    iam.put_role_policy(
        RoleName=DEPLOYER, PolicyName="fedmesh", PolicyDocument=POLICY.read_text(encoding="utf-8")
    )
    return str(role)
