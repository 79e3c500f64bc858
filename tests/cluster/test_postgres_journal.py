"""The journal on a real PostgreSQL server: what the SQLite one promises, leases, a server that goes and comes back."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import carrara
from carrara import step, workflow
from carrara.engines.errors import CarraraError
from carrara.runtime.errors import JournalError, UnknownRun
from carrara.runtime.events import Accepted, StepRetrying
from carrara.runtime.journal import recording
from carrara.runtime.journal.api import Key, RunRecord, StepRecord
from carrara.runtime.journal.postgres import PostgresJournal, TakenUp
from carrara.runtime.journal.postgres_store import Place, PostgresStore
from carrara.runtime.journal.reading import Reader
from carrara.runtime.journal.recording import Recorder
from carrara.runtime.journal.sameness import MOST
from carrara.runtime.journal.sqlite import SqliteJournal
from carrara.runtime.step import StepSpec
from tests.cluster.conftest import EXAMPLES

ROOT = Path(__file__).resolve().parents[2]
SPEC = StepSpec("square", lambda x: x * x, fingerprint="f" * 32)
calls: list[int] = []


def on_loop(test: Callable[..., Any]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: Any, **given: Any) -> None:
        asyncio.run(test(*args, **given))

    return run


@step
async def square(number: int) -> int:
    calls.append(number)
    if number == 13:
        raise ValueError("unlucky")
    return number * number


@workflow
async def squares(numbers: list[int]) -> int:
    return sum([await square(number) for number in numbers])


def made(value: Any, number: int, **changes: Any) -> StepRecord:
    key = Key(f"book/square[{number}]", f"{number:032}", 0)
    record = StepRecord("r", key, number, SPEC, "done", value, "", 1, 100.0, 0.5, 99.0, 0, True)
    return replace(record, **changes)


def run() -> RunRecord:
    return RunRecord("r", "book", 90.0, "book.py:book", (1, "a"))


@pytest.fixture(autouse=True)
def nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that other tests have left open are not those of this one."""
    monkeypatch.setattr(recording, "_HELD", set())


async def record(journal: Recorder, found: StepRecord) -> BaseException | None:
    wait = asyncio.get_running_loop().create_future()
    journal.record(found, wait.set_result)
    return await wait


async def row(journal: Recorder, place: int, payload: Any) -> BaseException | None:
    wait = asyncio.get_running_loop().create_future()
    journal.put_row("r", place, f"k{place}", "done", payload, done=wait.set_result)
    return await wait


@on_loop
async def test_a_run_goes_on_from_where_it_failed(journal_url: str) -> None:
    calls.clear()
    with pytest.raises(CarraraError, match="unlucky"):
        await carrara.run(squares, [1, 2, 13], journal=journal_url, run_id="first")
    assert calls == [1, 2, 13]
    calls.clear()
    with pytest.raises(CarraraError, match="unlucky"):
        await carrara.resume("last", journal_url, workflow=squares)
    assert calls == [13]
    with Reader.open(journal_url) as reader:
        (found,) = reader.runs()
        assert (found.status, found.openings, found.steps) == ("failed", 2, 2)
        assert reader.find("fi").run_id == "first"
        with pytest.raises(UnknownRun, match=r"Did you mean .first."):
            reader.find("frist")


@on_loop
async def test_steps_of_other_runs_are_found(journal_url: str) -> None:
    calls.clear()
    await carrara.run(squares, [1, 2], journal=journal_url)
    await carrara.run(squares, [1, 2, 3], journal=journal_url, reuse="any")
    assert calls == [1, 2, 3]


@on_loop
async def test_of_many_equal_steps_the_own_one_is_found_with_what_was_told_of_it(
    journal_url: str,
) -> None:
    with PostgresJournal(journal_url) as journal:
        journal.open_run(run())
        for number in range(2 * MOST):
            key = Key(f"book/square[{number}]", "same", 0)
            journal.event("r", Accepted("r", 1.0, key.path, number, f"engine {number}"))
            assert await record(journal, made(number, number, key=key)) is None
        journal.close_run("r", True, "", 1.0)
        journal.open_run(run())
        assert await record(journal, made("of now", 3, key=key._replace(path="book/now"))) is None
        for number in (3, 2 * MOST - 3):
            key = key._replace(path=f"book/square[{number}]")
            found = list(journal.equal_steps("r", key, None, repeatable=False))
            assert found[0].value(None) == number
            assert "of now" not in [stored.value(None) for stored in found]
            told = journal.accepted(found[0].place)
            assert told is not None
            assert told.engine == f"engine {number}"
        journal.close_run("r", True, "", 1.0)


