"""Real answers of the embedded model, from `benchmarks/crooked.py`, with the repairs as they were read through.

The texts are the model's own (SmolLM2-135M, Apache-2.0), asked for tables, lists and JSON as free text.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.crooked import FORMS, SOURCES
from carrara.runtime.repair import repair, repair_text
from tests.runtime.repair.invariants import broken_invariant

ROWS: list[dict[str, Any]] = [
    json.loads(line)
    for line in Path(__file__).with_name("crooked.jsonl").read_text(encoding="utf-8").splitlines()
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['engine']} {row['prompt'][-30:]}")
def test_a_real_answer_is_mended_as_it_was_read_through(row: dict[str, Any]) -> None:
    assert repair_text(row["text"], row["form"]) == row["repaired"]
    assert broken_invariant(row["text"], row["form"]) is None
    rules = [part for e in repair(row["text"], row["form"]).edits for part in e.rule.split("+")]
    assert rules == row["rules"]


def test_all_sources_and_forms_are_there() -> None:
    assert {(row["engine"], row["form"]) for row in ROWS} == {
        (source, form) for source in SOURCES for form in FORMS
    }
    assert {row["form"] for row in ROWS if row["rules"]} == set(FORMS)
