"""Sinks: what a workflow declares comes out of every place as it went in, and a place that does not fit is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import duckdb
import pyarrow
import pyarrow.parquet
import pytest
import sqlalchemy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from carrara import workflow
from carrara.workflows.errors import InputError
from carrara.workflows.places import PlaceError
from carrara.workflows.plain import plain
from carrara.workflows.row_format import is_json
from carrara.workflows.sinks.opening import check_output, sink_of
from carrara.workflows.sinks.shape import Shape, row_columns, shape_of
from carrara.workflows.sinks.typed_rows import as_text


class Item(BaseModel):
    name: str
    price: Annotated[Decimal, Field(decimal_places=2)] | None = None
    sold: date | None = None


class Receipt(BaseModel):
    shop: str
    total: Annotated[Decimal, Field(decimal_places=4)] | None
    count: int | None
    rate: float | None
    paid: bool | None
    day: date | None
    at: datetime | None
    kind: Literal["cash", "card"] | None
    items: list[Item]
    tags: list[str] | None
    more: dict[str, Any]


@workflow
async def receipt(text: str) -> Receipt:
    raise NotImplementedError


words = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8)
days = st.dates(date(1700, 1, 1), date(2200, 1, 1))
money = st.decimals(-(10**9), 10**9, places=2, allow_nan=False)
items = st.builds(
    Item,
    name=words,
    price=st.none() | money,
    sold=st.none() | days,
)
receipts = st.builds(
    Receipt,
    shop=words,
    total=st.none() | st.decimals(-(10**20), 10**20, places=4, allow_nan=False),
    count=st.none() | st.integers(-(2**63), 2**63 - 1),
    rate=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    paid=st.none() | st.booleans(),
    day=st.none() | days,
    at=st.none() | st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)),
    kind=st.sampled_from(["cash", "card", None]),
    items=st.lists(items, max_size=3),
    tags=st.none() | st.lists(words, max_size=2),
    more=st.dictionaries(words, st.none() | st.integers(0, 9) | words, max_size=2),
)
tables = st.lists(receipts, max_size=4)
LEAN = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def fields_of(receipts: list[Receipt]) -> list[dict[str, Any]]:
    return [
        {"key": f"k{number}", **plain(found, exact=True)} for number, found in enumerate(receipts)
    ]


def write(place: str, rows: list[dict[str, Any]], flatten: str | None = None) -> None:
    sink = sink_of(place, receipt, flatten)
    try:
        sink.begin([], fresh=True)
        for row in rows:
            sink.put(sink.prepare(row))
        sink.finish()
    finally:
        sink.close()


def new_file(folder: Path, suffix: str) -> Path:
    """A name that is not taken: the examples of one test share a folder."""
    return folder / f"{len(list(folder.iterdir()))}{suffix}"


def as_python(found: Receipt) -> dict[str, Any]:
    return {**found.model_dump(), "more": json.dumps(found.more, ensure_ascii=False)}


@LEAN
@given(found=tables)
def test_parquet_gives_back_every_type(
    tmp_path_factory: pytest.TempPathFactory, found: list[Receipt]
) -> None:
    path = new_file(tmp_path_factory.getbasetemp(), ".parquet")
    write(str(path), fields_of(found))
    back = pyarrow.parquet.read_table(path).to_pylist()
    assert [row.pop("key") for row in back] == [f"k{n}" for n in range(len(found))]
    assert back == [as_python(one) for one in found]


@LEAN
@given(found=tables)
def test_duckdb_gives_back_every_type(
    tmp_path_factory: pytest.TempPathFactory, found: list[Receipt]
) -> None:
    path = new_file(tmp_path_factory.getbasetemp(), ".duckdb")
    write(f"duckdb:///{path}#rows", fields_of(found))
    with duckdb.connect(str(path)) as connection:
        asked = connection.execute("SELECT * EXCLUDE (key) FROM rows ORDER BY key")
        names = [column[0] for column in asked.description]
        back = [dict(zip(names, row, strict=True)) for row in asked.fetchall()]
    assert back == [as_python(one) for one in found]


@LEAN
@given(found=tables)
def test_sqlite_gives_back_every_type_and_decimals_as_text(
    tmp_path_factory: pytest.TempPathFactory, found: list[Receipt]
) -> None:
    path = new_file(tmp_path_factory.getbasetemp(), ".db")
    write(f"sqlite:///{path}#rows", fields_of(found))
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        table = sqlalchemy.Table("rows", sqlalchemy.MetaData(), autoload_with=connection)
        back = connection.execute(sqlalchemy.select(table).order_by(table.c.key)).mappings().all()
    engine.dispose()
    for row, one in zip(back, found, strict=True):
        whole = {name: value for name, value in row.items() if name != "key"}
        total = whole.pop("total")
        assert (None if total is None else Decimal(total)) == one.total
        expected = one.model_dump(exclude={"total"})
        expected["items"] = plain(one.items, exact=True)
        assert whole == expected


@LEAN
@given(found=tables)
def test_json_lines_give_back_every_row(
    tmp_path_factory: pytest.TempPathFactory, found: list[Receipt]
) -> None:
    path = new_file(tmp_path_factory.getbasetemp(), ".jsonl")
    rows = fields_of(found)
    write(str(path), rows)
    assert [json.loads(line) for line in path.read_bytes().splitlines()] == rows


def test_a_value_that_does_not_fit_names_its_field(tmp_path: Path) -> None:
    sink = sink_of(str(tmp_path / "rows.parquet"), receipt)
    row = fields_of([a_receipt()])[0]
    for wrong, told in [
        ({"count": 2**63}, "count: 9223372036854775808 does not fit into 64 bits"),
        ({"day": "soon"}, "day: a date in ISO 8601 is needed, found 'soon'"),
        ({"total": "1.00001"}, "decimal_places in the type says how many"),
        ({"items": [{"name": 1}]}, "items/0/name: a value of type text is needed"),
        ({"shop": "\ud800"}, "half a surrogate pair"),
        ({"stray": 1}, "the field 'stray', which the workflow does not declare"),
    ]:
        with pytest.raises(ValueError, match=r".") as raised:
            sink.prepare({**row, **wrong})
        assert told in str(raised.value)
    sink.close()


def a_receipt(**changed: Any) -> Receipt:
    whole: dict[str, Any] = {
        "shop": "Baker", "total": Decimal("3.50"), "count": 2, "rate": 0.5, "paid": True,
        "day": date(2026, 3, 1), "at": datetime(2026, 3, 1, 12, tzinfo=UTC), "kind": "cash",
        "items": [Item(name="roll"), Item(name="tart")], "tags": None, "more": {},
    }  # fmt: skip
    return Receipt(**{**whole, **changed})


def rows_of(place: str, name: str = "rows") -> list[dict[str, Any]]:
    """The rows of a Parquet file or of a table, by key."""
    url = place.partition("#")[0]
    if place.endswith(".parquet"):
        found: list[dict[str, Any]] = pyarrow.parquet.read_table(place).to_pylist()
        return sorted(found, key=lambda row: str(row["key"]))
    if url.startswith("duckdb"):
        with duckdb.connect(url.removeprefix("duckdb:///")) as connection:
            asked = connection.sql(f"SELECT * FROM {name} ORDER BY key").to_arrow_table()
            return list(asked.to_pylist())
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        asked = connection.execute(sqlalchemy.text(f"SELECT * FROM {name} ORDER BY key"))
        back = [dict(row) for row in asked.mappings()]
    engine.dispose()
    return back


Place = Callable[[Path], str]
TABLES = [
    pytest.param(lambda folder: f"sqlite:///{folder}/rows.db#rows", id="sqlite"),
    pytest.param(lambda folder: f"duckdb:///{folder}/rows.duckdb#rows", id="duckdb"),
]
ALL = [*TABLES, pytest.param(lambda folder: f"{folder}/rows.parquet", id="parquet")]


@pytest.mark.parametrize("place", ALL)
def test_a_list_becomes_rows_with_the_fields_around_it(tmp_path: Path, place: Place) -> None:
    found = fields_of([a_receipt(), a_receipt(shop="Bank", items=[])])
    write(place(tmp_path), found, flatten="items")
    rows = rows_of(place(tmp_path))
    assert [(row["key"], row["shop"], row["name"]) for row in rows] == [
        ("k0/0", "Baker", "roll"),
        ("k0/1", "Baker", "tart"),
        ("k1", "Bank", None),
    ]
    assert "items" not in rows[0]
    assert [rows[0][name] for name in ("price", "sold")] == [None, None]


@pytest.mark.parametrize("place", TABLES)
def test_a_row_replaces_the_one_with_its_key_and_no_other(tmp_path: Path, place: Place) -> None:
    output = place(tmp_path)
    write(output, fields_of([a_receipt(), a_receipt()]))
    write(output, fields_of([a_receipt(shop="New", tags=["x"])]))
    assert [(row["key"], row["shop"]) for row in rows_of(output)] == [
        ("k0", "New"),
        ("k1", "Baker"),
    ]


@pytest.mark.parametrize("place", TABLES)
def test_a_list_that_became_shorter_leaves_no_row_behind(tmp_path: Path, place: Place) -> None:
    output = place(tmp_path)
    four = [Item(name=name) for name in "abcd"]
    write(output, fields_of([a_receipt(items=four), a_receipt(items=four[:1])]), flatten="items")
    write(output, fields_of([a_receipt(items=four[:2])]), flatten="items")
    assert [row["key"] for row in rows_of(output)] == ["k0/0", "k0/1", "k1/0"]
    write(output, fields_of([a_receipt(items=[])]), flatten="items")
    assert [row["key"] for row in rows_of(output)] == ["k0", "k1/0"]
    write(output, fields_of([a_receipt(items=four[:1])]), flatten="items")
    assert [row["key"] for row in rows_of(output)] == ["k0/0", "k1/0"]


@pytest.mark.parametrize("place", TABLES)
def test_a_table_whose_columns_do_not_fit_is_refused_with_all_reasons(
    tmp_path: Path, place: Place
) -> None:
    output = place(tmp_path)
    made = "CREATE TABLE rows (key VARCHAR, shop INTEGER, owner VARCHAR NOT NULL)"
    url = output.partition("#")[0]
    if url.startswith("duckdb"):
        with duckdb.connect(url.removeprefix("duckdb:///")) as connection:
            connection.execute(made)
    else:
        engine = sqlalchemy.create_engine(url)
        with engine.begin() as begun:
            begun.execute(sqlalchemy.text(made))
        engine.dispose()
    with pytest.raises(PlaceError, match="does not fit") as raised:
        write(output, fields_of([a_receipt()]))
    told = str(raised.value)
    for reason in (
        "it has no column 'total'",
        "its column 'shop' is INTEGER, the rows have",
        "its column 'owner' must be given",
        "its column 'key' is neither its primary key nor unique",
    ):
        assert reason in told


def test_columns_of_text_in_a_table_that_is_there_take_everything(tmp_path: Path) -> None:
    @workflow
    async def small(text: str) -> Item:
        raise NotImplementedError

    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/rows.db")
    with engine.begin() as begun:
        begun.execute(
            sqlalchemy.text(
                "CREATE TABLE r (key TEXT PRIMARY KEY, name TEXT, price TEXT, sold TEXT)"
            )
        )
    engine.dispose()
    sink = sink_of(f"sqlite:///{tmp_path}/rows.db#r", small)
    sink.begin([], fresh=True)
    item = Item(name="roll", price=Decimal("1.10"), sold=date(2026, 1, 2))
    sink.put(sink.prepare({"key": "a", **plain(item, exact=True)}))
    sink.finish()
    sink.close()
    (row,) = rows_of(f"sqlite:///{tmp_path}/rows.db#r", "r")
    assert row == {"key": "a", "name": "roll", "price": "1.10", "sold": "2026-01-02"}


def test_parquet_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    sink = sink_of(str(tmp_path / "rows.parquet"), receipt)
    sink.begin([], fresh=True)
    sink.put(sink.prepare(fields_of([a_receipt()])[0]))
    assert not (tmp_path / "rows.parquet").exists()
    sink.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_job_has_left_of_a_parquet_file_goes(tmp_path: Path) -> None:
    (tmp_path / ".rows.parquet.partial").write_text("left by a process that was killed")
    write(str(tmp_path / "rows.parquet"), fields_of([a_receipt()]))
    assert len(rows_of(str(tmp_path / "rows.parquet"))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    sink = sink_of(str(tmp_path / "file" / "rows.parquet"), receipt)
    with pytest.raises(PlaceError, match="cannot write"):
        sink.begin([], fresh=True)
    sink.close()


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("rows.txt", "not '.txt'"),
        ("sqlite:///rows.db", "name a table behind '#'"),
        ("duckdb:///rows.duckdb#a;b", "not 'a;b'"),
        ("postgresql://me:secret@host/db", "me:***@host"),
    ],
)
def test_a_place_that_takes_no_rows_is_refused(output: str, told: str) -> None:
    with pytest.raises(PlaceError) as raised:
        check_output(output)
    assert told in str(raised.value)
    assert "secret" not in str(raised.value)


def test_only_a_list_of_the_row_can_be_flattened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no field 'itms'.*Did you mean 'items'"):
        sink_of(str(tmp_path / "o.jsonl"), receipt, "itms")
    with pytest.raises(InputError, match="'shop' is no list"):
        sink_of(str(tmp_path / "o.jsonl"), receipt, "shop")


def test_shapes_follow_the_annotation() -> None:
    @dataclass
    class Node:
        name: str
        below: list[Node]

    @workflow
    async def one(text: str) -> float | None:
        raise NotImplementedError

    assert row_columns(one) == {"value": Shape("number")}
    assert shape_of(int | float) == Shape("number")
    assert shape_of(list[dict[str, int]]) == Shape("list", Shape("json"))
    assert shape_of(Literal["a", 1]) == Shape("json", values=("a", 1))
    assert shape_of(tuple[int, ...]) == Shape("list", Shape("integer"))


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["1", '"1"', "null"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
))  # fmt: skip
def test_a_value_of_unknown_type_comes_back_from_its_text(value: Any) -> None:
    text = as_text(value)
    if value is not None:
        assert text is not None
        assert (json.loads(text) if is_json(text) else text) == value
    else:
        assert text is None
