"""A run is run by one process at a time; a dead one loses it."""

import asyncio
import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import carrara
from carrara.runtime.errors import JournalError
from carrara.runtime.journal.keeper import Keeper
from carrara.runtime.journal.lease import STALE_S, Holder, born, this_process
from carrara.runtime.journal.reading import Reader
from carrara.runtime.journal.schema import RUN_SPAN
from carrara.runtime.journal.sqlite import SqliteJournal

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(carrara.__file__).parents[1])}
HOLD = """
import sys
from carrara.runtime.journal.api import RunRecord
from carrara.runtime.journal.sqlite import SqliteJournal
SqliteJournal(sys.argv[1]).open_run(RunRecord("r", "book", 1.0))
print("open", flush=True)
sys.stdin.read()
"""


def hold(path: Path) -> subprocess.Popen[str]:
    """Another process that has the run open."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def test_a_second_process_is_refused_by_the_first_ones_pid_until_that_is_dead(
    journal, path, run
) -> None:
    with hold(path) as other:
        with pytest.raises(
            JournalError, match=rf"is running in process {other.pid}; .*kill {other.pid}"
        ) as raised:
            journal.open_run(run())
        assert raised.value.run == "r"
        with Reader.open(path) as reader:
            assert reader.find("r").status == "running"
        other.kill()
    with Reader.open(path) as reader:
        assert reader.find("r").status == "interrupted"
        assert [type(event).__name__ for event in reader.timeline("r")] == ["RunStarted"]
    journal.open_run(run())
    journal.close_run("r", True, "", 1.0)
    assert journal.find("r").openings == 2


def test_two_journals_of_one_process_cannot_run_the_same_run(journal, path, run) -> None:
    journal.open_run(run())
    with SqliteJournal(path) as second:
        with pytest.raises(JournalError, match="in this process already"):
            second.open_run(run())
        second.open_run(run("other"))
        second.close_run("other", True, "", 1.0)
    with pytest.raises(JournalError, match="in this process already"):
        journal.open_run(run())
    journal.close_run("r", True, "", 1.0)


def test_a_run_id_belongs_to_one_workflow(journal, run) -> None:
    journal.open_run(run())
    journal.close_run("r", True, "", 1.0)
    with pytest.raises(JournalError, match="is one of workflow 'book', not of 'film'"):
        journal.open_run(run(workflow="film"))


def test_a_reused_pid_is_not_taken_for_the_holder() -> None:
    me = this_process()
    assert me.is_alive(beat_at=0.0, now=1e9)
    earlier = Holder(me.host, me.pid, "another boot:123")
    assert not earlier.is_alive(beat_at=1e9, now=1e9)


def test_a_holder_on_another_machine_lives_as_long_as_its_heart_beats() -> None:
    other = Holder("elsewhere.example", 1, "boot:1")
    assert other.is_alive(beat_at=1000.0, now=1000.0 + STALE_S - 1)
    assert not other.is_alive(beat_at=1000.0, now=1000.0 + STALE_S + 1)


def test_the_heart_of_an_open_run_beats_and_that_of_a_closed_one_does_not(
    journal, path, run
) -> None:
    def beats() -> dict[str, float]:
        connection = sqlite3.connect(path)
        found = dict(connection.execute("SELECT run_id, beat_at FROM runs"))
        connection.close()
        return found

    for name in ("closed", "open"):
        journal.open_run(run(name))
    journal.close_run("closed", True, "", 1.0)
    before = beats()
    keeper = Keeper(path, clock=lambda: 12345.0)
    keeper._leases = dict(journal._keeper._leases)
    keeper._keep(checkpoint=False)
    assert beats() == {**before, "open": 12345.0}
    journal.close_run("open", True, "", 1.0)


def test_many_processes_may_make_one_journal_at_the_same_moment(path) -> None:
    program = (
        "import sys; from carrara.runtime.journal.sqlite import SqliteJournal\n"
        "from carrara.runtime.journal.api import RunRecord\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "journal = SqliteJournal(sys.argv[1])\n"
        "journal.open_run(RunRecord(sys.argv[2], 'w', 1.0))\n"
        "journal.close_run(sys.argv[2], True, '', 1.0); journal.close()"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(path), str(i)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        for i in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    with Reader.open(path) as reader:
        assert {found.run_id for found in reader.runs()} == {"0", "1", "2", "3"}


def test_a_process_that_has_ended_was_never_born() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert born(process.pid) == ""
    assert not Holder(socket.gethostname(), process.pid, "").is_alive(beat_at=0.0, now=0.0)
    assert born(os.getpid()) != "" or sys.platform != "linux"


def test_a_writer_that_has_lost_its_run_is_stopped_by_the_rows_of_the_next(
    journal, path, run, step, recorded
) -> None:
    """A machine that slept, say, and whose run was taken over meanwhile by another one."""
    journal.open_run(run())
    taker = sqlite3.connect(path)
    with taker:
        taker.execute(
            "INSERT INTO steps VALUES (?, 'p', 'i', 0, 'f', 0, '1', NULL, 1, 0, 1, 1, 1, 1, 1)",
            (RUN_SPAN + 1,),
        )
    taker.close()

    async def main() -> None:
        (error,) = await recorded(journal, step(1))
        assert isinstance(error, JournalError)
        assert "another process has written this run" in str(error)

    asyncio.run(main())
    with pytest.raises(JournalError):
        journal.close_run("r", False, "", 1.0)
