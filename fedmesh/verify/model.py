"""Checks and their results."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from fedmesh.probe import Janitor
from fedmesh.reading import LiveCluster
from fedmesh.topology import Topology

# One entry per check, under its name.
DOCUMENTATION = "docs/troubleshooting.md"


class Severity(StrEnum):
    """What a failed check means: `fatal` ones set the exit code to 1, warnings do not."""

    FATAL = "fatal"
    WARNING = "warning"


class Failed(Exception):  # noqa: N818 (a verdict, not an error)
    """A check's verdict that a requirement is not met, with the remedy if it differs from the check's own."""

    def __init__(self, detail: str, hint: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint


class Warned(Failed):
    """A verdict that is a warning, although the check is fatal."""


@dataclass(frozen=True)
class Result:
    """The result of one check on one cluster.

    Attributes:
        detail: what the check found.
        hint: the remedy; "" when the check passed.
        duration: in seconds.
        severity: of the check, or of its verdict.
        url: the entry of the check in the documentation.
    """

    name: str
    cluster: str
    ok: bool
    detail: str
    hint: str
    duration: float
    category: str = ""
    severity: Severity = Severity.FATAL
    url: str = ""

    @property
    def fatal(self) -> bool:
        """Whether the check failed, and not as a warning."""
        return not self.ok and self.severity is Severity.FATAL


@dataclass(frozen=True)
class Mesh:
    """The mesh that is checked; `clusters` are those that answer, by name."""

    topology: Topology
    clusters: dict[str, LiveCluster]
    janitor: Janitor
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    def peers(self, cluster: LiveCluster) -> list[LiveCluster]:
        """Every other cluster that answers."""
        return [other for name, other in self.clusters.items() if name != cluster.name]

    def peers_in_rotation(self, cluster: LiveCluster) -> list[LiveCluster]:
        """Every other cluster that answers and is not drained."""
        return [peer for peer in self.peers(cluster) if not peer.member.drained]


# Checks one cluster: returns what it found in a few words, or raises Failed. Its arguments are the mesh and the live
# cluster; of the checks of an AWS account, that and the cluster to be created.
Examine = Callable[[Any, Any], str]


@dataclass(frozen=True)
class Check:
    """A check, which runs once per cluster.

    Attributes:
        name: a sentence that is true when the check passes.
        hint: the remedy of failures that bring none of their own.
        samples: whether the check needs the sample apps.
    """

    name: str
    examine: Examine
    hint: str
    samples: bool = False
    category: str = ""
    severity: Severity = Severity.FATAL

    @property
    def slug(self) -> str:
        """The anchor of the check's entry in the documentation, as GitHub makes it of a heading."""
        return re.sub(r"[^\w\- ]", "", self.name.lower()).replace(" ", "-")

    @property
    def url(self) -> str:
        """The check's entry in the documentation."""
        return f"{DOCUMENTATION}#{self.slug}"


Decorator = Callable[[Examine], Check]


def category(title: str) -> Callable[..., Decorator]:
    """Returns a decorator that makes functions checks of a category.

    Its arguments are `name`, `hint`, `samples` and `severity` of the check.
    """

    def check(
        name: str, hint: str, *, samples: bool = False, severity: Severity = Severity.FATAL
    ) -> Decorator:
        return lambda examine: Check(name, examine, hint, samples, title, severity)

    return check


def refuse(faults: list[str], hint: str = "") -> None:
    """Raises Failed when there are faults; the message has the first three."""
    if faults:
        more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise Failed("; ".join(faults[:3]) + more, hint)
