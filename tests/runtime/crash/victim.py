"""The process that is killed: runs one of two workflows with a journal, or takes it up again.

    python victim.py FOLDER WORKFLOW SESSION

Every body appends a line (session, path, its value) to FOLDER/done.txt before it returns; the result goes to
FOLDER/result.json at the end. Not a test: the tests start it.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from carrara.runtime.journal.sqlite import SqliteJournal
from carrara.runtime.run import context, execute, submit, submit_map
from carrara.runtime.step import RunOptions, StepSpec

SLOTS = 8
ITEMS = 45

_folder, _session = Path("."), ""
_journal: SqliteJournal | None = None


def spec(body: Callable[..., Any]) -> StepSpec:
    async def told(*args: Any) -> Any:
        await asyncio.sleep(random.random() * 0.006)
        value = body(*args)
        tell([_session, context().path, repr(args), value])
        return value

    return StepSpec(body.__name__, told, fingerprint=f"{body.__name__} v1")


def tell(facts: list[Any]) -> None:
    """One line, whole or not at all: a single write to a file opened for appending."""
    line = json.dumps(facts) + "\n"
    file = os.open(_folder / "done.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, line.encode())
    os.close(file)


@spec
def source(n: int) -> list[int]:
    return list(range(n))


@spec
def extract(i: int) -> dict[str, int]:
    return {"n": i, "square": i * i}


@spec
def tidy(row: dict[str, int]) -> tuple[int, int]:
    return (row["n"], row["square"] + 1)


@spec
def judge(row: dict[str, int], tidied: tuple[int, int]) -> int:
    return row["square"] * 1000 + tidied[1]


@spec
def label(judged: int) -> str:
    return f"#{judged}"


@spec
def draw(salt: str) -> int:
    """Another number each time that it is asked: only the first answer counts."""
    return random.getrandbits(48)


@spec
def total(judged: list[int], draws: list[int]) -> int:
    return sum(judged) + sum(draws)


async def tree() -> dict[str, Any]:
    """204 steps: a fan-out of 45, with four steps an item, and 20 equal questions beside it."""
    draws = [submit(draw, ("same",), {}) for _ in range(20)]
    rows = submit_map(extract, submit(source, (ITEMS,), {}))
    tidied = submit_map(tidy, rows)
    judged = []
    for row, tidy_row in zip(await rows, await tidied, strict=True):
        judged.append(submit(judge, (row, tidy_row), {}))
    labels = [submit(label, (handle,), {}) for handle in judged]
    found = submit(total, (judged, draws), {})
    told = []
    for i, handle in enumerate(labels):
        told.append(await handle)
        put_row(i, told[-1])
    return {"labels": told, "total": await found, "draws": [await h for h in draws]}


@spec
def racer(i: int) -> int:
    return i * 7


@spec
def follow(value: int) -> int:
    return value + 1


async def race() -> dict[str, Any]:
    """200 steps in the order in which they happen to end: what ends first is followed up first."""
    running = {asyncio.create_task(_wait(submit(racer, (i,), {}))): (i, 0) for i in range(40)}
    found: dict[str, int] = {}
    while running:
        ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            i, depth = running.pop(task)
            found[str(i)] = task.result()
            if depth < 4:
                running[asyncio.create_task(_wait(submit(follow, (task.result(),), {})))] = (
                    i,
                    depth + 1,
                )
    return {"found": dict(sorted(found.items()))}


async def _wait(handle: Any) -> Any:
    return await handle


WORKFLOWS = {"tree": tree, "race": race}


def put_row(place: int, value: str) -> None:
    """An output row; who wrote it is part of it, so that a second writing would show."""
    assert _journal is not None
    _journal.put_row("r", place, str(place), "done", [value, _session])


async def main(name: str) -> None:
    global _journal
    with SqliteJournal(_folder / "journal.db") as journal:
        _journal = journal
        print("go", flush=True)
        done = await execute(
            WORKFLOWS[name],
            name=name,
            options=RunOptions(concurrency=SLOTS),
            journal=journal,
            run_id="r",
        )
    (_folder / "result.json").write_text(json.dumps(done.value | {"reused": done.reused}))


if __name__ == "__main__":
    _folder, _session = Path(sys.argv[1]), sys.argv[3]
    asyncio.run(main(sys.argv[2]))
