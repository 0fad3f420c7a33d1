"""Agents, bundles and federation, parsed from the JSON of SPIRE's command line."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509

from fedmesh.certs import fingerprint, parse_der

COMMAND = "/opt/spire/bin/spire-server"
SOCKET = "/tmp/spire-server/private/api.sock"  # noqa: S108 (in the container)
CONTAINER = "spire-server"
# The server polls four times per refresh hint, which is 5 minutes for endpoints without one.
LONGEST_POLL = timedelta(seconds=80)
_FIELD = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)')


@dataclass(frozen=True)
class Bundle:
    """The bundle of a trust domain.

    Attributes:
        authorities: its X.509 authorities; none signs any more that is `tainted`.
        jwt_keys: ids of the keys that sign its JWT-SVIDs.
    """

    trust_domain: str
    authorities: tuple[x509.Certificate, ...]
    jwt_keys: frozenset[str] = frozenset()
    tainted: tuple[x509.Certificate, ...] = ()

    @property
    def prints(self) -> frozenset[str]:
        """Fingerprints of the X.509 authorities."""
        return frozenset(fingerprint(authority) for authority in self.authorities)


@dataclass(frozen=True)
class Agent:
    """An attested agent; `node` ends its SPIFFE ID: k8s_psat puts the node's UID there, aws_iid the instance's id."""

    spiffe_id: str
    node: str
    expires: datetime
    banned: bool


@dataclass(frozen=True)
class Relationship:
    """A federation relationship: the bundle endpoint of a foreign trust domain."""

    trust_domain: str
    url: str


@dataclass(frozen=True)
class FederationEvents:
    """The newest bundle refresh and the newest failed poll of a foreign trust domain in a server's log."""

    refreshed: datetime | None = None
    failed: datetime | None = None
    error: str = ""

    def trouble(self, now: datetime) -> str:
        """The newest error, unless it is old: SPIRE does not log polls without a change, so that errors must expire."""
        if self.failed is None or now - self.failed > LONGEST_POLL:
            return ""
        return self.error if self.refreshed is None or self.failed > self.refreshed else ""


def command(*words: str) -> list[str]:
    """The command line of spire-server with JSON output."""
    return [COMMAND, *words, "-socketPath", SOCKET, "-output", "json"]


def parse_agents(answer: dict[str, Any]) -> list[Agent]:
    """Agents of `agent list`."""
    return [
        Agent(
            spiffe_id=f"spiffe://{agent['id']['trust_domain']}{agent['id']['path']}",
            node=agent["id"]["path"].rsplit("/", 1)[-1],
            expires=datetime.fromtimestamp(int(agent.get("x509svid_expires_at", 0)), UTC),
            banned=bool(agent.get("banned", False)),
        )
        for agent in answer.get("agents") or []
    ]


def parse_bundle(answer: dict[str, Any]) -> Bundle:
    """The bundle of `bundle show`, or one of `bundle list`."""
    found = [
        (parse_der(each["asn1"]), bool(each.get("tainted"))) for each in answer.get("x509_authorities") or []
    ]
    return Bundle(
        trust_domain=answer["trust_domain"],
        authorities=tuple(authority for authority, _ in found),
        jwt_keys=frozenset(authority["key_id"] for authority in answer.get("jwt_authorities") or []),
        tainted=tuple(authority for authority, tainted in found if tainted),
    )


def parse_bundles(answer: dict[str, Any]) -> dict[str, Bundle]:
    """Bundles of `bundle list` by trust domain."""
    bundles = [parse_bundle(bundle) for bundle in answer.get("bundles") or []]
    return {bundle.trust_domain: bundle for bundle in bundles}


def parse_relationships(answer: dict[str, Any]) -> list[Relationship]:
    """Relationships of `federation list`."""
    return [
        Relationship(
            trust_domain=entry["trust_domain"],
            url=entry.get("bundle_endpoint_url", ""),
        )
        for entry in answer.get("federation_relationships") or []
    ]


def missing_authorities(origin: Bundle, copy: Bundle) -> Sequence[x509.Certificate]:
    """Authorities of the origin that are missing in the copy."""
    return [authority for authority in origin.authorities if fingerprint(authority) not in copy.prints]


def parse_federation_log(text: str) -> dict[str, FederationEvents]:
    """The newest federation events in a SPIRE server's log (text or JSON), by trust domain."""
    events: dict[str, FederationEvents] = {}
    for line in text.splitlines():
        if "bundle_client" not in line:
            continue
        fields = _fields(line)
        name, message = fields.get("trust_domain", ""), fields.get("msg", "")
        known = events.get(name, FederationEvents())
        if message == "Bundle refreshed":
            events[name] = replace(known, refreshed=datetime.fromisoformat(fields["time"]))
        elif message == "Error updating bundle":
            when = datetime.fromisoformat(fields["time"])
            events[name] = replace(known, failed=when, error=fields.get("error", "unknown error"))
    return events


def _fields(line: str) -> dict[str, str]:
    if line.startswith("{"):
        return {key: str(value) for key, value in json.loads(line).items()}
    return {key: json.loads(value) if value[0] == '"' else value for key, value in _FIELD.findall(line)}
