"""What a record costs in the journal, by the number of steps that end together. Prints JSON.

    python benchmarks/journal.py

CPU and wall µs per record, both with everything a record needs: its identity, its value as text, the commit, the
call back. "batch" steps end in one turn of the event loop and are waited for before the next turn. "normal" survives
kill -9, "full" power loss. The lowest of five rounds is printed: other work on the machine only adds. Beside them the
cost of opening and closing a run, and of loading the finished steps of one that is resumed.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sqlite3
import tempfile
from pathlib import Path
from time import perf_counter, process_time, time
from typing import Literal

from carrara.runtime.journal.api import Key, RunRecord, StepRecord
from carrara.runtime.journal.sqlite import SqliteJournal
from carrara.runtime.step import StepSpec

Durability = Literal["normal", "full"]
ROUNDS = 5
RECORDS = {
    "normal": {1: 2000, 8: 4000, 64: 8000, 1000: 8000},
    "full": {1: 100, 8: 400, 64: 3200, 1000: 8000},
}
SPEC = StepSpec("step", print, fingerprint="0123456789abcdef" * 2)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = {
            durability: {
                str(batch): lowest(Path(folder), durability, batch, count)
                for batch, count in counts.items()
            }
            for durability, counts in RECORDS.items()
        }
        found["runs"] = runs(Path(folder))
    machine = {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "cpus": os.cpu_count(),
        "rounds": ROUNDS,
    }
    print(json.dumps({"us_per_record_by_batch": found, **machine}, indent=2))


def lowest(folder: Path, durability: Durability, batch: int, count: int) -> dict[str, float]:
    cpu, wall = [], []
    for round_ in range(ROUNDS):
        path = folder / f"{durability}-{batch}-{round_}.db"
        with SqliteJournal(path, durability=durability) as journal:
            before = process_time(), perf_counter()
            asyncio.run(record(journal, batch, count))
            cpu.append((process_time() - before[0]) / count)
            wall.append((perf_counter() - before[1]) / count)
    return {"cpu_us": round(min(cpu) * 1e6, 1), "wall_us": round(min(wall) * 1e6, 1)}


async def record(journal: SqliteJournal, batch: int, count: int) -> None:
    """Write `count` steps, `batch` at a time, each batch after the one before is durable."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    left = 0
    written = 0

    def done(error: BaseException | None) -> None:
        nonlocal left
        if error is not None:
            raise error
        left -= 1
        if not left:
            loop.call_soon(put)

    def put() -> None:
        nonlocal left, written
        if written >= count:
            ended.set_result(None)
            return
        left = batch
        for i in range(written, written + batch):
            identity = journal.identity(SPEC, (i,), {})
            key = Key("bench/step", identity, 0)
            journal.record(
                StepRecord("r", key, i, SPEC, "done", f"value {i}", "", 1, 1.0, 1.0, 1.0, 0, True),
                done,
            )
        written += batch

    journal.open_run(RunRecord("r", "bench", time()))
    put()
    await ended
    journal.close_run("r", True, "", 1.0)


def runs(folder: Path) -> dict[str, float]:
    """µs for an empty run, and for loading each of 1,000 finished steps at a resume."""
    with SqliteJournal(folder / "runs.db") as journal:
        times = []
        for i in range(500):
            begun = perf_counter()
            journal.open_run(RunRecord(str(i), "empty", time()))
            journal.close_run(str(i), True, "", 1.0)
            times.append(perf_counter() - begun)
        asyncio.run(record(journal, 1000, 1000))
        loads = []
        for _ in range(20):
            journal.open_run(RunRecord("r", "bench", time()))
            begun = perf_counter()
            for stored in journal.finished("r").values():
                stored.value(None)
            loads.append((perf_counter() - begun) / 1000)
            journal.close_run("r", True, "", 1.0)
    return {
        "open_and_close_us": round(min(times) * 1e6, 1),
        "load_a_finished_step_us": round(min(loads) * 1e6, 1),
    }


if __name__ == "__main__":
    main()
