"""Gold is compared with what its place in the answer can be, however deep."""

from __future__ import annotations

import re
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from carrara.engines.contract import Json
from carrara.workflows.scoring.options import strays
from carrara.workflows.scoring.places import Places
from carrara.workflows.scoring.rule import Marker
from carrara.workflows.scoring.score import Scoring

Kind = Literal["fruit", "dairy"]


class Milk(BaseModel):
    sort: Literal["milk"]
    fat: Literal["low", "full"]


class Tea(BaseModel):
    sort: Literal["tea"]
    fat: str = ""


class Item(BaseModel):
    name: str
    kind: Kind
    grade: Literal[1, 2] | None = None
    tags: list[Literal["new", "old"]] = []
    parts: list[Item] = []


class Order(BaseModel):
    items: list[Item]
    drink: Milk | Tea | None = None
    open: Literal["yes"] | bool = False
    by_kind: dict[Kind, str] = {}
    words: dict[str, Kind] = {}
    pair: tuple[Kind, str] = ("fruit", "")


def found(gold: Any) -> list[tuple[str, Any]]:
    return [(one.pointer, one.value) for one in strays(Order.model_json_schema(), gold)]


def item(**more: Any) -> dict[str, Any]:
    return {"items": [{"name": "x", "kind": "fruit"}, {"name": "y", "kind": "dairy", **more}]}


@pytest.mark.parametrize(
    ("gold", "stray"),
    [
        (item(kind="fruits"), ("/items/1/kind", "fruits")),
        (item(grade=3), ("/items/1/grade", 3)),
        (item(tags=["new", "blue"]), ("/items/1/tags/1", "blue")),
        (item(parts=[{"name": "z", "kind": "meat"}]), ("/items/1/parts/0/kind", "meat")),
        ({"drink": {"sort": "beer"}}, ("/drink/sort", "beer")),
        ({"by_kind": {"meat": "x"}}, ("/by_kind", "meat")),
        ({"words": {"a/b": "meat"}}, ("/words/a~1b", "meat")),
        ({"pair": ["meat", "meat"]}, ("/pair/0", "meat")),
    ],
)
def test_a_value_that_is_no_option_is_found_with_its_place(gold: Any, stray: Any) -> None:
    assert found(gold) == [stray]


@pytest.mark.parametrize(
    "gold",
    [
        item(kind=" FRUIT ", grade=2.0),
        item(kind=None, grade=None, tags=[""]),
        item(unknown="x"),
        {"drink": {"sort": "tea", "fat": "any"}},
        {"drink": None, "open": "no", "by_kind": {"dairy": "meat"}},
        "no object",
        [],
    ],
)
def test_what_an_answer_can_be_is_none_but_for_case_white_space_and_nothing(gold: Any) -> None:
    assert found(gold) == []


def test_a_schema_that_contains_itself_at_once_ends() -> None:
    loop = {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}
    assert list(strays(loop, {"x": "y"})) == []
    assert list(strays(loop, "y")) == []


def test_both_parts_of_a_schema_hold() -> None:
    both = {"$defs": {"a": {"enum": ["x", "y"]}}, "$ref": "#/$defs/a", "const": "x"}
    assert [one.options for one in strays(both, "y")] == [["x"]]


def marker(rule: Any = "fields") -> Marker:
    schema = Order.model_json_schema()
    return Marker(Json.of(schema), Scoring(rule), Places(schema))


def test_the_error_names_place_value_and_options_and_what_may_be_meant() -> None:
    told = (
        "gold at /items/1/kind is 'fruits', and the answer there is one of fruit, dairy: give gold as one of these. "
        "Did you mean 'fruit'?"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        marker().gold(item(kind="fruits"))


def test_a_row_tells_its_first_strays_and_counts_the_others() -> None:
    with pytest.raises(ValueError, match=r"^(gold at /items/1/tags/[^;]*(; |$)){3}") as caught:
        marker().gold(item(tags=list("abcde")))
    assert str(caught.value).endswith("(and 2 more)")


def test_gold_that_is_scored_otherwise_is_not_compared() -> None:
    gold = [{"kind": "fruits"}]
    assert marker("cells").gold(gold) == gold
