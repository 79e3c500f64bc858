"""What comes off a scaffold always parses and validates, whatever the model says."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable
from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
import torch
from pydantic import BaseModel, Field, TypeAdapter

from carrara.engines.contract import Choice, Column, Contract, Json, Outline, Regex, Table, Text
from carrara.engines.diffusion.commit import fixed_steps
from carrara.engines.diffusion.scaffold.compile import compiled, refusal
from carrara.engines.diffusion.scaffold.forms import At, Form, Gate, Items, Seq
from carrara.engines.diffusion.scaffold.lexicon import Lexicon
from carrara.engines.diffusion.scaffold.room import Budget
from carrara.engines.diffusion.scaffold.scaffold import Scaffold

Fill = Callable[..., Any]
SCHEMAS = int(os.environ.get("CARRARA_SCHEMAS", "150"))
"""How many random schemas are tried: `CARRARA_SCHEMAS=2000 pytest -k random_schemas tests/engines/diffusion`."""


def budget_for(contract: Contract, lexicon: Lexicon, chance: random.Random) -> Budget:
    least = Scaffold(compiled(contract), lexicon).least_tokens
    return Budget(
        tokens=max(least + chance.choice((0, 1, 20)), chance.choice((40, 120, 300))),
        window=chance.choice((16, 64, 200)),
        slot_tokens=chance.choice((3, 8, 20)),
        ahead=chance.choice((0, 1, 3)),
        depth=chance.choice((2, 5, 24)),
    )


@pytest.mark.parametrize("part", range(10))
def test_random_schemas_hold_under_random_logits(
    part: int, fill: Fill, random_schema: Callable[[int], dict[str, Any]], lexicon: Lexicon
) -> None:
    reasons = []
    for seed in range(part, SCHEMAS, 10):
        contract, chance = Json.of(random_schema(seed)), random.Random(seed)
        if reason := refusal(contract):
            reasons.append(reason)
            continue
        budget = budget_for(contract, lexicon, chance)
        filled = fill(
            contract,
            seed,
            budget,
            steps=chance.choice((None, None, 0, 3)),
            grow=chance.random() < 0.4,
            spread=chance.choice((1, 4, 20)),
        )
        assert len(filled.clean) <= budget.tokens
    print(f"{len(reasons)} of {SCHEMAS // 10} refused: {reasons}")
    assert len(reasons) <= max(3, SCHEMAS / 10 * 0.2)
    assert all(len(reason.split()) > 3 for reason in reasons)


@pytest.mark.parametrize("seed", range(40))
def test_random_tables_hold(seed: int, fill: Fill) -> None:
    chance = random.Random(seed)
    kinds = ("string", "integer", "number", "boolean", "date")
    columns = tuple(Column(f"c {n}", chance.choice(kinds)) for n in range(chance.randint(1, 4)))
    least = chance.randrange(3)
    table = Table(columns, least, chance.choice((None, least, least + 2)))
    rows = fill(
        table, seed, Budget(400, chance.choice((30, 200)), 6), steps=chance.choice((None, 0))
    ).value
    assert len(rows) >= least


@pytest.mark.parametrize("seed", range(40))
def test_random_outlines_hold(seed: int, fill: Fill) -> None:
    chance = random.Random(seed)
    least = chance.randint(1, 3)
    outline = Outline(chance.randint(1, 4), least, chance.choice((None, least + 1)))
    budget = Budget(200, chance.choice((30, 200)), chance.choice((3, 12)))
    assert len(fill(outline, seed, budget).value) >= least


PATTERNS = (
    r"[A-Z]{2,3}-\d+( x)?",
    r"(yes|no), .+",
    r"\w+@\w+\.com",
    r"a*",
    r"\S+\s*",
    r"",
    r"\d{3}",
    r"[^x]{5}",
)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_random_texts_match_their_pattern(pattern: str, fill: Fill) -> None:
    for seed in range(10):
        fill(Regex(pattern), seed, Budget(60, 64, 4))


def test_choices_are_read_in_one_pass(fill: Fill) -> None:
    options = ("no", "not", "yes", 'say "yes"', "never | ever")
    found = {fill(Choice(options), seed, spread=20).value for seed in range(100)}
    assert found == set(options)
    assert fill(Choice(options)).passes == 1
    assert fill(Choice(("only",))).passes == 0


@pytest.mark.parametrize("kind", ["choice", "enum"])
def test_thousands_of_options_are_read_in_one_pass(kind: str, fill: Fill) -> None:
    options = [f"the opt{'é' * (n % 3)} {n // 7} {'東😀'[n % 2]} {n}" for n in range(2000)]
    contract = (
        Choice(tuple(options)) if kind == "choice" else Json.of({"enum": [*options, None, 3]})
    )
    found = fill(contract, budget=Budget(200, 64, 8))
    assert found.passes == 1
    assert found.value in options or found.value in (None, 3)
    weights = found.tree.root.weights
    assert len(weights) == len(options) + 2 * (kind == "enum")
    assert sum(weights.values()) == pytest.approx(1)


def test_enums_and_booleans_are_read_in_one_pass_each_at_most(fill: Fill) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}, "b": {"enum": ["long words here", "x", None]}},
        "required": ["a", "b"],
    }
    assert max(fill(Json.of(schema), seed).passes for seed in range(10)) <= 2


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: Annotated[int, Field(ge=1, le=9)]


class Dog(BaseModel):
    kind: Literal["dog"]
    names: list[str] = Field(min_length=1, max_length=3)


class Everything(BaseModel):
    text: str = Field(min_length=2, max_length=7)
    code: str = Field(pattern=r"^[A-Z]{2}\d$")
    day: date
    colour: Colour
    colours: set[Colour] = set()
    pair: tuple[int, str]
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    pets: list[Cat | Dog | None]
    child: Everything | None = None
    more: dict[str, list[float]]
    either: int | str | None = None


def test_what_pydantic_writes_comes_back_as_its_models(fill: Fill) -> None:
    contract = Json.of(Everything.model_json_schema())
    for seed in range(8):
        found = fill(contract, seed, Budget(500, 128, 6))
        assert Everything.model_validate(found.value)


@pytest.mark.parametrize(
    "kind", [int, bool, list[int], dict[str, int], str | None, tuple[bool, ...]]
)
def test_any_type_may_be_the_whole_answer(kind: Any, fill: Fill) -> None:
    adapter = TypeAdapter(kind)
    assert adapter.validate_python(fill(Json.of(adapter.json_schema())).value) is not ...


def plain(text: str) -> str:
    """Without zeros at the end of decimals, which a model may write."""
    return re.sub(r"-?\d+\.\d+", lambda found: repr(float(found[0])), text)


def test_the_spelling_is_that_of_json_dumps(fill: Fill) -> None:
    contract = Json.of(Everything.model_json_schema())
    for seed in range(3):
        found = fill(contract, seed, Budget(500, 128, 6))
        assert plain(found.text) == plain(json.dumps(found.value, ensure_ascii=False))


def test_lists_close_early_when_the_budget_ends(fill: Fill, lexicon: Lexicon) -> None:
    schema = {"type": "array", "items": {"type": "string"}, "minItems": 3}
    contract = Json.of(schema)
    least = Scaffold(compiled(contract), lexicon).least_tokens
    for tokens in range(least, least + 25):
        found = fill(contract, tokens, Budget(tokens, 64, 5))
        assert len(found.value) >= 3
        assert len(found.clean) <= tokens


def test_a_repeated_item_or_key_is_left_out(fill: Fill) -> None:
    unique = {"type": "array", "items": {"enum": ["a", 1, 1.5, None]}, "uniqueItems": True}
    keyed = {
        "type": "object",
        "propertyNames": {"enum": ["a", "b"]},
        "additionalProperties": {"type": "boolean"},
    }
    for seed in range(20):
        assert len(fill(Json.of(unique), seed, Budget(60)).value) <= 4
        assert set(fill(Json.of(keyed), seed, Budget(60)).value) <= {"a", "b"}


@pytest.mark.parametrize(
    "around",
    [
        lambda inner: {"type": "array", "items": inner},
        lambda inner: {"type": "object", "additionalProperties": inner},
    ],
)
def test_lists_in_lists_are_compiled_once_a_level(
    around: Callable[[dict[str, Any]], dict[str, Any]], fill: Fill
) -> None:
    schema: dict[str, Any] = {"type": "boolean"}
    for _ in range(12):
        schema = around(schema)
    contract = Json.of(schema)
    assert len(distinct(compiled(contract).root)) < 40 * 12
    contract.check(fill(contract, 1, Budget(200)).value)


def distinct(root: Form) -> set[Form]:
    """All forms inside one."""
    found: set[Form] = set()
    left = [root]
    while left:
        form = left.pop()
        if form in found:
            continue
        found.add(form)
        match form:
            case Seq(parts):
                left += parts
            case At(_, part):
                left.append(part)
            case Gate(options):
                left += [option.body for option in options]
            case Items():
                left += [form.first, form.later]
    return found


def test_recursion_ends(fill: Fill) -> None:
    tree = {
        "$defs": {
            "T": {
                "type": "object",
                "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/T"}}},
                "required": ["kids"],
            }
        },
        "$ref": "#/$defs/T",
    }
    for seed in range(5):
        assert "kids" in fill(Json.of(tree), seed, Budget(200, 64, depth=4)).value


REFUSED: list[tuple[Contract, str]] = [
    (Json.of({"not": {"type": "string"}}), "'not'"),
    (Json.of({"type": "string", "pattern": r"(a)\1"}), "back-reference"),
    (Json.of({"type": "array", "contains": {"type": "null"}}), "'contains'"),
    (Json.of({"$ref": "https://example.org/x"}), "nothing outside is fetched"),
    (Json.of({"type": "number", "multipleOf": 0.3333}), "multipleOf: steps of 0.3333"),
    (Json.of({"type": "number", "multipleOf": 1e-13}), "multipleOf: steps of 1E-13"),
    (Json.of({"type": "integer", "minimum": 3, "maximum": 2}), "no number"),
    (Json.of({"type": "string", "minLength": 4, "maxLength": 2}), "no string"),
    (Json.of({"type": "array", "uniqueItems": True, "minItems": 2}), "distinct"),
    (Json.of({"oneOf": [{"type": "string"}, {"minLength": 2, "type": "string"}]}), "oneOf"),
    (
        Json.of(
            {
                "$defs": {
                    "A": {
                        "type": "object",
                        "properties": {"a": {"$ref": "#/$defs/A"}},
                        "required": ["a"],
                    }
                },
                "$ref": "#/$defs/A",
            }
        ),
        "without an end",
    ),
    (Json.of({"$ref": "#"}), "# contains itself without an end"),
    (
        Json.of({"properties": {"a": {"$ref": "#/properties/a"}}, "required": ["a"]}),
        "/properties/a: #/properties/a contains itself without an end",
    ),
    (Json.of({"type": "integer", "multipleOf": 365}), "multipleOf: steps of 365"),
    (Json.of({"type": "string", "pattern": r"^\p{L}+$"}), r"write [^\W\d_] for letters"),
    (Json.of({"type": 7}), "bad JSON Schema"),
    (
        Json.of({"properties": {"a": {"type": "array", "items": {"not": {}}}}, "required": ["a"]}),
        "at /properties/a/items: the keyword 'not'",
    ),
    (
        Json.of({"type": "array", "prefixItems": [True, {"type": "string", "pattern": r"(a)\1"}]}),
        "at /prefixItems/1: pattern: a back-reference",
    ),
    (
        Json.of({"type": "string", "pattern": "^a{2}$", "minLength": 3}),
        "no string of 3 to any number of characters",
    ),
    (Json.of({"$ref": "#x", "$defs": {"y": {"$anchor": "x"}}}), "names an anchor"),
    (Json.of({"type": "object", "dependencies": {"a": ["b"]}}), "'dependencies'"),
    (Json.of({"type": "number", "minimum": 1e300}), "too many digits"),
    (Regex("(?<=a)b"), "look-around"),
    (Regex("(?!)"), "cannot be held"),
]


@pytest.mark.parametrize(
    ("contract", "reason"), REFUSED, ids=lambda x: x if isinstance(x, str) else ""
)
def test_what_cannot_be_held_is_refused_with_its_reason(contract: Contract, reason: str) -> None:
    found = refusal(contract)
    assert found is not None
    assert reason in found


def test_a_union_goes_on_without_a_branch_that_cannot_be_held(fill: Fill) -> None:
    schema = {"anyOf": [{"type": "string", "pattern": r"(a)\1"}, {"type": "integer"}]}
    assert refusal(Json.of(schema)) is None
    assert isinstance(fill(Json.of(schema)).value, int)


def test_null_stays_possible_beside_a_string_of_some_length(fill: Fill) -> None:
    schema = {"anyOf": [{"type": "string", "minLength": 5}, {"type": "null"}]}
    found = {type(fill(Json.of(schema), seed, spread=20).value) for seed in range(200)}
    assert type(None) in found


def test_free_text_needs_no_scaffold() -> None:
    assert refusal(Text()) is None


def test_any_commit_rule_keeps_the_contract(fill: Fill) -> None:
    rule = fixed_steps(torch.tensor([[1] * 200]))
    schema = Everything.model_json_schema()
    assert fill(Json.of(schema), 1, Budget(300, 64, 4), rule=rule).passes > 3
