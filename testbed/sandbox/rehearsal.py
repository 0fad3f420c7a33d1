"""Carries out on the simulated AWS what the program registers, without the engine, which makes it a matter of seconds.

The order is one that the engine may take, and the least favourable: a resource is created as soon as all that it
depends on exists, and deleted as soon as nothing that depends on it is left. A dependency that is missing shows.
"""

import asyncio
import json
import os
import re
import runpy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pulumi
import pulumi_eks as eks
from botocore.exceptions import ClientError
from pulumi import _types
from pulumi.runtime.proto import callback_pb2
from pulumi.runtime.settings import SETTINGS
from pulumi.runtime.stack import wait_for_rpcs

from testbed.sandbox.aws import Aws, Identity, is_missing
from testbed.sandbox.cluster_component import ClusterComponent
from testbed.sandbox.controller import Controller, Service
from testbed.sandbox.functions import FUNCTIONS
from testbed.sandbox.kinds import KINDS
from testbed.sandbox.reach import require_answer
from testbed.sandbox.schema import failures, schema_of

Json = dict[str, Any]
PROJECT = Path(__file__).parents[2]
TOKEN = re.compile(r"<<([^|>]+)\|([^|>]+)\|([^|>]+)>>")
TEMPLATE = "kubernetes:helm:template"
BALANCER = "aws:lb/getLoadBalancer:getLoadBalancer"
RELEASE = "kubernetes:helm.sh/v3:Release"
CLUSTER = "aws:eks/cluster:Cluster"
PROVIDER = "pulumi:providers:aws"
SERVICE = "kubernetes:core/v1:Service"
CONTROLLER_CLASS = "service.k8s.aws/nlb"
CHART = "aws-load-balancer-controller"
SECRET = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 - Pulumi's mark of a secret, none itself
MARK = "4dabf18193072939515e22adb298388d"
# What is in the answers of AWS and EKS below the first level.
NESTED: dict[str, Callable[[str], Json]] = {
    CLUSTER: lambda name: {
        # pulumi-eks takes the region out of it
        "arn": f"arn:aws:eks:{token(CLUSTER, name, 'region')}:123456789012:cluster/{name}",
        "identities": [{"oidcs": [{"issuer": token(CLUSTER, name, "identities.0.oidcs.0.issuer")}]}],
        "certificateAuthority": {"data": token(CLUSTER, name, "certificateAuthority.data")},
        "vpcConfig": {"clusterSecurityGroupId": token(CLUSTER, name, "vpcConfig.clusterSecurityGroupId")},
    }
}
# What Kubernetes would fill in.
KUBERNETES: dict[str, Json] = {
    "kubernetes:core/v1:ConfigMap": {"data": {"bundle": '{"keys": []}'}},
    "kubernetes:core/v1:Secret": {"data": {"token": "dG9rZW4=", "ca.crt": "Y2E="}},
    SERVICE: {"status": {"loadBalancer": {"ingress": [{"hostname": "gateway.elb.amazonaws.com"}]}}},
    RELEASE: {"status": {"namespace": "istio-system", "status": "deployed"}},
}


def token(kind: str, name: str, path: str) -> str:
    """Stands for a value that AWS will compute."""
    return f"<<{kind}|{name}|{path}>>"


@dataclass(frozen=True)
class Registered:
    """One resource of the program, and what it depends on: dependencies, parent and provider, as `type|name`."""

    kind: str
    name: str
    inputs: Json
    provider: str
    after: frozenset[str]
    read: bool = False

    @property
    def key(self) -> str:
        """What tells it apart from all others."""
        return f"{self.kind}|{self.name}"


