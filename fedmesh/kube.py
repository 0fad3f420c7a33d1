"""A client of one API server, in plain dicts so that tests can replace it by recorded answers."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import portforward, stream

Json = dict[str, Any]
# The exit code of a command that did not end in time.
UNENDED = -1


# Statuses of the API server that callers tell apart.
FORBIDDEN, NOT_FOUND, CONFLICT, INVALID = 403, 404, 409, 422


class KubeError(Exception):
    """The API server refused a request, or could not be reached: then `status` is 0."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Output:
    """The output of a command in a container, and its exit code (UNENDED: it did not end in time)."""

    stdout: str
    stderr: str
    code: int


# Commands in containers at a time, where the caller sets no limit of its own.
COMMANDS = 64


class Kube:
    """A client of one API server, safe for use by several threads. Without a context, the current one is used.

    `commands` is how many commands in containers run at a time; others wait for their turn, which is no part of
    their time-out. Raises KubeError when the kubeconfig file or its context cannot be used.
    """

    def __init__(
        self, kubeconfig: Path | None, context: str, timeout: float = 5.0, commands: int = COMMANDS
    ) -> None:
        self._timeout = timeout
        self._commands = threading.BoundedSemaphore(commands)
        self._configuration = client.Configuration()
        try:
            config.load_kube_config(
                config_file=str(kubeconfig) if kubeconfig else None,
                context=context or None,
                client_configuration=self._configuration,
                persist_config=False,
            )
        except (config.ConfigException, OSError, yaml.YAMLError) as error:
            raise KubeError(
                f"context {context or '(current)'} of {kubeconfig or 'the default kubeconfig'}: {error}"
            ) from error
        # Retries would hide a failing API server and triple the wait for an unreachable one.
        self._configuration.retries = urllib3.Retry(0)
        self._configuration.connection_pool_maxsize = 16
        self._api = client.ApiClient(self._configuration)

    @property
    def server(self) -> str:
        """URL of the API server."""
        return str(self._configuration.host)

    def request(
        self, method: str, path: str, body: Any = None, content_type: str | None = None, **query: str
    ) -> Any:
        """Sends one request; returns the parsed JSON answer, or the text of another answer. Raises KubeError."""
        path = f"{path}?{urlencode(query)}" if query else path
        response = self._send(method, path, body, content_type)
        raw: bytes = response.read() or b""
        text = raw.decode("utf-8", "replace")
        if response.status >= 400:
            raise KubeError(f"{method} {path}: {_status_message(text)}", response.status)
        try:
            return json.loads(text)
        except ValueError:
            return text

    def _send(self, method: str, path: str, body: Any, content_type: str | None) -> Any:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = content_type or "application/json"
        serialized = self._api.param_serialize(
            method=method,
            resource_path=path,
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            return self._api.call_api(*serialized, _request_timeout=self._timeout)
        except ApiException as error:
            raise KubeError(_message(error), error.status or 0) from error
        except urllib3.exceptions.HTTPError as error:
            raise KubeError(f"{self.server} does not answer: {_root_cause(error)}") from error

    def get(self, path: str, **query: str) -> Any:
        """The object at an API path, such as /api/v1/nodes/NAME."""
        return self.request("GET", path, **query)

    def clock_ahead(self) -> float:
        """Seconds by which the API server's clock is ahead of this machine's, to within a second."""
        asked = datetime.now(UTC)
        response = self._send("GET", "/version", None, None)
        response.read()
        middle = asked + (datetime.now(UTC) - asked) / 2
        # The header has whole seconds: on average, half a second is cut off.
        there = parsedate_to_datetime(response.headers["date"]) + timedelta(seconds=0.5)
        return (there - middle).total_seconds()

    def items(self, path: str, **query: str) -> list[Json]:
        """The objects of a list at an API path, such as /api/v1/nodes."""
        return list(self.get(path, **query).get("items") or [])

    def create(self, path: str, body: Json) -> Json:
        """Creates an object in the collection at an API path."""
        return self.request("POST", path, body)

    def patch(self, path: str, body: Json) -> Json:
        """Changes an object by a JSON merge patch."""
        return self.request("PATCH", path, body, content_type="application/merge-patch+json")

    def delete(self, path: str, **query: str) -> None:
        """Deletes the object at an API path; a missing object is no error."""
        try:
            self.request("DELETE", path, **query)
        except KubeError as error:
            if error.status != 404:
                raise

    def exec(
        self,
        namespace: str,
        pod: str,
        container: str,
        command: list[str],
        *,
        stdin: str | None = None,
        timeout: float = 8.0,
    ) -> Output:
        """Runs a command in a container. Text for stdin is not part of the request, so that it may hold keys."""
        with self._commands:
            return self._exec(namespace, pod, container, command, stdin=stdin, timeout=timeout)

    def _exec(
        self,
        namespace: str,
        pod: str,
        container: str,
        command: list[str],
        *,
        stdin: str | None,
        timeout: float,
    ) -> Output:
        # stream() replaces a method of its client while it connects: every call needs its own client.
        core = client.CoreV1Api(client.ApiClient(self._configuration))
        try:
            socket: Any = stream(
                core.connect_get_namespaced_pod_exec,
                pod,
                namespace,
                container=container,
                command=command,
                stdin=stdin is not None,
                stdout=True,
                stderr=True,
                tty=False,
                _preload_content=False,
            )
        except ApiException as error:
            raise KubeError(f"exec in {namespace}/{pod}: {_handshake(error)}", error.status or 0) from error
        try:
            if stdin is not None:
                socket.write_stdin(stdin)
                socket.close_channel(0)  # commands that read to the end of their input need it
            socket.run_forever(timeout=timeout)
            out, err = socket.read_channel(1) or "", socket.read_channel(2) or ""
            code, complaint = _ended(socket)
            return Output(out, err or complaint, code)
        finally:
            socket.close()

    def forward(self, namespace: str, pod: str, port: int) -> Any:
        """A new connection to a port of a pod, as a socket. Raises KubeError."""
        core = client.CoreV1Api(client.ApiClient(self._configuration))
        try:
            forwarded: Any = portforward(
                core.connect_get_namespaced_pod_portforward, pod, namespace, ports=str(port)
            )
        except ApiException as error:
            raise KubeError(
                f"port {port} of {namespace}/{pod}: {_handshake(error)}", error.status or 0
            ) from error
        return forwarded.socket(port)


def _ended(socket: Any) -> tuple[int, str]:
    """The exit code of a command and, without one, the reason: UNENDED, or 126 for one that did not start."""
    if socket.is_open():
        return UNENDED, ""
    status = yaml.safe_load(socket.read_channel(3) or "") or {}
    if status.get("status") == "Success":
        return 0, ""
    causes = {
        cause.get("reason"): cause["message"] for cause in status.get("details", {}).get("causes") or []
    }
    if "ExitCode" in causes:
        return int(causes["ExitCode"]), ""
    return 126, str(status.get("message", "the connection was closed"))


def _handshake(error: ApiException) -> str:
    # The WebSocket library returns headers and body as one text that ends with the body.
    return _status_message(
        str(error.reason).rsplit("-+-+-", 1)[-1].strip().removeprefix("b'").removesuffix("'")
    )


def _message(error: ApiException) -> str:
    return _status_message(error.body) if error.body else str(error.reason)


def _status_message(text: Any) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return str(text).strip()[:300]


def _root_cause(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason or error).split(": ", 1)[-1]
