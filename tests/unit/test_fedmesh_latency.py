"""What a call across clusters takes longer: the rules that lead it, and the arithmetic."""

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from fedmesh.drill.latency import (
    CLUSTER_LABEL,
    LatencyReport,
    as_text,
    document,
    measure,
    objects,
    rows,
    summary,
)
from fedmesh.drill.means import DrillError
from fedmesh.drill.samples import Sample


def samples(seconds, cluster, lost=0):
    answered = [Sample(0.0, second, 200, cluster, "") for second in seconds]
    return [*answered, *(Sample(0.0, 9.0, 503, "nobody", "refused") for _ in range(lost))]


def test_every_kind_of_call_has_a_subset_on_its_cluster_and_a_path_to_it():
    rule, routes = (body["spec"] for _, body in objects("cluster-1", "cluster-2")[1:])
    where = {subset["name"]: subset["labels"][CLUSTER_LABEL] for subset in rule["subsets"]}
    assert where == {
        "local-kept": "cluster-1",
        "local-new": "cluster-1",
        "remote-kept": "cluster-2",
        "remote-new": "cluster-2",
    }
    for subset in rule["subsets"]:
        once = {"trafficPolicy": {"connectionPool": {"http": {"maxRequestsPerConnection": 1}}}}
        rest = {key: value for key, value in subset.items() if key not in ("name", "labels")}
        assert rest == (once if subset["name"].endswith("new") else {})
    paths = {route["route"][0]["destination"]["subset"]: route["match"][0]["uri"] for route in routes["http"]}
    assert paths == {name: {"prefix": f"/{name.replace('-', '/')}"} for name in where}


def test_lost_calls_are_counted_and_do_not_count_for_the_percentiles():
    found = summary("local", "kept", samples([0.001, 0.002, 0.003], "cluster-1", lost=2))
    assert (found.sent, found.lost, found.p50, found.p99) == (5, 2, 0.002, 0.003)


def test_calls_that_several_clusters_answered_or_nobody_are_no_measurement():
    with pytest.raises(DrillError, match="cluster-1, cluster-2"):
        summary("local", "kept", samples([0.1], "cluster-1") + samples([0.1], "cluster-2"))
    with pytest.raises(DrillError, match="nobody"):
        summary("local", "kept", samples([], "cluster-1", lost=1))


def test_what_is_added_is_the_difference_of_the_percentiles():
    kinds = [
        ("local", "kept", 0.001),
        ("local", "new", 0.002),
        ("remote", "kept", 0.0015),
        ("remote", "new", 0.005),
    ]
    figures = tuple(
        summary(p, c, samples([s], "cluster-1" if p == "local" else "cluster-2")) for p, c, s in kinds
    )
    report = LatencyReport(datetime(2026, 1, 2, tzinfo=UTC), "cluster-1", "cluster-2", 40, figures)
    assert rows(report)[0] == ("kept", "p50", "1.00 ms", "1.50 ms", "+0.50 ms")
    assert rows(report)[2] == ("new", "p50", "2.00 ms", "5.00 ms", "+3.00 ms")
    assert "| new | p99 | 2.00 ms | 5.00 ms | +3.00 ms |" in document(report)
    assert '"by": "cluster-2"' in as_text(report)


class Pod:
    """A load pod whose every call is answered by cluster-1."""

    def fire(self, *_, **__):
        pass

    def collect(self, *_):
        return samples([0.001] * 60, "cluster-1")


@dataclass
class Named:
    name: str


def test_remote_calls_that_stayed_local_are_no_measurement(monkeypatch):
    monkeypatch.setattr("fedmesh.drill.latency.time.sleep", lambda _: None)
    with pytest.raises(DrillError, match="remote calls were answered by cluster-1, not by cluster-2"):
        measure(Pod(), Named("cluster-1"), Named("cluster-2"))
