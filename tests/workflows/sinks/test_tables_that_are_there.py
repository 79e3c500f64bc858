"""Tables that somebody else has made: they change no value unseen, and a row that they refuse costs no other."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, TypedDict

import duckdb
import pytest
from pydantic import Field

from carrara import workflow
from carrara.runtime.journal.sqlite import SqliteJournal
from carrara.workflows.job import Job, JobResult, run_job
from carrara.workflows.places import PlaceError
from carrara.workflows.plain import plain
from carrara.workflows.run import session
from carrara.workflows.sinks.declared import DeclaredRows
from carrara.workflows.sinks.opening import sink_of
from carrara.workflows.sinks.shape import row_columns

DUCK, LITE = "duckdb:///t.duckdb#t", "sqlite:///t.db#t"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def ask(place: str, *statements: str) -> list[Any]:
    """The rows of the last statement."""
    if place == DUCK:
        with duckdb.connect("t.duckdb") as connection:
            return [connection.execute(each).fetchall() for each in statements][-1]
    with closing(sqlite3.connect("t.db")) as found, found:
        return [found.execute(each).fetchall() for each in statements][-1]


def write(place: str, kind: Any, *rows: dict[str, Any]) -> None:
    @workflow
    async def made(text: str) -> kind:
        raise NotImplementedError

    sink, declared = sink_of(place, made), DeclaredRows(row_columns(made))
    try:
        sink.begin([], fresh=True)
        for number, row in enumerate(rows):
            sink.put(sink.prepare(declared({"key": str(number), **plain(row, exact=True)})))
        sink.finish()
    finally:
        sink.close()


class Moment(TypedDict):
    moment: datetime


class Whole(TypedDict):
    n: int


class Loose(TypedDict):
    d: Decimal


class Money(TypedDict):
    d: Annotated[Decimal, Field(decimal_places=4)]


class Real(TypedDict):
    x: float


@workflow
async def whole(n: int) -> Whole:
    return {"n": n}


@workflow
async def real(n: int) -> Real:
    return {"x": 10**n}


@workflow
async def loose(n: int) -> Loose:
    return {"d": Decimal(n)}


def test_duckdb_keeps_the_instant_of_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    ask(DUCK, "CREATE TABLE t (key VARCHAR PRIMARY KEY, moment TIMESTAMPTZ)")
    noon = datetime(2026, 1, 2, 12, tzinfo=UTC)
    east = noon.astimezone(timezone(timedelta(hours=9)))
    write(DUCK, Moment, {"moment": noon}, {"moment": east}, {"moment": noon.replace(tzinfo=None)})
    seconds = ask(DUCK, "SELECT epoch(moment) FROM t")
    assert seconds == [(noon.timestamp(),)] * 3


@pytest.mark.parametrize(
    ("place", "column", "kind", "fits", "changed"),
    [
        (DUCK, "n DOUBLE", Whole, 2**53, 2**53 + 1),
        (DUCK, "d DECIMAL(38, 2)", Loose, Decimal("1.5"), Decimal("1.2345")),
        (LITE, "n REAL", Whole, 2**60, 2**53 + 1),
        (LITE, "n NUMERIC", Whole, 7, 2**53 + 1),
        (LITE, "d NUMERIC", Loose, Decimal("1.10"), Decimal("12345678901234567890.1234567")),
    ],
)
def test_a_column_that_would_round_a_number_does_not_get_it(
    place: str, column: str, kind: Any, fits: Any, changed: Any
) -> None:
    ask(place, f"CREATE TABLE t (key VARCHAR PRIMARY KEY, {column})")
    name = column.split()[0]
    write(place, kind, {name: fits})
    with pytest.raises(ValueError, match=f"{name}: .* would round"):
        write(place, kind, {name: changed})
    ((found,),) = ask(place, f"SELECT {name} FROM t")
    assert found == (float(fits) if place == LITE else fits)


def test_a_column_with_fewer_places_than_the_type_is_refused() -> None:
    ask(DUCK, "CREATE TABLE t (key VARCHAR PRIMARY KEY, d DECIMAL(38, 2))")
    with pytest.raises(PlaceError, match=r"its column 'd' is DECIMAL\(38,2\)"):
        write(DUCK, Money)


@pytest.mark.parametrize(
    ("place", "made"),
    [
        (LITE, "CREATE TABLE t (key TEXT PRIMARY KEY COLLATE NOCASE, n INTEGER)"),
        (LITE, "CREATE TABLE t (key TEXT, n INTEGER, UNIQUE (key COLLATE NOCASE))"),
        (DUCK, "CREATE TABLE t (key VARCHAR COLLATE NOCASE PRIMARY KEY, n BIGINT)"),
    ],
)
def test_a_table_to_which_two_keys_are_one_is_refused(place: str, made: str) -> None:
    ask(place, made)
    with pytest.raises(PlaceError, match="key"):
        write(place, Whole, {"n": 1})
    assert ask(place, "SELECT count(*) FROM t") == [(0,)]


def job(
    output: str, numbers: list[int], run_id: str | None = None, target: str = "whole"
) -> JobResult:
    lines = (json.dumps({"id": f"k{at}", "n": n}) + "\n" for at, n in enumerate(numbers))
    Path("in.jsonl").write_text("".join(lines))

    async def run() -> JobResult:
        async with session(journal=journal) as begun:
            made = Job(f"{__name__}:{target}", "in.jsonl", output)
            return await run_job(made, begun, run_id=run_id)

    with SqliteJournal(Path("journal.db")) as journal:
        return asyncio.run(run())


def failed(result: JobResult) -> list[dict[str, Any]]:
    assert result.failed_output is not None
    return [json.loads(line) for line in result.failed_output.read_text().splitlines()]


@pytest.mark.parametrize("place", [LITE, DUCK])
def test_a_row_that_the_table_refuses_is_a_failed_record_and_costs_no_other(place: str) -> None:
    ask(place, "CREATE TABLE t (key VARCHAR PRIMARY KEY, n BIGINT CHECK (n < 90 OR n > 99))")
    numbers = [*range(40), 95, *range(40, 80), 97, 98]
    result = job(place, numbers)
    assert (result.done, result.failed) == (80, 3)
    told = failed(result)
    assert [line["key"] for line in told] == ["k40", "k81", "k82"]
    assert all("CHECK" in line["error"] for line in told)
    assert told[0]["where"] == "in.jsonl:41"
    assert len(ask(place, "SELECT * FROM t")) == 80
    with SqliteJournal(Path("journal.db")) as journal:
        states = [row.state for row in journal.rows(result.run_id)]
    assert (states.count("done"), states.count("failed")) == (80, 3)

    again = job(place, numbers, result.run_id)  # they are tried again, and fail once more
    assert (again.done, again.reused, again.failed) == (80, 80, 3)
    assert len(failed(again)) == 3


@pytest.mark.parametrize("place", [LITE, DUCK])
def test_a_row_of_before_that_the_table_refuses_now_is_a_failed_record(place: str) -> None:
    first = job(place, [1, 2, 3])
    ask(place, "DROP TABLE t", "CREATE TABLE t (key VARCHAR PRIMARY KEY, n BIGINT CHECK (n <> 2))")
    again = job(place, [1, 2, 3], first.run_id)
    assert (again.done, again.reused, again.failed) == (2, 2, 1)
    assert [line["key"] for line in failed(again)] == ["k1"]
    ask(place, "DROP TABLE t")
    assert job(place, [1, 2, 3], first.run_id).done == 3
    assert len(ask(place, "SELECT * FROM t")) == 3


def test_duckdb_tells_the_reason_of_the_database() -> None:
    ask(DUCK, "CREATE TABLE t (key VARCHAR PRIMARY KEY, d DECIMAL(38, 36))")
    result = job(DUCK, [1, 1234, 2], target="loose")
    assert (result.done, result.failed) == (2, 1)
    assert "out of range" in failed(result)[0]["error"]


@pytest.mark.parametrize("place", ["rows.parquet", LITE, DUCK])
def test_an_integer_that_no_float_holds_fails_its_record(place: str) -> None:
    result = job(place, [1, 400, 2], target="real")
    assert (result.done, result.failed) == (2, 1)
    assert "x: a whole number of this size does not fit into a float" in failed(result)[0]["error"]
