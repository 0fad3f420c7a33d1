"""Accelerators, their listeners, and the endpoint groups of those."""

from typing import Any
from uuid import uuid4

from moto.core.base_backend import BackendDict, BaseBackend
from moto.core.exceptions import JsonRESTError

Json = dict[str, Any]


class Backend(BaseBackend):
    """One account's resources by ARN; the ARN of a child begins with that of its parent."""

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        self.things: dict[str, Json] = {}

    def add(self, arn: str, thing: Json) -> Json:
        """Stores a resource under its ARN."""
        self.things[arn] = thing
        return thing

    def get(self, arn: str, kind: str) -> Json:
        """The resource with that ARN; `kind` is part of the error's name when there is none."""
        if arn not in self.things:
            raise JsonRESTError(f"{kind}NotFoundException", f"{arn} does not exist")
        return self.things[arn]

    def remove(self, arn: str, kind: str) -> None:
        """Removes a resource that has no children."""
        self.get(arn, kind)
        if any(other.startswith(f"{arn}/") for other in self.things):
            raise JsonRESTError(f"Associated{kind}ChildFoundException", f"{arn} still has children")
        del self.things[arn]

    def arn(self, *parts: str) -> str:
        """A new ARN."""
        return f"arn:aws:globalaccelerator::{self.account_id}:{'/'.join(parts)}/{uuid4().hex[:12]}"


globalaccelerator_backends = BackendDict(Backend, "globalaccelerator", additional_regions=["us-west-2"])
