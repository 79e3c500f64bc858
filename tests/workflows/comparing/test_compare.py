"""What changed between two outputs is told by row and field, whatever their forms, and nothing else is."""

import json
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from carrara import workflow
from carrara.workflows.comparing.compare import Change, Comparison, compare
from carrara.workflows.comparing.forms import ARROW, CSV, JSON, Form
from carrara.workflows.comparing.rows import Output, read_output
from carrara.workflows.plain import plain
from carrara.workflows.records import Record, SourceError
from carrara.workflows.sinks.opening import sink_of


def rows(*fields: dict[str, Any], form: Form = JSON) -> Output:
    made = [
        Record(place, str(one["key"]), f"out:{place + 1}", one) for place, one in enumerate(fields)
    ]
    return Output(form, made)


def test_rows_and_values_that_changed_are_told() -> None:
    before = rows(
        {"key": "a", "total": 1, "items": [{"n": "pen"}, {"n": "ink"}], "by": "x"},
        {"key": "b", "total": 2, "items": [], "by": "x"},
        {"key": "c", "total": None},
    )
    after = rows(
        {"key": "b", "total": 3, "items": [{"n": "cap"}]},
        {"key": "a", "total": 1, "items": [{"n": "pen"}, {"n": "Ink"}], "by": "x"},
        {"key": "d", "total": 4},
    )
    found = compare(before, after)
    assert (found.rows, found.rows_after, found.changed_rows) == (3, 3, 2)
    assert (found.added, found.removed) == (["d"], ["c"])
    assert found.changes == [
        Change("a", "/items/1/n", "ink", "Ink"),
        Change("b", "/total", 2, 3),
        Change("b", "/items", [], [{"n": "cap"}]),
        Change("b", "/by", "x", None, gone=True),
    ]
    assert found.by_field["/items/*/n"] == 1
    assert found.same_schema


def test_a_drift_of_the_schema_is_told_once_and_changes_no_row() -> None:
    before = rows(*({"key": str(n), "total": n, "old": 1} for n in range(3)))
    after = rows(*({"key": str(n), "total": str(n), "note": "x"} for n in range(3)))
    found = compare(before, after)
    assert (found.fields_added, found.fields_removed) == (["note"], ["old"])
    assert found.retyped == {"/total": {("number", "text"): 3}}
    assert (found.changed_rows, found.changes, found.same) == (0, [], False)


def test_another_type_with_another_value_is_both() -> None:
    found = compare(rows({"key": "a", "x": 1}), rows({"key": "a", "x": "2"}))
    assert found.changes == [Change("a", "/x", 1, "2")]
    assert found.retyped == {"/x": {("number", "text"): 1}}


def test_true_is_not_one() -> None:
    found = compare(rows({"key": "a", "x": True}), rows({"key": "a", "x": 1}))
    assert found.changes == [Change("a", "/x", True, 1)]
    assert found.retyped == {"/x": {("boolean", "number"): 1}}


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("1", 1),
        ("1.50", 1.5),
        ("1.50", Decimal("1.5")),
        ("12345678901234567890.10", Decimal("12345678901234567890.1")),
        ("true", True),
        ("", None),
        ("2026-01-02", date(2026, 1, 2)),
        ("2026-01-02T10:00:00+02:00", datetime(2026, 1, 2, 8)),
        ('[1, {"a": null}]', [1, {"a": None}]),
    ],
)
def test_a_text_of_csv_is_read_as_what_the_other_output_has(text: str, typed: Any) -> None:
    one, other = rows({"key": "a", "x": text}, form=CSV), rows({"key": "a", "x": typed}, form=ARROW)
    assert compare(one, other).same
    assert compare(other, one).same


def test_a_text_that_is_no_such_value_is_a_change() -> None:
    one = rows({"key": "a", "x": "soon"}, form=CSV)
    other = rows({"key": "a", "x": date(2026, 1, 2)}, form=ARROW)
    assert compare(one, other).changes == [Change("a", "/x", "soon", date(2026, 1, 2))]


def test_json_lines_have_types_of_their_own() -> None:
    typed = rows({"key": "a", "x": 1, "at": date(2026, 1, 2)}, form=ARROW)
    found = compare(rows({"key": "a", "x": "1", "at": "2026-01-02"}), typed)
    assert found.retyped == {"/x": {("text", "number"): 1}}
    assert found.changes == []


