"""Training canvases hold the gold value, exactly as the engine would lay it out."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from carrara.engines.contract import Choice, Column, Contract, Json, Outline, Regex, Table
from carrara.engines.diffusion.scaffold.compile import refusal
from carrara.engines.diffusion.scaffold.lay_out import PINNED, Spare, lay_out
from carrara.engines.diffusion.scaffold.lexicon import Lexicon
from carrara.engines.diffusion.scaffold.room import Budget
from carrara.engines.errors import CarraraError

ADDRESS = {
    "type": "object",
    "properties": {k: {"type": ["string", "null"]} for k in ("number", "street", "unit")},
    "required": ["number", "street", "unit"],
}
CASES: list[tuple[Contract, Any]] = [
    (Json.of(ADDRESS), {"number": "507", "street": 'Sh"er\nman', "unit": None}),
    (Json.of({"type": "array", "items": {"type": "number"}}), [1, 2.5, -3]),
    (Json.of({"type": "array", "items": {"type": "number"}}), []),
    (
        Json.of({"type": "object", "additionalProperties": {"type": "boolean"}}),
        {"a": True, "ö": False},
    ),
    (Choice(("ab", "abc")), "abc"),
    (Regex(r"\d+ [a-z]+"), "12 ab"),
    (
        Table((Column("a"), Column("n", "integer"))),
        [{"a": "x | y", "n": 3}, {"a": None, "n": None}],
    ),
    (Table((Column("a"),)), []),
    (
        Outline(),
        [{"text": "one", "items": [{"text": "- two", "items": []}]}, {"text": "2. x", "items": []}],
    ),
]


def random_spare(seed: int) -> Spare:
    chance = random.Random(seed)
    return Spare(
        lambda: chance.randrange(4), lambda: chance.randrange(3), lambda: chance.random() < 0.5
    )


@pytest.mark.parametrize(("contract", "value"), CASES)
def test_a_value_reads_back(contract: Contract, value: Any, lexicon: Lexicon) -> None:
    for seed in range(5):
        laid = lay_out(contract, value, lexicon, random_spare(seed))
        assert contract.parse(laid.text) == value
        assert lexicon.text(laid.clean) == laid.text
        assert len(laid.ids) == len(laid.units)


def test_random_values_read_back(
    fill: Callable[..., Any], random_schema: Callable[[int], dict[str, Any]], lexicon: Lexicon
) -> None:
    for seed in range(1000, 1030):
        contract = Json.of(random_schema(seed))
        if refusal(contract) is None:
            value = fill(contract, seed, Budget(1000, 100, 6), steps=4).value
            assert (
                contract.parse(lay_out(contract, value, lexicon, random_spare(seed)).text) == value
            )


def test_only_decisions_belong_to_units(lexicon: Lexicon) -> None:
    laid = lay_out(Json.of(ADDRESS), {"number": "507", "street": "Elm", "unit": None}, lexicon)
    pinned = [i for i, unit in zip(laid.ids, laid.units, strict=True) if unit == PINNED]
    assert lexicon.text(pinned) == '{"number":, "street":, "unit":}'
    assert len(set(laid.units) - {PINNED}) == 3
    assert not laid.gates


def test_spare_length_is_filled_with_pads(lexicon: Lexicon) -> None:
    value = {"number": "507", "street": "Elm", "unit": None}
    bare = lay_out(Json.of(ADDRESS), value, lexicon)
    wide = lay_out(Json.of(ADDRESS), value, lexicon, Spare(lambda: 5))
    assert wide.ids.count(lexicon.pad_id) == 15
    assert len(wide.ids) == len(bare.ids) + 15
    assert wide.clean == bare.clean


def test_items_behind_the_end_are_pads_behind_an_open_gate(lexicon: Lexicon) -> None:
    contract = Json.of({"type": "array", "items": {"type": "string"}})
    bare = lay_out(contract, ["x"], lexicon)
    more = lay_out(contract, ["x"], lexicon, Spare(lambda: 2, lambda: 2))
    assert not bare.open
    assert len(more.open) == 1
    assert more.open <= more.gates
    assert more.clean == bare.clean
    [gate] = more.open
    behind = more.units.index(gate) + 1
    decided = [
        i for i, unit in zip(more.ids[behind:], more.units[behind:], strict=True) if unit != PINNED
    ]
    assert set(decided) == {lexicon.pad_id}


def test_the_usual_way_may_be_shown_though_another_is_right(lexicon: Lexicon) -> None:
    inner = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    contract = Json.of({"anyOf": [inner, {"type": "null"}]})
    bare = lay_out(contract, None, lexicon)
    both = lay_out(contract, None, lexicon, Spare(ways=lambda: True))
    assert len(bare.ids) == 1
    assert lexicon.text(both.ids) == 'nulla": "}'  # the gate stands where the object would begin
    assert both.text == bare.text == "null"


def test_a_missing_property_that_may_be_null_is_null(lexicon: Lexicon) -> None:
    laid = lay_out(Json.of({**ADDRESS, "required": []}), {"street": "Elm"}, lexicon)
    assert laid.text == '{"number": null, "street": "Elm", "unit": null}'


@pytest.mark.parametrize(
    "value", [{"number": 5}, [], {"number": "1", "street": "x", "unit": None, "y": 1}, "x"]
)
def test_a_value_that_does_not_fit_is_refused(value: Any, lexicon: Lexicon) -> None:
    with pytest.raises(CarraraError):
        lay_out(Json.of(ADDRESS), value, lexicon)
