"""What stands between callers and the simulated AWS: IAM's judgement, and doors before API servers."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from testbed.sandbox.cloud.authorization import Request, allowed
from testbed.sandbox.door import opened
from testbed.sandbox.reach import UnreachableError

ROLE = "arn:aws:iam::123456789012:role/fedmesh/node"
BOUNDARY = "arn:aws:iam::123456789012:policy/fedmesh-boundary"
POLICY = {
    "Statement": [
        {"Effect": "Allow", "Action": ["ec2:Describe*"], "Resource": "*"},
        {
            "Effect": "Allow",
            "Action": ["iam:CreateRole"],
            "Resource": "arn:*:iam::*:role/fedmesh/*",
            "Condition": {"StringLike": {"iam:PermissionsBoundary": "arn:*:iam::*:policy/fedmesh-boundary"}},
        },
        {
            "Effect": "Allow",
            "Action": "ec2:CreateTags",
            "Resource": "arn:aws:ec2:*:*:security-group/*",
            "Condition": {
                "StringEquals": {"aws:ResourceTag/cluster": "c"},
                "Null": {"aws:RequestTag/cluster": "true"},
            },
        },
        {
            "Effect": "Allow",
            "Action": "ec2:AuthorizeSecurityGroupIngress",
            "Resource": "*",
            "Condition": {"ArnEquals": {"ec2:Vpc": "arn:aws:ec2:r:1:vpc/a"}},
        },
    ]
}
GROUP = "arn:aws:ec2:us-east-1:123456789012:security-group/sg-1"


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (Request("ec2:DescribeVpcs", "*"), True),
        (Request("ec2:DeleteVpc", "*"), False),
        (Request("iam:CreateRole", ROLE, {"iam:PermissionsBoundary": BOUNDARY}), True),
        (Request("iam:CreateRole", ROLE), False),
        (Request("iam:CreateRole", ROLE, {"iam:PermissionsBoundary": f"{BOUNDARY}-2"}), False),
        (
            Request("iam:CreateRole", ROLE.replace("fedmesh/", ""), {"iam:PermissionsBoundary": BOUNDARY}),
            False,
        ),
        (Request("ec2:CreateTags", GROUP, {"aws:ResourceTag/cluster": "c"}), True),
        (Request("ec2:CreateTags", GROUP, {"aws:ResourceTag/cluster": "other"}), False),
        (
            Request("ec2:CreateTags", GROUP, {"aws:ResourceTag/cluster": "c", "aws:RequestTag/cluster": "x"}),
            False,
        ),
        (Request("ec2:CreateTags", "*", {"aws:ResourceTag/cluster": "c"}), False),
        (Request("ec2:AuthorizeSecurityGroupIngress", GROUP, {"ec2:Vpc": "arn:aws:ec2:r:1:vpc/a"}), True),
        (Request("ec2:AuthorizeSecurityGroupIngress", GROUP, {"ec2:Vpc": "arn:aws:ec2:r:1:vpc/b"}), False),
    ],
)
def test_a_request_is_judged_by_action_resource_and_condition(request_: Request, expected: bool) -> None:
    assert allowed([POLICY], request_) is expected


def test_an_operator_that_is_not_known_is_no_permission_and_no_denial() -> None:
    policy = {
        "Statement": [
            {
                "Effect": "Allow",
                "Action": "a:B",
                "Resource": "*",
                "Condition": {"IpAddress": {"aws:SourceIp": "1"}},
            }
        ]
    }
    with pytest.raises(LookupError, match="IpAddress"):
        allowed([policy], Request("a:B", "*"))


@contextmanager
def echo() -> Iterator[tuple[str, int]]:
    """A server that says back what it is told, once for each caller."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    caller, _ = server.accept()
                except OSError:
                    return
                with caller:
                    caller.sendall(caller.recv(100))

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()


def ask(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as caller:
        caller.sendall(b"hello")
        try:
            return caller.recv(100)
        except ConnectionResetError:
            return b""


def test_a_door_lets_in_whom_aws_lets_through_at_that_moment() -> None:
    reasons: list[str] = []

    def judge() -> None:
        if reasons:
            raise UnreachableError(reasons[0])

    with echo() as target, opened(target, judge) as door:
        assert ask(door.port) == b"hello"
        reasons.append("no route")
        assert ask(door.port) == b""
        assert ask(door.port) == b""
        assert door.refused == ["no route"]
        reasons.clear()
        assert ask(door.port) == b"hello"
