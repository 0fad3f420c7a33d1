"""A node's containerd root: made from the cache's once, and known by it."""

from pathlib import Path

import pytest

from testbed.lab import image_store, processes
from testbed.lab.clusters import LabError, up
from testbed.lab.config import load
from testbed.lab.paths import State


def store(folder: Path) -> Path:
    for database in image_store.DATABASES:
        (folder / database).parent.mkdir(parents=True)
        (folder / database).write_text("database")
    return folder


def test_a_root_is_made_once_and_its_databases_are_its_own(tmp_path: Path) -> None:
    source, target = store(tmp_path / "containerd-1"), tmp_path / "node" / "containerd"
    image_store.seed(source, target)
    (target / image_store.DATABASES[0]).write_text("changed")
    image_store.seed(source, target)
    assert (target / image_store.DATABASES[0]).read_text() == "changed"
    assert (source / image_store.DATABASES[0]).read_text() == "database"


def test_nodes_with_other_images_are_refused_before_anything_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "find", list)
    lab, state = load(), State(tmp_path / "lab")
    old, new = store(tmp_path / "containerd-1"), store(tmp_path / "containerd-2")
    cluster, node = next(iter(lab.nodes()))
    root = state.containerd(cluster.name, node.name)
    assert image_store.is_made_from(new, root), "not there yet"
    image_store.seed(old, root)
    assert image_store.is_made_from(old, root)
    assert not image_store.is_made_from(new, root)
    with pytest.raises(
        LabError, match=rf"images have changed since {node.name} started: run `make lab-down`"
    ):
        up(lab, state, tmp_path, new, print)
    assert not state.pki(cluster.name).exists()
