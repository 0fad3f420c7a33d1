"""`fedmesh attack`: runs every attack on every cluster and reports how each was refused."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fedmesh.attack import (
    attestation,
    certificates,
    federation,
    pods,
    ports,
    reader,
    rights,
    tokens,
    workload,
)
from fedmesh.attack.attacker import attacker_on
from fedmesh.attack.model import GOOD, Attack, AttackResult, AttackSession, Verdict
from fedmesh.console import console_for
from fedmesh.drill.means import DrillError, Means, every_cluster
from fedmesh.interrupts import tell
from fedmesh.kube import KubeError
from fedmesh.probe import COLLECTIONS, Janitor, remove_stale
from fedmesh.reading import LiveCluster
from fedmesh.topology import Topology

# Attacks at a time: each starts programs in pods, which a small node's kubelet is slow to do for all at once.
TOGETHER = 12
COLOURS = {
    Verdict.REFUSED: "green",
    Verdict.BY_DESIGN: "yellow",
    Verdict.THROUGH: "red",
    Verdict.UNJUDGED: "red",
}


def make_strict(session: AttackSession) -> bool:
    """Sets the trust mode of a test environment's mesh to strict; False, without a change, everywhere else."""
    means = session.means
    if not means.contained or all(certificates.trust_mode(c) == "strict" for c in session.clusters.values()):
        return False
    session.undo.push("the trust mode, by `pulumi up`", means.up)
    means.up(trust="strict")
    return True


ALL = (
    Attack(1, ports.TITLE, ports.run),
    Attack(2, certificates.EXPIRED, certificates.run_expired),
    Attack(3, workload.TITLE, workload.run),
    Attack(4, certificates.STRANGER, certificates.run_stranger),
    # While an agent re-attests, SPIRE denies every request of its workloads.
    Attack(5, attestation.TITLE, attestation.run, exclusive=True),
    Attack(6, certificates.NAMESAKE, certificates.run_namesake),
    Attack(7, federation.TITLE, federation.run),
    Attack(8, rights.ISSUERS, rights.run_issuers),
    Attack(9, rights.ACCOUNTS, rights.run_accounts),
    Attack(10, rights.STEPS, rights.run_steps),
    Attack(11, tokens.SIGNING, tokens.run_signing),
    Attack(12, tokens.KUBELETS, tokens.run_kubelets),
    Attack(13, tokens.ROUTES, tokens.run_routes),
    Attack(14, certificates.FOREIGN_ROOT, certificates.run_foreign_root),
    Attack(15, reader.TITLE, reader.run),
    Attack(6, certificates.NAMESAKE, certificates.run_namesake, make_strict),
)


def refuse_unconfirmed(contained: bool, stack: str, typed: str | None) -> None:
    """Raises DrillError outside a test environment unless the stack's name was typed."""
    if not contained and typed != stack:
        raise DrillError(
            f"attacks direct SPIRE to a false bundle endpoint and make an agent re-attest, and {stack} is not a test "
            f"environment: confirm them with --destructive {stack}"
        )


def attack(topology: Topology, means: Means, as_json: bool, output: Path | None) -> int:
    """Runs every attack and prints the findings.

    Returns 1 when an attack got through or could not be judged, or when a change was not undone.
    """
    clusters = every_cluster(topology, "fedmesh attack")
    if not topology.samples:
        raise DrillError("fedmesh attack needs the sample apps: enable fedmesh:samples in the stack file")
    console, began = console_for(stderr=as_json), time.monotonic()
    session = AttackSession(clusters, Janitor(), means)
    for cluster in clusters.values():
        for path in remove_stale(
            cluster,
            (*COLLECTIONS, *pods.COLLECTIONS, certificates.POLICIES, rights.BINDINGS, *tokens.COLLECTIONS),
        ):
            print(f"left by an earlier run on {cluster.name}, not removed: {path}", file=sys.stderr)
    left: list[str] = []
    try:
        findings = run_attacks(session, ALL)
    finally:
        left += [*session.undo.run(), *session.janitor.clean()]
        for change in left:
            tell(f"not undone, undo it by hand: {change}")
    seconds = time.monotonic() - began
    report = _json(topology.stack, findings, seconds, left)
    print_table(console, findings, seconds)
    if as_json:
        print(report)
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(report + "\n", encoding="utf-8")
    return 0 if succeeded(findings) and not left else 1


