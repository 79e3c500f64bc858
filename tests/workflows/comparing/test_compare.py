"""What changed between two outputs is told by row and field, and nothing else is."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrara.cli.app import app
from carrara.engines.errors import CarraraError
from carrara.workflows.comparing.compare import Change, compare
from carrara.workflows.records import Record


def rows(*fields: dict[str, Any]) -> list[Record]:
    return [
        Record(place, str(one["key"]), f"out:{place + 1}", one) for place, one in enumerate(fields)
    ]


def test_rows_and_fields_that_changed_are_told() -> None:
    before = rows(
        {"key": "a", "total": 1, "items": [{"n": "pen"}, {"n": "ink"}]},
        {"key": "b", "total": 2, "items": []},
        {"key": "c", "total": None},
    )
    after = rows(
        {"key": "b", "total": "2", "items": [{"n": "cap"}], "note": ""},
        {"key": "a", "total": 1, "items": [{"n": "pen"}, {"n": "Ink"}]},
        {"key": "d", "total": 4},
    )
    found = compare(before, after)
    assert (found.rows, found.added, found.removed, found.changed_rows) == (3, ["d"], ["c"], 2)
    assert found.changes == [
        Change("a", "/items/1/n", "ink", "Ink"),
        Change("b", "/total", 2, "2"),
        Change("b", "/items", [], [{"n": "cap"}]),
        Change("b", "/note", None, "", new=True),
    ]
    assert found.by_field["/items/*/n"] == 1
    assert found.types == {"total": ("number", "number or text"), "note": ("", "text")}


def test_true_is_not_one() -> None:
    found = compare(rows({"key": "a", "x": True}), rows({"key": "a", "x": 1}))
    assert found.changes == [Change("a", "/x", True, 1)]
    assert found.types == {"x": ("boolean", "number")}


def test_a_key_that_occurs_twice_is_refused_with_both_places() -> None:
    with pytest.raises(CarraraError, match="out:2: the key 'a' is that of out:1, too"):
        compare(rows({"key": "a"}, {"key": "a"}), [])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(max_size=2), JSON, max_size=4),
    st.dictionaries(st.text(max_size=2), JSON, max_size=4),
)
def test_no_change_is_missed_and_none_invented(one: dict[str, Any], other: dict[str, Any]) -> None:
    record, changed = Record(0, "k", "a", one), Record(0, "k", "b", other)
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert compare([record], [changed]).same is same
    assert compare([record], [record]).same


def test_the_command_tells_and_exits_with_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jsonl").write_text('{"key": "a", "x": 1}\n')
    (tmp_path / "b.csv").write_text("key,x\na,1\n")
    with pytest.raises(SystemExit) as end:
        app(["diff", str(tmp_path / "a.jsonl"), str(tmp_path / "b.csv")], standalone_mode=True)
    assert end.value.code == 1
    assert capsys.readouterr().out.splitlines() == [
        "1 rows before; 1 changed, 0 added, 0 removed",
        "field x: number before, text after",
        "/x: 1 changes",
        'a /x: 1 -> "1"',
    ]
