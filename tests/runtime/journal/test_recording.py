"""What is recorded is there when its `done` is called, and comes back as it was."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.runtime.events import Repaired
from carrara.runtime.journal import sameness
from carrara.runtime.journal.api import Key, RunRecord, StepRecord
from carrara.runtime.journal.sqlite import SqliteJournal
from carrara.runtime.step import StepSpec


def count(path: Path, table: str) -> int:
    """Rows that another connection sees."""
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    finally:
        connection.close()


def test_a_step_is_in_the_file_before_its_successor_may_start(journal, path, run, step) -> None:
    seen: list[int] = []

    async def main() -> None:
        ended = asyncio.get_running_loop().create_future()

        def done(error: BaseException | None) -> None:
            assert error is None
            seen.append(count(path, "steps"))
            if len(seen) == 40:
                ended.set_result(None)
            else:
                journal.record(step(len(seen), node=len(seen)), done)

        journal.open_run(run())
        journal.record(step(0), done)
        await ended

    asyncio.run(main())
    assert seen == list(range(1, 41))


def test_steps_of_one_turn_share_a_transaction(journal, path, run, step) -> None:
    seen: list[int] = []

    async def main() -> None:
        journal.open_run(run())
        for i in range(10):
            journal.record(step(i, node=i), lambda _: seen.append(count(path, "steps")))
        assert seen == []
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert seen == [10] * 10


def test_after_a_chain_a_burst_is_grouped_again(journal, path, run, step, recorded) -> None:
    async def main() -> list[int]:
        journal.open_run(run())
        for i in range(200):
            await recorded(journal, step(i, node=i))
        seen: list[int] = []
        ended = asyncio.get_running_loop().create_future()

        def done(_: BaseException | None) -> None:
            seen.append(count(path, "steps"))
            if len(seen) == 500:
                ended.set_result(None)

        for i in range(500):
            journal.record(step(i, node=i), done)
        await ended
        return seen

    seen = asyncio.run(main())
    assert seen.count(700) > 400  # all but the few that were committed as they came


@pytest.mark.parametrize("durability", ["normal", "full"])
def test_values_come_back_when_the_run_is_opened_again(
    path, run, step, recorded, durability
) -> None:
    values = [1, "ä", None, {"a": [1.5, True]}, (1, 2), "long " * 5000, {"big": "x" * 300_000}]

    async def first() -> None:
        with SqliteJournal(path, durability=durability) as journal:
            journal.open_run(run())
            told = await recorded(journal, *(step(v, occurrence=i) for i, v in enumerate(values)))
            assert told == [None] * len(values)
            journal.close_run("r", True, "", 1.0)

    asyncio.run(first())
    with SqliteJournal(path) as journal:
        journal.open_run(run())
        found = journal.finished("r")
        back = [found[Key("book/square", "i" * 32, i)] for i in range(len(values))]
        assert [stored.value(None) for stored in back] == values
        assert type(back[4].value(None)) is tuple
        assert {stored.fingerprint for stored in back} == {"f" * 32}
        assert {stored.seconds for stored in back} == {0.5}
        journal.close_run("r", True, "", 1.0)


def test_equal_long_values_are_stored_once(journal, path, run, step, recorded) -> None:
    async def main() -> None:
        journal.open_run(run())
        await recorded(journal, *(step("text " * 2000, node=i) for i in range(50)))

    asyncio.run(main())
    assert count(path, "blobs") == 1
    assert count(path, "steps") == 50


def test_only_what_ended_well_and_may_be_kept_can_be_reused(journal, run, step, recorded) -> None:
    async def main() -> None:
        journal.open_run(run())
        await recorded(
            journal,
            step(1, path="book/good"),
            step(None, path="book/bad", status="failed", error="ValueError: no"),
            step(1, path="book/uncached", keep=False),
            step(object(), path="book/unkeyed", identity=""),
        )
        journal.close_run("r", False, "one failed", 1.0)
        journal.open_run(run())

    asyncio.run(main())
    assert [key.path for key in journal.finished("r")] == ["book/good"]
    journal.close_run("r", True, "", 1.0)


def test_a_value_that_cannot_be_stored_is_named_with_step_and_part(journal, run, step) -> None:
    value = {"items": [1, {"when": (x for x in ())}]}
    journal.open_run(run())
    with pytest.raises(
        ValueError, match=r"step 'book/square' returned dict: at \.items\[1\]\.when: "
    ) as raised:
        journal.record(step(value), lambda _: pytest.fail("done was called"))
    assert "generator cannot be journaled" in str(raised.value)
    journal.close_run("r", False, "", 1.0)


def test_an_input_without_hash_gives_no_identity_and_the_record_says_why(
    journal, path, run, step, spec, recorded
) -> None:
    assert journal.identity(spec, (open,), {"f": object()}) == ""
    assert journal.identity(StepSpec("free", print), (1,), {}) == ""
    assert len(journal.identity(spec, (1,), {"b": 2, "a": 1})) == 32

    async def main() -> None:
        journal.open_run(run())
        await recorded(journal, step(1, identity=""))

    asyncio.run(main())
    stored = sqlite3.connect(path)
    assert (
        stored.execute("SELECT error FROM steps")
        .fetchone()[0]
        .startswith("an input cannot be hashed")
    )
    stored.close()


def test_a_result_is_found_by_identity_across_runs(journal, run, step, recorded) -> None:
    async def main() -> None:
        for name in ("one", "two"):
            journal.open_run(run(name))
            await recorded(journal, step(name, run_id=name, identity="a" * 32))
            journal.close_run(name, True, "", 1.0)

    asyncio.run(main())
    journal.open_run(run("three"))
    assert equal_values(journal, "three", Key("book/square", "a" * 32, 0)) == ["two", "one"]
    assert equal_values(journal, "three", Key("book/square", "b" * 32, 0)) == []


def equal_values(
    journal: SqliteJournal, run_id: str, key: Key, *, repeatable: bool = False
) -> list[Any]:
    found = journal.equal_steps(run_id, key, None, repeatable=repeatable)
    return [stored.value(None) for stored in found]


PATHS = ("w/record[0]/v[0]", "w/record[0]/v[1]", "w/record[1]/v[0]", "w/record[1]/v[1]")


@settings(max_examples=30, deadline=None)
@given(
    written=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(PATHS)), max_size=12),
    asked=st.sampled_from(PATHS),
)
def test_equal_steps_of_the_run_itself_go_before_others_and_the_same_path_before_both(
    written: list[tuple[str, str]],
    asked: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("equal") / "journal.db"
    spec = StepSpec("v", print, fingerprint="f")

    async def main() -> None:
        with SqliteJournal(path) as journal:
            for name in "abc":
                journal.open_run(RunRecord(name, "w", 0.0))
                for number, (run_id, where) in enumerate(written):
                    if run_id == name:
                        key = Key(where, "same", 0)
                        value = [name, where, number]
                        journal.record(
                            StepRecord(
                                name, key, number, spec, "done", value, "", 1, 0, 0, 0, 0, True
                            ),
                            lambda _: None,
                        )
                journal.close_run(name, True, "", 0.0)
            journal.open_run(RunRecord("b", "w", 0.0))
            key = Key(asked, "same", 0)
            journal.record(
                StepRecord("b", key, 99, spec, "done", "of now", "", 1, 0, 0, 0, 0, True),
                lambda _: None,
            )
            journal.flush()
            found = equal_values(journal, "b", key)
            assert len(found) == len(written)
            own = [run_id == "b" for run_id, _, _ in found]
            assert own == sorted(own, reverse=True)
            for of_run in (True, False):
                at_path = [where == asked for name, where, _ in found if (name == "b") is of_run]
                assert at_path == sorted(at_path, reverse=True)
            journal.close_run("b", True, "", 0.0)

    asyncio.run(main())


def test_of_many_equal_steps_the_own_one_is_found(journal, run, step, recorded) -> None:
    count = 3 * sameness.MOST

    async def main() -> None:
        journal.open_run(run())
        steps = (step(i, path=f"book/record[{i}]/square", node=i) for i in range(count))
        await recorded(journal, *steps)
        journal.close_run("r", True, "", 1.0)

    asyncio.run(main())
    journal.open_run(run())
    for i in range(0, count, 7):
        found = equal_values(journal, "r", Key(f"book/record[{i}]/square", "i" * 32, 0))
        assert found[0] == i
        assert len(found) <= sameness.MOST + 1
    journal.close_run("r", True, "", 1.0)


class Kept:
    """The steps that the rows of records were made with, by the record's place."""

    def __init__(self, **steps: Any) -> None:
        self._steps = {int(name[1:]): found for name, found in steps.items()}

    def owner(self, step: int) -> int | None:
        return next((place for place, steps in self._steps.items() if step in steps), None)

    def steps(self, place: int) -> list[int]:
        return self._steps.get(place, [])


