"""The last known state of clusters that the stack file declares down."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import pulumi

from components.config.errors import ConfigError
from components.config.settings import Settings

OUTPUT = "lastKnown"


@dataclass(frozen=True)
class ClusterState:
    """State that is otherwise read from a cluster.

    Attributes:
        bundle: its trust bundle, SPIFFE's JSON.
        addresses: addresses of its gateways by `ingress` and `eastwest`.
    """

    bundle: pulumi.Output[str]
    addresses: pulumi.Output[Mapping[str, str]]


def state_output(states: Mapping[str, ClusterState]) -> pulumi.Output[Mapping[str, Any]]:
    """Returns the stack output that a later run reads the state from. It is a secret only because it is long."""
    return pulumi.Output.secret({name: vars(state) for name, state in states.items()})


class LastKnownState:
    """The state that the stack's last run exported. It is read only if a cluster is declared down."""

    def __init__(self, settings: Settings) -> None:
        self._source = settings.source
        self._down = {spec.name: index for index, spec in enumerate(settings.clusters) if spec.down}
        self._states = self._read() if self._down and settings.meshed else None

    def of(self, name: str) -> ClusterState | None:
        """Returns the last known state of a cluster that is down, None for a cluster that is up."""
        if self._states is None or name not in self._down:
            return None
        state = self._states.apply(lambda states: states[name])
        return ClusterState(state["bundle"], state["addresses"])

    def validated(self, value: pulumi.Input[str]) -> pulumi.Output[str]:
        """Returns the value after validating the last run's outputs, so that its users wait for the validation.

        Raises:
            ConfigError: the stack's last `up` exported no state of a cluster that is declared down.
        """
        if self._states is None:
            return pulumi.Output.from_input(value)
        return pulumi.Output.all(value, self._states).apply(lambda both: cast(str, both[0]))

    def skips_unreachable(self, name: str) -> bool | None:
        """Whether a cluster's provider leaves unreachable resources as they are: True if it is declared down."""
        return name in self._down or None

    def _read(self) -> pulumi.Output[Mapping[str, Any]]:
        stack = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
        exported = pulumi.StackReference("last-known", stack).get_output(OUTPUT)
        # public keys and addresses only
        return pulumi.Output.unsecret(exported).apply(
            lambda states: validate_states(states, self._down, self._source)
        )


def validate_states(
    exported: Mapping[str, Any] | None, down: Mapping[str, int], source: str
) -> Mapping[str, Any]:
    """Returns the exported states after checking that they hold every cluster that is down.

    Args:
        exported: by cluster the state that the last run exported; None if there was no run.
        down: the clusters that are down, with their index in the stack file.
        source: name of the stack file.

    Raises:
        ConfigError: the stack's last `up` exported no state of a cluster that is down.
    """
    for name, index in down.items():
        if name not in (exported or {}):
            reason = (
                f"must be false: this stack's last up exported no bundle and addresses of {name} ({OUTPUT})"
            )
            raise ConfigError(f"fedmesh:clusters[{index}].down", source, reason)
    return exported or {}
