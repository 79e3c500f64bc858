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
    (
        Json.of(
            {
                "anyOf": [
                    {"type": "object"},
                    {"type": "object", "properties": {"a": {"type": "object"}}},
                ]
            }
        ),
        {"a": {"b": 1}},
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
        lambda taken, usual: taken + chance.randrange(4),
        lambda count: count + chance.randrange(3),
        lambda: chance.random() < 0.5,
    )


def wide(pads: int, items: int = 0) -> Spare:
    return Spare(lambda taken, usual: taken + pads, lambda count: count + items)


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
    more = lay_out(Json.of(ADDRESS), value, lexicon, wide(5))
    assert more.ids.count(lexicon.pad_id) == 15
    assert len(more.ids) == len(bare.ids) + 15
    assert more.clean == bare.clean


def test_a_slot_that_has_not_grown_yet_shows_the_beginning_of_its_text(lexicon: Lexicon) -> None:
    value = {"number": "507", "street": "Elm Street " * 8, "unit": None}
    whole = lay_out(Json.of(ADDRESS), value, lexicon)
    cut = lay_out(
        Json.of(ADDRESS), value, lexicon, Spare(lambda taken, usual: min(taken, usual(6)))
    )
    assert len(cut.ids) < len(whole.ids)
    assert cut.clean == whole.clean
    street = whole.units[whole.units.index(PINNED, 3) :]
    assert len(set(cut.units)) == len(set(whole.units)) == 4
    [unit] = {u for u in street if street.count(u) > 6 and u != PINNED}
    text = [i for i, u in zip(whole.ids, whole.units, strict=True) if u == unit]
    shown = [i for i, u in zip(cut.ids, cut.units, strict=True) if u == unit]
    assert shown == text[: len(shown)]
    assert 0 < len(shown) < len(text)


def test_a_long_list_shows_its_first_items_behind_an_open_gate(lexicon: Lexicon) -> None:
    contract = Json.of({"type": "array", "items": {"type": "integer"}})
    whole = lay_out(contract, [1, 2, 3, 4], lexicon)
    cut = lay_out(contract, [1, 2, 3, 4], lexicon, Spare(items=lambda count: 2))
    assert cut.clean == whole.clean
    assert cut.text == whole.text
    assert len(cut.open) == 1
    [gate] = cut.open
    asked = [i for i, unit in zip(cut.ids, cut.units, strict=True) if unit == gate]
    assert lexicon.text(asked).strip() == ","  # it goes on
    assert lexicon.text(cut.ids).startswith("[1, 2,")
    assert "3" not in lexicon.text(cut.ids)


def test_starts_tell_how_much_of_the_answer_stands_before_them(
    fill: Callable[..., Any], random_schema: Callable[[int], dict[str, Any]], lexicon: Lexicon
) -> None:
    for contract, value in CASES:
        bare = lay_out(contract, value, lexicon)
        for start in bare.starts:
            before = [i for i in bare.ids[: start.at] if i != lexicon.pad_id]
            assert tuple(before) == bare.clean[: start.clean]
        spare = lay_out(contract, value, lexicon, random_spare(3))
        counts = [start.clean for start in spare.starts]
        assert counts == sorted(counts)
        assert counts[-1] <= len(spare.clean)


def test_items_behind_the_end_are_pads_behind_an_open_gate(lexicon: Lexicon) -> None:
    contract = Json.of({"type": "array", "items": {"type": "string"}})
    bare = lay_out(contract, ["x"], lexicon)
    more = lay_out(contract, ["x"], lexicon, wide(2, items=2))
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


@pytest.mark.parametrize("text", ["#1 hit", "-5 degrees", "+3", "#cards", "# a", "-", "## b"])
def test_items_may_begin_with_a_sign_that_starts_no_block(text: str, lexicon: Lexicon) -> None:
    value = [{"text": text, "items": []}]
    laid = lay_out(Outline(4), value, lexicon)
    assert Outline(4).parse(laid.text) == value


@pytest.mark.parametrize(
    "value", [{"number": 5}, [], {"number": "1", "street": "x", "unit": None, "y": 1}, "x"]
)
def test_a_value_that_does_not_fit_is_refused(value: Any, lexicon: Lexicon) -> None:
    with pytest.raises(CarraraError):
        lay_out(Json.of(ADDRESS), value, lexicon)
