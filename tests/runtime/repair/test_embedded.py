"""Tiers 2 and 3 with the embedded model.

What it writes is its own affair; that it stands where it belongs, and that all else is as it was, is ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest

from carrara.engines.contract import Column, Table
from carrara.engines.engine import Engine
from carrara.runtime.repair import RepairReport, arepair

TABLE = "| City | Country |\n|---|---|\n| Paris | France |\n| Berlin | [MASK] |\n| Rome | Italy |\n"
VALUES = '{"city": "Paris", "capital": true, "rivers": [MASK], "country": }'
WORDS = re.compile(r"\w+")
pytestmark = [pytest.mark.weights, pytest.mark.parametrize("name", ["diffusion", "ar"])]


Embedded = Callable[[Callable[[Mapping[str, Engine]], Coroutine[Any, Any, Any]]], Any]


def mended(embedded: Embedded, name: str, text: str, kind: Any) -> RepairReport:
    async def main(engines: Mapping[str, Engine]) -> RepairReport:
        return await arepair(text, kind, engine=engines[name], fallback=engines[name])

    return embedded(main)


def test_a_cell_is_filled(embedded: Embedded, name: str) -> None:
    report = mended(embedded, name, TABLE, "table")
    assert report.model_calls in (1, 2)
    assert report.tokens > 0
    if report.ok:
        assert report.holes[0].filled_by == name
    before, after = report.text.split("| Berlin |")
    assert TABLE.startswith(before)
    assert after.endswith("|\n| Rome | Italy |\n")


def test_the_model_chooses_the_type_of_a_lost_value(embedded: Embedded, name: str) -> None:
    report = mended(embedded, name, VALUES, "json")
    value = json.loads(report.text)
    assert (value["city"], value["capital"], report.model_calls) == ("Paris", True, 1)
    assert [(hole.type, hole.filled_by) for hole in report.holes] == [("any", name)] * 2
    assert all(isinstance(value[key], str | int | float) for key in ("rivers", "country"))


def test_rows_at_fault_are_written_again_or_left(embedded: Embedded, name: str) -> None:
    kind = Table((Column("city"), Column("people", "integer")))
    text = "| city | people |\n|---|---|\n| Paris | 2 |\n| Rome | 3. |\n| Bonn | 1 |"
    report = mended(embedded, name, text, kind)
    assert (report.model_calls, report.tokens > 0) == (1, True)
    if report.ok:
        # Signs beside the words are the model's.
        assert WORDS.findall(report.text) == WORDS.findall(text)
        assert kind.parse(report.text)[1]["people"] == 3
        assert report.tier == 3
    else:
        assert report.text == text
        assert "rows of a table" in report.reason
