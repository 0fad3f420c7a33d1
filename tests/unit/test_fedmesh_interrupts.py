"""Ctrl-C stops a command once, and never its clean-up."""

import errno
import io
import os
import signal
import sys

import pytest
from fedmesh_samples import FakeApi

from fedmesh.drill.undo import Undo
from fedmesh.interrupts import handled, shielded, tell
from fedmesh.kube import KubeError
from fedmesh.probe import Janitor


def interrupt(number=signal.SIGINT):
    os.kill(os.getpid(), number)


def test_a_second_ctrl_c_does_not_stop_the_undo_of_a_drill(capsys):
    undone, undo = [], Undo()
    undo.push("first", lambda: undone.append("first"))
    undo.push("second", lambda: (interrupt(), undone.append("second")))

    def run():
        try:
            interrupt()
        finally:
            interrupt()
            undo.run()

    with pytest.raises(KeyboardInterrupt), handled():
        run()
    assert undone == ["second", "first"]
    assert "cleaning up" in capsys.readouterr().err


def test_a_ctrl_c_during_the_undo_of_a_drill_that_ended_by_itself_counts_after_it():
    undone, undo = [], Undo()
    undo.push("first", lambda: undone.append("first"))
    undo.push("second", interrupt)

    def run():
        undo.run()
        pytest.fail("the command must stop")

    with pytest.raises(KeyboardInterrupt), handled():
        run()
    assert undone == ["first"]


def test_sigterm_stops_a_command_like_ctrl_c():
    with pytest.raises(KeyboardInterrupt), handled():
        interrupt(signal.SIGTERM)


def test_temporary_objects_are_removed_in_spite_of_ctrl_c():
    class Interrupted(FakeApi):
        def delete(self, path, **_query):
            interrupt()
            super().delete(path)

    api, janitor = Interrupted(), Janitor()
    for name in ("one", "two"):
        janitor.create(api, "/a", {"metadata": {"name": name}})
    with pytest.raises(KeyboardInterrupt):
        janitor.clean()
    assert api.deleted == ["/a/two", "/a/one"]


def test_the_handlers_of_before_are_back_afterwards():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with handled(), shielded():
        assert signal.getsignal(signal.SIGINT) is not before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_sighup_stops_a_command_like_ctrl_c():
    with pytest.raises(KeyboardInterrupt), handled():
        interrupt(signal.SIGHUP)


def test_sighup_stays_ignored_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handled(), shielded():
            interrupt(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


class Closed(io.StringIO):
    """A terminal that has been closed."""

    def write(self, _text):
        raise OSError(errno.EIO, "Input/output error")


def test_a_closed_terminal_does_not_stop_the_undo(monkeypatch):
    undone, undo = [], Undo()
    undo.push("first", lambda: undone.append("first"))
    undo.push("second", lambda: (interrupt(signal.SIGHUP), undone.append("second")))

    def run():
        try:
            interrupt(signal.SIGHUP)
        finally:
            monkeypatch.setattr(sys, "stderr", Closed())
            undo.run()

    with pytest.raises(KeyboardInterrupt), handled():
        run()
    assert undone == ["second", "first"]


def test_what_nobody_can_read_is_not_told_and_stops_nothing(monkeypatch, capsys):
    tell("before")
    assert capsys.readouterr().err == "before\n"
    monkeypatch.setattr(sys, "stderr", Closed())
    tell("after")
    monkeypatch.setattr(sys, "stderr", None)
    tell("without standard error")


@pytest.mark.parametrize(("status", "deleted"), [(409, []), (0, ["/a/one"]), (500, ["/a/one"])])
def test_an_object_that_was_there_before_stays_and_one_whose_answer_is_lost_goes(status, deleted):
    class Refusing(FakeApi):
        def create(self, _path, _body):
            raise KubeError("no", status)

    api, janitor = Refusing(), Janitor()
    with pytest.raises(KubeError, match="no"):
        janitor.create(api, "/a", {"metadata": {"name": "one"}})
    assert janitor.clean() == []
    assert api.deleted == deleted
