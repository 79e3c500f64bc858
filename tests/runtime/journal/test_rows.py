"""Output rows of a job: each is written once."""

import asyncio

import pytest

from carrara.runtime.journal.sqlite import SqliteJournal


def test_rows_come_back_in_the_order_of_their_places(journal, run) -> None:
    async def main() -> None:
        journal.open_run(run())
        for place in (2, 0, 1):
            journal.put_row(
                "r", place, f"key{place}", "done", {"n": place, "text": "x" * place * 5000}
            )

    asyncio.run(main())
    rows = journal.rows("r")
    assert [(row.place, row.key, row.state) for row in rows] == [
        (i, f"key{i}", "done") for i in range(3)
    ]
    assert [row.payload["n"] for row in rows] == [0, 1, 2]
    assert len(rows[2].payload["text"]) == 10_000
    journal.close_run("r", True, "", 1.0)


def test_a_row_that_is_done_is_never_written_again(journal, run) -> None:
    async def main() -> None:
        journal.open_run(run())
        journal.put_row("r", 0, "a", "failed", error="ValueError: no")
        journal.put_row("r", 0, "a", "done", 1)
        journal.put_row("r", 0, "a", "done", 2)
        journal.put_row("r", 0, "a", "failed", error="late")

    asyncio.run(main())
    (row,) = journal.rows("r")
    assert (row.state, row.payload, row.error) == ("done", 1, "")
    journal.close_run("r", True, "", 1.0)


def test_done_is_told_when_the_row_is_durable(journal, path, run) -> None:
    async def main() -> list[object]:
        journal.open_run(run())
        ended = asyncio.get_running_loop().create_future()
        with SqliteJournal(path) as other:
            journal.put_row("r", 0, "a", "done", 1, done=ended.set_result)
            before = other.rows("r")
            await ended
            return [before, other.rows("r")[0].payload]

    assert asyncio.run(main()) == [[], 1]
    journal.close_run("r", True, "", 1.0)


def test_a_row_that_cannot_be_stored_is_refused(journal, run) -> None:
    journal.open_run(run())
    with pytest.raises(ValueError, match=r"at \.a: "):
        journal.put_row("r", 0, "a", "done", {"a": print})
    journal.close_run("r", True, "", 1.0)


def test_a_row_that_is_set_aside_keeps_its_key_until_it_is_forgotten(journal, run) -> None:
    async def main() -> None:
        journal.open_run(run())
        for place, key in enumerate("abc"):
            journal.put_row("r", place, key, "done", key)
        journal.flush()
        journal.set_rows_aside("r", [(0, -1)])
        journal.put_row("r", 0, "new", "done", "new")
        journal.put_row("r", 1, "b", "failed", error="no", replaces=True, aside=-2)
        journal.put_row("r", 2, "c", "done", "again", replaces=True)
        journal.flush()

    asyncio.run(main())
    assert [(row.key, row.state) for row in journal.rows("r")] == [
        ("new", "done"),
        ("b", "failed"),
        ("c", "done"),
    ]
    assert list(journal.rows_aside("r")) == [(-1, "a"), (-2, "b")]
    assert [run.failures for run in journal.runs()] == [1]

    async def forget() -> None:
        journal.forget_row("r", -1)
        journal.flush()

    asyncio.run(forget())
    assert list(journal.rows_aside("r")) == [(-2, "b")]
    journal.close_run("r", True, "", 1.0)


def test_rows_go_to_other_places_all_at_once(journal, run) -> None:
    async def main() -> None:
        journal.open_run(run())
        for place, key in enumerate("abcd"):
            journal.put_row("r", place, key, "failed" if key == "d" else "done", key)
        journal.move_rows("r", [0, 1, 2], [1, 0, 3])

    asyncio.run(main())
    assert [(row.place, row.key, row.payload) for row in journal.rows("r")] == [
        (0, "b", "b"),
        (1, "a", "a"),
        (3, "c", "c"),
    ]
    journal.close_run("r", True, "", 1.0)


def test_what_was_set_aside_and_is_said_again_after_a_lost_connection_stays(journal, run) -> None:
    async def main() -> None:
        journal.open_run(run())
        journal.put_row("r", 0, "old", "done", 1)
        journal.flush()
        for _ in range(2):
            journal.put_row("r", 0, "new", "done", 2, replaces=True, aside=-1)
            journal.flush()

    asyncio.run(main())
    assert [(row.key, row.payload) for row in journal.rows("r")] == [("new", 2)]
    assert list(journal.rows_aside("r")) == [(-1, "old")]
    journal.close_run("r", True, "", 1.0)
