"""Waiting ends with the condition, or with one message."""

import socket

import pytest

from testbed.waiting import listens, wait_until


def test_the_condition_is_asked_until_it_holds() -> None:
    answers = iter((False, False, True))
    wait_until(lambda: next(answers), 5, lambda: "never", pause=0)
    assert list(answers) == []


def test_a_condition_that_does_not_come_is_told_as_it_is_at_the_end() -> None:
    asked: list[int] = []
    with pytest.raises(TimeoutError, match="asked 1 times"):
        wait_until(lambda: bool(asked.append(1)), 0, lambda: f"asked {len(asked)} times", pause=0)


def test_a_port_listens_or_does_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert listens(("127.0.0.1", server.getsockname()[1]))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert not listens(("127.0.0.1", free.getsockname()[1]))