@dataclass
class Recording(pulumi.runtime.Mocks):
    """What the program registers; values that AWS computes are tokens."""

    templates: Callable[[Json], list[Json]]
    resources: dict[str, Registered] = field(default_factory=dict)
    transforms: dict[str, Any] = field(default_factory=dict)

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, Json]:
        kind, name = args.typ, args.name
        if kind not in KINDS:
            metadata = args.inputs.get("metadata", {})
            own = metadata.get("name") if isinstance(metadata, dict) else None
            return str(args.inputs.get("name") or own or name), {**args.inputs, **KUBERNETES.get(kind, {})}
        computed = {
            each: token(kind, name, each) for each in schema_of(kind).outputs if each not in args.inputs
        }
        nested = NESTED.get(kind, lambda _: {})(name)
        merged = {
            key: {**args.inputs.get(key, {}), **value} if isinstance(value, dict) else value
            for key, value in nested.items()
        }
        return token(kind, name, "id"), {**computed, **args.inputs, **merged}

    def call(self, args: pulumi.runtime.MockCallArgs) -> Json:
        if args.token == TEMPLATE:
            return {"result": self.templates(json.loads(args.args["jsonOpts"]))}
        if args.token == BALANCER:
            return {**args.args, "arn": f"<<balancer|{args.args.get('region')}|{args.args['name']}>>"}
        provider = args.provider.split("::")[-2] if args.provider else ""
        return FUNCTIONS[args.token](aws_of(self.resources, provider, args.args), args.args)


def aws_of(resources: Mapping[str, Registered], provider: str, inputs: Mapping[str, Any]) -> Aws:
    """AWS as a provider of the program sees it, in the region that the inputs name."""
    found = resources.get(f"{PROVIDER}|{provider}")
    settings = found.inputs if found else {}
    return Aws(inputs.get("region") or settings.get("region") or "us-east-1", Identity.of_provider(settings))


class Monitor(pulumi.runtime.mocks.MockMonitor):
    """Pulumi's mock engine, with an eye on dependencies, and the transforms that the engine would call."""

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the protocol's name
        answer = super().RegisterResource(request)
        self._record(request, request.object, answer.urn, read=False)
        return answer

    def ReadResource(self, request: Any) -> Any:  # noqa: N802
        answer = super().ReadResource(request)
        self._record(request, request.properties, answer.urn, read=True)
        return answer

    def _record(self, request: Any, inputs: Any, urn: str, *, read: bool) -> None:
        recording = self.mocks
        assert isinstance(recording, Recording)  # noqa: S101
        properties = {k: _plain(v) for k, v in pulumi.runtime.rpc.deserialize_properties(inputs).items()}
        for ancestor, transform in recording.transforms.items():
            # of the parents' types, the mock engine's URNs have the last one alone
            inside = any(f"eks:index:{each}$" in urn for each in ("Cluster", "ServiceRole"))
            if inside and request.name.startswith(f"{ancestor}-"):
                asked = pulumi.ResourceTransformArgs(
                    True, request.type, request.name, properties, pulumi.ResourceOptions()
                )
                changed = transform(asked)
                properties = dict(changed.props) if changed else properties
        waits = [*request.dependencies, request.parent, request.provider]
        waits += [] if read else list(request.providers.values())
        made = Registered(
            kind=request.type,
            name=request.name,
            inputs=properties,
            provider=request.provider.split("::")[-2] if request.provider else "",
            after=frozenset(short for each in waits if (short := _short(each))),
            read=read,
        )
        recording.resources[made.key] = made


def _short(urn: str) -> str:
    parts = urn.split("::")
    return f"{parts[2].split('$')[-1]}|{parts[3]}" if len(parts) > 3 else ""


def _plain(each: Any) -> Any:
    return each["value"] if isinstance(each, dict) and each.get(MARK) == SECRET else each


class _Callbacks:
    """Takes the place of the server through which the engine calls transforms."""

    def register_transform(self, _transform: Any) -> callback_pb2.Callback:
        return callback_pb2.Callback(token="transform", target="nowhere")  # noqa: S106


async def _callbacks() -> _Callbacks:
    return _Callbacks()