def test_what_a_row_was_made_with_is_its_records_wherever_it_stands(
    journal, run, step, recorded
) -> None:
    places: list[list[int]] = []

    async def main() -> None:
        journal.open_run(run())
        journal.keep_rows("r", Kept())
        await recorded(journal, *(step(i, path=f"book/record[{i}]/square") for i in range(3)))
        places.extend(journal.made_with("r", i) for i in range(3))
        assert journal.made_with("r", 0) == []
        journal.close_run("r", True, "", 1.0)

    asyncio.run(main())
    journal.open_run(run())
    journal.keep_rows("r", Kept(r7=places[0], r0=places[2]))  # the first record has moved
    moved, first, new = (Key(f"book/record[{i}]/square", "i" * 32, 0) for i in (7, 0, 8))
    assert equal_values(journal, "r", moved) == [0, 1]
    assert equal_values(journal, "r", first) == [2, 1]
    assert equal_values(journal, "r", new) == [1]
    assert equal_values(journal, "r", moved, repeatable=True) == [0, 2, 1]
    assert equal_values(journal, "r", new, repeatable=True) == [2, 1, 0]
    (own, free) = journal.equal_steps("r", moved, None, repeatable=False)
    assert journal.is_anothers("r", first, own)
    assert not journal.is_anothers("r", moved, own)
    assert not journal.is_anothers("r", first, free)
    journal.take("r", moved, own)
    assert journal.made_with("r", 7) == places[0]
    journal.close_run("r", True, "", 1.0)


