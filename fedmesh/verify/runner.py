"""Runs checks side by side under one deadline, so that a dead cluster never holds up the report."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from queue import Empty, Queue

from fedmesh.kube import KubeError
from fedmesh.reading import LiveCluster
from fedmesh.verify.model import Check, Failed, Mesh, Result

REACH = "API server answers"
UNEXAMINED = "not examined, as the API server does not answer"


def run(
    mesh: Mesh,
    checks: Sequence[Check],
    unreachable: dict[str, str],
    deadline: float,
    seen: Callable[[Result], None] = lambda _: None,
) -> list[Result]:
    """Run every check on every cluster and return the results in the order of the registry.

    `unreachable` gives, by cluster name, why a cluster cannot be examined at all. `deadline` is in seconds.
    A check that crashes, or has not answered by then, is a failed check.
    """
    jobs = [
        (check, name)
        for check in checks
        if mesh.topology.samples or not check.samples
        for name in [member.name for member in mesh.topology.members]
    ]
    answers: Queue[tuple[int, Result]] = Queue()
    end = time.monotonic() + deadline
    results: dict[int, Result] = {}
    waiting = 0
    for index, (check, name) in enumerate(jobs):
        if name in unreachable:
            results[index] = _unread(check, name, unreachable[name])
            continue
        waiting += 1
        # Daemon threads: one that hangs on a dead connection must not keep the process alive.
        threading.Thread(
            target=_answer, args=(mesh, check, mesh.clusters[name], index, answers), daemon=True
        ).start()
    while waiting and (left := end - time.monotonic()) > 0:
        try:
            index, result = answers.get(timeout=left)
        except Empty:
            break
        results[index] = result
        waiting -= 1
        seen(result)
    for index, (check, name) in enumerate(jobs):
        late = Result(check.name, name, False, f"no answer within {deadline:.0f} s", check.hint, deadline)
        results.setdefault(index, late)
    return [results[index] for index in range(len(jobs))]


def examine(mesh: Mesh, check: Check, cluster: LiveCluster) -> Result:
    """Run one check on one cluster; never raises."""
    began = time.monotonic()

    def result(ok: bool, detail: str, hint: str = "") -> Result:
        return Result(check.name, cluster.name, ok, detail, hint, round(time.monotonic() - began, 3))

    try:
        return result(True, check.examine(mesh, cluster))
    except Failed as failure:
        return result(False, failure.detail, failure.hint or check.hint)
    except KubeError as error:
        return result(False, str(error), check.hint)
    except Exception as error:  # A faulty check must never pass for a healthy mesh, nor end the others.
        return result(False, f"the check itself failed: {type(error).__name__}: {error}", check.hint)


def failures(results: Iterable[Result]) -> list[Result]:
    """Results that are not ok."""
    return [result for result in results if not result.ok]


def _unread(check: Check, cluster: str, why: str) -> Result:
    if check.name == REACH:
        return Result(check.name, cluster, False, why, check.hint, 0.0)
    return Result(check.name, cluster, False, UNEXAMINED, "", 0.0)


def _answer(
    mesh: Mesh, check: Check, cluster: LiveCluster, index: int, answers: Queue[tuple[int, Result]]
) -> None:
    answers.put((index, examine(mesh, check, cluster)))
