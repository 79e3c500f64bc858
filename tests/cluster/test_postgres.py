"""Rows into a real PostgreSQL server: types, upserts, tables that do not fit, a job that is killed and goes on."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
import sqlalchemy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from carrara import workflow
from carrara.runtime.journal.sqlite import SqliteJournal
from carrara.workflows.job import Job, JobResult, run_job
from carrara.workflows.places import PlaceError
from carrara.workflows.plain import plain
from carrara.workflows.records import SourceError, read_records
from carrara.workflows.run import session
from carrara.workflows.sinks.opening import sink_of
from tests.cluster.conftest import EXAMPLES, Server

ROOT = Path(__file__).resolve().parents[2]
FLOW = """
import asyncio, os
from datetime import date
from typing import TypedDict

from carrara import step, workflow


class Said(TypedDict):
    said: str
    day: date


@step
async def loud(text: str) -> str:
    if text == os.environ.get("STOP_AT"):
        os.write(int(os.environ["REACHED"]), b"reached")
        await asyncio.Event().wait()
    return text.upper()


@workflow
async def typed(text: str) -> Said:
    return {"said": await loud(text), "day": date(2026, 1, 2)}
"""


class Item(BaseModel):
    name: str


class Receipt(BaseModel):
    shop: str
    total: Annotated[Decimal, Field(decimal_places=6)] | None
    count: int | None
    rate: float | None
    paid: bool | None
    day: date | None
    at: datetime | None
    items: list[Item]


@workflow
async def receipt(text: str) -> Receipt:
    raise NotImplementedError


words = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=8)
receipts = st.builds(
    Receipt,
    shop=words,
    total=st.none() | st.decimals(-(10**20), 10**20, places=6, allow_nan=False),
    count=st.none() | st.integers(-(2**63), 2**63 - 1),
    rate=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    paid=st.none() | st.booleans(),
    day=st.none() | st.dates(),
    at=st.none() | st.datetimes(),
    items=st.lists(st.builds(Item, name=words), max_size=2),
)


@pytest.fixture
def engine(postgres: str) -> Iterator[sqlalchemy.Engine]:
    made = sqlalchemy.create_engine(postgres.replace("postgresql:", "postgresql+psycopg:"))
    yield made
    with made.begin() as connection:
        for name in sqlalchemy.inspect(connection).get_table_names():
            connection.execute(sqlalchemy.text(f'DROP TABLE "{name}"'))
    made.dispose()


def write(place: str, found: list[Receipt], flatten: str | None = None) -> None:
    sink = sink_of(place, receipt, flatten)
    try:
        sink.begin([], fresh=True)
        for number, one in enumerate(found):
            sink.put(sink.prepare({"key": f"k{number}", **plain(one, exact=True)}))
        sink.finish()
    finally:
        sink.close()


def rows(engine: sqlalchemy.Engine, table: str = "rows") -> list[dict[str, Any]]:
    with engine.connect() as connection:
        asked = connection.execute(sqlalchemy.text(f"SELECT * FROM {table} ORDER BY key"))
        return [dict(row) for row in asked.mappings()]


def test_every_type_comes_back(postgres: str, engine: sqlalchemy.Engine) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(receipts, max_size=4))
    def check(found: list[Receipt]) -> None:
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("DROP TABLE IF EXISTS rows"))
        write(f"{postgres}#rows", found)
        back = rows(engine)
        assert [row.pop("key") for row in back] == [f"k{n}" for n in range(len(found))]
        assert back == [one.model_dump() for one in found]

    check()


def test_rows_are_replaced_by_key_and_shorter_lists_leave_none(
    postgres: str, engine: sqlalchemy.Engine
) -> None:
    whole = Receipt(
        shop="a", total=None, count=1, rate=None, paid=None, day=None, at=None,
        items=[Item(name="x"), Item(name="y")],
    )  # fmt: skip
    write(f"{postgres}#rows", [whole, whole], "items")
    write(f"{postgres}#rows", [whole.model_copy(update={"items": whole.items[:1]})], "items")
    assert [row["key"] for row in rows(engine)] == ["k0/0", "k1/0", "k1/1"]


def test_a_table_that_does_not_fit_is_refused(postgres: str, engine: sqlalchemy.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE rows (key TEXT, shop INTEGER)"))
    with pytest.raises(PlaceError, match="does not fit") as raised:
        write(f"{postgres}#rows", [])
    assert "its column 'shop' is INTEGER, the rows have text" in str(raised.value)
    assert "neither its primary key nor unique" in str(raised.value)


def test_a_second_job_does_not_write_a_table_at_the_same_time(
    postgres: str, engine: sqlalchemy.Engine
) -> None:
    first, second = (sink_of(f"{postgres}#{name}", receipt) for name in ("rows", "public.rows"))
    first.begin([], fresh=True)
    with pytest.raises(PlaceError, match="another job is writing there now"):
        second.begin([], fresh=True)
    second.close()
    write(f"{postgres}#others", [])
    first.close()
    write(f"{postgres}#rows", [])


def test_a_nul_in_a_text_names_the_field(postgres: str) -> None:
    sink = sink_of(f"{postgres}#rows", receipt)
    row = {name: None for name in Receipt.model_fields}
    with pytest.raises(ValueError, match="shop holds a NUL"):
        sink.prepare({**row, "key": "a", "shop": "a\x00b", "items": []})
    sink.close()


def test_a_server_that_is_not_there_is_said(postgres: str) -> None:
    with pytest.raises(PlaceError, match="postgresql://me"):
        write("postgresql://me:secret@127.0.0.1:9/x#rows", [])


def test_a_killed_job_goes_on(postgres: str, engine: sqlalchemy.Engine, tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text(FLOW)
    texts = [f"t{number:03}" for number in range(60)]
    (tmp_path / "in.jsonl").write_text(
        "".join(json.dumps({"id": text, "text": text}) + "\n" for text in texts)
    )
    call = [
        sys.executable, "-m", "carrara", "run", "flow.py:typed", "-i", "in.jsonl", "-q",
        "-o", f"{postgres}#said", "--concurrency", "4",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    reads, writes = os.pipe()
    stopped = {**environment, "STOP_AT": "t040", "REACHED": str(writes)}
    child = subprocess.Popen(call, cwd=tmp_path, env=stopped, pass_fds=(writes,))
    os.close(writes)
    assert os.read(reads, 20) == b"reached"
    os.close(reads)
    child.send_signal(signal.SIGKILL)
    child.wait()
    done = subprocess.run(
        [*call, "--resume"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert rows(engine, "said") == [
        {"key": text, "said": text.upper(), "day": date(2026, 1, 2)} for text in texts
    ]


class Made(TypedDict, total=False):
    n: int | None
    d: Decimal | None
    x: float | None
    moment: datetime | None
    open: Any


@workflow
async def made(n: int) -> Made:
    return {"n": n}


@workflow
async def opened(n: int) -> Any:
    return {"text": "\x00"} if n == 2 else {"text": "a"}


def made_table(engine: sqlalchemy.Engine, columns: str) -> None:
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"CREATE TABLE rows ({columns})"))


def put(place: str, *rows: dict[str, Any], shard: str = "") -> None:
    sink = sink_of(place, made, shard=shard)
    try:
        sink.begin([], fresh=True)
        for number, row in enumerate(rows):
            whole = dict.fromkeys(Made.__annotations__) | row
            sink.put(sink.prepare({"key": f"k{number}", **plain(whole, exact=True)}))
        sink.finish()
    finally:
        sink.close()


REST = "n BIGINT, d NUMERIC, x FLOAT8, moment TIMESTAMP, open JSON"


def with_column(column: str) -> str:
    """The columns of a table that fits, with another one for that of its name."""
    name = column.split()[0]
    others = [one for one in REST.split(", ") if one.split()[0] != name]
    return ", ".join(["key TEXT PRIMARY KEY", column, *others])


def test_moments_keep_their_instant_whatever_the_zone_of_the_server(
    postgres: str, engine: sqlalchemy.Engine
) -> None:
    made_table(engine, with_column("moment TIMESTAMPTZ"))
    noon = datetime(2026, 1, 2, 12, tzinfo=UTC)
    east = noon.astimezone(timezone(timedelta(hours=9)))
    asked = f"{postgres}&options=-ctimezone%3DAsia/Tokyo"
    put(f"{asked}#rows", {"moment": noon}, {"moment": east}, {"moment": noon.replace(tzinfo=None)})
    assert [row["moment"] for row in rows(engine)] == [noon] * 3


@pytest.mark.parametrize(
    ("column", "fits", "changed"),
    [
        ("d NUMERIC(10, 2)", Decimal("1.50"), Decimal("1.2345")),
        ("d FLOAT8", Decimal("1.50"), Decimal("12345678901234567.125")),
        ("n FLOAT8", 2**60, 2**53 + 1),
        ("x NUMERIC(10, 2)", 0.25, 0.125),
    ],
)
def test_a_column_that_would_round_a_number_does_not_get_it(
    postgres: str, engine: sqlalchemy.Engine, column: str, fits: Any, changed: Any
) -> None:
    made_table(engine, with_column(column))
    name = column.split()[0]
    put(f"{postgres}#rows", {name: fits})
    with pytest.raises(ValueError, match=f"{name}: .* would round"):
        put(f"{postgres}#rows", {name: changed})
    assert [row[name] for row in rows(engine)] == [fits]


def test_a_float_in_a_column_of_decimals_has_the_digits_that_it_is_written_with(
    postgres: str, engine: sqlalchemy.Engine
) -> None:
    made_table(engine, with_column("x NUMERIC"))
    put(f"{postgres}#rows", {"x": 0.1 + 0.2})
    assert rows(engine)[0]["x"] == Decimal("0.30000000000000004")


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (with_column("x REAL"), "its column 'x' is REAL, the rows have number"),
        (with_column("n REAL"), "its column 'n' is REAL, the rows have integer"),
        (with_column("moment TIMESTAMP(0)"), "its column 'moment' is TIMESTAMP"),
        (f"key CHAR(9) PRIMARY KEY, {REST}", "to which keys that differ may be the same"),
        (f'key TEXT COLLATE "loose" PRIMARY KEY, {REST}', "has the collation loose"),
    ],
)
def test_a_column_that_would_change_values_is_refused(
    postgres: str, engine: sqlalchemy.Engine, columns: str, told: str
) -> None:
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(
            "CREATE COLLATION IF NOT EXISTS loose "
            "(provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        ))  # fmt: skip
    made_table(engine, columns)
    with pytest.raises(PlaceError, match="does not fit") as raised:
        put(f"{postgres}#rows")
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("columns", "target", "reason"),
    [
        (f"key VARCHAR(2) PRIMARY KEY, {REST}", "made", "key: a text of 3 characters"),
        (with_column("n SMALLINT"), "made", "out of range"),
        ("key TEXT PRIMARY KEY, value JSONB", "opened", "cannot be converted"),
    ],
)
def test_a_row_that_the_table_refuses_is_a_failed_record_and_costs_no_other(
    postgres: str, engine: sqlalchemy.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    columns: str, target: str, reason: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    made_table(engine, columns)
    numbers = {"k1": 1, "k2": 2, "k3": 3}
    if target == "made":
        numbers = {"k1": 1, "k22": 2**40, "k3": 3}
    lines = (json.dumps({"id": key, "n": n}) + "\n" for key, n in numbers.items())
    Path("in.jsonl").write_text("".join(lines))

    async def run() -> JobResult:
        async with session(journal=journal) as begun:
            return await run_job(Job(f"{__name__}:{target}", "in.jsonl", f"{postgres}#rows"), begun)

    with SqliteJournal(Path("journal.db")) as journal:
        found = asyncio.run(run())
    assert (found.done, found.failed) == (2, 1)
    assert [row["key"] for row in rows(engine)] == ["k1", "k3"]
    (told,) = map(json.loads, Path("rows.failed.jsonl").read_text().splitlines())
    assert told["key"] in ("k2", "k22")
    assert reason in told["error"]


def test_shards_write_a_table_together_and_a_whole_job_alone(
    postgres: str, engine: sqlalchemy.Engine
) -> None:
    place = f"{postgres}#rows"
    one, two, again, whole = (
        sink_of(place, made, shard=shard) for shard in ("1/2", "2/2", "2/2", "")
    )
    one.begin([], fresh=True)
    two.begin([], fresh=True)
    for other in (again, whole):
        with pytest.raises(PlaceError, match="another job is writing there now"):
            other.begin([], fresh=True)
        other.close()
    for key, sink in (("a", one), ("b", two)):
        sink.put(sink.prepare({"key": key, **dict.fromkeys(Made.__annotations__)}))
        sink.finish()
        sink.close()
    assert [row["key"] for row in rows(engine)] == ["a", "b"]
    put(place)


def test_shards_that_begin_at_one_moment_make_the_table_once(
    postgres: str, engine: sqlalchemy.Engine
) -> None:
    def begin(number: int) -> None:
        put(f"{postgres}#rows", shard=f"{number}/4")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(begin, range(1, 5)))
    assert rows(engine) == []


UNHELD = {
    "at": ("timestamptz", "'infinity'"),
    "day": ("date", "'-infinity'"),
    "early": ("timestamp", "'0044-03-15 BC'"),
    "late": ("timestamp", "'10000-01-01'"),
    "clock": ("time", "'24:00'"),
    "took": ("interval", "'100000000 years'"),
    "many": ("timestamptz[]", "ARRAY['2026-01-01', 'infinity']::timestamptz[]"),
    "data": ("jsonb", "('[' || repeat('9', 5000) || ']')::jsonb"),
}
"""Values of PostgreSQL that Python has no room for, by column."""


@pytest.mark.parametrize("what", ["unheld", "SELECT * FROM unheld ORDER BY id"])
def test_what_python_has_no_room_for_fails_only_who_asks_for_it(
    server: Server, postgres: str, what: str
) -> None:
    columns = ", ".join(f"{name} {kind}" for name, (kind, _) in UNHELD.items())
    values = ", ".join(value for _, value in UNHELD.values())
    server.ask("DROP TABLE IF EXISTS unheld")
    server.ask(f"CREATE TABLE unheld (id int PRIMARY KEY, text text, {columns})")
    server.ask(f"INSERT INTO unheld VALUES (1, 'x', {values}); INSERT INTO unheld VALUES (2, 'y')")
    first, second = read_records(f"{postgres}#{what}")
    server.ask("DROP TABLE unheld")
    assert first.fields == {"id": 1, "text": "x"}
    assert set(first.unused) == set(UNHELD)
    assert "column 'at' holds a timestamptz that is out of range" in first.unused["at"]
    assert "'infinity'" in first.unused["at"]
    assert second.fields == {"id": 2, "text": "y"} | dict.fromkeys(UNHELD)


def test_a_query_goes_to_the_server_as_it_is_written(postgres: str) -> None:
    query = """SELECT '{"a":1}'::jsonb AS j, (ARRAY[1, 2, 3])[:1] AS s, ':x %s %(a)s' AS t, 7 % 4 AS m"""
    [record] = read_records(f"{postgres}#{query}")
    assert record.fields == {"j": {"a": 1}, "s": [1], "t": ":x %s %(a)s", "m": 3}


def test_a_source_on_a_server_is_only_read(server: Server, postgres: str) -> None:
    server.ask("CREATE SEQUENCE steps")
    with pytest.raises(SourceError, match="read-only transaction"):
        list(read_records(f"{postgres}#SELECT nextval('steps') AS id"))
    assert server.ask("SELECT is_called FROM steps").strip() == "f"
    server.ask("DROP SEQUENCE steps")


def test_what_the_driver_remarks_is_not_written_past_the_records() -> None:
    assert any(isinstance(h, logging.NullHandler) for h in logging.getLogger("psycopg").handlers)
