"""Clusters that the stack file declares down: the others go on with what the stack last knew of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import pulumi

from components.config.errors import ConfigError
from components.config.settings import Settings

OUTPUT = "lastKnown"


@dataclass(frozen=True)
class Known:
    """What is otherwise read from a cluster: its bundle (SPIFFE's JSON) and the addresses of its gateways by label."""

    bundle: pulumi.Output[str]
    addresses: pulumi.Output[Mapping[str, str]]


def remembered(known: Mapping[str, Known]) -> pulumi.Output[Mapping[str, Any]]:
    """The output from which a later run reads what is known now, by cluster. A secret: nothing to hide, but long."""
    return pulumi.Output.secret({name: vars(each) for name, each in known.items()})


class LastKnown:
    """What the stack's last run exported of the clusters that are down now. Nothing is read where none is."""

    def __init__(self, settings: Settings) -> None:
        self._source = settings.source
        self._down = {spec.name: index for index, spec in enumerate(settings.clusters) if spec.down}
        self._entries = self._read() if self._down and settings.meshed else None

    def of(self, name: str) -> Known | None:
        """What is known of a cluster that is down, None for one that can be asked."""
        if self._entries is None or name not in self._down:
            return None
        entry = self._entries.apply(lambda entries: entries[name])
        return Known(entry["bundle"], entry["addresses"])

    def checked(self, value: pulumi.Input[str]) -> pulumi.Output[str]:
        """The value, once it is sure that everything needed is known: what needs the value waits for that.

        Raises:
            ConfigError: the stack's last `up` did not export what is needed of a cluster that is declared down.
        """
        if self._entries is None:
            return pulumi.Output.from_input(value)
        return pulumi.Output.all(value, self._entries).apply(lambda known: cast(str, known[0]))

    def skips(self, name: str) -> bool | None:
        """Whether a provider shall leave what it can't reach as it is: the cluster is declared down."""
        return name in self._down or None

    def _read(self) -> pulumi.Output[Mapping[str, Any]]:
        whole = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
        exported = pulumi.StackReference("last-known", whole).get_output(OUTPUT)
        # long, but of public keys and addresses
        return pulumi.Output.unsecret(exported).apply(
            lambda entries: complete(entries, self._down, self._source)
        )


def complete(exported: Mapping[str, Any] | None, down: Mapping[str, int], source: str) -> Mapping[str, Any]:
    """What was exported, once every cluster that is down is found in it.

    Args:
        exported: by cluster what the last run knew; None where there was none.
        down: the clusters that are down, with their place in the stack file.
        source: name of the stack file.

    Raises:
        ConfigError: the stack's last `up` did not export what is needed of a cluster.
    """
    for name, index in down.items():
        if name not in (exported or {}):
            reason = (
                f"must be false: this stack's last up exported no bundle and addresses of {name} ({OUTPUT})"
            )
            raise ConfigError(f"fedmesh:clusters[{index}].down", source, reason)
    return exported or {}
