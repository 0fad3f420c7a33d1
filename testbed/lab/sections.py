"""Sections of a document that several commands write, each between two comments with the section's name."""

from __future__ import annotations

import re

SECTION = re.compile(r"<!-- section (?P<name>[a-z-]+) -->\n.*?<!-- end of (?P=name) -->\n", re.DOTALL)


def sections_of(document: str) -> list[str]:
    """The sections of a document, in order, with their comments."""
    return [found.group(0) for found in SECTION.finditer(document)]


def with_section(document: str, name: str, body: str) -> str:
    """The document with a section's text, which replaces the section of this name or is appended."""
    fresh = f"<!-- section {name} -->\n{body.strip()}\n<!-- end of {name} -->\n"
    old = next((each for each in sections_of(document) if each.startswith(f"<!-- section {name} -->")), None)
    return document.replace(old, fresh) if old else f"{document.rstrip()}\n\n{fresh}"
