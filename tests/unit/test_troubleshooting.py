"""docs/troubleshooting.md has an entry for every check of `fedmesh verify`, and none for a check that is gone."""

import re
from pathlib import Path

import pytest

from fedmesh.verify.checks import ALL

PAGE = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
ENTRIES = {
    title: text
    for title, _, text in (part.partition("\n") for part in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:])
}


def anchor(heading: str) -> str:
    """The fragment under which GitHub finds a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_check_has_an_entry_in_the_order_of_the_report() -> None:
    assert list(ENTRIES) == [check.name for check in ALL]


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_says_meaning_cause_and_remedy_in_this_order(name: str) -> None:
    assert re.findall(r"^\*\*(\w+)\.\*\* \S", ENTRIES[name], re.MULTILINE) == ["Meaning", "Cause", "Remedy"]


def test_links_within_the_page_lead_to_entries() -> None:
    targets = {anchor(name) for name in ENTRIES}
    links = re.findall(r"\]\(#([^)]+)\)", PAGE)
    assert links
    assert set(links) <= targets
