"""A cluster is taken out of the rotation and back as often as its operators say, each time at once."""

import pytest

from fedmesh.drain import follows, put_rotation
from fedmesh.probe import poll

LAST = "cluster-2"


@pytest.fixture
def rotation(patient):
    """Sets whether the first cluster's istiods read the last one, and says whether they do so in time."""
    cluster = patient.clusters["cluster-1"]

    def set_it(drained):
        put_rotation(cluster, LAST, drained)
        return poll(lambda: follows(cluster, LAST, drained), 20)

    yield set_it
    put_rotation(cluster, LAST, drained=False)
    patient.wait_until_whole()


@pytest.mark.timeout(180)
def test_a_cluster_is_drained_and_taken_back_twice_without_delay(rotation):
    assert [rotation(drained) for drained in (True, False, True, False)] == [True] * 4