def test_events_and_steps_of_one_turn_are_written_together(journal, path, run, step) -> None:
    async def main() -> None:
        journal.open_run(run())
        ended = asyncio.get_running_loop().create_future()
        journal.event("r", Repaired("r", 1.0, "book/square", 1, "table", 2))
        journal.record(step(1), lambda _: ended.set_result(count(path, "events")))
        assert await ended == 2  # the first is that of the beginning

    asyncio.run(main())


def test_two_event_loops_one_after_the_other_use_the_same_journal(
    journal, run, step, recorded
) -> None:
    async def main(name: str) -> None:
        journal.open_run(run(name))
        for i in range(20):
            await recorded(journal, step(i, run_id=name, node=i))
        journal.record(step(1, run_id=name), lambda _: None)  # never waited for
        journal.close_run(name, True, "", 1.0)

    asyncio.run(main("one"))
    asyncio.run(main("two"))
    assert [found.steps for found in journal.runs()] == [21, 21]


@settings(max_examples=25, deadline=None)
@given(turns=st.lists(st.lists(st.integers(), max_size=8), max_size=20))
def test_every_step_is_written_exactly_once_in_whatever_groups_they_come(
    turns: list[list[int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("groups") / "journal.db"
    spec = StepSpec("s", print, fingerprint="f")

    async def main() -> None:
        with SqliteJournal(path) as journal:
            journal.open_run(RunRecord("r", "w", 0.0))
            told = 0

            def done(error: BaseException | None) -> None:
                nonlocal told
                assert error is None
                told += 1

            for turn, values in enumerate(turns):
                for i, value in enumerate(values):
                    key = Key("w/s", f"{turn}", i)
                    journal.record(
                        StepRecord("r", key, i, spec, "done", value, "", 1, 0.0, 0.0, 0.0, 0, True),
                        done,
                    )
                await asyncio.sleep(0)
            journal.flush()
            await asyncio.sleep(
                0
            )  # what the writer has answered, on a slow machine, the loop tells now
            assert told == sum(map(len, turns))
            journal.close_run("r", True, "", 0.0)

    asyncio.run(main())
    with SqliteJournal(path) as journal:
        journal.open_run(RunRecord("r", "w", 0.0))
        found = {key: stored.value(None) for key, stored in journal.finished("r").items()}
        journal.close_run("r", True, "", 0.0)
    wanted = {
        Key("w/s", f"{turn}", i): value
        for turn, values in enumerate(turns)
        for i, value in enumerate(values)
    }
    assert found == wanted
