"""Runs components under Pulumi's mocks and records what they register."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import pulumi
from pulumi.runtime.proto import callback_pb2
from pulumi.runtime.settings import SETTINGS
from pulumi.runtime.stack import wait_for_rpcs

COMPUTED: dict[str, dict[str, Any]] = {
    "eks:index:Cluster": {
        "clusterSecurityGroupId": "sg-of-eks",
        "kubeconfigJson": (
            '{"clusters": [{"name": "kubernetes", "cluster": {"server": "https://api.example"}}],'
            ' "users": [{"name": "aws", "user": {"exec": {"command": "aws", "args": []}}}],'
            ' "contexts": [{"name": "aws", "context": {}}],'
            ' "current-context": "aws"}'
        ),
    },
    "aws:ec2/launchTemplate:LaunchTemplate": {"latestVersion": 3},
    "aws:ec2transitgateway/transitGateway:TransitGateway": {"associationDefaultRouteTableId": "tgw-rtb"},
    "aws:lb/getLoadBalancer:getLoadBalancer": {"arn": "arn:aws:elasticloadbalancing:::loadbalancer/found"},
    "aws:lb/getHostedZoneId:getHostedZoneId": {"id": "Z26RNL4JYFTOTI"},
    "aws:index/getCallerIdentity:getCallerIdentity": {
        "accountId": "123456789012",
        "arn": "arn:aws:sts::123456789012:assumed-role/deployer/session",
    },
    "aws:ssm/getParameter:getParameter": {"value": "1.36.1-20261120"},
    "aws:eks/getClusters:getClusters": {"names": []},
    "aws:eks/getAddonVersion:getAddonVersion": {"version": "v1.0.0-eksbuild.1"},
}


REGIONS = ("us-east-1", "eu-west-1", "eu-central-1", "ap-northeast-1", "ap-northeast-2")
ZONES = {
    "names": [f"{region}{letter}" for region in REGIONS for letter in "abc"],
    "zoneIds": [f"{region}-id-{letter}" for region in REGIONS for letter in "abc"],
}


@dataclass(frozen=True)
class Registered:
    """One registration: type token, Pulumi name, resolved inputs."""

    type: str
    name: str
    inputs: dict[str, Any]

    @property
    def urn(self) -> str:
        """Type and name, which tell all resources of a program apart."""
        return f"{self.type}::{self.name}"


@dataclass
class Recorder(pulumi.runtime.Mocks):
    """Gives every resource an id `<name>-id`, an ARN, and its inputs as outputs."""

    resources: list[Registered] = field(default_factory=list)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    # by `type::name` what the engine creates first and deletes last: dependencies, the parent and the provider
    dependencies: dict[str, set[str]] = field(default_factory=dict)
    ignored: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        self.resources.append(Registered(args.typ, args.name, dict(args.inputs)))
        fresh = {"arn": f"arn:aws:mock:::{args.name}", "name": args.name, "zoneId": f"{args.name}-id"}
        same = {
            "fqdn": args.inputs.get("name"),
            "keyId": f"{args.name}-id",
            "allocationId": f"{args.name}-id",
            "publicIp": "198.51.100.1",
        }
        return f"{args.name}-id", {**fresh, **same, **args.inputs, **COMPUTED.get(args.typ, {})}

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[str, Any]:
        self.calls.append((args.token, dict(args.args)))
        if args.token == "aws:index/getAvailabilityZones:getAvailabilityZones":
            return {**args.args, **ZONES}
        return {**args.args, **COMPUTED.get(args.token, {})}

    def of(self, kind: str) -> list[Registered]:
        """The resources whose type ends with `:<kind>`, in the order of registration."""
        return [resource for resource in self.resources if resource.type.endswith(f":{kind}")]

    def one(self, name: str, kind: str = "") -> Registered:
        """The only resource of that Pulumi name (and kind, where a name is used twice)."""
        found = [r for r in self.resources if r.name == name and r.type.endswith(kind)]
        assert len(found) == 1, f"{len(found)} resources are called {name}"
        return found[0]

    def outlives(self, earlier: Registered, later: Registered) -> bool:
        """Whether `earlier` is created before `later` and deleted after it."""
        seen: set[str] = set()
        waiting = {later.urn}
        while waiting:
            seen |= waiting
            waiting = set[str]().union(*(self.dependencies.get(urn, set()) for urn in waiting)) - seen
        return earlier.urn in seen


class Monitor(pulumi.runtime.mocks.MockMonitor):
    """Pulumi's mock engine, which records dependencies too."""

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802
        answer = super().RegisterResource(request)
        recorder = self.mocks
        assert isinstance(recorder, Recorder)
        urns = [*request.dependencies, request.parent, request.provider, *request.providers.values()]
        found = {short for urn in urns if (short := _short(urn))}
        recorder.dependencies.setdefault(_short(answer.urn), set()).update(found)
        if request.ignoreChanges:
            recorder.ignored[_short(answer.urn)] = tuple(request.ignoreChanges)
        return answer


def _short(urn: str) -> str:
    """`type::name` of a URN or a provider reference, without the types of parents."""
    parts = urn.split("::")
    return f"{parts[2].split('$')[-1]}::{parts[3]}" if len(parts) > 3 else ""


class Callbacks:
    """Stands for the server through which the engine calls transforms; the mock engine calls none."""

    def register_transform(self, _transform: Any) -> callback_pb2.Callback:
        return callback_pb2.Callback(token="transform", target="nowhere")


async def callbacks() -> Callbacks:
    """Takes the place of Pulumi's own look-up of that server."""
    return Callbacks()


def forget() -> None:
    """Forgets a run that raised: a later one would wait for ever for what it began."""
    SETTINGS.rpc_manager.clear()  # pyright: ignore[reportAttributeAccessIssue]
    SETTINGS.outputs.clear()  # pyright: ignore[reportAttributeAccessIssue]


def record(build: Callable[[], object]) -> Recorder:
    """Runs `build` under mocks to its end and gives what it registered."""
    recorder = Recorder()
    forget()
    asyncio.set_event_loop(asyncio.new_event_loop())
    pulumi.runtime.set_mocks(recorder, preview=False, monitor=Monitor(recorder))
    with patch("pulumi.runtime.resource._get_callbacks", callbacks):
        build()
        asyncio.get_event_loop().run_until_complete(wait_for_rpcs())
    return recorder


def value(output: pulumi.Output[Any]) -> Any:
    """What an output of a recorded component holds."""
    return asyncio.get_event_loop().run_until_complete(output.future())
