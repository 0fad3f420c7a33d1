"""The interface of simulated resource types."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from testbed.sandbox.aws import Aws

Properties = dict[str, Any]
Inputs = Mapping[str, Any]


class Kind(ABC):
    """One resource type: its Pulumi calls as calls to AWS.

    A change of an input in `replace_on` needs a new resource; with `can_update` unset any change does.
    """

    resource: ClassVar[str]
    replace_on: ClassVar[frozenset[str]] = frozenset()
    can_update: ClassVar[bool] = True
    autoname: ClassVar[str | None] = None

    @abstractmethod
    def create(self, aws: Aws, inputs: Inputs) -> tuple[str, Properties]:
        """Creates the resource. Returns its ID and the computed properties."""

    @abstractmethod
    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        """Reads the resource's properties under Pulumi's names, or None when it does not exist. Raises ClientError."""

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> Properties:
        """Updates the resource in place. Returns the newly computed properties."""
        raise NotImplementedError(self.resource)

    @abstractmethod
    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        """Deletes the resource. A resource that does not exist is not an error."""
