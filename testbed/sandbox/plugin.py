"""The resource plugin `aws`: Pulumi's provider protocol in front of the simulated AWS."""

import contextlib
import sys
from collections.abc import Callable
from concurrent import futures
from typing import Any

import boto3
import grpc
from botocore.exceptions import BotoCoreError, ClientError
from google.protobuf import empty_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from testbed.sandbox.aws import Aws, Identity, digest, is_missing
from testbed.sandbox.functions import FUNCTIONS, FunctionError
from testbed.sandbox.kinds import KINDS
from testbed.sandbox.kinds.base import Kind
from testbed.sandbox.schema import Schema, failures, schema_of
from testbed.sandbox.values import UNKNOWN, from_struct, has_unknown, to_struct

MESSAGE_LIMIT = [("grpc.max_receive_message_length", 400 << 20)]
CONFIG_PREFIX = "aws:config:"


class AwsProvider(provider_pb2_grpc.ResourceProviderServicer):
    """One provider process. The engine configures it once, then calls it from many threads."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._aws = Aws("us-east-1")

    def Handshake(self, request: Any, context: Any) -> provider_pb2.ProviderHandshakeResponse:
        return provider_pb2.ProviderHandshakeResponse()

    def GetPluginInfo(self, request: Any, context: Any) -> plugin_pb2.PluginInfo:
        return plugin_pb2.PluginInfo(version=self._version)

    def CheckConfig(self, request: Any, context: Any) -> provider_pb2.CheckResponse:
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: Any, context: Any) -> provider_pb2.DiffResponse:
        moved = from_struct(request.olds).get("region") != from_struct(request.news).get("region")
        return provider_pb2.DiffResponse(replaces=["region"] if moved else [])

    def Configure(self, request: Any, context: Any) -> provider_pb2.ConfigureResponse:
        if boto3.Session().get_credentials() is None:
            text = "No valid credential sources found: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and its secret"
            context.abort(grpc.StatusCode.UNAUTHENTICATED, text)
        given = from_struct(request.args)
        region = given.get("region") or request.variables.get(f"{CONFIG_PREFIX}region")
        self._aws = Aws(region or boto3.Session().region_name or "us-east-1", Identity.of_provider(given))
        return provider_pb2.ConfigureResponse(supportsPreview=True, supports_autonaming_configuration=False)

    def Check(self, request: Any, context: Any) -> provider_pb2.CheckResponse:
        kind, schema = self._known(request.urn, context)
        inputs = from_struct(request.news)
        named = kind.autoname
        if named and not inputs.get(named) and not inputs.get(f"{named}Prefix"):
            old = from_struct(request.olds).get(named)
            inputs[named] = old or f"{request.name}-{digest(request.urn, request.randomSeed.hex())[:7]}"
        found = failures(schema, inputs)
        return provider_pb2.CheckResponse(
            inputs=to_struct(inputs),
            failures=[provider_pb2.CheckFailure(property=path, reason=reason) for path, reason in found],
        )

    def Diff(self, request: Any, context: Any) -> provider_pb2.DiffResponse:
        kind, _ = self._known(request.urn, context)
        old, new = from_struct(request.old_inputs), from_struct(request.news)
        changed = sorted(name for name in old.keys() | new.keys() if not _same(old.get(name), new.get(name)))
        replaces = [
            name for name in changed if name == "region" or name in kind.replace_on or not kind.can_update
        ]
        return provider_pb2.DiffResponse(
            changes=provider_pb2.DiffResponse.DIFF_SOME if changed else provider_pb2.DiffResponse.DIFF_NONE,
            diffs=changed,
            replaces=replaces,
            # Names that users give are unique: the old resource must be deleted first.
            deleteBeforeReplace=bool(replaces) and not _was_autonamed(kind, old, request.urn),
        )

    def Create(self, request: Any, context: Any) -> provider_pb2.CreateResponse:
        kind, schema = self._known(request.urn, context)
        inputs = from_struct(request.properties)
        if request.preview:
            return provider_pb2.CreateResponse(id="", properties=to_struct(self._foreseen(schema, inputs)))
        aws = self._of(inputs)
        id_, computed = self._call(context, lambda: kind.create(aws, inputs))
        return provider_pb2.CreateResponse(
            id=id_, properties=to_struct(self._state(schema, aws, inputs, computed))
        )

    def Read(self, request: Any, context: Any) -> provider_pb2.ReadResponse:
        kind, schema = self._known(request.urn, context)
        state, inputs = from_struct(request.properties), from_struct(request.inputs)
        aws = self._of(state)
        try:
            found = kind.read(aws, request.id, state)
        except ClientError as error:
            if not is_missing(error):
                self._abort(context, error)
            found = None
        if found is None:
            return provider_pb2.ReadResponse(id="")
        drifted = {name: _as_given(value, inputs[name]) for name, value in found.items() if name in inputs}
        return provider_pb2.ReadResponse(
            id=request.id,
            properties=to_struct(self._state(schema, aws, state, found)),
            inputs=to_struct({**inputs, **drifted}),
        )

    def Update(self, request: Any, context: Any) -> provider_pb2.UpdateResponse:
        kind, schema = self._known(request.urn, context)
        old, new = from_struct(request.old_inputs), from_struct(request.news)
        before = {name: value for name, value in from_struct(request.olds).items() if name in schema.computed}
        if request.preview:
            return provider_pb2.UpdateResponse(properties=to_struct({**before, **new}))
        aws = self._of(new)
        computed = self._call(context, lambda: kind.update(aws, request.id, old, new))
        return provider_pb2.UpdateResponse(
            properties=to_struct(self._state(schema, aws, new, {**before, **computed}))
        )

    def Delete(self, request: Any, context: Any) -> empty_pb2.Empty:
        kind, _ = self._known(request.urn, context)
        state = from_struct(request.properties)
        try:
            kind.delete(self._of(state), request.id, state)
        except ClientError as error:
            if not is_missing(error):
                self._abort(context, error)
        return empty_pb2.Empty()

    def Invoke(self, request: Any, context: Any) -> provider_pb2.InvokeResponse:
        function = FUNCTIONS.get(request.tok)
        if function is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"the sandbox has no function {request.tok}")
            raise AssertionError
        args = from_struct(request.args)
        try:
            result = function(self._of(args), args)
        except FunctionError as error:
            failure = provider_pb2.CheckFailure(property=error.property, reason=str(error))
            return provider_pb2.InvokeResponse(failures=[failure])
        except (ClientError, BotoCoreError) as error:
            self._abort(context, error)
            raise
        response = provider_pb2.InvokeResponse()
        getattr(response, "return").CopyFrom(to_struct(result))
        return response

    def Cancel(self, request: Any, context: Any) -> empty_pb2.Empty:
        return empty_pb2.Empty()

    def _known(self, urn: str, context: Any) -> tuple[Kind, Schema]:
        token = urn.split("::")[2].rsplit("$", maxsplit=1)[-1]
        try:
            return KINDS[token], schema_of(token)
        except (KeyError, LookupError):
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"the sandbox does not stand for {token}")
            raise

    def _of(self, properties: dict[str, Any]) -> Aws:
        region = properties.get("region")
        return Aws(region, self._aws.identity) if isinstance(region, str) and region else self._aws

    def _state(self, schema: Schema, aws: Aws, *parts: dict[str, Any]) -> dict[str, Any]:
        """All known properties, without those that the real provider does not return."""
        merged = {"region": aws.region, **{name: value for part in parts for name, value in part.items()}}
        return {name: value for name, value in merged.items() if name in schema.outputs}

    def _foreseen(self, schema: Schema, inputs: dict[str, Any]) -> dict[str, Any]:
        """The properties that a preview knows: the inputs. Those that AWS computes are unknown."""
        return {**dict.fromkeys(schema.computed, UNKNOWN), **inputs}

    def _call(self, context: Any, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (ClientError, BotoCoreError, ValueError) as error:
            self._abort(context, error)

    def _abort(self, context: Any, error: Exception) -> None:
        context.abort(grpc.StatusCode.UNKNOWN, str(error))


def _same(old: Any, new: Any) -> bool:
    return not has_unknown(new) and (old or None) == (new or None)


def _as_given(found: Any, given: Any) -> Any:
    """The properties that were read, without those that AWS added to the inputs."""
    if isinstance(found, dict) and isinstance(given, dict):
        return {key: _as_given(found.get(key, value), value) for key, value in given.items()}
    return found


def _was_autonamed(kind: Kind, old: dict[str, Any], urn: str) -> bool:
    name = urn.rsplit("::", 1)[1]
    if not kind.autoname:
        return False
    return bool(old.get(f"{kind.autoname}Prefix")) or str(old.get(kind.autoname, "")).startswith(f"{name}-")


def serve(servicer: Any) -> None:
    """Serves a plugin on a free loopback port, and prints the port on standard output."""
    server = grpc.server(futures.ThreadPoolExecutor(16), options=MESSAGE_LIMIT)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    # The engine stops its plugins with SIGINT, which is not an error.
    with contextlib.suppress(KeyboardInterrupt):
        server.wait_for_termination()
