"""What SPIRE's own command line says about agents, bundles and federation, parsed from its JSON."""

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
# A quarter of the longest refresh hint that the server takes from an endpoint without one, 5 minutes.
LONGEST_POLL = timedelta(seconds=80)
_FIELD = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)')


@dataclass(frozen=True)
class Bundle:
    """A trust domain's keys: X.509 authorities and the ids of its JWT keys."""

    trust_domain: str
    authorities: tuple[x509.Certificate, ...]
    jwt_keys: frozenset[str]
    refresh_hint: int
    sequence: int

    @property
    def prints(self) -> frozenset[str]:
        """Fingerprints of the X.509 authorities."""
        return frozenset(fingerprint(authority) for authority in self.authorities)


@dataclass(frozen=True)
class Agent:
    """An attested agent; `node_uid` is the UID of the Kubernetes node that k8s_psat put into its id."""

    spiffe_id: str
    node_uid: str
    expires: datetime
    banned: bool


@dataclass(frozen=True)
class Relationship:
    """A federation relationship: where a foreign trust domain's bundle is fetched from."""

    trust_domain: str
    url: str
    profile: str


@dataclass(frozen=True)
class FederationEvents:
    """What a server's log says of one foreign trust domain: the newest change and the newest failed poll."""

    refreshed: datetime | None = None
    failed: datetime | None = None
    error: str = ""

    def trouble(self, now: datetime) -> str:
        """The newest error while it is current. A poll that finds nothing new is silent, so errors age."""
        if self.failed is None or now - self.failed > LONGEST_POLL:
            return ""
        return self.error if self.refreshed is None or self.failed > self.refreshed else ""


def command(*words: str) -> list[str]:
    """Command line that asks a SPIRE server for JSON."""
    return [COMMAND, *words, "-socketPath", SOCKET, "-output", "json"]


def parse_agents(answer: dict[str, Any]) -> list[Agent]:
    """Agents of `agent list`."""
    return [
        Agent(
            spiffe_id=f"spiffe://{agent['id']['trust_domain']}{agent['id']['path']}",
            node_uid=agent["id"]["path"].rsplit("/", 1)[-1],
            expires=datetime.fromtimestamp(int(agent.get("x509svid_expires_at", 0)), UTC),
            banned=bool(agent.get("banned", False)),
        )
        for agent in answer.get("agents") or []
    ]


def parse_bundle(answer: dict[str, Any]) -> Bundle:
    """The bundle of `bundle show`, or one of those of `bundle list`."""
    return Bundle(
        trust_domain=answer["trust_domain"],
        authorities=tuple(parse_der(authority["asn1"]) for authority in answer.get("x509_authorities") or []),
        jwt_keys=frozenset(key["key_id"] for key in answer.get("jwt_authorities") or []),
        refresh_hint=int(answer.get("refresh_hint", 0)),
        sequence=int(answer.get("sequence_number", 0)),
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
            profile="https_spiffe" if "https_spiffe" in entry else "https_web",
        )
        for entry in answer.get("federation_relationships") or []
    ]


def missing_authorities(origin: Bundle, copy: Bundle) -> Sequence[x509.Certificate]:
    """Authorities that the origin has and the copy lacks."""
    return [authority for authority in origin.authorities if fingerprint(authority) not in copy.prints]


def parse_federation_log(text: str) -> dict[str, FederationEvents]:
    """Newest federation events by trust domain in a SPIRE server's log, in text or JSON format."""
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
