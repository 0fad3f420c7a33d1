"""What every simulated resource type can do."""

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
        """Makes it. Gives its id and what AWS computed."""

    @abstractmethod
    def read(self, aws: Aws, id_: str, state: Inputs) -> Properties | None:
        """What AWS has now, under Pulumi's names, or None when it is gone. Raises ClientError otherwise."""

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> Properties:
        """Changes it in place. Gives what AWS computed anew."""
        raise NotImplementedError(self.resource)

    @abstractmethod
    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        """Removes it. A thing that is gone already is no error."""
