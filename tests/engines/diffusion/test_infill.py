"""Texts with holes: pinned text comes back byte for byte, and every hole holds what it may hold."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrara.engines.contract import Choice, Contract, Hole, Infill, Json, Outline, Regex, Text
from carrara.engines.diffusion.confidence import of_tree
from carrara.engines.diffusion.engine import DiffusionEngine
from carrara.engines.diffusion.prepare import on_canvas
from carrara.engines.diffusion.scaffold.dfa import automaton
from carrara.engines.diffusion.scaffold.infill_form import text_until
from carrara.engines.diffusion.scaffold.room import Budget
from carrara.engines.errors import CarraraError, ContractError
from carrara.engines.infill_text import hole_texts
from carrara.engines.local import LocalModel
from carrara.engines.request import Completion, Message, Request, infill

Fill = Callable[..., Any]
CONTRACTS: tuple[Contract, ...] = (
    Text(),
    Choice(("yes", "no", "no way")),
    Regex(r"\d{4}-\d\d"),
    Json.of({"type": "integer"}),
    Json.of({"type": "number", "minimum": 0}),
    Json.of({"type": ["boolean", "null"]}),
    Json.of({"type": "string"}),
    Json.of({"enum": ["a", 'say "b"', None]}),
    Json.of({"type": "object", "properties": {"k": {"type": "string"}}, "required": ["k"]}),
    Json.of({"type": "array", "items": {"type": "integer"}, "maxItems": 3}),
)
PINNED = (
    " ",
    ".",
    ", ",
    '"',
    "}",
    "\n",
    "\\",
    "东 ü",
    " and then ",
    "____(1)",
    "<hole>",
    "aa",
    "{{",
    "|",
)


def some_infill(seed: int) -> Infill:
    chance = random.Random(seed)
    parts: list[str | Hole] = [chance.choice(("", "Dear ", "\n"))]
    for _ in range(chance.randrange(1, 6)):
        parts.append(Hole(chance.randrange(1, 12), chance.choice(CONTRACTS)))
        parts.append("".join(chance.choices(PINNED, k=chance.randrange(1, 4))))
    return Infill(tuple(parts[: chance.choice((-1, len(parts)))]))


@pytest.mark.parametrize("seed", range(40))
def test_random_infills_hold_under_random_logits(seed: int, fill: Fill) -> None:
    contract = some_infill(seed)
    found = fill(contract, seed=seed, budget=Budget(2000, 64, 6), grow=bool(seed % 2))
    at, texts = 0, iter(hole_texts(found.text, contract))
    for part in contract.parts:
        written = part if isinstance(part, str) else next(texts)
        assert found.text[at : at + len(written)] == written
        at += len(written)
    assert at == len(found.text)
    assert len(found.value) == len(contract.holes)


def test_a_hole_of_text_reads_back_as_it_was_written(fill: Fill, lexicon: Any) -> None:
    """Random letters meet the sign behind the hole often; never inside of it."""
    contract = Infill(("x: ", Hole(12), "ab", Hole(12), "aab", Hole(4)))
    for seed in range(10):
        found = fill(contract, seed=seed, budget=Budget(200, 64, 6), grow=True)
        assert "ab" not in found.value[0] + "a"
        assert "aab" not in found.value[1] + "aa"
        assert found.text == "x: {}ab{}aab{}".format(*found.value)


@given(st.text("ab", max_size=8), st.text("ab", min_size=1, max_size=4))
def test_text_before_a_sign_holds_none(text: str, sign: str) -> None:
    expected = (text + sign).find(sign) == len(text)
    assert automaton(text_until(sign)).matches(text) == expected


def test_each_hole_has_its_confidence(fill: Fill) -> None:
    contract = Infill(("a ", Hole(4), " b ", Hole(2, Choice(("c", "d"))), "."))
    confidence = of_tree(fill(contract).tree)
    assert set(confidence.fields) == {"/0", "/1"}
    assert all(0 < sure <= 1 for sure in confidence.fields.values())


def test_a_hole_is_no_longer_than_it_may_be(fill: Fill) -> None:
    contract = Infill(("a", Hole(3), "\n", Hole(5, Regex("[a-z]*")), "\n"))
    for seed in range(8):
        tree = fill(contract, seed=seed, grow=True, budget=Budget(100, 64, 2, 96)).tree
        sizes = [len(step.part.clean) for step in tree.root.parts if hasattr(step, "form")]
        assert sizes[0] <= 3
        assert sizes[1] <= 5


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        (lambda: ("no hole",), "needs a hole"),
        (lambda: (Hole(), "", Hole()), "holes 1 and 2 need text between them"),
        (lambda: (Hole(contract=Outline()),), "not 'outline'"),
        (lambda: (Hole(0),), "at least 1 token"),
        (lambda: [part for _ in range(201) for part in (Hole(), "x")], "at most 200 holes"),
        (lambda: (3,), "strings and holes, not 3"),
        (lambda: ("\ud800", Hole()), "half a character"),
    ],
)
def test_what_is_no_infill_is_refused(parts: Callable[[], Any], reason: str) -> None:
    with pytest.raises(CarraraError, match=reason):
        Infill(parts())


def test_a_hole_that_no_scaffold_holds_is_named(fill: Fill) -> None:
    with pytest.raises(CarraraError, match=r"hole 2: .*(?s:.*)not"):
        fill(Infill(("a", Hole(), "b", Hole(4, Json.of({"not": {}})))))


@pytest.mark.parametrize(
    ("text", "reason", "path"),
    [
        ("Dear Ann, 3 cats", "pinned text 'Hello '", ""),
        ("Hello Ann, x cats", "hole 2: 'x cats'", "/1"),
        ("Hello Ann, 3 dogs", "hole 2: '3 dogs'|pinned text", ""),
    ],
)
def test_a_text_that_is_not_the_filled_one_is_refused(text: str, reason: str, path: str) -> None:
    contract = Infill(("Hello ", Hole(), ", ", Hole(4, Json.of({"type": "integer"})), " cats"))
    assert contract.parse("Hello Ann, 3 cats") == ["Ann", 3]
    with pytest.raises(ContractError, match=reason) as caught:
        contract.parse(text)
    assert caught.value.path in (path, "/1")


def test_a_typed_hole_may_hold_what_follows_it() -> None:
    number = Json.of({"type": "number"})
    contract = Infill(("It costs ", Hole(4, number), ". It weighs ", Hole(4, number), "."))
    assert contract.parse("It costs 2.50. It weighs 1.25.") == [2.5, 1.25]


FORM = ("Name: ", Hole(6), "\nTown: ", Hole(6), "\n")


def test_a_model_with_the_text_on_its_canvas_is_told_the_instruction_alone() -> None:
    asked = infill(FORM, "Ann Lee lives in Oslo.\n")
    assert "____(1)" in asked.messages[0].content
    assert on_canvas(asked).messages == (Message("user", "Ann Lee lives in Oslo."),)
    assert on_canvas(infill(FORM)).messages == (Message("user", "Fill in what is missing."),)
    own = Request((Message("user", "my own words"),), Infill(FORM))
    assert on_canvas(own).messages == own.messages


def test_the_embedded_model_copies_no_blanks_into_holes() -> None:
    asked = (
        infill(FORM, "Fill in the form. Ann Lee lives in Oslo."),
        infill(("The capital of France is ", Hole(4), "."), "Complete the sentence."),
    )

    async def main() -> list[Completion]:
        async with DiffusionEngine(LocalModel.open(threads=1)) as engine:
            return [await engine.complete(one) for one in asked]

    form, sentence = asyncio.run(main())
    assert "_" not in form.text
    assert form.value[0].startswith("Ann Lee")
    assert "_" not in sentence.text
