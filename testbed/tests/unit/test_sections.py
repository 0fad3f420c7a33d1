"""Sections of docs/benchmarks.md: each command writes its own and leaves the others alone."""

from testbed.lab.sections import sections_of, with_section
from testbed.sandbox import bench


def test_a_section_is_added_then_replaced_where_it_stands() -> None:
    first = with_section("# Benchmarks\n", "one", "1")
    both = with_section(first, "two", "2")
    changed = with_section(both, "one", "3")
    assert changed == both.replace("\n1\n", "\n3\n")
    assert len(sections_of(changed)) == 2


def test_a_document_written_anew_keeps_the_sections_of_others() -> None:
    old = with_section("# Benchmarks\nold", "one", "1")
    assert "".join(sections_of(old)) == old.removeprefix("# Benchmarks\nold\n\n")


def test_the_sandbox_s_section_compares_many_clusters_with_few() -> None:
    text = bench.section({2: 10.0, 10: 31.0}, 359.0)
    assert "31.0 s, 3.1 times" in text
    assert "5m59s" in text
