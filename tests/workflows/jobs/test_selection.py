"""Which records a job takes: conditions, shards, samples, keys."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrara.workflows.errors import InputError
from carrara.workflows.item_keys import apart_from_items
from carrara.workflows.key_set import KeySet
from carrara.workflows.records import Record, read_records
from carrara.workflows.selection import Selection, sampled


def records(keys: list[str], **fields: Any) -> list[Record]:
    return [
        Record(index, key, f"in.jsonl:{index + 1}", {"n": index, **fields})
        for index, key in enumerate(keys)
    ]


BLANKS: list[dict[str, Any]] = [{"text": ""}, {"text": " \n"}, {"text": None}, {}]
keys = st.lists(st.text(max_size=4), unique=True, max_size=30)


@given(keys=keys, count=st.integers(1, 6))
def test_shards_cover_every_record_exactly_once(keys: list[str], count: int) -> None:
    parts = [
        [record.key for record in Selection(shard=f"{i}/{count}").of(records(keys))]
        for i in range(1, count + 1)
    ]
    assert Counter(key for part in parts for key in part) == Counter(keys)
    for part in parts:
        assert part == [key for key in keys if key in part]


@given(keys=keys, count=st.integers(1, 6))
def test_a_shard_does_not_depend_on_the_records_beside(keys: list[str], count: int) -> None:
    chosen = Selection(shard=f"1/{count}")
    alone = [key for key in keys if list(chosen.of(records([key])))]
    assert [record.key for record in chosen.of(records(keys))] == alone


@given(keys=keys, count=st.integers(0, 10), seed=st.integers(-9, 9))
def test_a_sample_has_its_size_its_order_and_its_seed(
    keys: list[str], count: int, seed: int
) -> None:
    found = [record.key for record in sampled(records(keys), count, seed)]
    assert len(found) == min(count, len(keys))
    assert found == [key for key in keys if key in found]
    assert found == [record.key for record in sampled(records(keys), count, seed)]


def test_samples_of_many_seeds_take_every_record_about_as_often() -> None:
    taken = Counter(
        record.key for seed in range(400) for record in sampled(records(list("abcdefgh")), 2, seed)
    )
    assert all(60 < taken[key] < 140 for key in "abcdefgh")  # 100 each, sd 8.7


def test_what_is_chosen_is_counted_from_0() -> None:
    found = list(Selection(where="n % 2 == 1").of(records(list("abcdef"))))
    assert [(record.index, record.key) for record in found] == [(0, "b"), (1, "d"), (2, "f")]


def test_a_condition_that_fails_makes_the_record_broken() -> None:
    (found,) = Selection(where="total > 3").of(records(["a"]))
    assert "--where" in (found.problem or "")
    assert "total" in (found.problem or "")
    assert not list(Selection(where="total is defined and total > 3").of(records(["a"])))


def test_a_text_compared_with_a_number_says_how_to_compare_it() -> None:
    (found,) = Selection(where="p > 1").of(records(["a"], p="01.50"))
    assert "`FIELD | float` makes a number of any" in (found.problem or "")
    assert len(list(Selection(where="p | float > 1").of(records(["a"], p="01.50")))) == 1


@pytest.mark.parametrize(
    ("condition", "value", "holds"),
    [
        ("p > 10.50", "10.50", False),
        ("p >= 10.50", "10.50", True),
        ("p > 10.50", "9.75", False),
        ("9.75 < p", "10.50", True),
        ("p == 10.5", "10.50", True),
        ("p != 10.5", "10.50", False),
        ("p > 10.1", "10.1", False),
        ("p > 10.1", "10.1000000000000000000001", True),
        ("p > 1e308", "1e400", True),
        ("p in [1, 2]", "2.0", True),
        ("p < q", "9.5", True),
        ("p | float > 9", "10.50", True),
        ("p == '10.50' and '.' in p and p | length == 5", "10.50", True),
        ("p == '10.5'", "10.50", False),
        ("p == 7", "007", False),
        ("p == true", "1", False),
        ("record.p > 10.4", "10.50", True),
        ("parts[0].p > 9.75", "10.50", True),
    ],
)
def test_a_text_that_is_a_number_is_compared_as_one(
    condition: str, value: str, holds: bool
) -> None:
    made = records(["a"], p=value, q="10.50", parts=[{"p": value}])
    found = list(Selection(where=condition).of(made))
    assert [record.problem for record in found] == [None] * holds
    assert [type(record.fields["p"]) for record in found] == [str] * holds


@given(st.decimals(allow_nan=False, allow_infinity=False), st.integers() | st.floats(-1e9, 1e9))
def test_every_decimal_is_compared_with_numbers_as_they_are_written(
    one: Decimal, other: int | float
) -> None:
    (record,) = records(["a"], p=str(one), q=other)
    exact = Decimal(repr(other))
    for sign, holds in (("<", one < exact), ("==", one == exact), (">=", one >= exact)):
        assert len(list(Selection(where=f"p {sign} q").of([record]))) == holds


def test_decimals_are_numbers_in_conditions_whatever_the_source(tmp_path: Path) -> None:
    totals = ["9.75", "10.50", "10.51", "100.00"]
    (tmp_path / "t.csv").write_text("id,total\n" + "".join(f"{t},{t}\n" for t in totals))
    rows = [{"id": text, "total": Decimal(text)} for text in totals]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "t.parquet")
    with closing(sqlite3.connect(tmp_path / "t.db")) as table:
        table.execute("CREATE TABLE t (id TEXT PRIMARY KEY, total TEXT)")
        table.executemany("INSERT INTO t VALUES (?, ?)", zip(totals, totals, strict=True))
        table.commit()
    for source in ("t.csv", "t.parquet", "sqlite:///t.db#t"):
        records = read_records(source, str(tmp_path))
        found = list(Selection(where="total > 10.50").of(records))
        assert [(record.key, record.problem) for record in found] == [
            ("10.51", None),
            ("100.00", None),
        ], source


def test_the_condition_of_the_documentation_leaves_blank_and_missing_texts_out() -> None:
    blank = [Record(n, f"b{n}", "x", fields) for n, fields in enumerate(BLANKS)]
    where = "text is defined and text and text | trim"
    (found,) = Selection(where=where).of([*blank, Record(9, "a", "x", {"text": "a"})])
    assert (found.key, found.problem) == ("a", None)


def test_a_broken_record_is_chosen_whatever_the_condition() -> None:
    bad = Record(0, "a", "in.jsonl:1", {}, "not JSON")
    assert list(Selection(where="false").of([bad])) == [bad]


def test_fields_with_any_name_are_reached_through_record() -> None:
    found = Selection(where="record['a b'] == 1").of(records(["x"], **{"a b": 1}))
    assert [record.key for record in found] == ["x"]


def test_conditions_run_in_the_sandbox() -> None:
    (found,) = Selection(where="''.__class__.__mro__").of(records(["a"]))
    assert "SecurityError" in (found.problem or "")


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1, 99999999999999999999])
def test_a_seed_that_cannot_be_is_refused(seed: int) -> None:
    with pytest.raises(InputError, match="--seed"):
        Selection(sample=2, seed=seed)


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/b", "1/0"])
def test_a_shard_that_cannot_be_is_refused(shard: str) -> None:
    with pytest.raises(InputError, match="--shard"):
        Selection(shard=shard)


def test_a_condition_that_is_no_expression_is_refused() -> None:
    with pytest.raises(InputError, match="--where"):
        Selection(where="a ==")
    with pytest.raises(InputError, match=r"it is written without \{\{ \}\}"):
        Selection(where="{{ a }}")


def test_another_field_can_be_the_key(tmp_path: Path) -> None:
    for name, lines in (("a", ["x", "y"]), ("b", ["x", None])):
        (tmp_path / f"{name}.jsonl").write_text(
            "".join(json.dumps({"id": 1, "code": code}) + "\n" for code in lines)
        )
    found = list(read_records(str(tmp_path / "*.jsonl"), key="code"))
    assert [record.key for record in found[:3]] == ["x", "y", "x"]
    assert [record.problem is None for record in found] == [True, True, False, False]
    assert found[2].problem == f"the id 'x' stands already at {tmp_path / 'a.jsonl'}:1"
    assert "no key in the field 'code'" in (found[3].problem or "")


@given(st.lists(st.text(max_size=3), max_size=60))
def test_a_set_of_keys_knows_the_first_place_of_each(words: list[str]) -> None:
    known = KeySet()
    first: dict[str, int] = {}
    for place, word in enumerate(words):
        assert known.add(word, place) == first.get(word)
        first.setdefault(word, place)


def test_a_set_of_keys_grows() -> None:
    known = KeySet()
    assert [known.add(f"k{n}", n) for n in range(5000)] == [None] * 5000
    assert [known.add(f"k{n}", 0) for n in range(5000)] == list(range(5000))


def test_a_condition_can_leave_out_empty_texts() -> None:
    found = [
        Record(0, "a", "in.jsonl:1", {"text": ""}),
        Record(1, "b", "in.jsonl:2", {"text": "b"}),
    ]
    assert [record.key for record in Selection(where="text").of(found)] == ["b"]


@given(
    st.lists(st.sampled_from(["a", "b", "a/0", "a/1", "a/01", "a/x", "a/0/0", "/0"]), unique=True)
)
def test_no_record_has_the_key_of_an_item_of_another(keys: list[str]) -> None:
    found = list(apart_from_items(records(keys)))
    assert [record.key for record in found] == keys
    whole = {record.key for record in found if record.problem is None}
    items = {f"{key}/{place}" for key in whole for place in range(3)}
    assert not whole & items
    alone = {key for key in keys if key.rpartition("/")[0] not in keys}
    alone -= {key.rpartition("/")[0] for key in keys}
    assert alone <= whole  # none fails that has no other to blame


def test_a_record_with_the_key_of_an_item_names_the_other() -> None:
    for keys, told in (
        (["a", "b", "a/0"], "its key 'a/0' is that of an item of the record at in.jsonl:1"),
        (["a/0", "b", "a"], "an item of it may have the key of the record at in.jsonl:1"),
    ):
        *_, last = apart_from_items(records(keys))
        assert last.problem == f"{told}, so that --flatten cannot tell their rows apart"
