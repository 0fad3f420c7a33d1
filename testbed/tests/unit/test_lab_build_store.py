"""What was built is kept by content, and only when it is whole."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from testbed.lab.store import Store, content_key


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def write(name: str, text: str):
    return lambda folder: (folder / name).write_text(text)


def test_an_entry_is_made_once(store: Store) -> None:
    first = store.ensure("tool", "k1", write("tool", "one"))
    again = store.ensure("tool", "k1", write("tool", "two"))
    assert first == again
    assert (again / "tool").read_text() == "one"


def test_another_key_makes_another_entry(store: Store) -> None:
    store.ensure("tool", "k1", write("tool", "one"))
    assert (store.ensure("tool", "k2", write("tool", "two")) / "tool").read_text() == "two"


def test_a_failed_making_leaves_no_entry_and_no_rest(store: Store) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.ensure("tool", "k1", fail)
    assert not store.has("tool", "k1")
    assert list((store.root / "store").iterdir()) == []


def test_what_a_killed_build_left_is_removed_under_the_lock(store: Store) -> None:
    left = store.root / "store" / ".making-abc"
    left.mkdir(parents=True)
    with store.lock(lambda: None):
        assert not left.exists()


def test_a_second_build_waits_for_the_first(store: Store) -> None:
    child_may_end, child_has_lock = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        with store.lock(lambda: None):
            os.write(child_has_lock[1], b"x")
            os.read(child_may_end[0], 1)
        os._exit(0)
    os.read(child_has_lock[0], 1)
    waited: list[str] = []

    def waiting() -> None:
        waited.append("yes")
        os.write(child_may_end[1], b"x")

    with store.lock(waiting):
        assert waited == ["yes"]
    os.waitpid(child, 0)


def test_a_link_moves_to_a_new_target_and_replaces_a_plain_file(store: Store) -> None:
    one, two = store.ensure("tool", "k1", write("tool", "1")), store.ensure("tool", "k2", write("tool", "2"))
    place = store.root / "bin" / "tool"
    place.parent.mkdir()
    place.write_text("left by somebody")
    store.link("bin/tool", one / "tool")
    assert place.read_text() == "1"
    store.link("bin/tool", two / "tool")
    assert place.read_text() == "2"
    assert sorted(file.name for file in place.parent.iterdir()) == ["tool"]


def test_pruning_spares_what_is_linked_or_was_used_of_late(store: Store) -> None:
    old, linked, fresh = (store.ensure("tool", key, write("tool", key)) for key in ("old", "linked", "fresh"))
    store.link("bin/tool", linked / "tool")
    long_ago = time.time() - 1000
    os.utime(old, (long_ago, long_ago))
    os.utime(linked, (long_ago, long_ago))
    store.prune(500)
    assert [entry.exists() for entry in (old, linked, fresh)] == [False, True, True]


def test_a_key_tells_parts_and_their_order_apart() -> None:
    keys = {
        content_key(parts) for parts in (["ab", "c"], ["a", "bc"], ["c", "ab"], ["abc"], [b"ab", "c", ""])
    }
    assert len(keys) == 5
    assert content_key(["ab", "c"]) == content_key([b"ab", b"c"])
