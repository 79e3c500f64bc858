"""A journal in a fresh folder, and what is needed to write steps to it without an executor."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from carrara.runtime.journal.api import Key, RunRecord, StepRecord
from carrara.runtime.journal.sqlite import SqliteJournal
from carrara.runtime.step import StepSpec

MakeStep = Callable[..., StepRecord]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[SqliteJournal]:
    with SqliteJournal(path) as made:
        yield made


@pytest.fixture
def spec() -> StepSpec:
    return StepSpec("square", lambda x: x * x, fingerprint="f" * 32)


@pytest.fixture
def step(spec: StepSpec) -> MakeStep:
    """Make a record: `step(value, path=…, identity=…, …)`."""

    def make(value: Any = 1, **changes: Any) -> StepRecord:
        facts: dict[str, Any] = {
            "run_id": "r",
            "path": "book/square",
            "identity": "i" * 32,
            "occurrence": 0,
            "node": 1,
            "spec": spec,
            "status": "done",
            "error": "",
            "attempt": 1,
            "started_at": 100.0,
            "seconds": 0.5,
            "ready_at": 99.0,
            "ordinal": 0,
            "keep": True,
        } | changes
        key = Key(facts.pop("path"), facts.pop("identity"), facts.pop("occurrence"))
        return StepRecord(key=key, value=value, **facts)

    return make


@pytest.fixture
def run() -> Callable[..., RunRecord]:
    def make(run_id: str = "r", workflow: str = "book", **changes: Any) -> RunRecord:
        return RunRecord(run_id, workflow, changes.pop("started_at", 90.0), **changes)

    return make


@pytest.fixture
def recorded() -> Callable[..., Awaitable[list[BaseException | None]]]:
    """Record steps and wait until every `done` was called; gives what they were called with."""

    async def record(journal: SqliteJournal, *steps: StepRecord) -> list[BaseException | None]:
        loop = asyncio.get_running_loop()
        waits = [loop.create_future() for _ in steps]
        for step, wait in zip(steps, waits, strict=True):
            journal.record(step, wait.set_result)
        return list(await asyncio.gather(*waits))

    return record