def run_attacks(session: AttackSession, attacks: Sequence[Attack]) -> list[AttackResult]:
    """Runs attacks on every cluster: concurrent ones first, then exclusive ones, then those that change the mesh."""
    unprepared = [each for each in attacks if each.prepare is None]
    found = _together(session, [each for each in unprepared if not each.exclusive])
    for each in unprepared:
        if each.exclusive:
            found += _together(session, [each])
    for each in attacks:
        if each.prepare is None:
            continue
        try:
            if not each.prepare(session):
                continue
        except (DrillError, KubeError) as error:
            found.append([_unjudged(each, "all", str(error))])
            continue
        fresh = {name: cluster.fresh() for name, cluster in session.clusters.items()}
        for name, cluster in fresh.items():
            # The attacker's pod is running already.
            cluster.once("attacker", lambda name=name: attacker_on(session, session.clusters[name]))
        again = AttackSession(fresh, session.janitor, session.means, session.undo)
        found += [run_one(each, again, cluster) for cluster in fresh.values()]
    return [finding for findings in found for finding in findings]


def _together(session: AttackSession, attacks: Sequence[Attack]) -> list[list[AttackResult]]:
    jobs = [(each, cluster) for each in attacks for cluster in session.clusters.values()]
    with ThreadPoolExecutor(max_workers=TOGETHER) as pool:
        return list(pool.map(lambda job: run_one(job[0], session, job[1]), jobs))


def run_one(each: Attack, session: AttackSession, cluster: LiveCluster) -> list[AttackResult]:
    """Runs one attack on one cluster. An attack that cannot be carried out is reported as not judged."""
    try:
        findings = list(each.run(session, cluster))
    except Exception as error:  # The other attacks must still run, and the report names the error.
        return [_unjudged(each, cluster.name, f"{type(error).__name__}: {error}")]
    return findings or [_unjudged(each, cluster.name, "there was nothing to attack")]


def succeeded(findings: Sequence[AttackResult]) -> bool:
    """Whether there are findings and each is refused, or open by design."""
    return bool(findings) and all(finding.verdict in GOOD for finding in findings)


def print_table(console: Console, findings: Sequence[AttackResult], seconds: float) -> None:
    """A table per attack, with targets of equal verdict, evidence and control in one row, and a summary."""
    separator = "\n" if console.is_terminal else ", "
    for title in dict.fromkeys(finding.attack for finding in findings):
        table = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
        for column in ("cluster", "target", "verdict", "evidence", "control"):
            table.add_column(column, overflow="fold")
        rows: dict[tuple[str, str, str, str], list[str]] = {}
        for f in findings:
            if f.attack == title:
                rows.setdefault((f.cluster, f.verdict, f.evidence, f.control), []).append(f.target)
        for (cluster, verdict, evidence, control), targets in rows.items():
            coloured = f"[{COLOURS[Verdict(verdict)]}]{verdict}[/]"
            table.add_row(
                cluster, escape(separator.join(targets)), coloured, escape(evidence), escape(control)
            )
        console.print(table)
    counts = {v: sum(f.verdict is v for f in findings) for v in Verdict}
    summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    console.print(f"{len(findings)} attacks in {seconds:.0f} s: {summary}")


def _json(stack: str, findings: Sequence[AttackResult], seconds: float, left: Sequence[str]) -> str:
    report = {
        "stack": stack,
        "ok": succeeded(findings) and not left,
        "seconds": round(seconds, 1),
        "findings": [asdict(finding) for finding in findings],
        "left": list(left),
    }
    return json.dumps(report, indent=2)


def _unjudged(each: Attack, cluster: str, why: str) -> AttackResult:
    return AttackResult(each.title, cluster, "-", Verdict.UNJUDGED, why)
