"""What a job says of its source: one that cannot be read begins nothing, and no password of it is kept."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from carrara.runtime.journal.sqlite import SqliteJournal
from carrara.workflows.job import Job, find_job, run_job
from carrara.workflows.records import SourceError
from carrara.workflows.run import session

FLOW = """
from carrara import workflow


@workflow
async def same(text: str) -> str:
    return text
"""


@pytest.fixture
def target(tmp_path: Path) -> str:
    (tmp_path / f"flow_{tmp_path.name}.py").write_text(FLOW)
    sqlite3.connect(tmp_path / "rows.db").close()
    return f"flow_{tmp_path.name}.py:same"


@pytest.mark.parametrize("source", ["nothing.jsonl", "none/*.txt", "sqlite:///rows.db#SELEKT 1"])
def test_a_source_that_cannot_be_read_begins_no_run(
    target: str, source: str, tmp_path: Path
) -> None:
    job = Job(target, source, "out.jsonl", folder=str(tmp_path))

    async def run() -> None:
        async with session(journal=tmp_path / "journal.db") as opened:
            await run_job(job, opened)

    with pytest.raises(SourceError):
        asyncio.run(run())
    with SqliteJournal(tmp_path / "journal.db") as journal:
        assert journal.runs() == []
    assert not (tmp_path / "out.jsonl").exists()


def test_a_job_is_found_again_whichever_way_its_password_is_given(
    target: str, tmp_path: Path
) -> None:
    from carrara.runtime.journal.api import RunRecord

    def job(user: str) -> Job:
        place = f"postgresql://{user}@host/db"
        return Job(target, f"{place}#SELECT 1", f"{place}#rows", folder=str(tmp_path))

    first = job("me:s3cret")
    with SqliteJournal(tmp_path / "journal.db") as journal:
        journal.open_run(RunRecord("r", "same", 1.0, first.source))
        journal.close_run("r", True, "", 1.0)
        for user in ("me:s3cret", "me", "me:other"):
            assert find_job(job(user), journal) == "r"
        assert find_job(job("you"), journal) is None
        kept = Job.from_source(journal.find("r").source)
    assert kept == job("me")
    for told in (first.source, repr(first)):
        assert "s3cret" not in told
    assert first.input.startswith("postgresql://me:s3cret@"), "it is used all the same"
