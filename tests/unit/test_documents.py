"""The documents against each other and against the checkout: links, paths, commands, and README's two languages."""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

from fedmesh.cli import commands

ROOT = Path(__file__).parents[2]
KEPT_HIDDEN = {".github"}
DOCUMENTS = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") and part not in KEPT_HIDDEN for part in path.relative_to(ROOT).parts)
)
ENGLISH, KOREAN = ROOT / "README.md", ROOT / "README.ko.md"
# Both name what older versions had.
HISTORY = {ROOT / "CHANGELOG.md", ROOT / "UPGRADING.md"}

FENCE = re.compile(r"^(`{3,})[^\n]*\n(.*?)^\1[ ]*$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
HEADING = re.compile(r"^(#{1,6}) +(.+?) *#*$", re.MULTILINE)
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
REFERENCE = re.compile(r"^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
ATTRIBUTE = re.compile(r"<(?:img|a|source)\b[^>]*?\b(?:src|href|srcset)=\"([^\"]+)\"")
ANCHOR = re.compile(r"<a\b[^>]*?\b(?:id|name)=\"([^\"]+)\"")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:")

MAKE = re.compile(r"(?<![\w./-])make((?: +(?:-[a-z]+|[A-Z_]+=\S+|[a-z][a-z0-9-]*))+)(?![\w-])")
FEDMESH = re.compile(
    r"(?<![\w./=-])(?:\.venv/bin/|python -m |python -m testbed\.)?fedmesh +([a-z][a-z-]*)([^\n`]*)"
)
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
ROOMS = ("components", "fedmesh", "manifests", "policies", "testbed", "tests", "docs", "examples")
PATH = re.compile(rf"(?:{'|'.join(ROOMS)})/[A-Za-z0-9_./-]+")


def text_of(path: Path) -> str:
    return COMMENT.sub("", path.read_text(encoding="utf-8"))


def prose(text: str) -> str:
    """The text without its code blocks."""
    return FENCE.sub("", text)


def code(text: str) -> list[str]:
    """The code of a document: its blocks line by line without comments, and its spans."""
    blocks = [line.partition(" #")[0] for _, block in FENCE.findall(text) for line in block.splitlines()]
    spans = [" ".join(span.split()) for _, span in SPAN.findall(prose(text))]
    return [*(line for line in blocks if not line.lstrip().startswith("#")), *spans]


def headings(text: str) -> list[tuple[int, str]]:
    return [(len(marks), title) for marks, title in HEADING.findall(prose(text))]


def slug(title: str) -> str:
    """The anchor that GitHub gives a heading."""
    plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", title)
    return re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")


@cache
def anchors(path: Path) -> frozenset[str]:
    text = text_of(path)
    found: Counter[str] = Counter()
    names = set(ANCHOR.findall(text))
    for _, title in headings(text):
        base = slug(title)
        names.add(f"{base}-{found[base]}" if found[base] else base)
        found[base] += 1
    return frozenset(names)


def links(text: str) -> Iterator[str]:
    """Targets of links and images outside of code."""
    plain = SPAN.sub(lambda span: "`" * len(span[0]), prose(text))
    for pattern in (LINK, REFERENCE, ATTRIBUTE):
        yield from pattern.findall(plain)


def broken(document: Path) -> list[str]:
    """The relative links of a document that lead to no file, or to no heading of it."""
    found = []
    for link in links(text_of(document)):
        if SCHEME.match(link) or link.startswith("//"):
            continue
        name, _, anchor = unquote(link).partition("#")
        target = (document.parent / name).resolve() if name else document
        missing = anchor and target.suffix == ".md" and target.exists() and anchor not in anchors(target)
        if missing or not target.exists():
            found.append(link)
    return found


@cache
def targets() -> frozenset[str]:
    """The targets of the Makefile."""
    return frozenset(
        re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    )


@cache
def options_of_fedmesh() -> dict[str, set[str]]:
    """The long options of each subcommand."""
    return {
        name: {
            "--help",
            *(option for each in command.params for option in (*each.opts, *each.secondary_opts)),
        }
        for name, command in commands.commands.items()
    }


def unknown_targets(text: str) -> set[str]:
    named = {word for line in code(text) for words in MAKE.findall(line) for word in words.split()}
    return {word for word in named if word[0] not in "-" and "=" not in word} - targets()


def unknown_commands(text: str) -> set[str]:
    """The subcommands and options in a document that `fedmesh` does not have."""
    unknown: set[str] = set()
    for line in code(text):
        for name, rest in FEDMESH.findall(line):
            if name not in options_of_fedmesh():
                unknown.add(name)
                continue
            used = OPTION.findall(re.split(r"[|;&]", rest)[0])
            unknown.update(f"{name} {option}" for option in set(used) - options_of_fedmesh()[name])
    return unknown


def missing_paths(text: str) -> set[str]:
    """Paths of the checkout in code spans that lead nowhere."""
    spans = [span for _, span in SPAN.findall(prose(text)) if PATH.fullmatch(span)]
    return {span for span in spans if not (ROOT / span).exists()}


def sections(path: Path) -> list[str]:
    """The text between two headings, without targets of links."""
    text = re.sub(r"\]\([^)]*\)", "]", FENCE.sub("", text_of(path)))
    return re.split(r"^#{1,6} .*$", text, flags=re.MULTILINE)


def rows(text: str) -> list[int]:
    """The number of cells of each row of a table."""
    return [line.count("|") for line in text.splitlines() if line.startswith("|")]


def of(document: Path) -> str:
    return str(document.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=of)
def test_relative_links_lead_to_a_file_and_a_heading(document: Path) -> None:
    assert broken(document) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=of)
def test_make_targets_exist(document: Path) -> None:
    assert unknown_targets(text_of(document)) == set()


@pytest.mark.parametrize("document", [each for each in DOCUMENTS if each not in HISTORY], ids=of)
def test_subcommands_and_options_of_fedmesh_exist(document: Path) -> None:
    assert unknown_commands(text_of(document)) == set()


@pytest.mark.parametrize("document", [each for each in DOCUMENTS if each not in HISTORY], ids=of)
def test_paths_in_code_exist(document: Path) -> None:
    assert missing_paths(text_of(document)) == set()


def test_both_readmes_have_the_same_headings() -> None:
    levels = [[level for level, _ in headings(text_of(readme))] for readme in (ENGLISH, KOREAN)]
    assert levels[0] == levels[1]
    assert len(levels[0]) > 10


def test_both_readmes_give_the_same_figures_in_each_section() -> None:
    for english, korean in zip(sections(ENGLISH), sections(KOREAN), strict=True):
        assert Counter(NUMBER.findall(english)) == Counter(NUMBER.findall(korean)), english[:120]


def test_both_readmes_have_tables_of_the_same_shape() -> None:
    for english, korean in zip(sections(ENGLISH), sections(KOREAN), strict=True):
        assert rows(english) == rows(korean), english[:120]


def test_both_readmes_link_to_the_same_places() -> None:
    there, here = set(links(text_of(ENGLISH))), set(links(text_of(KOREAN)))
    assert there - {KOREAN.name} == here - {ENGLISH.name}
    assert KOREAN.name in there
    assert ENGLISH.name in here


def test_both_readmes_show_the_same_commands() -> None:
    shown = [
        [
            line.partition(" #")[0].rstrip()
            for _, block in FENCE.findall(text_of(readme))
            for line in block.splitlines()
        ]
        for readme in (ENGLISH, KOREAN)
    ]
    assert shown[0] == shown[1]


def test_losses_in_the_readme_are_those_of_the_drills() -> None:
    chapter = next(s for s in sections(ENGLISH) if "`make drill`" in s and "4800" in s)
    drilled = (ROOT / "docs/drills/README.md").read_text(encoding="utf-8")
    lost = re.findall(r"\d+ of \d+", chapter)
    assert len(lost) >= 12
    assert [each for each in lost if f"{each} lost" not in drilled] == []


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs/decisions"
    indexed = {link for link in links(text_of(folder / "README.md")) if link[:4].isdigit()}
    assert indexed == {path.name for path in folder.glob("[0-9]*.md")}
    for path in folder.glob("[0-9]*.md"):
        parts = re.findall(r"^\*\*(\w+)\.\*\*", text_of(path), re.MULTILINE)
        assert parts == ["Status", "Context", "Alternatives", "Decision", "Consequences"], path.name


class TestTheChecksThemselves:
    """A check that finds nothing must be able to find something."""

    def test_a_broken_link_and_a_missing_heading_are_found(self, tmp_path: Path) -> None:
        document = tmp_path / "page.md"
        document.write_text(
            "# One thing, *two*\n\n[a](nowhere.md) [b](#one-thing-two) [c](#none) `[d](code.md)`\n\n"
            "```\n[e](block.md)\n```\n\n[f](https://example.com) ![g](nothing.svg)\n",
            encoding="utf-8",
        )
        assert broken(document) == ["nowhere.md", "#none", "nothing.svg"]

    def test_repeated_headings_get_numbers(self, tmp_path: Path) -> None:
        document = tmp_path / "twice.md"
        document.write_text("# A\n\n## On `AWS`\n\n## On AWS\n\n## 한국어 제목\n", encoding="utf-8")
        assert anchors(document) == {"a", "on-aws", "on-aws-1", "한국어-제목"}

    def test_unknown_make_targets_are_found_in_code_only(self) -> None:
        assert unknown_targets(
            "Please make sure.\n\n`make lab STACK=dev`, `make -s tset`\n\n```\nmake lint typos  # make up\n```\n"
        ) == {
            "tset",
            "typos",
        }

    def test_unknown_subcommands_and_options_are_found(self) -> None:
        text = "`fedmesh verify -s x`, `fedmesh verfy`, `python -m fedmesh status --wtach`, `fedmesh:istio`, `fedmesh`"
        assert unknown_commands(text) == {"verfy", "status --wtach"}

    def test_missing_paths_are_found(self) -> None:
        text = (
            "`components/kube/charts.py`, `components/kube/chart.py`, `manifests/observability/dashboards/`"
        )
        assert missing_paths(text) == {"components/kube/chart.py"}
