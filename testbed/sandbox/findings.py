"""Compares checkov's findings in the stacks' plans with those that docs/aws.md explains."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

CHECKOV = "checkov@3.3.30"
DOCUMENT = "docs/aws.md"
TIMEOUT_SECONDS = 300
# A row of the table: checks, a pattern of resources, and the explanation.
ROW = re.compile(r"^\| (CKV2?_\w+(?:, CKV2?_\w+)*) \| `([^`]+)` \| .+ \|$", re.MULTILINE)


class FindingsError(Exception):
    """checkov failed, or has findings that are not explained."""


@dataclass(frozen=True, order=True)
class Finding:
    """A check of checkov that a resource fails."""

    check: str
    resource: str
    text: str


@dataclass(frozen=True)
class Explained:
    """Findings that are accepted: a check, and a pattern of resources."""

    check: str
    pattern: str

    def covers(self, finding: Finding) -> bool:
        """Whether the finding is one of these."""
        return finding.check == self.check and fnmatchcase(finding.resource, self.pattern)


def explained_in(document: str) -> list[Explained]:
    """The rows of a Markdown document's table of explained findings."""
    return [
        Explained(check, pattern) for checks, pattern in ROW.findall(document) for check in checks.split(", ")
    ]


def of_plans(folder: Path, uv: str) -> tuple[list[Finding], int]:
    """Runs checkov on the plans in a folder; returns its findings and the number of passed checks.

    uv installs checkov into its cache; it is not part of the project's environment.

    Raises:
        FindingsError: checkov did not run, or checked nothing.
    """
    command = [uv, "tool", "run", "--python", "python3", CHECKOV, "--directory", str(folder)]
    command += ["--framework", "terraform_plan", "kubernetes", "--output", "json", "--compact", "--quiet"]
    command += ["--soft-fail", "--skip-download"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS)
    if done.returncode != 0 or not done.stdout.strip():
        raise FindingsError(f"checkov failed: {done.stderr[-2000:]}{done.stdout[-2000:]}")
    said = json.loads(done.stdout)
    reports = said if isinstance(said, list) else [said]
    found = sorted(
        {
            Finding(check["check_id"], check["resource"], check["check_name"])
            for report in reports
            for check in report["results"]["failed_checks"]
        }
    )
    passed = sum(int(report["summary"]["passed"]) for report in reports)
    if not passed:
        raise FindingsError("checkov found nothing to check")
    return found, passed


def check(project: Path, plans: Path, say: Callable[[str], None]) -> None:
    """Compares checkov's findings in plans with those that docs/aws.md explains.

    Raises:
        FindingsError: a finding without a row, or a row without a finding.
    """
    found, passed = of_plans(plans, uv_of(project))
    explained = explained_in((project / DOCUMENT).read_text(encoding="utf-8"))
    faults = [f"{each.check} {each.resource}: {each.text}" for each in unexplained(found, explained)]
    faults += [f"{row.check} {row.pattern} finds nothing any more" for row in outdated(found, explained)]
    if faults:
        raise FindingsError("\n  ".join([f"{len(faults)} are not as {DOCUMENT} has it:", *faults]))
    say(f"{passed} checks passed, {len(found)} findings, each explained in {DOCUMENT}")


def unexplained(found: Iterable[Finding], explained: Sequence[Explained]) -> list[Finding]:
    """The findings that no row covers."""
    return [each for each in found if not any(row.covers(each) for row in explained)]


def outdated(found: Sequence[Finding], explained: Iterable[Explained]) -> list[Explained]:
    """The rows that cover no finding any more."""
    return [row for row in explained if not any(row.covers(each) for each in found)]


def uv_of(project: Path) -> str:
    """The uv of the project's environment, else that on PATH. Raises FindingsError when there is none."""
    own = project / ".venv" / "bin" / "uv"
    found = str(own) if own.exists() else shutil.which("uv")
    if not found:
        raise FindingsError("uv is needed to run checkov: make venv")
    return found
