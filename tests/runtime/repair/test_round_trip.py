"""Tables, lists and JSON that were written for real tables and damaged by a program, mended to what they were.

`round_trip.jsonl` holds tables of ppasupat/WikiTableQuestions (7d455a5, CC BY-SA 4.0, texts of Wikipedia), written as
Markdown or JSON, with 18 kinds of damage; the rows without damage must come back as they are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from carrara.runtime.repair import repair_text
from tests.runtime.repair.invariants import broken_invariant

ROWS: list[dict[str, Any]] = [
    json.loads(line)
    for line in Path(__file__).with_name("round_trip.jsonl").read_text("utf-8").splitlines()
]
_PARSER = MarkdownIt("commonmark").enable("table")


def structure(text: str, kind: str) -> object:
    """A JSON text's value; of Markdown what is nested in what, with its words, whatever the spelling of markers."""
    if kind == "json":
        return json.loads(text)
    found = []
    for token in _PARSER.parse(text):
        if token.type == "inline":
            found.append((token.level, " ".join(token.content.split())))
        elif token.type.startswith(("tr_", "list_item_")):
            found.append((token.level, token.type))
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['damage']} {row['broken'][:20]!r}")
def test_what_was_damaged_comes_back(row: dict[str, Any]) -> None:
    mended = repair_text(row["broken"], row["kind"])
    assert structure(mended, row["kind"]) == structure(row["gold"], row["kind"])
    assert broken_invariant(row["broken"], row["kind"]) is None
    if not row["damage"]:
        assert mended is row["broken"]


def test_all_kinds_of_damage_are_there() -> None:
    assert len({(row["kind"], row["damage"]) for row in ROWS if row["damage"]}) == 18
