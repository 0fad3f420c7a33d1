"""The drill that keeps the SPIRE server away past a renewal: when it is due, and what is said of it."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from fedmesh_samples import TARGET, FakeApi

from fedmesh.drill import renewal
from fedmesh.drill.means import Means
from fedmesh.drill.scene import Scene
from fedmesh.reading import LiveCluster
from fedmesh.topology import Member, Topology


def leaf(age, life):
    """A certificate that was issued `age` seconds ago for `life` seconds."""
    issued = datetime.now(UTC) - timedelta(seconds=age)
    return SimpleNamespace(not_valid_before_utc=issued, not_valid_after_utc=issued + timedelta(seconds=life))


class Recorder(FakeApi):
    """Remembers what is changed; its clock is this machine's."""

    def __init__(self, answers=None):
        super().__init__(answers)
        self.changed = []

    def patch(self, path, body):
        self.changed.append((path, body))

    def clock_ahead(self):
        return 0.0


@pytest.fixture
def api():
    return Recorder({renewal.WORKLOADS: {"spec": {}}, "/api/v1/namespaces/spire/pods": []})


@pytest.fixture
def scene(api):
    member = Member("cluster-1", "td1", "network-1", None, "")
    cluster = LiveCluster(member, api)
    return Scene({"cluster-1": cluster}, cluster, cluster, Means(Topology("blue", (member,)), None), TARGET)


@pytest.fixture
def shown(monkeypatch):
    """What the proxies show, one answer after the other, the last for good."""
    answers = []
    monkeypatch.setattr(renewal, "certificates", lambda _: answers.pop(0) if len(answers) > 1 else answers[0])
    return answers


@pytest.fixture
def slept(monkeypatch):
    slept = []
    monkeypatch.setattr(renewal.time, "sleep", slept.append)
    return slept


def test_half_of_a_life_is_when_a_renewal_is_due(scene):
    held = {"a": leaf(age=10, life=360), "b": leaf(age=30, life=360)}
    assert renewal.until_due(scene.client, held) == pytest.approx((150, 170), abs=1)


def test_lives_are_short_before_it_begins_and_as_they_were_afterwards(scene, api, shown, slept):
    shown += [{"a": leaf(age=0, life=3600)}, {"a": leaf(age=10, life=370)}]
    renewal.shorten_lives(scene)
    assert slept[-1] == pytest.approx(175 - renewal.LEAD, abs=1)
    assert scene.situation.run() == []
    assert api.changed == [
        (renewal.WORKLOADS, {"spec": {"ttl": "360s"}}),
        (renewal.WORKLOADS, {"spec": {"ttl": None}}),
    ]


def test_lives_that_a_fault_outlasts_are_short_in_every_proxy(scene, api, shown, slept):
    shown += [{"a": leaf(age=0, life=370)}, {"a": leaf(age=0, life=130), "b": leaf(age=0, life=130)}]
    renewal.shorten_lives_below_the_fault(scene)
    assert scene.remarks == ["each of 2 proxies' certificates is valid for 120 s"]
    assert api.changed == [(renewal.WORKLOADS, {"spec": {"ttl": "120s"}})]
    assert scene.situation.run() == []


def test_the_renewals_are_made_up_for_once_the_server_is_back(scene, monkeypatch, shown, slept):
    monkeypatch.setattr(
        renewal, "take_spire_server", lambda scene: scene.taken.push("back", lambda: back.append(1))
    )
    back, old = [], leaf(age=160, life=370)
    shown += [{"a": old}, {"a": old}, {"a": leaf(age=0, life=370)}]
    renewal.miss_renewals(scene)
    assert back == [1]
    away, whole = scene.remarks
    assert "the renewals of 1 proxies were due 25 to 25 s" in away
    assert "210 s before the first old one expired" in whole
    assert slept[0] == pytest.approx(renewal.AWAY, abs=1)


def test_a_renewal_that_came_too_early_is_no_drill(scene, monkeypatch, shown):
    monkeypatch.setattr(renewal, "take_spire_server", lambda _: None)
    shown += [{"a": leaf(age=160, life=370), "b": leaf(age=1, life=370)}]
    with pytest.raises(LookupError, match="just before"):
        renewal.miss_renewals(scene)