JSON_DATA = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(max_size=2), JSON_DATA, max_size=4),
    st.dictionaries(st.text(max_size=2), JSON_DATA, max_size=4),
)
def test_no_change_is_missed_and_none_invented(one: dict[str, Any], other: dict[str, Any]) -> None:
    record, changed = Record(0, "k", "a", one), Record(0, "k", "b", other)
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert compare(Output(JSON, [record]), Output(JSON, [changed])).same is same
    assert compare(Output(JSON, [record]), Output(JSON, [record])).same


class Item(BaseModel):
    name: str
    price: Decimal | None


class Receipt(BaseModel):
    shop: str
    total: Decimal | None
    count: int | None
    rate: float | None
    paid: bool | None
    day: date | None
    at: datetime | None
    items: list[Item]
    more: dict[str, int]


@workflow
async def receipt(text: str) -> Receipt:
    raise NotImplementedError


words = st.text("ab1é ,\"'\n", min_size=1, max_size=5).map(lambda text: f"w{text}")
money = st.none() | st.decimals(-(10**12), 10**12, places=2, allow_nan=False)
receipts = st.builds(
    Receipt,
    shop=words,
    total=money,
    count=st.none() | st.integers(-(2**53), 2**53),
    rate=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    paid=st.none() | st.booleans(),
    day=st.none() | st.dates(date(1, 1, 1)),
    at=st.none() | st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),
    items=st.lists(st.builds(Item, name=words, price=money), max_size=3),
    more=st.dictionaries(words, st.integers(0, 9), max_size=2),
)
PLACES = [
    "{}/a.jsonl", "{}/a.csv", "{}/a.parquet", "duckdb:///{}/a.duckdb#rows", "sqlite:///{}/a.db#rows",
]  # fmt: skip


def write(place: str, found: list[Receipt]) -> None:
    sink = sink_of(place, receipt)
    try:
        sink.begin([], fresh=True)
        for number, one in enumerate(found):
            sink.put(sink.prepare({"key": f"k{number}", **plain(one, exact=True)}))
        sink.finish()
    finally:
        sink.close()


def between(one: str, other: str) -> Comparison:
    return compare(read_output(one), read_output(other))


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(found=st.lists(receipts, min_size=1, max_size=3), other=receipts, data=st.data())
def test_the_same_rows_are_the_same_in_every_form_and_a_change_is_seen_in_every_pair(
    tmp_path_factory: pytest.TempPathFactory,
    found: list[Receipt],
    other: Receipt,
    data: st.DataObject,
) -> None:
    folder, changed = tmp_path_factory.mktemp("rows"), tmp_path_factory.mktemp("changed")
    one, two = data.draw(st.sampled_from(PLACES)), data.draw(st.sampled_from(PLACES))
    write(one.format(folder), found)
    write(two.format(changed), found)
    assert between(one.format(folder), two.format(changed)).same, (one, two)
    third = tmp_path_factory.mktemp("third")
    write(two.format(third), [found[0].model_copy(update={"shop": "other"}), *found[1:]])
    assert between(one.format(folder), two.format(third)).changes == [
        Change("k0", "/shop", found[0].shop, "other")
    ]


def test_an_output_without_rows_has_none(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "one.jsonl").write_text('{"key": "a"}\n')
    found = between(str(tmp_path / "empty.jsonl"), str(tmp_path / "one.jsonl"))
    assert (found.rows, found.added) == (0, ["a"])


def test_rows_are_told_apart_by_their_key_and_not_by_a_field_called_id(tmp_path: Path) -> None:
    lines = '{"key": "a", "id": 1}\n{"key": "b", "id": 1}\n'
    (tmp_path / "rows.jsonl").write_text(lines)
    assert between(str(tmp_path / "rows.jsonl"), str(tmp_path / "rows.jsonl")).rows == 2


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.jsonl", '{"key": "a"}\n{"key": "a"}\n', "a.jsonl:2: the id 'a' stands already at"),
        ("a.jsonl", '{"id": "a"}\n', "a.jsonl:1: no key in the field 'key'; its fields are: id"),
        ("a.jsonl", "{\n", "a.jsonl:1: not JSON"),
        ("a.csv", "key,x\na\n", "a.csv:2: no cell for x"),
        ("a.parquet", "no", "not a readable Parquet file"),
        ("a.txt", "no", "not '.txt'"),
    ],
)
def test_what_cannot_be_compared_is_named(
    tmp_path: Path, name: str, content: str, told: str
) -> None:
    place = tmp_path / name
    place.write_text(content)
    with pytest.raises(SourceError, match=r".") as raised:
        between(str(place), str(place))
    assert told in str(raised.value)