def record(
    config: Mapping[str, Any], templates: Callable[[Json], list[Json]], stack: str = "dev"
) -> dict[str, Registered]:
    """Runs the program with the values of a stack (by key, `fedmesh:` included) and returns what it registers.

    Args:
        config: the stack's config.
        templates: what a chart renders to where the program asks for that.
        stack: the stack's name.
    """
    recording = Recording(templates)
    # a run that raised has left calls behind, for which this one would wait
    SETTINGS.rpc_manager.clear()  # pyright: ignore[reportAttributeAccessIssue]
    SETTINGS.outputs.clear()  # pyright: ignore[reportAttributeAccessIssue]
    asyncio.set_event_loop(asyncio.new_event_loop())
    pulumi.runtime.set_all_config({key: json.dumps(value) for key, value in config.items()})
    pulumi.runtime.set_mocks(
        recording, project="fedmesh", stack=stack, preview=False, monitor=Monitor(recording)
    )

    def cluster(resource: str, /, *, opts: pulumi.ResourceOptions, **arguments: Any) -> Any:
        inputs = _camel(eks.ClusterArgs, arguments)
        for transform in opts.transforms or []:
            recording.transforms[resource] = transform
        made: Any = ClusterComponent(resource, inputs, _kubeconfig, opts)
        made.cluster_security_group_id = made.state["clusterSecurityGroupId"]
        made.kubeconfig_json = made.state["kubeconfigJson"]
        return made

    before = Path.cwd()
    os.chdir(PROJECT)
    with (
        patch("pulumi.runtime.resource._get_callbacks", _callbacks),
        patch("components.aws.eks.eks.Cluster", cluster),
    ):
        try:
            runpy.run_path(str(PROJECT / "__main__.py"))
            asyncio.get_event_loop().run_until_complete(wait_for_rpcs())
            _settle(recording)
        finally:
            os.chdir(before)
    return recording.resources


def _settle(recording: Recording) -> None:
    """Puts values in the place of the outputs that transforms have left among inputs."""
    for resource in recording.resources.values():
        for name, value in resource.inputs.items():
            if isinstance(value, pulumi.Output):
                resource.inputs[name] = asyncio.get_event_loop().run_until_complete(value.future())


def _camel(args: type, arguments: Mapping[str, Any]) -> Json:
    """Arguments under the names that the provider has for them, nested ones too."""
    names = _types.input_type_py_to_pulumi_names(args)
    return {names.get(key, key): _nested(value) for key, value in arguments.items() if value is not None}


