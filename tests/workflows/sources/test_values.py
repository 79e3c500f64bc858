"""Values that their column has no room for: the raw value is handed over, or only who asks for it fails."""

import json
import math
import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow
import pyarrow.parquet
import pytest

from carrara.workflows.batch import Binder, RecordError
from carrara.workflows.comparing.rows import read_output
from carrara.workflows.define import workflow
from carrara.workflows.records import Record, SourceError, read_records

MOMENT_NS = 1_767_225_600_000_000_000
"""2026-01-01T00:00:00 UTC."""


def sqlite_of(folder: Path, column: str, *values: Any) -> list[Record]:
    with sqlite3.connect(folder / "t.db") as connection:
        connection.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, v {column})")
        connection.executemany("INSERT INTO t (v) VALUES (?)", [(value,) for value in values])
    connection.close()
    return list(read_records(f"sqlite:///{folder}/t.db#t"))


@pytest.mark.parametrize(
    ("column", "stored", "read"),
    [
        ("DATETIME", "2026-01-01 00:00:00", "2026-01-01T00:00:00"),
        ("DATETIME", "unknown", "unknown"),
        ("DATETIME", 1_700_000_000, 1_700_000_000),
        ("DATETIME", "2026-01-01 00:00:00.123456789", "2026-01-01 00:00:00.123456789"),
        ("DATE", "soon", "soon"),
        ("DATE", "2026-01-01 10:00", "2026-01-01 10:00"),
        ("TIME", "later", "later"),
        ("DECIMAL(10,2)", 0.1, "0.10"),
        ("DECIMAL(10,2)", "n/a", "n/a"),
        ("DECIMAL(10,2)", 1.239, "1.239"),
        ("DECIMAL(10,2)", 10**18 + 1, "1000000000000000001"),
        ("BOOLEAN", 1, True),
        ("BOOLEAN", "unknown", "unknown"),
        ("BOOLEAN", 2, 2),
        ("JSON", '{"a": 1}', {"a": 1}),
        ("JSON", "{bad", "{bad"),
        ("FLOAT", "n/a", "n/a"),
        ("DATETIME", None, None),
    ],
)
def test_sqlite_gives_what_stands_there_where_it_is_not_of_the_columns_type(
    tmp_path: Path, column: str, stored: Any, read: Any
) -> None:
    first, second, third = sqlite_of(tmp_path, column, None, stored, None)
    assert [record.problem for record in (first, second, third)] == [None, None, None]
    assert second.fields == {"id": 2, "v": read}
    assert type(second.fields["v"]) is type(read)


def test_a_text_of_sqlite_that_is_not_utf8_is_left_out(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "t.db") as connection:
        connection.execute("CREATE TABLE t (id TEXT, v TEXT)")
        connection.execute("INSERT INTO t VALUES ('a', CAST(x'ff41' AS TEXT)), ('b', 'fine')")
    connection.close()
    for what in ("t", "SELECT * FROM t ORDER BY id"):
        first, second = read_records(f"sqlite:///{tmp_path}/t.db#{what}")
        assert (first.fields, set(first.unused)) == ({"id": "a"}, {"v"})
        assert second.fields == {"id": "b", "v": "fine"}


def parquet_of(folder: Path, **columns: Any) -> list[Record]:
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "t.parquet")
    return list(read_records(str(folder / "t.parquet")))


@pytest.mark.parametrize(
    ("values", "read"),
    [
        (pyarrow.array([MOMENT_NS + 123], pyarrow.timestamp("ns")), "2026-01-01T00:00:00.000000123"),
        (
            pyarrow.array([-1], pyarrow.timestamp("ns", "Europe/Berlin")),
            "1970-01-01T00:59:59.999999999+01:00",
        ),
        (pyarrow.array([123_456_789], pyarrow.time64("ns")), "00:00:00.123456789"),
        (pyarrow.array([1_500_000_001], pyarrow.duration("ns")), 1.500000001),
        (
            pyarrow.array([[MOMENT_NS + 5, None]], pyarrow.list_(pyarrow.timestamp("ns"))),
            ["2026-01-01T00:00:00.000000005", None],
        ),
        (
            pyarrow.array([{"x": MOMENT_NS + 7}], pyarrow.struct([("x", pyarrow.timestamp("ns"))])),
            {"x": "2026-01-01T00:00:00.000000007"},
        ),
        (
            pyarrow.array(
                [[("k", MOMENT_NS + 7)]], pyarrow.map_(pyarrow.string(), pyarrow.timestamp("ns"))
            ),
            [["k", "2026-01-01T00:00:00.000000007"]],
        ),
    ],
)  # fmt: skip
def test_nanoseconds_of_parquet_keep_their_digits(tmp_path: Path, values: Any, read: Any) -> None:
    [record] = parquet_of(tmp_path, id=["a"], at=values)
    assert (record.problem, record.unused) == (None, {})
    assert record.fields == {"id": "a", "at": read}