def numbered(count: int, add: int) -> Output:
    def made() -> Iterator[Record]:
        for n in range(count):
            yield Record(n, f"k{n}", f"out:{n}", {"key": f"k{n}", "text": "x" * 200, "n": n + add})

    return Output(JSON, made())


def test_memory_does_not_grow_with_the_rows() -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        found = compare(numbered(count, 0), numbered(count, 1))
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (found.changed_rows, len(found.changes)) == (count, 50)
        return used

    peak(100)
    assert peak(8000) < peak(1000) + 200_000


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1e400", "2e400", False),
        ("1e400", "10e399", True),
        ("1e99999999999999999999", "2e99999999999999999999", False),
        ("0.1234567890123456789", "0.12345678901234567890", True),
        ("0.1234567890123456789", "0.1234567890123456788", False),
        ("1e-400", "0", False),
        ("1e23", "100000000000000000000000", True),
        ("12345678901234567890.0", "12345678901234567890", True),
        ("[1e400]", "[1e400]", True),
        ("[1e400]", "[2e400]", False),
        ("true", "1", False),
    ],
)
@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_numbers_are_compared_with_all_their_digits(
    tmp_path: Path, one: str, other: str, same: bool, suffix: str
) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"key": "a", "x": {one}}}\n')
    after = tmp_path / f"b.{suffix}"
    after.write_text(
        f"key,x\na,{other}\n" if suffix == "csv" else f'{{"key": "a", "x": {other}}}\n'
    )
    found = between(str(tmp_path / "a.jsonl"), str(after))
    assert (found.changed_rows == 0 and not found.retyped) is same


NUMBERS = [2, 2.0, 2.5, Decimal("2.00"), Decimal("1e400"), Decimal("2e400"), -0.0, 0, 10**23, 1e23]
KEYS = st.lists(st.sampled_from([*NUMBERS, "2", "2.0", "02", "x", True]), unique_by=str)


@given(KEYS, KEYS)
@example(["2"], ["2.0", Decimal("2.00")])
def test_keys_that_are_numbers_are_the_same_whatever_their_form(
    before: list[Any], after: list[Any]
) -> None:
    one, other = (rows(*({"key": key} for key in keys)) for keys in (before, after))
    found = compare(one, other, limit=99)
    assert found.rows - found.removed_rows == found.rows_after - found.added_rows
    left = [key for key in before if str(key) in found.removed]
    right = [key for key in after if str(key) in found.added]
    for key in left:
        assert str(key) not in map(str, after)
        assert not [new for new in right if is_same_number(key, new)]
    paired = {str(key) for key in before} - set(found.removed)
    for key in (key for key in before if str(key) in paired):
        assert any(str(key) == str(new) or is_same_number(key, new) for new in after)


def is_same_number(one: Any, other: Any) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        return False
    values = [number_of(key) for key in (one, other)]
    return None not in values and values[0] == values[1]


def number_of(key: Any) -> Decimal | None:
    return None if key in ("02", "x") or isinstance(key, bool) else Decimal(str(key))


def test_texts_of_numbers_are_names_where_both_outputs_have_texts() -> None:
    found = compare(rows({"key": "2.0"}), rows({"key": "2"}))
    assert (found.removed, found.added) == (["2.0"], ["2"])


def test_a_number_that_is_a_key_is_one_in_csv_too(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"key": 2.0, "x": 1}\n{"key": 1e400, "x": 1}\n')
    (tmp_path / "b.csv").write_text("key,x\n2,1\n1e400,2\n")
    found = between(str(tmp_path / "a.jsonl"), str(tmp_path / "b.csv"))
    assert (found.removed, found.added) == ([], [])
    assert found.changes == [Change("1E+400", "/x", 1, 2)]