class Kept:
    """The row of the eighth record was made with these steps."""

    def __init__(self, steps: list[int]) -> None:
        self._steps = steps

    def owner(self, step: int) -> int | None:
        return 7 if step in self._steps else None

    def steps(self, place: int) -> list[int]:
        return self._steps if place == 7 else []


@on_loop
async def test_rows_go_to_other_places_with_what_they_were_made_with(journal_url: str) -> None:
    with PostgresJournal(journal_url) as journal:
        journal.open_run(run())
        journal.keep_rows("r", Kept([]))
        for place, name in enumerate("abc"):
            key = Key(f"book/record[{place}]/square", "same", 0)
            assert await record(journal, made(place, place, key=key)) is None
            journal.put_row("r", place, name, "done", name)
        steps = journal.made_with("r", 0)
        journal.move_rows("r", [0, 1], [7, 0])
        found = [(row.place, row.key, row.payload) for row in journal.rows("r")]
        assert found == [(0, "b", "b"), (2, "c", "c"), (7, "a", "a")]
        journal.close_run("r", True, "", 1.0)
        journal.open_run(run())
        journal.keep_rows("r", Kept(steps))
        key = Key("book/record[7]/square", "same", 0)
        given = [step.value(None) for step in journal.equal_steps("r", key, None, repeatable=False)]
        assert given == [0, 2, 1]
        key = key._replace(path="book/record[0]/square")
        given = [step.value(None) for step in journal.equal_steps("r", key, None, repeatable=False)]
        assert given == [2, 1]
        journal.close_run("r", True, "", 1.0)


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
values = st.one_of(texts, st.integers(), st.text("ab\x00€", min_size=5000, max_size=5005))
acts = st.one_of(
    st.tuples(st.just("step"), st.integers(0, 5), values),
    st.tuples(st.just("fail"), st.integers(0, 5), st.text("xyz")),
    st.tuples(st.just("event"), st.integers(0, 5), st.floats(0, 5)),
    st.tuples(st.just("row"), st.integers(0, 5), values),
    st.tuples(st.just("bad row"), st.integers(0, 5), st.text("xyz")),
    st.tuples(st.just("again"), st.just(0), st.none()),
)


def test_both_stores_tell_the_same(server: Any, tmp_path: Path) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(acts, max_size=12))
    def check(found: list[tuple[str, int, Any]]) -> None:
        server.ask("DROP SCHEMA IF EXISTS twice CASCADE")
        for old in tmp_path.glob("j.db*"):
            old.unlink()
        with SqliteJournal(tmp_path / "j.db") as file:
            first = asyncio.run(told(file, found))
        with PostgresJournal(f"{server.url}#twice") as far:
            assert asyncio.run(told(far, found)) == first

    check()


async def told(journal: Recorder, found: list[tuple[str, int, Any]]) -> list[Any]:
    """Do it all, and read everything that does not depend on the moment."""
    journal.open_run(run())
    for name, number, value in found:
        match name:
            case "step":
                assert await record(journal, made(value, number)) is None
            case "fail":
                failed = made(None, number, status="failed", error=value)
                assert await record(journal, failed) is None
            case "event":
                journal.event("r", StepRetrying("r", 1.0, "book/a", number, 2, value))
            case "row":
                assert await row(journal, number, value) is None
            case "bad row":
                journal.put_row("r", number, f"k{number}", "failed", error=value)
            case _:
                journal.close_run("r", False, "stopped", 1.5, cut=True)
                journal.open_run(run())
    journal.flush()
    steps = sorted((key, stored.value(None)) for key, stored in journal.finished("r").items())
    events = [replace(event, at=0.0) for event in journal.timeline("r")]
    node_by_node = [replace(event, at=0.0) for event in journal.events("r")]
    journal.close_run("r", True, "", 2.0)
    (summary,) = journal.runs()
    return [
        steps,
        [event for event in events if type(event).__name__ != "RunFinished"],
        [event for event in node_by_node if type(event).__name__ != "RunFinished"],
        journal.rows("r"),
        list(journal.each_row("r")),
        journal.rows_from("r", 2, 2),
        journal.inputs("r"),
        dict(journal.durations("book")),
        replace(summary, ended_at=None),
    ]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make what this process opens next look like another process's, on another machine."""

    def become(host: str) -> None:
        monkeypatch.setattr(recording, "_HELD", set())
        monkeypatch.setattr("socket.gethostname", lambda: host)
        from carrara.runtime.journal import lease

        lease._holder.cache_clear()

    yield become
    become_again = sys.modules["carrara.runtime.journal.lease"]
    monkeypatch.undo()
    become_again._holder.cache_clear()


