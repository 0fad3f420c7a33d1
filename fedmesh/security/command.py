"""`fedmesh drill --security`: every attack on every cluster, and what each met."""

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

from fedmesh.drill.means import DrillError, Means, every_cluster
from fedmesh.kube import KubeError
from fedmesh.probe import Janitor, remove_stale
from fedmesh.reading import Cluster
from fedmesh.security import attestation, certificates, federation, pods, ports, workload
from fedmesh.security.knock import outsider
from fedmesh.security.model import GOOD, Attack, Finding, Raid, Verdict
from fedmesh.topology import CLIENT, Topology

# Of a log: the evidence is long.
WIDTH = 180
COLOURS = {
    Verdict.REFUSED: "green",
    Verdict.BY_DESIGN: "yellow",
    Verdict.THROUGH: "red",
    Verdict.UNJUDGED: "red",
}


def make_strict(raid: Raid) -> bool:
    """Bring the lab's mesh to strict trust for a moment; elsewhere, and where it is strict, nothing is changed."""
    if not raid.means.lab or all(certificates.trust_mode(c) == "strict" for c in raid.clusters.values()):
        return False
    raid.undo.push("the mode of trust, by `pulumi up`", raid.means.up)
    raid.means.up(trust="strict")
    return True


ALL = (
    Attack(1, ports.TITLE, ports.play),
    Attack(2, certificates.EXPIRED, certificates.play_expired),
    Attack(3, workload.TITLE, workload.play),
    Attack(4, certificates.STRANGER, certificates.play_stranger),
    # SPIRE denies everything to the workloads of an agent that is just attesting anew.
    Attack(5, attestation.TITLE, attestation.play, alone=True),
    Attack(6, certificates.NAMESAKE, certificates.play_namesake),
    Attack(7, federation.TITLE, federation.play),
    Attack(6, certificates.NAMESAKE, certificates.play_namesake, make_strict),
)


def refuse_unconfirmed_attack(lab: bool, stack: str, typed: str | None) -> None:
    """Raise DrillError outside the lab unless the stack's name was typed: attacks touch what others use."""
    if not lab and typed != stack:
        raise DrillError(
            f"attacks send SPIRE to a false endpoint and make an agent attest anew, and {stack} is not the lab: "
            "confirm with --destructive and the stack's name"
        )


def security(topology: Topology, means: Means, as_json: bool, output: Path | None) -> int:
    """Make every attack and print what it met; 1 when one got through, was not judged, or was not put back."""
    clusters = every_cluster(topology, "the drill")
    if not topology.samples:
        raise DrillError("the drill knocks at the samples: turn them on in the stack file")
    console, began = Console(stderr=as_json), time.monotonic()
    if not console.is_terminal:
        console = Console(stderr=as_json, width=WIDTH)
    raid = Raid(clusters, Janitor(), means)
    for cluster in clusters.values():
        remove_stale(cluster, CLIENT, more=(*pods.COLLECTIONS, certificates.POLICIES))
    left: list[str] = []
    try:
        findings = attack(raid, ALL)
    finally:
        left += [*raid.undo.run(), *raid.janitor.clean()]
        for what in left:
            print(f"could not be put back, do so by hand: {what}", file=sys.stderr)
    seconds = time.monotonic() - began
    report = _json(topology.stack, findings, seconds, left)
    print_table(console, findings, seconds)
    if as_json:
        print(report)
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(report + "\n", encoding="utf-8")
    return 0 if succeeded(findings) and not left else 1


def attack(raid: Raid, attacks: Sequence[Attack]) -> list[Finding]:
    """Make attacks on every cluster: first those that go beside each other, then those that must be alone, at last
    those that change the mesh, one by one."""
    ready = [each for each in attacks if each.prepare is None]
    found = _together(raid, [each for each in ready if not each.alone])
    for each in ready:
        if each.alone:
            found += _together(raid, [each])
    for each in attacks:
        if each.prepare is None:
            continue
        try:
            if not each.prepare(raid):
                continue
        except (DrillError, KubeError) as error:
            found.append([_unjudged(each, "all", str(error))])
            continue
        fresh = {name: Cluster(cluster.member, cluster.api) for name, cluster in raid.clusters.items()}
        for name, cluster in fresh.items():
            # The pod that knocks is there already.
            cluster.once("attacker", lambda name=name: outsider(raid, raid.clusters[name]))
        again = Raid(fresh, raid.janitor, raid.means, raid.undo)
        found += [made(each, again, cluster) for cluster in fresh.values()]
    return [finding for findings in found for finding in findings]


def _together(raid: Raid, attacks: Sequence[Attack]) -> list[list[Finding]]:
    jobs = [(each, cluster) for each in attacks for cluster in raid.clusters.values()]
    with ThreadPoolExecutor(max_workers=max(1, len(jobs))) as pool:
        return list(pool.map(lambda job: made(job[0], raid, job[1]), jobs))


def made(each: Attack, raid: Raid, cluster: Cluster) -> list[Finding]:
    """What an attack met on one cluster. One that cannot be made is not judged: it must not pass for refused."""
    try:
        findings = list(each.play(raid, cluster))
    except Exception as error:  # Whatever goes wrong, the others go on and the report tells.
        return [_unjudged(each, cluster.name, f"{type(error).__name__}: {error}")]
    return findings or [_unjudged(each, cluster.name, "there was nothing to attack")]


def succeeded(findings: Sequence[Finding]) -> bool:
    """Whether attacks were made and each was refused, or open by design."""
    return bool(findings) and all(finding.verdict in GOOD for finding in findings)


def print_table(console: Console, findings: Sequence[Finding], seconds: float) -> None:
    """Targets with what met them, evidence and control alike in one line, and a summary."""
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
            table.add_row(cluster, escape("\n".join(targets)), coloured, escape(evidence), escape(control))
        console.print(table)
    counts = {v: sum(f.verdict is v for f in findings) for v in Verdict}
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    console.print(f"{len(findings)} attacks in {seconds:.0f} s: {said}")


def _json(stack: str, findings: Sequence[Finding], seconds: float, left: Sequence[str]) -> str:
    report = {
        "stack": stack,
        "ok": succeeded(findings) and not left,
        "seconds": round(seconds, 1),
        "findings": [asdict(finding) for finding in findings],
        "left": list(left),
    }
    return json.dumps(report, indent=2)


def _unjudged(each: Attack, cluster: str, why: str) -> Finding:
    return Finding(each.title, cluster, "-", Verdict.UNJUDGED, why)
