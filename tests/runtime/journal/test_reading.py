"""What a journal tells afterwards: its runs, their inputs, their events, what their steps took."""

import asyncio
from pathlib import Path

import pytest

from carrara.runtime.errors import JournalError
from carrara.runtime.events import (
    Routed,
    RunFinished,
    RunStarted,
    StepFailed,
    StepFinished,
    StepReady,
    StepStarted,
)
from carrara.runtime.journal.durations import NEWEST
from carrara.runtime.journal.reading import Reader
from carrara.runtime.journal.sqlite import SqliteJournal
from carrara.runtime.run import execute, submit, submit_map
from carrara.runtime.step import StepOptions, StepSpec


async def double(x: int) -> int:
    return 2 * x


DOUBLE = StepSpec("double", double, fingerprint="d")


async def sums(n: int) -> int:
    return sum(await submit_map(DOUBLE, range(n)))


def test_runs_are_listed_newest_first_with_what_came_of_them(journal, run) -> None:
    for i, ok in enumerate((True, False)):
        journal.open_run(run(f"run{i}", started_at=float(i)))
        journal.close_run(f"run{i}", ok, "" if ok else "ValueError: no", 2.5)
    newest, oldest = journal.runs()
    assert (newest.run_id, newest.status, newest.error) == ("run1", "failed", "ValueError: no")
    assert (oldest.run_id, oldest.status, oldest.seconds) == ("run0", "done", 2.5)
    assert [found.run_id for found in journal.runs(limit=1)] == ["run1"]
    assert newest.versions["python"]


def test_a_run_is_found_by_id_unique_beginning_or_as_the_last(journal, run) -> None:
    for i, name in enumerate(("abc1", "abc2", "abc")):
        journal.open_run(run(name, started_at=float(i)))
        journal.close_run(name, True, "", 1.0)
    assert journal.find("abc1").run_id == "abc1"
    assert journal.find("abc").run_id == "abc"
    assert journal.find("last").run_id == "abc"
    with pytest.raises(JournalError, match="'ab' could be any of the runs abc, abc2, abc1"):
        journal.find("ab")
    for unknown in ("x", "", "%"):
        with pytest.raises(JournalError, match="`carrara runs` lists them"):
            journal.find(unknown)


def test_last_of_an_empty_journal_says_that_it_is_empty(journal) -> None:
    with pytest.raises(JournalError, match="holds no runs yet"):
        journal.find("last")


def test_the_inputs_of_a_run_come_back_for_its_resume(journal, run) -> None:
    journal.open_run(run(args=(Path("in.txt"), (1, 2)), kwargs={"n": 3}, source="a.py:book"))
    assert journal.inputs("r") == ((Path("in.txt"), (1, 2)), {"n": 3})
    assert journal.find("r").source == "a.py:book"
    journal.close_run("r", True, "", 1.0)


def test_a_run_whose_inputs_cannot_be_stored_runs_but_says_why_it_cannot_be_resumed(
    journal, run
) -> None:
    journal.open_run(run(args=(print,)))
    assert "a function cannot be journaled" in journal.find("r").no_resume
    with pytest.raises(JournalError, match="cannot be resumed from its journal"):
        journal.inputs("r")
    journal.close_run("r", True, "", 1.0)


def test_the_timeline_of_a_run_equals_what_a_listener_heard(path: Path) -> None:
    tries: list[int] = []

    async def flaky(x: int) -> int:
        tries.append(x)
        if len(tries) == 1:
            raise ValueError("not yet")
        return x

    flaky_spec = StepSpec("flaky", flaky, fingerprint="y", options=StepOptions(retries=1))

    async def both(n: int) -> int:
        return await submit(flaky_spec, (await submit_map(DOUBLE, range(n)),), {}) and n

    heard: list[object] = []
    with SqliteJournal(path) as journal:
        asyncio.run(execute(both, (3,), journal=journal, run_id="r", listeners=[heard.append]))
        told = journal.timeline("r")

    def facts(events: list[object], kind: type) -> list[tuple[object, ...]]:
        return sorted(
            (event.path, event.node, getattr(event, "attempt", 0))
            for event in events
            if type(event) is kind
        )

    for kind in (StepStarted, StepFinished, StepFailed):
        assert facts(told, kind) == facts(heard, kind), kind
    assert isinstance(told[0], RunStarted)
    assert isinstance(told[-1], RunFinished)
    assert (told[-1].ok, told[-1].steps) == (True, 4)
    assert [event.at for event in told] == sorted(event.at for event in told)


def test_events_of_one_step_keep_their_order_among_those_of_others(
    journal, run, step, recorded
) -> None:
    async def main() -> None:
        journal.open_run(run())
        journal.event("r", Routed("r", 100.2, "book/square", 1, "ar", "free text"))
        await recorded(journal, step(1), step(2, path="book/other", node=2, started_at=100.1))
        journal.close_run("r", True, "", 1.0)

    asyncio.run(main())
    told = [
        (type(event).__name__, getattr(event, "path", "")) for event in journal.timeline("r")[1:-1]
    ]
    assert told == [
        ("StepReady", "book/square"),
        ("StepReady", "book/other"),
        ("StepStarted", "book/square"),
        ("StepStarted", "book/other"),
        ("Routed", "book/square"),
        ("StepFinished", "book/square"),
        ("StepFinished", "book/other"),
    ]
    assert isinstance(journal.timeline("r")[1], StepReady)


def test_a_resumed_run_shows_what_it_reused(path: Path) -> None:
    with SqliteJournal(path) as journal:
        asyncio.run(execute(sums, (4,), journal=journal, run_id="r"))
        again = asyncio.run(execute(sums, (4,), journal=journal, run_id="r"))
        told = journal.timeline("r")
    assert again.reused == 4
    reused = [event for event in told if isinstance(event, StepFinished) and event.reused]
    assert [event.path for event in reused] == [f"sums/double[{i}]" for i in range(4)]
    assert isinstance(told[-1], RunFinished)
    assert (told[-1].steps, told[-1].reused) == (4, 4)


def test_an_interrupted_run_can_be_read_while_it_is_written(
    path: Path, run, step, recorded
) -> None:
    async def main() -> None:
        with SqliteJournal(path) as journal, Reader.open(path) as reader:
            journal.open_run(run())
            await recorded(journal, step(1))
            assert reader.find("r").status == "running"
            assert reader.find("r").steps == 1
            assert len(reader.timeline("r")) == 4
            journal.close_run("r", True, "", 1.0)

    asyncio.run(main())


def test_durations_are_learned_by_node_and_by_step_name(journal, run, step, recorded) -> None:
    async def main(name: str, seconds: float) -> None:
        journal.open_run(run(name))
        await recorded(
            journal,
            step(1, run_id=name, path="book/square[0]", seconds=seconds),
            step(1, run_id=name, path="book/square[1]", seconds=3 * seconds),
            step(1, run_id=name, path="book/square[1]", ordinal=2, seconds=2 * seconds),
            step(
                None, run_id=name, path="book/square[2]", status="failed", error="x", seconds=99.0
            ),
        )
        journal.close_run(name, True, "", 1.0)

    assert journal.durations("book") == {}
    asyncio.run(main("one", 1.0))
    assert journal.durations("book") == {
        "square": 2.0,
        "book/square[0]": 1.0,
        "book/square[1]": 3.0,
        "book/square[1]#2": 2.0,
    }
    asyncio.run(main("two", 2.0))
    assert journal.durations("book")["book/square[0]"] == pytest.approx(1 + NEWEST)
    assert journal.durations("film") == {}
