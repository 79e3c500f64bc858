"""Reading YAML keeps the place of everything and takes YAML 1.2 at its word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrara.workflows.yaml.compose import parse, read
from carrara.workflows.yaml.mistakes import Mistakes
from carrara.workflows.yaml.source import Source


def parsed(text: str) -> Source:
    mistakes = Mistakes()
    source = parse(text, "p.yaml", mistakes)
    assert source is not None, mistakes.found
    assert mistakes.found == []
    return source


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("010", 10),
        ("0x1f", 31),
        ("1e3", 1000.0),
        ("12:30", "12:30"),
        ("2026-01-31", "2026-01-31"),
        ("~", None),
        ("true", True),
        ('"5"', "5"),
        (".5", 0.5),
        ("{a: [1, b]}", {"a": [1, "b"]}),
        ("{1: x}", {"1": "x"}),
    ],
)
def test_values_are_those_of_yaml_1_2(written: str, value: Any) -> None:
    assert parsed(f"x: {written}").value == {"x": value}


def test_keys_and_values_know_their_lines_and_columns() -> None:
    source = parsed("a: 1\nsteps:\n  first:\n    llm: hi\n    tags: [x, yy]\n")
    where = ("steps", "first", "tags")
    assert (source.at_key(where).line, source.at_key(where).column) == (5, 5)
    assert (source.at_value(where).line, source.at_value(where).column) == (5, 11)
    assert source.at_value((*where, 1)).column == 15
    assert source.at_key((*where, 1)).column == 15


def test_what_is_not_there_has_the_place_of_what_is_around_it() -> None:
    source = parsed("steps:\n  first:\n    llm: hi\n")
    assert source.at_value(("steps", "first", "with", "x")).line == 3
    assert source.at_key(("outputs",)).line == 1


@pytest.mark.parametrize(
    ("text", "line", "word", "place"),
    [
        ("t: |\n  one\n  two {{ x }}\n", 2, "x", (3, 10)),
        ("t: |\n\n\n  {{ x }}\n", 3, "x", (4, 6)),
        ("t: |2\n    two {{ x }}\n", 1, "x", (2, 12)),
        ("t: |-\n  x is {{ x }}\n", 1, "x", (2, 11)),
        ("t: |\n  {{ x }} and {{ x }}\n", 1, "x", (2, 6)),
        ("t: |\n  {{ xx }} and {{ x }}\n", 1, "x", (2, 19)),
        ("t: >\n  one\n  {{ x }}\n", 1, "x", (1, 4)),
        ("t: 'the x {{ x }}'\n", 1, "x", (1, 14)),
        ('t: "one\n  two {{ x }}"\n', 1, "x", (1, 4)),
        ("t: |\n  one\n", 1, "", (2, 3)),
    ],
)
def test_a_word_of_a_template_has_its_own_place(
    text: str, line: int, word: str, place: tuple[int, int]
) -> None:
    found = parsed(text).inside(("t",), line, word)
    assert (found.line, found.column) == place


def test_the_second_use_of_a_word_has_its_own_place() -> None:
    source = parsed("t: |\n  {{ x }} and {{ x }}\n")
    assert source.inside(("t",), 1, "x", nth=1).column == 18


def test_windows_line_ends_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_bytes(b"\xef\xbb\xbfname: x\r\nsteps:\r\n  a: 1\r\n")
    source = read(tmp_path / "p.yaml", "p.yaml", Mistakes())
    assert source is not None
    assert source.value == {"name": "x", "steps": {"a": 1}}
    assert source.at_key(("steps", "a")).line == 3


def test_an_anchor_is_the_same_value_wherever_it_is_used() -> None:
    assert parsed("a: &x {k: [1]}\nb: *x\n").value == {"a": {"k": [1]}, "b": {"k": [1]}}


def test_a_later_merge_gives_way_to_an_earlier_one_and_both_to_the_mapping() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {x: 2, z: 2}\nc: {<<: [*a, *b], y: 3}\n"
    assert parsed(text).value["c"] == {"x": 1, "z": 2, "y": 3}


def test_a_merge_of_something_else_is_a_mistake() -> None:
    mistakes = Mistakes()
    parse("a: {<<: 3}\n", "p.yaml", mistakes)
    assert [m.message for m in mistakes.found] == ["'<<' takes a mapping, or a list of mappings"]


def test_all_duplicate_keys_are_told() -> None:
    mistakes = Mistakes()
    source = parse("a: 1\nb: {c: 1, c: 2}\na: 3\n", "p.yaml", mistakes)
    assert source is not None
    assert source.value == {"a": 1, "b": {"c": 1}}
    assert [m.line for m in mistakes.found] == [2, 3]


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_any_text_is_read_or_refused_but_never_breaks(text: str) -> None:
    mistakes = Mistakes()
    source = parse(text, "p.yaml", mistakes)
    assert source is not None or mistakes.found


@given(st.text(alphabet="ab:- {}[]\n\"'|>&*!#%@`,?~<0.", max_size=40))
def test_any_signs_are_read_or_refused_but_never_break(text: str) -> None:
    mistakes = Mistakes()
    source = parse(text, "p.yaml", mistakes)
    assert source is not None or mistakes.found
