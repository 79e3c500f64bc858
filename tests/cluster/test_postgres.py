"""Rows into a real PostgreSQL server: types, upserts, tables that do not fit, a job that is killed and goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import pytest
import sqlalchemy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from carrara import workflow
from carrara.workflows.places import PlaceError
from carrara.workflows.plain import plain
from carrara.workflows.sinks.opening import sink_of
from tests.cluster.conftest import EXAMPLES

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
