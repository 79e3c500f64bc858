"""Real answers of the embedded model, from `benchmarks/crooked.py --plain`, with the repairs as they were read through.

The texts are the model's own (SmolLM2-135M, Apache-2.0), asked for tables and lists as free text.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from carrara.runtime.repair import arepair, repair, repair_text
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


def test_both_engines_and_both_forms_are_there() -> None:
    assert {(row["engine"], row["form"]) for row in ROWS} == {
        (engine, form) for engine in ("ar", "diffusion") for form in ("table", "list")
    }
    assert any(row["rules"] for row in ROWS)


TABLE = "| City | Country |\n|---|---|\n| Paris | France |\n| Berlin | [MASK] |\n| Rome | Italy |\n"


@pytest.mark.weights
@pytest.mark.parametrize("engine", ["diffusion", "ar"])
def test_the_embedded_model_fills_a_real_hole(smollm2_folder: Path, engine: str) -> None:
    """What it writes is its own affair; that it stands in the cell, and the rest as it was, is ours."""
    from carrara.engines.autoregressive.local import AutoregressiveEngine
    from carrara.engines.diffusion.engine import DiffusionEngine
    from carrara.engines.local import LocalModel

    async def main() -> None:
        local = LocalModel.open(smollm2_folder, adapter=None)
        kind = DiffusionEngine if engine == "diffusion" else AutoregressiveEngine
        async with kind(local) as opened:
            report = await arepair(TABLE, "table", engine=opened)
            assert report.model_calls in (1, 2)
            assert report.tokens > 0
            if report.ok:
                assert report.holes[0].filled_by == engine
            before, after = report.text.split("| Berlin |")
            assert TABLE.startswith(before)
            assert after.endswith("|\n| Rome | Italy |\n")

    asyncio.run(main())
