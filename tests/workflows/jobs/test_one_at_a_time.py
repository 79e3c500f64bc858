"""One job at a time writes an output: a second start is refused by every sink, and a killed one keeps nobody out."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from carrara.engines.request import Request
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.journal.sqlite import SqliteJournal
from carrara.workflows.job import Job, JobResult, run_job
from carrara.workflows.places import PlaceError
from carrara.workflows.run import session
from carrara.workflows.sinks.held import Lock, held, lock_of

PIPELINE = """
name: shout
inputs: {text: str}
steps:
  loud: {llm: "Shout: {{ text }}"}
outputs: {loud: "{{ loud }}"}
"""
OUTPUTS = [
    "rows.jsonl", "rows.csv", "rows.parquet", "sqlite:///rows.db#t", "duckdb:///rows.duckdb#t",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shout.yaml").write_text(PIPELINE)
    lines = (json.dumps({"id": text, "text": text}) + "\n" for text in "abcd")
    (tmp_path / "in.jsonl").write_text("".join(lines))
    return tmp_path


async def job(output: str, journal: str, reply: Any, shard: str = "") -> JobResult:
    kept = SqliteJournal(Path(journal))
    try:
        async with session(journal=kept, engines={"ar": ScriptedEngine("ar", reply)}) as begun:
            return await run_job(Job("shout.yaml", "in.jsonl", output, shard=shard), begun)
    finally:
        kept.close()


def rows_in(output: str) -> int:
    from carrara.workflows.records import read_records

    return len(list(read_records(output)))


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_second_start_is_refused_before_any_row_is_there(folder: Path, output: str) -> None:
    asked: list[Request] = []

    async def main() -> JobResult:
        async def reply(request: Request) -> str:
            if not asked:
                asked.append(request)
                with pytest.raises(
                    PlaceError, match=r"another job is writing there now|is there already"
                ):
                    await job(output, "second.db", asked.append)
            return "x"

        return await job(output, "first.db", reply)

    found = asyncio.run(main())
    assert (found.done, found.failed) == (4, 0)
    assert len(asked) == 1
    assert rows_in(output) == 4
    assert not list(folder.glob(".*.lock"))


@pytest.mark.parametrize("output", ["rows.jsonl", "sqlite:///rows.db#t"])
def test_of_starts_at_one_moment_one_runs(folder: Path, output: str) -> None:
    answered: list[Request] = []

    async def main() -> list[JobResult | BaseException]:
        begun = 0

        async def reply(request: Request) -> str:
            answered.append(request)
            for _ in range(1000):  # all have tried before one can end
                if begun < 3:
                    await asyncio.sleep(0)
            return "x"

        async def one(number: int) -> JobResult:
            nonlocal begun
            try:
                return await job(output, f"{number}.db", reply)
            finally:
                begun += 1

        return await asyncio.gather(*map(one, range(4)), return_exceptions=True)

    found = asyncio.run(main())
    assert sum(isinstance(one, JobResult) for one in found) == 1
    assert sum(isinstance(one, PlaceError) for one in found) == 3
    assert (len(answered), rows_in(output)) == (4, 4)


def test_a_job_that_has_ended_between_the_check_and_the_lock_is_noticed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from carrara.workflows import opened

    def late(lock: Lock | None, shown: str) -> Any:
        (folder / "rows.jsonl").write_text("{}\n")
        return held(lock, shown)

    monkeypatch.setattr(opened, "held", late)
    with pytest.raises(PlaceError, match="is there already"):
        asyncio.run(job("rows.jsonl", "journal.db", lambda request: "x"))
    assert (folder / "rows.jsonl").read_text() == "{}\n"


def test_the_lock_of_a_killed_process_keeps_nobody_out(tmp_path: Path) -> None:
    output = tmp_path / "rows.jsonl"
    lock = lock_of(output)
    holds = (
        "import os, pathlib, signal, sys\n"
        "from carrara.workflows.sinks.held import held, lock_of\n"
        "with held(lock_of(pathlib.Path(sys.argv[1])), 'rows.jsonl'):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    subprocess.run([sys.executable, "-c", holds, str(output)], env=environment)
    assert lock.whole.exists()
    with held(lock, "rows.jsonl"), pytest.raises(PlaceError), held(lock, "rows.jsonl"):
        pass
    assert not lock.whole.exists()


def test_an_output_is_held_under_all_its_names(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert lock_of(tmp_path / "link" / "a.db", "T") == lock_of(tmp_path / "real/a.db", "main.t")


def test_shards_hold_a_table_together_each_its_own_part(tmp_path: Path) -> None:
    file = tmp_path / "a.db"
    one, two, whole = lock_of(file, "t", "1-of-2"), lock_of(file, "t", "2-of-2"), lock_of(file, "t")
    with held(one, "t"):
        with held(two, "t"):
            for other in (one, two, whole):
                with pytest.raises(PlaceError), held(other, "t"):
                    pass
        with pytest.raises(PlaceError), held(whole, "t"):  # the first still has it
            pass
    with held(whole, "t"), pytest.raises(PlaceError), held(one, "t"):
        pass
    assert not list(tmp_path.iterdir())


def test_shards_of_a_job_run_side_by_side_into_one_table(folder: Path) -> None:
    texts = [str(number) for number in range(12)]
    lines = (json.dumps({"id": text, "text": text}) + "\n" for text in texts)
    (folder / "in.jsonl").write_text("".join(lines))
    output = "sqlite:///rows.db#t"

    async def main() -> list[JobResult]:
        both = asyncio.Barrier(2)
        begun: set[str] = set()

        async def one(part: int) -> JobResult:
            async def reply(request: Request) -> str:
                if shard not in begun:
                    begun.add(shard)
                    await both.wait()  # both have begun before one can end
                    with pytest.raises(PlaceError, match="another job is writing there now"):
                        await job(output, f"{part}.again.db", reply, shard=shard)
                    await both.wait()
                return "x"

            shard = f"{part}/2"
            return await job(output, f"{part}.db", reply, shard=shard)

        return list(await asyncio.gather(one(1), one(2)))

    found = asyncio.run(main())
    assert sum(one.done for one in found) == rows_in(output) == 12
    assert len({one.failed_output for one in found}) == 2
