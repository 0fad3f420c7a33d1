"""The package of the command: its dependencies are declared, and the locked versions satisfy them."""

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parents[2]
DECLARED = [
    Requirement(line)
    for line in tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
]
OWN = {"components", "fedmesh"}


def imported(*folders: str) -> set[str]:
    """The top-level modules that the Python files of some folders import."""
    found: set[str] = set()
    for folder in folders:
        for file in (PROJECT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    found |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - OWN


def test_every_import_of_the_command_is_a_declared_dependency() -> None:
    distributions = metadata.packages_distributions()
    needed = {
        canonicalize_name(distributions[module][0]) for module in imported("fedmesh", "components/config")
    }
    # urllib3 comes with kubernetes, pydantic-core with pydantic.
    assert needed - {"urllib3", "pydantic-core"} <= {canonicalize_name(each.name) for each in DECLARED}


@pytest.mark.parametrize("requirement", DECLARED, ids=lambda each: each.name)
def test_the_locked_version_satisfies_the_declaration(requirement: Requirement) -> None:
    pattern = rf"^{re.escape(canonicalize_name(requirement.name))}==(\S+)"
    locked = re.search(pattern, (PROJECT / "requirements.txt").read_text(), re.MULTILINE)
    assert locked
    assert requirement.specifier.contains(locked[1])
