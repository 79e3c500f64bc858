"""What a sink has no place for is said, and never written as something else."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
from datetime import datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any, TypedDict

import pytest
import sqlalchemy

from carrara import workflow
from carrara.workflows.comparing.compare import compare
from carrara.workflows.comparing.rows import read_output
from carrara.workflows.places import PlaceError
from carrara.workflows.plain import plain
from carrara.workflows.sinks.declared import DeclaredRows
from carrara.workflows.sinks.opening import check_output, sink_of
from carrara.workflows.sinks.shape import row_columns

TYPED = ["rows.parquet", "duckdb:///rows.duckdb#t", "sqlite:///rows.db#t"]
LINES = ["rows.jsonl", "rows.csv"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def giving(kind: Any) -> Any:
    @workflow
    async def made(text: str) -> kind:
        raise NotImplementedError

    return made


def write(place: str, flow: Any, *rows: dict[str, Any]) -> None:
    sink, declared = sink_of(place, flow), DeclaredRows(row_columns(flow))
    try:
        sink.begin([], fresh=True)
        for number, row in enumerate(rows):
            sink.put(sink.prepare(declared({"key": str(number), **plain(row, exact=True)})))
        sink.finish()
    finally:
        sink.close()


class At(TypedDict):
    at: time


class Alike(TypedDict):
    Order: int
    order: int


class Moment(TypedDict):
    at: datetime


LATE = datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(timedelta(hours=-5)))
EAST = time.fromisoformat("03:04:05+05:00")


@pytest.mark.parametrize(
    ("kind", "value", "told"),
    [
        (At, EAST, r"at: a column of times has no place for the offset of 03:04:05\+05:00"),
        (Moment, LATE, "at: 9999-12-31T23:59:59-05:00 cannot be put into UTC"),
    ],
)
def test_offsets_are_written_whole_or_refused(kind: Any, value: Any, told: str) -> None:
    for place in LINES:
        write(place, giving(kind), {"at": value})
        assert value.isoformat() in Path(place).read_text()
    for place in TYPED:
        with pytest.raises(ValueError, match=told):
            write(place, giving(kind), {"at": value})


def test_the_offset_of_a_time_is_told_by_diff() -> None:
    write("old.jsonl", giving(At), {"at": EAST})
    write("rows.parquet", giving(At), {"at": EAST.replace(tzinfo=None)})
    found = compare(read_output("old.jsonl"), read_output("rows.parquet"))
    assert found.changed_rows == 1


def test_a_moment_that_is_in_no_year_of_utc_can_be_compared() -> None:
    write("old.jsonl", giving(Moment), {"at": LATE})
    write("rows.parquet", giving(Moment), {"at": LATE.replace(tzinfo=None)})
    assert compare(read_output("old.jsonl"), read_output("rows.parquet")).changed_rows == 1


OPEN = [2**70 + 1, 1.0, 1, "1", "bread", True, None, {"a": 2**70 + 1}, {"value": 1}, [1.0], "null"]


def test_sqlite_keeps_the_digits_of_open_values() -> None:
    write("sqlite:///rows.db#t", giving(Any), *({"value": value} for value in OPEN))
    with sqlite3.connect("rows.db") as found:
        back = [value for (value,) in found.execute("SELECT value FROM t ORDER BY rowid")]
    found.close()
    assert back[:5] == ["1180591620717411303425", "1.0", "1", '"1"', "bread"]
    assert back[7] == '{"a": 1180591620717411303425}'


@pytest.mark.parametrize("place", [*LINES, *TYPED])
def test_open_values_are_the_same_in_all_sinks(place: str) -> None:
    rows = [{"value": value} for value in OPEN if not (place == "rows.csv" and value == "null")]
    write("old.jsonl", giving(Any), *rows)
    write(place if place != "rows.jsonl" else "new.jsonl", giving(Any), *rows)
    other = read_output(place if place != "rows.jsonl" else "new.jsonl")
    assert compare(read_output("old.jsonl"), other).changes == []


@pytest.mark.parametrize(("value", "fits"), [(2**70, False), (1.0, False), (7, True), (0.5, True)])
def test_a_json_column_that_sqlite_has_already_takes_no_number_that_it_would_change(
    value: Any, fits: bool
) -> None:
    engine = sqlalchemy.create_engine("sqlite:///rows.db")
    with engine.begin() as begun:
        begun.execute(sqlalchemy.text("CREATE TABLE t (key TEXT PRIMARY KEY, value JSON)"))
    engine.dispose()
    if fits:
        write("sqlite:///rows.db#t", giving(Any), {"value": value}, {"value": {"a": 1.0}})
    else:
        with pytest.raises(ValueError, match="SQLite would change the number"):
            write("sqlite:///rows.db#t", giving(Any), {"value": value})


@pytest.mark.parametrize("name", ["select", "Values", "table", "with", "select.rows"])
def test_a_table_that_would_be_read_as_a_query_is_not_made(name: str) -> None:
    for scheme in ("duckdb:///a.duckdb", "sqlite:///a.db", "postgresql://host/a"):
        with pytest.raises(PlaceError, match="would be read as a query"):
            check_output(f"{scheme}#{name}")
    check_output("duckdb:///a.duckdb#selected")


def test_fields_that_differ_only_in_case_are_refused_where_they_are_one() -> None:
    alike = giving(Alike)
    for place in TYPED[1:]:
        with pytest.raises(PlaceError, match="'Order' and 'order' are one name"):
            sink_of(place, alike)
    with pytest.raises(PlaceError, match="'key' and 'Key' are one name"):
        sink_of(TYPED[1], giving(TypedDict("keys", {"Key": int})))
    for place in (*LINES, TYPED[0]):
        write(place, alike, {"Order": 1, "order": 2})
    inner = giving(TypedDict("whole", {"parts": list[Alike]}))
    with pytest.raises(PlaceError, match="parts/'Order' and 'order' are one name"):
        sink_of(TYPED[1], inner)
    write(TYPED[2], inner, {"parts": [{"Order": 1, "order": 2}]})


FULL = """
import sys
from tests.workflows.sinks.test_losing_nothing import giving, write
write("duckdb:///rows.duckdb#t", giving(dict), *({"value": {"a": "x" * 2000}} for _ in range(600)))
"""


def test_duckdb_says_why_it_cannot_write_on_a_full_disk() -> None:
    """A limit of the size of files stands for the disk."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

    root = str(Path(__file__).resolve().parents[3])
    found = subprocess.run(
        [sys.executable, "-c", FULL],
        env={**os.environ, "PYTHONPATH": root}, preexec_fn=limit, capture_output=True, text=True,
    )  # fmt: skip
    assert "OutputError: cannot write duckdb:///rows.duckdb#t" in found.stderr
    assert "File too large" in found.stderr
    assert "cannot rollback" not in found.stderr.splitlines()[-1]
