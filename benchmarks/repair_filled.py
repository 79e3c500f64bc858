"""Fill what broken texts have lost with the embedded model, and score what comes back. Prints JSON.

    python -m benchmarks.repair_filled CORPUS [--engine diffusion] [--limit N] [--output FILE] [--answers FILE.jsonl]

CORPUS holds broken.jsonl, and score.py with `judge(record, text)`. Its records whose information is lost (`recoverable`
is "model") go through `arepair` with one engine for the holes and no fallback, four at a time. For each kind: how many
have the right structure, how many have every hole filled with something of the right type, how many have lost a word,
and how many change when they are repaired again. What the model writes into a hole is not judged: nobody knows it.

The type of a value that is lost from JSON often stands nowhere in the text, and the record asks for the one it had. The
engine "typed" is no model: it knows those types and writes something short of them, so it shows what the pass itself
leaves unfilled.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

from benchmarks.machine import machine, versions
from carrara.engines.autoregressive.local import AutoregressiveEngine
from carrara.engines.contract import Json
from carrara.engines.diffusion.engine import DiffusionEngine
from carrara.engines.engine import Engine
from carrara.engines.json_schema import pointer
from carrara.engines.local import LocalModel
from carrara.engines.request import Request
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.repair import RepairReport, arepair, repair, repair_text

ENGINES: Mapping[str, Any] = {"diffusion": DiffusionEngine, "ar": AutoregressiveEngine}
TYPED = "typed"
SHORT = {
    "string": "x",
    "number": 1,
    "integer": 1,
    "boolean": True,
    "array": ["x"],
    "object": {"x": 1},
}
AT_ONCE = 4


def main() -> None:
    given = _arguments()
    score = _module(given.corpus / "score.py")
    records = [record for record in _records(given.corpus) if record["recoverable"] == "model"]
    found = asyncio.run(_filled(records[: given.limit], given.engine))
    if given.answers:
        lines = (
            json.dumps(
                {"id": record["id"], "kind": record["kind"], "out": report.text}, ensure_ascii=False
            )
            for record, report, _ in found
        )
        given.answers.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    told = json.dumps(
        {
            "machine": machine(threads=1),
            "versions": versions("torch"),
            "engine": given.engine,
            **summary(found, score),
        },
        indent=2,
    )
    if given.output:
        given.output.write_text(told + "\n", encoding="utf-8")
    print(told)


Filled = tuple[Mapping[str, Any], RepairReport, float]
"""A record, what became of it, and the seconds that it took."""


async def _filled(records: Sequence[Mapping[str, Any]], name: str) -> list[Filled]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(record: Mapping[str, Any], engine: Engine) -> Filled:
        async with gate:
            began = time.perf_counter()
            report = await arepair(record["broken"], record["kind"], engine=engine)
            return record, report, time.perf_counter() - began

    if name == TYPED:
        return await asyncio.gather(*(one(record, knowing(record)) for record in records))
    async with ENGINES[name](LocalModel.open()) as engine:
        return await asyncio.gather(*(one(record, engine) for record in records))


def knowing(record: Mapping[str, Any]) -> Engine:
    """An engine that writes something of the type that each lost value of this record had."""
    lost = (
        {pointer(path): kind for path, kind in record["must_hold"].get("holes", ())}
        if record["kind"] == "json"
        else {}
    )
    holes = [
        hole for hole in repair(record["broken"], record["kind"]).holes if hole.type != "object"
    ]

    def reply(request: Request) -> str:
        assert isinstance(request.output, Json)
        slots = request.output.schema["properties"]
        written = {}
        for hole, (number, slot) in zip(holes, slots.items(), strict=False):
            kind = lost.get(hole.path, "string") if "anyOf" in slot else slot.get("type", "string")
            written[number] = slot["enum"][0] if "enum" in slot else SHORT[kind]
        return json.dumps(written)

    return ScriptedEngine(TYPED, reply)


def summary(found: Sequence[Filled], score: ModuleType) -> dict[str, Any]:
    """Counts and rates over all and for each kind, and the ids of what was not filled."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    unfilled = []
    for record, report, _ in found:
        holds, filled, lost = score.judge(record, report.text)
        again = repair_text(report.text, record["kind"])
        for name in ("all", record["kind"]):
            counts[name] += Counter(
                records=1,
                holds=int(holds),
                filled=int(filled),
                loses_words=int(lost > 0),
                changes_again=int(again != report.text),
                calls=report.model_calls,
                tokens=report.tokens,
            )
        if not filled:
            unfilled.append({"id": record["id"], "operators": record["operators"]})
    return {
        "kinds": {name: _rates(count) for name, count in sorted(counts.items())},
        "not_filled": unfilled,
        "seconds_a_record": round(median(seconds for *_, seconds in found), 2) if found else None,
    }


def _rates(count: Counter[str]) -> dict[str, Any]:
    all_of = count["records"]
    return {
        "records": all_of,
        "structure": round(count["holds"] / all_of, 4),
        "filled": round(count["filled"] / all_of, 4),
        **{name: count[name] for name in ("loses_words", "changes_again", "calls", "tokens")},
    }


def _records(folder: Path) -> list[dict[str, Any]]:
    with (folder / "broken.jsonl").open(encoding="utf-8", newline="\n") as lines:
        return [json.loads(line) for line in lines]


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("score", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise SystemExit(f"{path}: there is no scorer")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--engine", choices=(*ENGINES, TYPED), default="diffusion")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--answers", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
