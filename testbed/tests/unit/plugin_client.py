"""The plugin `aws` as the engine uses it: its protocol, called without a process in between."""

from typing import Any

from pulumi.runtime.proto import provider_pb2 as proto

from testbed.sandbox.plugin import AwsProvider
from testbed.sandbox.values import from_struct, to_struct

REGION = "us-east-1"


class RefusedError(Exception):
    """What the engine would show."""


class Context:
    def abort(self, _code: Any, text: str) -> None:
        raise RefusedError(text)


class Plugin:
    """The provider as the engine uses it."""

    def __init__(self, region: str = REGION) -> None:
        self._provider = AwsProvider("7.0.0")
        config = to_struct({"region": region})
        self._provider.Configure(proto.ConfigureRequest(args=config), Context())

    def check(self, kind: str, inputs: dict[str, Any], name: str = "it") -> tuple[dict[str, Any], list[str]]:
        asked = proto.CheckRequest(urn=urn(kind, name), name=name, news=to_struct(inputs), randomSeed=b"1")
        answer = self._provider.Check(asked, Context())
        return from_struct(answer.inputs), [f"{f.property}: {f.reason}" for f in answer.failures]

    def create(self, kind: str, inputs: dict[str, Any], name: str = "it") -> tuple[str, dict[str, Any]]:
        checked, failures = self.check(kind, inputs, name)
        assert failures == []
        asked = proto.CreateRequest(urn=urn(kind, name), properties=to_struct(checked))
        answer = self._provider.Create(asked, Context())
        return answer.id, from_struct(answer.properties)

    def preview(self, kind: str, inputs: dict[str, Any]) -> dict[str, Any]:
        asked = proto.CreateRequest(urn=urn(kind), properties=to_struct(inputs), preview=True)
        return from_struct(self._provider.Create(asked, Context()).properties)

    def diff(self, kind: str, old: dict[str, Any], new: dict[str, Any]) -> Any:
        asked = proto.DiffRequest(urn=urn(kind), old_inputs=to_struct(old), news=to_struct(new))
        return self._provider.Diff(asked, Context())

    def update(
        self, kind: str, id_: str, state: dict[str, Any], old: dict[str, Any], new: dict[str, Any]
    ) -> None:
        self._provider.Update(
            proto.UpdateRequest(
                urn=urn(kind),
                id=id_,
                olds=to_struct(state),
                old_inputs=to_struct(old),
                news=to_struct(new),
            ),
            Context(),
        )

    def read(self, kind: str, id_: str, state: dict[str, Any], inputs: dict[str, Any]) -> Any:
        asked = proto.ReadRequest(
            urn=urn(kind), id=id_, properties=to_struct(state), inputs=to_struct(inputs)
        )
        return self._provider.Read(asked, Context())

    def delete(self, kind: str, id_: str, state: dict[str, Any]) -> None:
        asked = proto.DeleteRequest(urn=urn(kind), id=id_, properties=to_struct(state))
        self._provider.Delete(asked, Context())

    def invoke(self, token: str, args: dict[str, Any]) -> Any:
        return self._provider.Invoke(proto.InvokeRequest(tok=token, args=to_struct(args)), Context())


def returned(answer: Any) -> dict[str, Any]:
    return from_struct(getattr(answer, "return"))


def urn(kind: str, name: str = "it") -> str:
    return f"urn:pulumi:dev::fedmesh::{kind}::{name}"
