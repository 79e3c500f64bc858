"""What goes wrong under a journal becomes one clear JournalError, and what was finished stays."""

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from carrara.runtime.errors import JournalError, UnknownRun
from carrara.runtime.journal.batch import Batch
from carrara.runtime.journal.reading import Reader
from carrara.runtime.journal.sqlite import SqliteJournal
from carrara.runtime.journal.writer import _merged
from carrara.runtime.run import execute, submit
from carrara.runtime.step import StepSpec


def fill_up(journal: SqliteJournal) -> None:
    """Let the file grow no further, as on a full disk."""
    pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
    journal._connection.execute(f"PRAGMA max_page_count={pages + 8}")


@pytest.mark.parametrize("burst", [1, 20], ids=["one by one", "in groups"])
def test_a_full_disk_stops_the_run_and_keeps_what_was_finished(
    journal, path, run, step, recorded, burst
) -> None:
    async def main() -> tuple[int, JournalError]:
        journal.open_run(run())
        fill_up(journal)
        kept = 0
        while True:
            told = await recorded(journal, *(step("x" * 500, node=i) for i in range(burst)))
            if told[0] is not None:
                assert all(error is told[0] for error in told)
                return kept, told[0]
            kept += burst

    kept, error = asyncio.run(main())
    assert isinstance(error, JournalError)
    assert "disk is full" in str(error)
    assert str(path) in str(error)
    with pytest.raises(JournalError, match="disk is full"):
        journal.close_run("r", False, "", 1.0)
    pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
    journal._connection.execute(f"PRAGMA max_page_count={pages + 100_000}")
    journal.open_run(run())  # there is room again
    assert sum(1 for _ in journal.timeline("r") if type(_).__name__ == "StepFinished") == kept
    journal.close_run("r", True, "", 1.0)


def test_a_run_on_a_full_disk_ends_with_the_journals_error_and_can_be_resumed(path) -> None:
    ran: list[int] = []

    async def grow(x: int) -> str:
        ran.append(x)
        return f"{x}" * 2000

    spec = StepSpec("grow", grow, fingerprint="g")

    async def chain() -> int:
        for i in range(40):
            await submit(spec, (i,), {})
        return len(ran)

    with SqliteJournal(path) as journal:
        fill_up(journal)
        with pytest.raises(JournalError, match="disk is full"):
            asyncio.run(execute(chain, journal=journal, run_id="r"))
        before = len(ran)
        assert 0 < before < 40
    with SqliteJournal(path) as journal:
        found = asyncio.run(execute(chain, journal=journal, run_id="r"))
    assert found.reused == before - 1  # the last one ran, but could not be written down
    assert len(ran) == 41


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"These are my notes.\n" * 400)
    for opened in (SqliteJournal, Reader.open):
        with pytest.raises(JournalError, match="it is no journal, or damaged"):
            opened(path)
    assert path.read_bytes().startswith(b"These are my notes.")


def test_another_programs_database_is_refused_and_not_touched(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE mine (x)")
    other.close()
    for opened in (SqliteJournal, Reader.open):
        with pytest.raises(JournalError, match="another program's database"):
            opened(path)
    other = sqlite3.connect(path)
    assert other.execute("SELECT name FROM sqlite_schema").fetchall() == [("mine",)]
    other.close()


def test_a_newer_layout_is_refused_with_both_versions(path: Path) -> None:
    SqliteJournal(path).close()
    changed = sqlite3.connect(path)
    changed.execute("PRAGMA user_version=99")
    changed.close()
    for opened in (SqliteJournal, Reader.open):
        with pytest.raises(
            JournalError, match=r"newer Carrara \(layout 99, this one reads up to 1\)"
        ):
            opened(path)


def test_a_damaged_file_is_reported_when_it_is_read(path, run, step, recorded) -> None:
    async def main() -> None:
        with SqliteJournal(path) as journal:
            journal.open_run(run())
            await recorded(journal, *(step("x" * 900, node=i) for i in range(200)))
            journal.close_run("r", True, "", 1.0)

    asyncio.run(main())
    data = bytearray(path.read_bytes())
    data[20_000 : len(data) - 20_000] = b"\xff" * (len(data) - 40_000)
    path.write_bytes(data)
    with Reader.open(path) as reader, pytest.raises(JournalError, match="damaged"):
        reader.timeline("r")


def test_a_missing_blob_fails_the_reading_of_that_value_only(
    journal, path, run, step, recorded
) -> None:
    async def main() -> None:
        journal.open_run(run())
        await recorded(journal, step("long " * 2000, path="a/b"), step("short", path="a/c"))
        journal.close_run("r", True, "", 1.0)
        journal.open_run(run())

    asyncio.run(main())
    other = sqlite3.connect(path)
    with other:
        other.execute("DELETE FROM blobs")
    other.close()
    found = {key.path: stored for key, stored in journal.finished("r").items()}
    assert found["a/c"].value(None) == "short"
    with pytest.raises(ValueError, match="is missing"):
        found["a/b"].value(None)
    journal.close_run("r", True, "", 1.0)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match=r"file.*it cannot be made; check the folder"):
        SqliteJournal(tmp_path / "file" / "journal.db")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named_but_can_be_read(path: Path, run) -> None:
    with SqliteJournal(path) as journal:
        journal.open_run(run())
        journal.close_run("r", True, "", 1.0)
    path.chmod(0o400)
    path.parent.chmod(0o500)
    try:
        with pytest.raises(JournalError, match="cannot be"):
            SqliteJournal(path)
        with Reader.open(path) as reader:
            assert [found.run_id for found in reader.runs()] == ["r"]
    finally:
        path.parent.chmod(0o700)


