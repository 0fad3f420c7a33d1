"""Edges outside the clusters, as users of `fedmesh:aws.edge` meet them: real Envoy and CoreDNS with AWS's timings.

Each knows the clusters in the owner's order of preference. A cluster is healthy when its ingress gateway answers and
the app behind it does.

- `accelerator`: connections, as by Global Accelerator before NLBs. Health is that of the NLB's targets, with the
  program's figures (components/aws/load_balancers.py). Connections that exist are not moved.
- `origin-failover`: requests, as by an origin group of CloudFront: GET, HEAD and OPTIONS go to the next cluster when
  the one before refuses, fails or does not answer in time. CloudFront refuses other methods in a behavior with an
  origin group, so they have a behavior of their own here, whose only origin is the first cluster. It checks no health
  and remembers nothing, so each request pays for the first try. Time-outs are the shortest that AWS documents, with
  one attempt.
- `dns`: names, as by Route 53's failover records with health checks of 10 s and two failures (components/aws/edge.py),
  for resolvers that keep an alias of an NLB for its 60 s.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.lab.processes import NODE_MARKER, STATE_MARKER
from testbed.waiting import listens, wait_until

HOST = "drill.example"
ACCELERATOR, ORIGIN_FAILOVER, DNS = 9181, 9182, 9183
# ELBv2's health check of the program's NLBs, in seconds.
NLB_INTERVAL, NLB_TIMEOUT, NLB_THRESHOLD = 5, 4, 2
# CloudFront: connection time-out 1 s (1 to 10) and one attempt (1 to 3), response time-out 1 s (1 to 120).
CONNECT_SECONDS, RESPONSE_SECONDS = 1, 1
REPEATED = "GET|HEAD|OPTIONS"
# Route 53: checks every 10 s with 4 s to connect and 2 s to answer; an alias of an NLB lives 60 s.
ROUTE53_INTERVAL, ROUTE53_TIMEOUT, ROUTE53_THRESHOLD, ALIAS_TTL = 10, 6, 2, 60
# Seconds after the loss of a cluster in which each edge may still send users there. Here, as in Envoy, the interval
# begins when the check before has ended.
DETECTION = {
    "accelerator": (NLB_INTERVAL + NLB_TIMEOUT) * NLB_THRESHOLD,
    "origin-failover": 0,
    "dns": (ROUTE53_INTERVAL + ROUTE53_TIMEOUT) * ROUTE53_THRESHOLD + ALIAS_TTL,
}
# Requests at a time; no limit of an edge.
MOST = 100_000
START_SECONDS = 20.0


@dataclass(frozen=True)
class Gateway:
    """The ingress gateway of one cluster."""

    cluster: str
    address: str


class Edges:
    """The three edges, as processes of this machine that end with this command."""

    def __init__(self, folder: Path, tools: Path) -> None:
        self._folder = folder
        self._tools = tools
        self._running: list[subprocess.Popen[bytes]] = []
        self._stop = threading.Event()

    def start(self, gateways: Sequence[Gateway]) -> None:
        """Starts the edges, which prefer the first gateway. Raises TimeoutError when one takes no users."""
        self.close()
        self._stop = threading.Event()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        bootstrap = self._folder / "envoy.json"
        bootstrap.write_text(json.dumps(envoy(gateways)))
        names = Names(self._folder / "hosts", gateways)
        (self._folder / "Corefile").write_text(corefile(names.file))
        names.write()
        threading.Thread(target=names.keep, args=(self._stop,), daemon=True).start()
        self._run("envoy", "-c", str(bootstrap), "--disable-hot-restart", "--concurrency", "1")
        self._run("coredns", "-conf", str(self._folder / "Corefile"))
        for port in (ACCELERATOR, ORIGIN_FAILOVER):
            wait_until(
                lambda port=port: answers(f"127.0.0.1:{port}", 2.0),
                START_SECONDS,
                lambda port=port: f"the edge on port {port} takes no users; see {self._folder}",
                pause=0.2,
            )
        wait_until(lambda: listens(("127.0.0.1", DNS)), START_SECONDS, lambda: "CoreDNS does not answer")

    def close(self) -> None:
        """Ends the edges."""
        self._stop.set()
        while self._running:
            process = self._running.pop()
            process.kill()
            process.wait()

    def _run(self, program: str, *arguments: str) -> None:
        with (self._folder / f"{program}.log").open("wb") as log:
            # the kernel kills the edge when this command ends
            command = ["setpriv", "--pdeathsig", "KILL", "--", str(self._tools / program), *arguments]
            marks = {NODE_MARKER: "edge", STATE_MARKER: str(self._folder.parent)}
            self._running.append(
                subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **marks}
                )
            )


class Names:
    """The address of the first healthy gateway, in a file that CoreDNS serves."""

    def __init__(
        self, file: Path, gateways: Sequence[Gateway], check: Callable[[str, float], bool] | None = None
    ) -> None:
        self.file = file
        self._gateways = gateways
        self._check = check or answers
        self._healthy = {gateway.address: True for gateway in gateways}
        self._against = dict.fromkeys(self._healthy, 0)

    def keep(self, stop: threading.Event) -> None:
        """Checks all gateways in every interval until `stop` is set."""
        while not stop.wait(ROUTE53_INTERVAL):
            self.round()

    def round(self) -> None:
        """One check of each gateway; a status changes after the threshold of checks against it."""
        for address, healthy in self._healthy.items():
            against = self._check(address, ROUTE53_TIMEOUT) != healthy
            self._against[address] = self._against[address] + 1 if against else 0
            if self._against[address] >= ROUTE53_THRESHOLD:
                self._healthy[address], self._against[address] = not healthy, 0
        self.write()

    def write(self) -> None:
        """Publishes the first healthy gateway; as in Route 53, the last resort where none is healthy is the first."""
        healthy = [address for address, well in self._healthy.items() if well]
        fresh = self.file.with_suffix(".new")
        fresh.write_text(f"{(healthy or list(self._healthy))[0]} {HOST}\n")
        fresh.rename(self.file)


def envoy(gateways: Sequence[Gateway]) -> dict[str, Any]:
    """Envoy's bootstrap with the edges `accelerator` and `origin-failover`."""
    checked: dict[str, Any] = {
        "timeout": f"{NLB_TIMEOUT}s",
        "interval": f"{NLB_INTERVAL}s",
        "no_traffic_interval": f"{NLB_INTERVAL}s",
        "unhealthy_threshold": NLB_THRESHOLD,
        "healthy_threshold": NLB_THRESHOLD,
        "http_health_check": {"path": "/", "host": HOST},
    }
    return {
        "static_resources": {
            "listeners": [
                _listener(
                    ACCELERATOR,
                    "envoy.filters.network.tcp_proxy",
                    "tcp_proxy.v3.TcpProxy",
                    {"stat_prefix": "accelerator", "cluster": "accelerator"},
                ),
                _listener(
                    ORIGIN_FAILOVER,
                    "envoy.filters.network.http_connection_manager",
                    "http_connection_manager.v3.HttpConnectionManager",
                    _requests(len(gateways)),
                ),
            ],
            "clusters": [
                _cluster("accelerator", gateways, {"health_checks": [checked], "connect_timeout": "5s"}),
                _cluster("origin-failover", gateways, {"connect_timeout": f"{CONNECT_SECONDS}s"}),
            ],
        },
    }


