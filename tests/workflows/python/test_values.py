"""Tables and outlines as values."""

from __future__ import annotations

import datetime
from collections import namedtuple
from dataclasses import dataclass

import pytest
from pydantic import BaseModel, Field

from carrara.runtime.codec import decode, encode
from carrara.workflows.plain import as_text, plain
from carrara.workflows.values import Outline, OutlineItem, Table, as_record


@dataclass
class Item:
    name: str
    day: datetime.date


class Aliased(BaseModel):
    price: int = Field(alias="Unit price")


OUTLINE = Outline.of(
    [{"text": "a", "items": [{"text": "b"}, {"text": "c"}]}, {"text": "d", "items": []}]
)


def test_a_table_is_a_sequence_of_its_rows() -> None:
    table = Table.of([Item("x", datetime.date(2020, 1, 1)), Item("y", datetime.date(2020, 1, 2))])
    assert table.columns == ("name", "day")
    assert len(table) == 2
    assert [row.name for row in table] == ["x", "y"]
    assert table[1].name == "y"
    assert table[:1] == (table[0],)
    assert table[0] in table


def test_a_table_is_written_as_markdown_with_its_columns() -> None:
    table = Table.of([Item("a|b", datetime.date(2020, 1, 1))])
    assert table.markdown() == "| name | day |\n| --- | --- |\n| a\\|b | 2020-01-01 |"
    assert Table((), ("only",)).markdown() == "| only |\n| --- |"
    assert Table.of([]).markdown() == ""


def test_the_columns_of_a_model_are_its_aliases() -> None:
    table = Table.of([Aliased.model_validate({"Unit price": 3})])
    assert table.columns == ("Unit price",)
    assert table.records() == [{"Unit price": 3}]


def test_any_kind_of_row_becomes_a_record() -> None:
    pair = namedtuple("pair", ["a", "b"])
    assert as_record(pair(1, 2)) == {"a": 1, "b": 2}
    assert as_record({"a": 1}) == {"a": 1}
    with pytest.raises(TypeError, match="not int"):
        as_record(3)


def test_an_outline_is_walked_in_reading_order_with_depths() -> None:
    assert [(depth, item.text) for depth, item in OUTLINE.walk()] == [
        (1, "a"),
        (2, "b"),
        (2, "c"),
        (1, "d"),
    ]
    assert OUTLINE[0].items[1] == OutlineItem("c")
    assert len(OUTLINE) == 2


def test_an_outline_is_written_as_markdown_and_as_data() -> None:
    assert OUTLINE.markdown() == "- a\n  - b\n  - c\n- d"
    assert Outline.of(OUTLINE.data()) == OUTLINE


@pytest.mark.parametrize(
    "value", [OUTLINE, Table.of([Item("x", datetime.date(2020, 1, 1))]), Table.of([{"a": None}])]
)
def test_values_survive_the_journal(value: object) -> None:
    assert decode(encode(value, type(value)), type(value)) == value


def test_plain_data_keeps_numbers_and_writes_the_rest_as_json_knows_it() -> None:
    table = Table.of([Item("x", datetime.date(2020, 1, 1))])
    assert plain({"t": table, "o": OUTLINE[1], 3: (1.5, float("nan"))}) == {
        "t": [{"name": "x", "day": "2020-01-01"}],
        "o": {"text": "d", "items": []},
        "3": [1.5, None],
    }
    with pytest.raises(TypeError, match="object cannot be written as JSON"):
        plain(object())


def test_text_of_a_value_is_what_a_prompt_shows() -> None:
    assert as_text("plain") == "plain"
    assert as_text({"ä": [1, None]}) == '{"ä": [1, null]}'
    assert as_text(OUTLINE) == OUTLINE.markdown()
    assert as_text(datetime.date(2020, 1, 1)) == "2020-01-01"
    assert as_text(True) == "true"