@on_loop
async def test_whoever_has_lost_the_lease_writes_nothing(
    server: Any, journal_url: str, elsewhere: Callable[..., None]
) -> None:
    elsewhere("a")
    with PostgresJournal(journal_url) as first, PostgresJournal(journal_url) as second:
        first.open_run(run())
        assert await row(first, 0, "by a") is None
        elsewhere("b")
        with pytest.raises(JournalError, match=r"is running in process .* on a"):
            second.open_run(run())
        server.ask("UPDATE journal.runs SET beat_at = beat_at - 100")  # no heartbeat for 100 s
        second.open_run(run())
        for number in (0, 1):
            assert isinstance(await row(first, number, "too late"), TakenUp)
        assert await row(second, 1, "by b") is None
        with pytest.raises(TakenUp):
            first.close_run("r", True, "", 1.0)
        assert [(each.place, each.payload) for each in second.rows("r")] == [
            (0, "by a"),
            (1, "by b"),
        ]
        assert second.find("r").status == "running"
        second.close_run("r", True, "", 1.0)


@on_loop
async def test_every_batch_is_a_heartbeat(server: Any, journal_url: str) -> None:
    with PostgresJournal(journal_url) as journal:
        journal.open_run(run())
        server.ask("UPDATE journal.runs SET beat_at = 0")
        await row(journal, 0, "a")
        assert float(server.ask("SELECT beat_at FROM journal.runs")) > 1e9
        journal.close_run("r", True, "", 1.0)


def test_of_many_that_take_a_run_up_one_has_it(server: Any, journal_url: str) -> None:
    with PostgresJournal(journal_url) as journal:
        journal.open_run(run())
        journal.close_run("r", False, "", 1.0, cut=True)
        server.ask("UPDATE journal.runs SET status='running', host='gone', beat_at=0")
        code = (
            "import sys; from carrara.runtime.errors import JournalError\n"
            "from carrara.runtime.journal.api import RunRecord\n"
            "from carrara.runtime.journal.opening import journal_at\n"
            "journal = journal_at(sys.argv[1]); print('ready', flush=True); sys.stdin.readline()\n"
            "try: journal.open_run(RunRecord('r', 'book', 90.0)); print('mine')\n"
            "except JournalError as error: print('no:', error)\n"
            "sys.stdout.flush(); sys.stdin.readline(); import os; os._exit(0)\n"
        )
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
        children = [
            subprocess.Popen([sys.executable, "-c", code, journal_url], **pipes) for _ in range(4)
        ]
        try:
            for child in children:
                assert child.stdout.readline() == "ready\n"
            for child in children:
                child.stdin.write("go\n")
                child.stdin.flush()
            answers = [child.stdout.readline() for child in children]
        finally:
            for child in children:
                child.communicate("end\n")
        assert sorted(answer[:4] for answer in answers) == ["mine", "no: ", "no: ", "no: "]


@on_loop
async def test_a_run_waits_for_a_server_that_restarts(own_server: Any) -> None:
    with PostgresJournal(own_server.url) as journal:
        journal.open_run(run())
        assert await row(journal, 0, "before") is None
        own_server.kill()
        waits = asyncio.gather(row(journal, 1, "meanwhile"), record(journal, made(4, 2)))
        own_server.start()
        assert await waits == [None, None]
        own_server.kill()
        own_server.start()
        assert [each.payload for each in journal.rows("r")] == ["before", "meanwhile"]
        own_server.kill()
        own_server.start()
        journal.close_run("r", True, "", 1.0)
        assert journal.find("r").status == "done"


