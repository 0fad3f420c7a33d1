"""docs/troubleshooting.md has an entry for every check of `fedmesh verify`, and none for a check that is gone."""

import re
from pathlib import Path

import pytest

from fedmesh.verify import account
from fedmesh.verify.checks import ALL, PRE

PAGE = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
ENTRIES = {
    title: text
    for title, _, text in (part.partition("\n") for part in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:])
}


CHECKS = {check.name: check for check in (*ALL, *PRE, *account.CHECKS)}


def test_every_check_has_an_entry_in_the_order_of_the_report() -> None:
    assert list(ENTRIES) == list(CHECKS)


def test_an_entry_is_in_the_chapter_of_its_category() -> None:
    chapters = {
        entry: chapter.partition("\n")[0]
        for chapter in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
        for entry in re.findall(r"^### (.+)$", chapter, re.MULTILINE)
    }
    assert chapters == {name: check.category for name, check in CHECKS.items()}


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_says_meaning_cause_and_remedy_in_this_order(name: str) -> None:
    assert re.findall(r"^\*\*(\w+)\.\*\* \S", ENTRIES[name], re.MULTILINE) == ["Meaning", "Cause", "Remedy"]


def test_links_within_the_page_lead_to_entries() -> None:
    targets = {check.slug for check in CHECKS.values()} | {
        each.category.lower().replace(" ", "-") for each in CHECKS.values()
    }
    links = re.findall(r"\]\(#([^)]+)\)", PAGE)
    assert links
    assert set(links) <= targets