def _requests(gateways: int) -> dict[str, Any]:
    retries = {
        "retry_on": "5xx,reset,connect-failure",
        "num_retries": gateways - 1,
        "per_try_timeout": f"{RESPONSE_SECONDS}s",
        "retry_priority": {
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3."
                "PreviousPrioritiesConfig",
                "update_frequency": 1,
            },
        },
        "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.001s"},
    }
    repeated = {"name": ":method", "string_match": {"safe_regex": {"regex": REPEATED}}}
    plain = {"cluster": "origin-failover", "timeout": "0s"}
    return {
        "stat_prefix": "origin-failover",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "users",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"prefix": "/", "headers": [repeated]},
                            "route": {**plain, "retry_policy": retries},
                        },
                        {"match": {"prefix": "/"}, "route": {**plain, "timeout": f"{RESPONSE_SECONDS}s"}},
                    ],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                },
            }
        ],
    }


def _listener(port: int, name: str, kind: str, config: Mapping[str, Any]) -> dict[str, Any]:
    typed = {"@type": f"type.googleapis.com/envoy.extensions.filters.network.{kind}", **config}
    return {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": name, "typed_config": typed}]}],
    }


def _cluster(name: str, gateways: Sequence[Gateway], settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "type": "STATIC",
        # no health is made up where too little is known
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        # by default Envoy repeats three requests at a time, and fails the others
        "circuit_breakers": {
            "thresholds": [
                dict.fromkeys(
                    ("max_connections", "max_pending_requests", "max_requests", "max_retries"), MOST
                )
            ]
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [
                {
                    "priority": priority,
                    "lb_endpoints": [
                        {
                            "endpoint": {
                                "address": {"socket_address": {"address": gateway.address, "port_value": 80}}
                            }
                        }
                    ],
                }
                for priority, gateway in enumerate(gateways)
            ],
        },
        **settings,
    }


def corefile(hosts: Path) -> str:
    """CoreDNS as Route 53 and, by its cache, as the users' resolver, which keeps an answer for its whole life."""
    return f"""{HOST}:{DNS} {{
  cache {{
    success 100 {ALIAS_TTL} {ALIAS_TTL}
  }}
  hosts {hosts} {{
    ttl {ALIAS_TTL}
    reload 1s
  }}
}}
"""


def answers(address: str, timeout: float) -> bool:
    """Whether the app answers through a gateway or an edge."""
    request = urllib.request.Request(f"http://{address}/", headers={"Host": HOST})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
            return 200 <= answer.status < 400
    except (OSError, http.client.HTTPException):
        return False