def test_reading_where_there_is_no_journal_says_so(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="there is no journal at"):
        Reader.open(tmp_path / "journal.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_switched", [False, True], ids=["empty", "in WAL mode"])
def test_a_file_whose_making_was_cut_off_is_a_journal_without_runs(
    path: Path, run, is_switched: bool
) -> None:
    path.touch()
    if is_switched:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    with Reader.open(path) as reader:
        assert reader.runs() == []
        with pytest.raises(UnknownRun, match="holds no runs yet"):
            reader.find("last")
        with pytest.raises(UnknownRun, match="holds no run 'r'"):
            reader.rows("r")
    with SqliteJournal(path) as journal:
        journal.open_run(run("r"))
        with Reader.open(path) as reader:
            assert [found.run_id for found in reader.runs()] == ["r"]


def test_the_loop_goes_on_while_another_process_holds_the_lock(journal, path, run, step) -> None:
    other = sqlite3.connect(path, isolation_level=None)

    async def main() -> None:
        journal.open_run(run())
        loop = asyncio.get_running_loop()
        other.execute("BEGIN IMMEDIATE")
        first, second = loop.create_future(), loop.create_future()
        journal.record(step(1), first.set_result)
        for _ in range(20):
            await asyncio.sleep(0)
        journal.record(step(2), second.set_result)
        for _ in range(20):
            await asyncio.sleep(0)
        assert not first.done()
        assert not second.done()
        other.execute("COMMIT")
        assert await asyncio.gather(first, second) == [None, None]
        journal.close_run("r", True, "", 1.0)

    asyncio.run(main())
    other.close()
    assert [type(e).__name__ for e in journal.timeline("r")].count("StepFinished") == 2


def test_commits_go_on_after_another_process_has_written(
    journal, path, run, step, recorded
) -> None:
    other = sqlite3.connect(path, isolation_level=None)

    async def main() -> None:
        journal.open_run(run())
        for i in range(60):
            assert await recorded(journal, step(i, node=i)) == [None]
            if i % 7 == 0:  # within a burst: the journal's read lock has an old view from here on
                other.execute("INSERT OR REPLACE INTO durations VALUES ('w', ?)", (i,))
        journal.close_run("r", True, "", 1.0)

    asyncio.run(main())
    other.close()
    assert journal.find("r").steps == 60


def test_the_wal_file_stays_bounded_in_a_long_run(path, run, step, monkeypatch) -> None:
    monkeypatch.setattr("carrara.runtime.journal.sqlite.CHECKPOINT_PAGES", 300)
    wal = path.with_name(path.name + "-wal")

    async def main() -> int:
        largest = 0
        with SqliteJournal(path) as journal:
            journal.open_run(run())
            for i in range(12_000):
                ended = asyncio.get_running_loop().create_future()
                journal.record(step(i, node=i), ended.set_result)
                assert await ended is None
                if i % 100 == 0:
                    largest = max(largest, wal.stat().st_size)
            journal.close_run("r", True, "", 1.0)
        return largest

    # 12,000 commits write 13 MB; checkpoints come late on a busy machine.
    assert asyncio.run(main()) < 10_000_000


@pytest.mark.parametrize("durability", ["normal", "full"])
def test_what_the_store_does_not_take_is_told_to_all_who_wait_with_it(
    path: Path, run, durability
) -> None:
    async def main(journal: SqliteJournal) -> None:
        journal.open_run(run())
        loop = asyncio.get_running_loop()
        waits = [loop.create_future() for _ in range(3)]
        for place, (key, wait) in enumerate(zip(("a", "\ud800", "b"), waits, strict=True)):
            journal.put_row("r", place, key, "done", {}, done=wait.set_result)
        async with asyncio.timeout(20):
            told = await asyncio.gather(*waits)
        assert all(isinstance(error, JournalError) for error in told)
        assert "surrogates not allowed" in str(told[0])
        with pytest.raises(JournalError):
            journal.flush()
        journal.open_run(run("s"))  # what failed is forgotten with its batch
        journal.put_row("s", 0, "c", "done", {})
        assert [row.key for row in journal.rows("s")] == ["c"]

    with SqliteJournal(path, durability=durability) as journal:
        asyncio.run(main(journal))


def test_a_flush_tells_those_who_wait_whatever_is_wrong(journal, run) -> None:
    told: list[BaseException | None] = []

    async def main() -> None:
        journal.open_run(run())
        journal.put_row("r", 0, "\ud800", "done", {}, done=told.append)
        with pytest.raises(JournalError):
            journal.flush()

    asyncio.run(main())
    assert isinstance(told[0], JournalError)


def test_an_error_that_quotes_half_a_character_is_kept(journal, run, step, recorded) -> None:
    async def main() -> None:
        journal.open_run(run())
        journal.put_row("r", 0, "a", "failed", error="what is \ud800")
        async with asyncio.timeout(20):
            assert await recorded(journal, step(status="failed", error="é \udce9")) == [None]
        journal.close_run("r", False, "it was \udce9", 1.0)

    asyncio.run(main())
    assert journal.rows("r")[0].error == "what is \\ud800"


def test_what_the_writer_puts_together_forgets_rows_too() -> None:
    one, other = Batch(forgotten=[(1, 2)]), Batch(rows=[(1, 2)])
    assert _merged([one, other]).forgotten == [(1, 2)]
