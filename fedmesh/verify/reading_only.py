"""Verification with the rights of a reader: nothing is run in pods, nothing is made, and no Secret is read."""

from __future__ import annotations

from typing import Any, NoReturn

from fedmesh.kube import Json
from fedmesh.reading import Api, LiveCluster
from fedmesh.verify.model import Warned

HINT = "Run `fedmesh verify` without --read-only, as somebody who may run commands in pods, to see it."


class ReadOnly:
    """The part of an API server that docs/verify-role.yaml gives rights to. All else raises Warned."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._refused: set[str] = set()

    @property
    def server(self) -> str:
        """URL of the API server."""
        return self._api.server

    def clock_ahead(self) -> float:
        """See Kube."""
        return self._api.clock_ahead()

    def get(self, path: str, **query: str) -> Any:
        """See Kube."""
        self._refuse_secrets(path)
        return self._api.get(path, **query)

    def items(self, path: str, **query: str) -> list[Json]:
        """See Kube."""
        self._refuse_secrets(path)
        return self._api.items(path, **query)

    def _refuse_secrets(self, path: str) -> None:
        if "secrets" in path.split("/"):
            _unseen("Secrets are read")

    def exec(self, namespace: str, pod: str, *_words: Any, **_options: Any) -> NoReturn:
        """Refused."""
        _unseen(f"a command is run in {namespace}/{pod}")

    def create(self, path: str, body: Json) -> NoReturn:
        """Refused."""
        self._refused.add(f"{path}/{body.get('metadata', {}).get('name', '')}")
        _unseen(f"a temporary {body.get('kind', 'object')} is made in {path}")

    def patch(self, path: str, body: Json) -> NoReturn:
        """Refused."""
        _unseen(f"{', '.join(body)} of {path} is changed")

    def delete(self, path: str, **_query: str) -> None:
        """Refused, but for what was not made: whoever cleans up need not know."""
        if path not in self._refused:
            _unseen(f"{path} is removed")


def read_only(cluster: LiveCluster) -> LiveCluster:
    """The same cluster, of which only objects are read."""
    return LiveCluster(cluster.member, ReadOnly(cluster.api))


def _unseen(what: str) -> NoReturn:
    raise Warned(f"not seen with --read-only: for this check {what}", HINT)