@on_loop
async def test_a_batch_whose_end_was_not_heard_of_is_there_once(
    journal_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut: list[str] = []

    class Cut(PostgresStore):
        def execute(self, sql: str, values: Any = (), /) -> Any:
            found = super().execute(sql, values)
            if sql == "COMMIT" and not cut:
                cut.append(sql)
                pid = super().execute("SELECT pg_backend_pid()").fetchone()[0]
                with PostgresJournal(journal_url) as other:
                    other._connection.execute("SELECT pg_terminate_backend(?)", (pid,))
                super().execute("BEGIN")  # as if COMMIT itself had not come back
            return found

    with PostgresJournal(journal_url) as journal:
        journal.open_run(run())
        monkeypatch.setattr(
            journal._group.store, "another", lambda: Cut(Place.of(journal_url), patience_s=20.0)
        )
        assert await record(journal, made(4, 2)) is None
        assert cut
        assert await row(journal, 0, "after") is None
        journal.flush()
        assert len(journal.finished("r")) <= 1
        steps = journal._connection.execute("SELECT count(*) FROM steps").fetchone()[0]
        assert steps == 1
        journal.close_run("r", True, "", 1.0)


def test_a_server_that_is_away_is_an_error_at_once(server: Any) -> None:
    with pytest.raises(JournalError, match=r"127.0.0.1:9.*cannot be reached") as raised:
        PostgresJournal("postgresql://me:hush-hush@127.0.0.1:9/x")
    assert "hush" not in str(raised.value)
    with pytest.raises(JournalError, match="password") as raised:
        PostgresJournal(f"postgresql://me:hush-hush@127.0.0.1:{server.port}/postgres")
    assert "hush" not in str(raised.value)


def test_where_there_is_no_journal_nothing_is_made(server: Any) -> None:
    with pytest.raises(UnknownRun, match="there is no journal"):
        Reader.open(f"{server.url}#nothing")
    assert server.ask("SELECT count(*) FROM pg_namespace WHERE nspname='nothing'").strip() == "0"


def test_a_newer_journal_is_refused(server: Any, journal_url: str) -> None:
    PostgresJournal(journal_url).close()
    server.ask("UPDATE journal.layout SET version = 99")
    for opened in (PostgresJournal, Reader.open):
        with pytest.raises(JournalError, match="newer Carrara"):
            opened(journal_url)


@pytest.fixture
def documents(server: Any) -> Iterator[str]:
    """The query of a table, without the server."""
    server.ask(
        "CREATE TABLE documents AS SELECT i AS id, 'text ' || i AS text FROM generate_series(1,5) i"
    )
    yield "SELECT id, text FROM documents ORDER BY id"
    server.ask("DROP TABLE documents; DROP TABLE IF EXISTS loud; DROP SCHEMA carrara CASCADE")


FLOW = """
from typing import TypedDict
from carrara import step, workflow


class Said(TypedDict):
    said: str


@step
def loud(text: str) -> str:
    return text.upper()


@workflow
async def talk(text: str) -> Said:
    return {"said": await loud(text)}
"""


def test_passwords_are_written_nowhere(server: Any, documents: str, tmp_path: Path) -> None:
    from carrara.workflows.job import Job

    secret = server.secret_url.split(":")[2].split("@")[0]
    (tmp_path / "flow.py").write_text(FLOW)

    def call(*words: str, fails: bool = False, **more: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **more}
        command = [sys.executable, "-m", "carrara", *words]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert (done.returncode != 0) == fails, done.stderr
        return done.stdout + done.stderr

    source, bad = f"{server.secret_url}#{documents}", f"{server.secret_url}#nothing"
    output, far = f"{server.secret_url}#loud", server.secret_url
    job = ["run", "flow.py:talk", "-i", source, "-o", output, "--limit", "3"]
    told = call(*job, "--journal", far)
    told += call("run", "flow.py:talk", "-i", bad, "-o", output, "--journal", far, fails=True)
    told += call("run", "flow.py:talk", "-i", source, "-o", output)
    told += call("run", "flow.py:talk", "-i", source, "-o", "rows.jsonl", "--journal", far)
    (tmp_path / "flow.py").write_text(FLOW.replace("text.upper()", "text.upper() + '!'"))
    told += call(*job, "--journal", far, "--resume")  # the URL is given again
    told += call("resume", "last", "-o", "other.jsonl", PGPASSWORD=secret)  # the client knows it
    told += call("resume", "last", "-o", "more.jsonl", fails=True)
    told += call("runs", "--journal", far)
    told += call("report", "last", "--journal", far)
    told += repr(Job("flow.py:talk", source, output)) + repr(Place.of(far))
    assert secret not in told
    assert "postgresql://me" in told
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes(), file
    dumped = server.ask("SELECT * FROM carrara.runs") + server.ask("SELECT * FROM carrara.events")
    assert secret not in dumped
    assert "SELECT id, text FROM documents" in dumped
    assert len((tmp_path / "other.jsonl").read_text().splitlines()) == 5
    assert json.loads((tmp_path / "rows.jsonl").read_text().splitlines()[0])["said"] == "TEXT 1"