def _nested(value: Any) -> Any:
    if _types.is_input_type(type(value)):
        return {
            key: _nested(item) for key, item in _types.input_type_to_dict(value).items() if item is not None
        }
    if isinstance(value, Mapping):
        return {key: _nested(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_nested(item) for item in value]
    return value.value if isinstance(value, Enum) else value


def _kubeconfig(_name: str, endpoint: str, _authority: str, _region: str) -> Json:
    return {
        "clusters": [{"name": "kubernetes", "cluster": {"server": endpoint}}],
        "users": [{"name": "aws", "user": {"exec": {"command": "aws", "args": []}}}],
        "contexts": [{"name": "aws", "context": {"cluster": "kubernetes", "user": "aws"}}],
        "current-context": "aws",
    }


class RefusedError(Exception):
    """AWS refuses a resource, or a call does not get there; the message names the resource."""


class Rehearsal:
    """Creates and deletes recorded resources.

    Args:
        resources: what `record` returned.
        caller: the address from which Pulumi is run; `in_vpc` says that it is in a VPC of the stack.
        aws_only: nothing is made on the clusters, which others stand for.
        endpoint: the URL of the simulated AWS.
    """

    def __init__(
        self,
        resources: Mapping[str, Registered],
        caller: str,
        endpoint: str,
        *,
        in_vpc: bool = False,
        aws_only: bool = False,
    ) -> None:
        self._resources = dict(resources)
        self._caller = IPv4Address(caller)
        self._in_vpc = in_vpc
        self._aws_only = aws_only
        self._endpoint = endpoint
        self._made: dict[str, tuple[str, Json]] = {}
        self._controllers: dict[str, Controller] = {}
        self._services: dict[str, Service] = {}
        self._answered: set[str] = set()
        self._order = list(_by_depth(self._resources))

    def create(self, until: str = "") -> None:
        """Creates everything that does not exist yet, or what comes before the first resource of a kind.

        Raises RefusedError at the first refusal.
        """
        for resource in self._order:
            if resource.kind == until:
                return
            of_cluster = resource.kind.startswith("kubernetes:") or "<<balancer|" in str(resource.inputs)
            if self._aws_only and of_cluster:
                continue
            if resource.key not in self._made and not resource.read:
                self._step(resource, self._create)

    def destroy(self) -> None:
        """Deletes everything. Raises RefusedError at the first refusal."""
        for resource in _by_depth(_reversed(self._resources)):
            if resource.key in self._made:
                self._step(resource, self._delete)

    def inputs(self, resource: Registered) -> Json:
        """A resource's inputs with what AWS has computed."""
        return dict(self._resolved(resource.inputs))

    def _step(self, resource: Registered, act: Callable[[Registered], None]) -> None:
        try:
            act(resource)
        except Exception as error:
            raise RefusedError(f"{resource.kind}::{resource.name}: {error}") from error

    def _create(self, resource: Registered) -> None:
        if resource.kind in KINDS:
            self._create_in_aws(resource)
        elif resource.kind.startswith("kubernetes:"):
            self._create_in_cluster(resource)

    def _create_in_aws(self, resource: Registered) -> None:
        self._answered.clear()
        kind, schema = KINDS[resource.kind], schema_of(resource.kind)
        inputs = _without_none(self._resolved(resource.inputs))
        if kind.autoname and not inputs.get(kind.autoname) and not inputs.get(f"{kind.autoname}Prefix"):
            inputs[kind.autoname] = f"{resource.name}-1a2b3c4"
        wrong = failures(schema, inputs)
        if wrong:
            raise ValueError("; ".join(f"{path}: {reason}" for path, reason in wrong))
        aws = self._aws(resource, inputs)
        id_, computed = kind.create(aws, inputs)
        self._made[resource.key] = (id_, {"region": aws.region, **inputs, **computed})

    def _create_in_cluster(self, resource: Registered) -> None:
        self._made[resource.key] = ("", {})
        if f"{CLUSTER}|{resource.provider}-eks-eksCluster" not in self._resources:
            return  # a cluster that exists already
        cluster, aws = self._cluster_of(resource)
        self._require_answer(cluster, aws)
        if resource.kind == RELEASE and resource.inputs.get("chart", "").endswith(CHART):
            values = self._resolved(resource.inputs["values"])
            self._controllers[cluster] = Controller(cluster, aws.region, values["vpcId"], self._endpoint)
        service = service_of(self._resolved(resource.inputs), resource.kind)
        self._require_no_webhook_in_the_way(resource, cluster, service)
        if service and service.annotation("type") == "external":
            self._require_no_auto_mode_in_the_way(resource, service)
            self._controllers[cluster].create(service)
            self._services[resource.key] = service

    def _require_no_webhook_in_the_way(
        self, resource: Registered, cluster: str, service: Service | None
    ) -> None:
        """The chart's webhook for Services refuses all of them in its cluster until the controller is ready."""
        release = self._release(resource.provider)
        on = release is not None and release.inputs["values"].get("enableServiceMutatorWebhook", True)
        if service and on and release and release.key not in self._ancestors(resource):
            raise ConnectionError(
                f'failed calling webhook "mservice.elbv2.k8s.aws": no endpoints available for service "{CHART}" '
                f"in {cluster}: nothing makes {service.name} wait for {release.name}"
            )

    def _require_no_auto_mode_in_the_way(self, resource: Registered, service: Service) -> None:
        """EKS Auto Mode sets its own class on Services that have none (user guide, auto-configure-nlb)."""
        compute = self._made[f"{CLUSTER}|{resource.provider}-eks-eksCluster"][1].get("computeConfig") or {}
        if compute.get("enabled") and service.class_name != CONTROLLER_CLASS:
            taken = service.class_name or "eks.amazonaws.com/nlb"
            raise ValueError(
                f"{service.name} has the loadBalancerClass {taken}, which is not {CONTROLLER_CLASS}"
            )

    def _release(self, provider: str) -> Registered | None:
        found = [
            each
            for each in self._resources.values()
            if each.kind == RELEASE
            and each.provider == provider
            and each.inputs.get("chart", "").endswith(CHART)
        ]
        return found[0] if found else None

    def _ancestors(self, resource: Registered) -> set[str]:
        seen: set[str] = set()
        waiting = {resource.key}
        while waiting:
            seen |= waiting
            known = [self._resources[key] for key in waiting if key in self._resources]
            waiting = {key for each in known for key in each.after} - seen
        return seen

    def _delete(self, resource: Registered) -> None:
        id_, state = self._made[resource.key]
        if resource.kind in KINDS:
            self._answered.clear()
            self._delete_in_aws(resource, id_, state)
        elif f"{CLUSTER}|{resource.provider}-eks-eksCluster" in self._resources:
            cluster, aws = self._cluster_of(resource)
            self._require_answer(cluster, aws)
            service = self._services.pop(resource.key, None)
            if service:
                # the Service's finalizer stays until its load balancer is gone, and the engine waits for that
                self._controllers[cluster].delete(service)
        del self._made[resource.key]

    def _delete_in_aws(self, resource: Registered, id_: str, state: Json) -> None:
        try:
            KINDS[resource.kind].delete(self._aws(resource, state), id_, state)
        except ClientError as error:
            if not is_missing(error):
                raise

    def _require_answer(self, cluster: str, aws: Aws) -> None:
        """Asks once for every state of AWS."""
        if cluster not in self._answered:
            require_answer(aws, cluster, self._caller, from_vpc=self._in_vpc)
            self._answered.add(cluster)

    def _cluster_of(self, resource: Registered) -> tuple[str, Aws]:
        key = f"{CLUSTER}|{resource.provider}-eks-eksCluster"
        state = self._made[key][1]
        return str(state["name"]), self._aws(self._resources[key], state)

    def _aws(self, resource: Registered, inputs: Mapping[str, Any]) -> Aws:
        return aws_of(self._resources, resource.provider, inputs)

    def _resolved(self, value: Any) -> Any:
        if isinstance(value, str):
            whole = TOKEN.fullmatch(value)
            return (
                self._value(*whole.groups())
                if whole
                else TOKEN.sub(lambda m: str(self._value(*m.groups())), value)
            )
        if isinstance(value, Mapping):
            return {key: self._resolved(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._resolved(item) for item in value]
        return int(value) if isinstance(value, float) and value.is_integer() else value

    def _value(self, kind: str, name: str, path: str) -> Any:
        if kind == "balancer":
            asked = Aws(name).client("elbv2").describe_load_balancers(Names=[path])
            return asked["LoadBalancers"][0]["LoadBalancerArn"]
        id_, state = self._made[f"{kind}|{name}"]
        found: Any = {"id": id_, **state}
        for part in path.split("."):
            found = found[int(part)] if isinstance(found, list) else found[part]
        # a version of a launch template is a number, and the program hands it on as text
        return str(found) if isinstance(found, int) else found


def _by_depth(resources: Mapping[str, Registered]) -> Iterator[Registered]:
    """The resources in the order of the longest way from one that depends on nothing."""
    depths: dict[str, int] = {}

    def depth(key: str) -> int:
        if key not in depths:
            depths[key] = -1  # a cycle can't be, and would end here
            after = [each for each in resources[key].after if each in resources and each != key]
            depths[key] = 1 + max(map(depth, after), default=-1)
        return depths[key]

    yield from (resources[key] for key in sorted(resources, key=lambda key: (depth(key), key)))


def _reversed(resources: Mapping[str, Registered]) -> dict[str, Registered]:
    """The same resources, each depending on those that depend on it."""
    dependents: dict[str, set[str]] = {key: set() for key in resources}
    for key, each in resources.items():
        for earlier in each.after & resources.keys():
            dependents[earlier].add(key)
    return {
        key: Registered(
            each.kind, each.name, each.inputs, each.provider, frozenset(dependents[key]), each.read
        )
        for key, each in resources.items()
    }


def service_of(inputs: Mapping[str, Any], kind: str) -> Service | None:
    """The Service that an object is, or that a chart of a gateway brings."""
    if kind == SERVICE:
        metadata, spec = inputs.get("metadata", {}), inputs.get("spec", {})
        annotations, name, namespace = (
            metadata.get("annotations", {}),
            metadata.get("name"),
            metadata.get("namespace"),
        )
    elif kind == RELEASE and inputs.get("values", {}).get("service"):
        spec = inputs["values"]["service"]
        annotations, name, namespace = (
            spec.get("annotations", {}),
            inputs.get("name"),
            inputs.get("namespace"),
        )
    else:
        return None
    ports = [int(port["port"]) for port in spec.get("ports") or [{"port": 80}, {"port": 443}]]
    return Service(
        str(namespace),
        str(name),
        dict(annotations or {}),
        tuple(ports),
        tuple(spec.get("loadBalancerSourceRanges", ())),
        spec.get("loadBalancerClass", ""),
    )


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    return value
