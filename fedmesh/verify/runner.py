"""Runs checks concurrently under one deadline, so that an unreachable cluster does not delay the report."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from queue import Empty, Queue

from fedmesh.kube import KubeError
from fedmesh.reading import LiveCluster
from fedmesh.verify.model import Check, Failed, Mesh, Result, Severity, Warned

REACH = "API server answers"
UNEXAMINED = "not examined, as the API server does not answer"


def run(
    mesh: Mesh,
    checks: Sequence[Check],
    unreachable: dict[str, str],
    deadline: float,
) -> list[Result]:
    """Runs every check on every cluster and returns the results in the order of the checks.

    Args:
        unreachable: the error of each cluster that does not answer, by name.
        deadline: in seconds; a check that has not finished by then, or that raises an exception, has failed.
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
        # Daemon threads: one that waits for a dead connection must not keep the process running.
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
    for index, (check, name) in enumerate(jobs):
        late = f"no answer within {deadline:.0f} s"
        results.setdefault(index, result_of(check, name, False, late, hint=check.hint, duration=deadline))
    return [results[index] for index in range(len(jobs))]


def result_of(
    check: Check,
    cluster: str,
    ok: bool,
    detail: str,
    *,
    hint: str = "",
    duration: float = 0.0,
    severity: Severity | None = None,
) -> Result:
    """The result of a check on a cluster; `severity`: the check's own by default."""
    return Result(
        check.name, cluster, ok, detail, hint, duration, check.category, severity or check.severity, check.url
    )


def examine(mesh: Mesh, check: Check, cluster: LiveCluster) -> Result:
    """Runs one check on one cluster; never raises."""
    began = time.monotonic()

    def result(ok: bool, detail: str, hint: str = "", severity: Severity | None = None) -> Result:
        seconds = round(time.monotonic() - began, 3)
        return result_of(check, cluster.name, ok, detail, hint=hint, duration=seconds, severity=severity)

    try:
        return result(True, check.examine(mesh, cluster))
    except Failed as failure:
        severity = Severity.WARNING if isinstance(failure, Warned) else None
        return result(False, failure.detail, failure.hint or check.hint, severity)
    except KubeError as error:
        return result(False, str(error), check.hint)
    except Exception as error:  # A faulty check must not pass, and must not end the others.
        return result(False, f"the check itself failed: {type(error).__name__}: {error}", check.hint)


def failures(results: Iterable[Result]) -> list[Result]:
    """The results of checks that did not pass, warnings included."""
    return [result for result in results if not result.ok]


def _unread(check: Check, cluster: str, why: str) -> Result:
    if check.name == REACH:
        return result_of(check, cluster, False, why, hint=check.hint)
    return result_of(check, cluster, False, UNEXAMINED)


def _answer(
    mesh: Mesh, check: Check, cluster: LiveCluster, index: int, answers: Queue[tuple[int, Result]]
) -> None:
    answers.put((index, examine(mesh, check, cluster)))
