"""The benchmark of the embedded model, on scripted engines: what it reports, and that it goes on where it stopped."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks import embedded
from benchmarks.embedded_report import tables
from carrara.engines.engine import Engine
from carrara.engines.request import Completion, Confidence, Request, Usage
from carrara.engines.scripted import ScriptedEngine

DATA = Path(__file__).resolve().parents[2] / "examples" / "tasks" / "data"
DOMAINS = {"right": "banking", "left": "travel"}


def row(task: str, number: int, text: str, gold: Any, **more: Any) -> dict[str, Any]:
    return {"id": f"{task}-test-{number}", "task": task, "input": text, "gold": gold, **more}


ROWS = {
    "clinc_domain": [
        row("clinc_domain", n, f"request {n}", "travel" if n % 2 else "banking") for n in range(4)
    ],
    "clinc_intent": [
        row("clinc_intent", n, f"request {n}", "balance", meta={"domain": "banking"})
        for n in range(4)
    ],
    "voice_command": [
        row("voice_command", 0, "rate it", {"intent": "RateBook", "slots": {"rating_value": "4"}})
    ],
}


def reply(request: Request) -> Completion:
    """Always banking, surer of it where it is right; one slot of two right."""
    said = request.messages[-1].content
    use, even = Usage(20, 0, 8, 4), any(f"request {n}" in said for n in (0, 2))
    if "Which domain" in said:
        return Completion("banking", None, Confidence(0.9 if even else 0.4), use)
    if "Classify" in said:
        return Completion("balance" if even else "transfer", None, Confidence(0.7), use)
    answer = {"intent": "RateBook", "slots": {"rating_value": "4", "rating_unit": "stars"}}
    fields = {"/intent": 0.9, "/slots/rating_value": 0.8, "/slots/rating_unit": 0.2}
    return Completion(json.dumps(answer), None, Confidence(0.5, fields), use)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for task, rows in ROWS.items():
        (tmp_path / task).mkdir()
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / task / "test.jsonl").write_text(lines)
    return tmp_path


class Bench:
    """Runs the benchmark in a folder; `asked` counts the requests of each engine in the last run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: dict[str, int] = {}

    def __call__(self, *words: str, weights: str = "one") -> dict[str, Any]:
        made = {
            name: ScriptedEngine(name, reply, fingerprint=weights) for name in ("ar", "diffusion")
        }

        def opened(name: str) -> Mapping[str, Engine]:
            return {name: made[name]}

        out = self.folder / "out" / "found.json"
        options = embedded.arguments().parse_args(
            ["--data", str(self.folder), "--out", str(out), "--engines", *made, *words]
        )
        found = asyncio.run(embedded.measure(options, opened))
        self.asked = {name: len(engine.requests) for name, engine in made.items()}
        return found


@pytest.fixture
def bench(folder: Path) -> Bench:
    return Bench(folder)


def test_each_task_is_measured_on_each_engine(bench: Bench) -> None:
    found = bench("--timed", "1")
    assert set(found["tasks"]) == set(ROWS)
    for cells in found["tasks"].values():
        assert set(cells) == {"ar", "diffusion"}
    domain = found["tasks"]["clinc_domain"]["ar"]
    assert domain["measures"] == {"accuracy": 0.5}
    assert (domain["rows"], domain["tokens_per_pass"], domain["passes_per_row"]) == (4, 2.0, 4.0)
    assert domain["ms_per_answer"]["alone"]["rows"] == 1
    voice = found["tasks"]["voice_command"]["diffusion"]
    assert voice["measures"]["intent accuracy"] == 1.0
    assert voice["measures"]["slot F1"] == pytest.approx(2 / 3, abs=1e-4)
    assert voice["calibration"]["fields"]["/slots/rating_value"]["ece"] == pytest.approx(0.2)


def test_confidence_is_judged_over_all_rows_and_the_chain_row_by_row(bench: Bench) -> None:
    one = bench()["engines"]["ar"]
    assert one["rows"] == 9
    assert one["clinc_chain_accuracy"] == 0.5
    # Right: two at 0.9, two at 0.7; wrong: two at 0.7, two at 0.4, one at 0.5.
    assert one["confidence"]["auroc"] == pytest.approx(18 / 20)


def test_what_was_finished_is_not_done_again(bench: Bench) -> None:
    first = bench("--tasks", "clinc_domain")
    bench()
    assert bench.asked["ar"] > 0
    again = bench()
    assert bench.asked == {"ar": 0, "diffusion": 0}
    assert again["tasks"]["clinc_domain"] == first["tasks"]["clinc_domain"]
    bench("--rows", "2")
    assert bench.asked["ar"] > 0, "other settings"
    bench(weights="two")
    assert bench.asked["ar"] > 0, "other weights"


def test_the_tables_show_every_measure_of_every_engine(bench: Bench) -> None:
    shown = tables(bench())
    assert "| clinc_domain | 4 | accuracy | 0.500 | 0.500 | 1.000 |" in shown
    assert "| voice_command | 1 | slot F1 | 0.667 | 0.667 | 1.000 |" in shown
    assert "| ar | 9 | 0.900 |" in shown
    assert "4.0 / 2.0 /" in shown
    for line in shown.splitlines():
        if line.startswith("|"):
            assert line.endswith("|")


def test_time_that_is_over_leaves_one_row_of_each_part(bench: Bench) -> None:
    found = bench("--seconds", "0", "--concurrency", "1")
    assert found["tasks"]["clinc_domain"]["ar"]["rows"] == 1


def test_every_measure_is_one_that_evaluations_give(folder: Path) -> None:
    """The measures name places in the answers; one that is misspelt would be None."""
    for path in DATA.glob("*.jsonl"):
        (folder / path.stem).mkdir(exist_ok=True)
        (folder / path.stem / "dev.jsonl").write_text(path.read_text(encoding="utf-8"))

    def opened(name: str) -> Mapping[str, Engine]:
        return {name: ScriptedEngine(name, lambda request: "nothing")}

    options = argparse.Namespace(**vars(embedded.arguments().parse_args(["--data", str(folder)])))
    options.split, options.engines, options.out = "dev", ["ar"], None
    found = asyncio.run(embedded.measure(options, opened))
    assert len(found["tasks"]) == 21
    for cells in found["tasks"].values():
        assert None not in cells["ar"]["measures"].values()
