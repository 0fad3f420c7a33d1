"""One name stands for one class, in the product and in the test bed beside it."""

import ast
from collections import defaultdict
from pathlib import Path

PROJECT = Path(__file__).parents[2]
PRODUCT = ("components", "fedmesh", "policies")
TEST_BED = (
    "testbed/engine.py",
    "testbed/fedmesh.py",
    "testbed/fixtures.py",
    "testbed/waiting.py",
    "testbed/lab",
    "testbed/sandbox",
)


def classes_named_twice(*places: Path) -> dict[str, list[str]]:
    """The files of each class name that more than one class has; classes inside functions are nobody else's."""
    files: dict[str, list[str]] = defaultdict(list)
    for place in places:
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            tree = ast.parse(file.read_text(encoding="utf-8"))
            for node in tree.body:
                if isinstance(node, ast.ClassDef):
                    files[node.name].append(str(file))
    return {name: found for name, found in files.items() if len(found) > 1}


def test_no_two_classes_have_one_name() -> None:
    assert classes_named_twice(*(PROJECT / place for place in (*PRODUCT, *TEST_BED))) == {}


def test_two_classes_of_one_name_are_found(tmp_path: Path) -> None:
    for name in ("one.py", "other.py"):
        (tmp_path / name).write_text(
            "class Cluster:\n    pass\n\n\nclass Of" + name[:-3].title() + ":\n    pass\n"
        )
    assert list(classes_named_twice(tmp_path)) == ["Cluster"]
