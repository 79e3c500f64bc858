"""Tiers 2 and 3 with the embedded model.

What it writes is its own affair; that it stands where it belongs, and that all else is as it was, is ours.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from carrara.engines.contract import Column, Table
from carrara.engines.engine import Engine
from carrara.runtime.repair import RepairReport, arepair

TABLE = "| City | Country |\n|---|---|\n| Paris | France |\n| Berlin | [MASK] |\n| Rome | Italy |\n"
VALUES = '{"city": "Paris", "capital": true, "rivers": [MASK], "country": }'
pytestmark = [pytest.mark.weights, pytest.mark.parametrize("name", ["diffusion", "ar"])]


def mended(folder: Path, name: str, text: str, kind: Any) -> RepairReport:
    from carrara.engines.autoregressive.local import AutoregressiveEngine
    from carrara.engines.diffusion.engine import DiffusionEngine
    from carrara.engines.local import LocalModel

    async def main() -> RepairReport:
        local = LocalModel.open(folder, adapter=None)
        opened: Engine = (DiffusionEngine if name == "diffusion" else AutoregressiveEngine)(local)
        async with opened:
            return await arepair(text, kind, engine=opened, fallback=opened)

    return asyncio.run(main())


def test_a_cell_is_filled(smollm2_folder: Path, name: str) -> None:
    report = mended(smollm2_folder, name, TABLE, "table")
    assert report.model_calls in (1, 2)
    assert report.tokens > 0
    if report.ok:
        assert report.holes[0].filled_by == name
    before, after = report.text.split("| Berlin |")
    assert TABLE.startswith(before)
    assert after.endswith("|\n| Rome | Italy |\n")


def test_the_model_chooses_the_type_of_a_lost_value(smollm2_folder: Path, name: str) -> None:
    report = mended(smollm2_folder, name, VALUES, "json")
    value = json.loads(report.text)
    assert (value["city"], value["capital"], report.model_calls) == ("Paris", True, 1)
    assert [(hole.type, hole.filled_by) for hole in report.holes] == [("any", name)] * 2
    assert all(isinstance(value[key], str | int | float) for key in ("rivers", "country"))


def test_rows_at_fault_are_written_again_or_left(smollm2_folder: Path, name: str) -> None:
    kind = Table((Column("city"), Column("people", "integer")))
    text = "| city | people |\n|---|---|\n| Paris | 2 |\n| Rome | 3. |\n| Bonn | 1 |"
    report = mended(smollm2_folder, name, text, kind)
    assert (report.model_calls, report.tokens > 0) == (1, True)
    if report.ok:
        assert report.text == text.replace("3.", "3")
        assert report.tier == 3
    else:
        assert report.text == text
        assert "rows of a table" in report.reason