def test_an_input_of_a_moment_takes_the_microseconds_of_nanoseconds(tmp_path: Path) -> None:
    @workflow
    async def dated(at: datetime) -> datetime:
        return at

    column = pyarrow.array([MOMENT_NS + 1999], pyarrow.timestamp("ns"))
    [record] = parquet_of(tmp_path, at=column)
    assert Binder(dated).bind(record) == {"at": datetime(2026, 1, 1, 0, 0, 0, 1)}


def test_a_date_out_of_range_fails_only_who_asks_for_it(tmp_path: Path) -> None:
    @workflow
    async def reading(text: str) -> str:
        return text

    @workflow
    async def dating(text: str, day: str) -> str:
        return text + day

    first, second = parquet_of(
        tmp_path, text=["x", "y"], day=pyarrow.array([2**31 - 1, 1], pyarrow.date32())
    )
    assert Binder(reading).bind(first) == {"text": "x"}
    with pytest.raises(RecordError, match="column 'day' holds a date32"):
        Binder(dating).bind(first)
    assert Binder(dating).bind(second) == {"text": "y", "day": "1970-01-02"}


def test_outputs_with_a_value_that_cannot_be_read_are_not_compared(tmp_path: Path) -> None:
    parquet_of(tmp_path, key=["x"], day=pyarrow.array([2**31 - 1], pyarrow.date32()))
    with pytest.raises(SourceError, match="row 1: column 'day' holds a date32"):
        list(read_output(str(tmp_path / "t.parquet")).rows)


def ducks_of(folder: Path) -> list[Record]:
    with duckdb.connect(str(folder / "t.duckdb")) as connection:
        connection.execute("CREATE TABLE t (v DOUBLE)")
        connection.execute("INSERT INTO t VALUES ('nan'), ('-inf')")
    return list(read_records(f"duckdb:///{folder}/t.duckdb#t"))


def json_lines_of(folder: Path) -> list[Record]:
    (folder / "t.jsonl").write_text('{"v": NaN}\n{"v": -Infinity}\n')
    return list(read_records(str(folder / "t.jsonl")))


@pytest.mark.parametrize(
    "records",
    [lambda folder: parquet_of(folder, v=[math.nan, -math.inf]), ducks_of, json_lines_of],
    ids=["parquet", "duckdb", "json lines"],
)
def test_nan_and_infinity_are_floats_and_no_texts(tmp_path: Path, records: Any) -> None:
    @workflow
    async def anything(v: Any) -> Any:
        return v

    @workflow
    async def reading(v: str) -> str:
        return v

    first, second = records(tmp_path)
    assert math.isnan(Binder(anything).bind(first)["v"])
    assert Binder(anything).bind(second) == {"v": -math.inf}
    with pytest.raises(RecordError, match="input 'v'"):
        Binder(reading).bind(first)
    json.dumps(first.fields)


def letters(folder: Path) -> dict[str, str]:
    """The same table, of two rows, in SQLite and in DuckDB."""
    rows = [(1, "a:x"), (2, "50%")]
    with sqlite3.connect(folder / "l.db") as lite:
        lite.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
        lite.executemany("INSERT INTO t VALUES (?, ?)", rows)
    lite.close()
    with duckdb.connect(str(folder / "l.duckdb")) as duck:
        duck.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
        duck.executemany("INSERT INTO t VALUES (?, ?)", rows)
    return {"sqlite": f"sqlite:///{folder}/l.db", "duckdb": f"duckdb:///{folder}/l.duckdb"}


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_a_query_goes_to_the_database_as_it_is_written(tmp_path: Path, kind: str) -> None:
    query = "SELECT id, ':y' AS a, '?' AS b, '%s' AS c FROM t WHERE v <> ':x' AND v LIKE '%:x'"
    [record] = read_records(f"{letters(tmp_path)[kind]}#{query}")
    assert record.fields == {"id": 1, "a": ":y", "b": "?", "c": "%s"}


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_a_source_is_only_read(tmp_path: Path, kind: str) -> None:
    source = letters(tmp_path)[kind]
    writing = "WITH x AS (SELECT 1) DELETE FROM t RETURNING id, v AS text"
    with pytest.raises(SourceError, match=r"read-?only"):
        list(read_records(f"{source}#{writing}"))
    assert [record.key for record in read_records(f"{source}#t")] == ["1", "2"]


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_two_columns_of_a_query_with_one_name_are_refused(tmp_path: Path, kind: str) -> None:
    query = "SELECT t.*, 1 AS v FROM t"
    with pytest.raises(SourceError, match=rf"{kind}:.*: 2 columns are called 'v'; name them apart"):
        list(read_records(f"{letters(tmp_path)[kind]}#{query}"))


def test_two_columns_of_a_parquet_file_with_one_name_are_refused(tmp_path: Path) -> None:
    columns = [pyarrow.array(["x"]), pyarrow.array(["y"])]
    path = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(columns, names=["text", "text"]), path)
    with pytest.raises(SourceError, match=r"t\.parquet: 2 columns are called 'text'"):
        list(read_records(str(path)))
