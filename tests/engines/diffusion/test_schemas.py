"""What the keywords of a JSON Schema come to together: annotations, merged schemas, unions, places of refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, Field

from carrara.engines.contract import Json
from carrara.engines.diffusion.scaffold import read
from carrara.engines.diffusion.scaffold.compile import compiled, refusal
from carrara.engines.diffusion.scaffold.dfa import automaton
from carrara.engines.diffusion.scaffold.fill import Filler
from carrara.engines.diffusion.scaffold.lexicon import Lexicon
from carrara.engines.diffusion.scaffold.numbers import Bounds, steps
from carrara.engines.diffusion.scaffold.room import Budget
from carrara.engines.diffusion.scaffold.scaffold import Scaffold
from carrara.engines.diffusion.scaffold.tree import Tree
from carrara.engines.errors import ContractError

Fill = Callable[..., Any]
Schema = dict[str, Any]


def values(fill: Fill, schema: Schema, seeds: int = 20, spread: float = 20) -> list[Any]:
    """Answers under random logits, each checked against the schema."""
    contract = Json.of(schema)
    assert refusal(contract) is None
    return [fill(contract, seed, Budget(200, 64, 6), spread=spread).value for seed in range(seeds)]


class Address(BaseModel):
    street: str


class Person(BaseModel):
    home: Address = Field(json_schema_extra={"x-order": 1})


ADDRESS = {"type": "object", "properties": {"street": {"type": "string"}}, "required": ["street"]}


@pytest.mark.parametrize(
    "note",
    [
        {"x-order": 1},
        {"xml": {"name": "home"}},
        {"example": {"street": "x"}, "externalDocs": {"url": "x"}},
        {"x-name": 7},
        {"nullable": False},
        {"then": False, "else": False},
        {"contentEncoding": "base64", "minContains": 3},
    ],
    ids=lambda note: next(iter(note)),
)
def test_a_keyword_that_asks_nothing_is_an_annotation(note: Schema, fill: Fill) -> None:
    ref = {"$ref": "#/$defs/A"}
    for schema in (ref | note, {"allOf": [ref, note]}, {"allOf": [ref], **note}, ADDRESS | note):
        assert all(
            v.keys() == {"street"} for v in values(fill, schema | {"$defs": {"A": ADDRESS}}, 3)
        )


def test_what_pydantic_writes_beside_a_reference_is_no_constraint(fill: Fill) -> None:
    found = values(fill, Person.model_json_schema(), 3)
    assert all(Person.model_validate(value) for value in found)


def test_a_document_of_openapi_may_be_the_root(fill: Fill) -> None:
    tag = {"type": "object", "properties": {"t": {"type": "boolean", "nullable": True}}}
    schema = {
        "openapi": "3.0.3",
        "components": {"schemas": {"Tag": {**tag, "required": ["t"]}}},
        "$ref": "#/components/schemas/Tag",
    }
    assert {json.dumps(v) for v in values(fill, schema)} == {
        f'{{"t": {word}}}' for word in ("true", "false", "null")
    }


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "boolean", "nullable": True},
        {"enum": [True, False], "nullable": True},
        {"const": True, "nullable": True},
        {"type": ["boolean"], "enum": [True], "nullable": True},
        {"allOf": [{"$ref": "#/$defs/B"}], "nullable": True},
        {"$ref": "#/$defs/B", "nullable": True, "description": "a word"},
        {"oneOf": [{"$ref": "#/$defs/B"}, {"type": "array", "maxItems": 0}], "nullable": True},
    ],
    ids=lambda schema: ",".join(schema),
)
def test_nullable_takes_null(schema: Schema, fill: Fill) -> None:
    contract = Json.of({**schema, "$defs": {"B": {"type": "boolean"}}})
    contract.check(None)
    contract.check(True)
    with pytest.raises(ContractError):
        contract.check("x")
    assert None in values(fill, contract.schema)
    assert Json.of(contract.schema) == contract


def test_nullable_is_a_keyword_of_schemas_alone() -> None:
    schema = {
        "type": "object",
        "properties": {"nullable": True, "a": {"const": {"nullable": True}}},
        "x-here": {"nullable": True},
        "default": {"nullable": True},
    }
    assert Json.of(schema).schema == schema


def test_an_optional_member_that_cannot_be_held_is_refused_with_its_place() -> None:
    schema = {
        "type": "object",
        "properties": {"k": {"type": "string"}, "x": {"type": "array", "contains": {}}},
        "required": ["k"],
    }
    assert refusal(Json.of(schema)) == (
        "at /properties/x: the keyword 'contains' cannot be held by a scaffold"
    )
    pattern = {"properties": {"a": {"items": {"type": "string", "pattern": r"(a)\1"}}}}
    assert refusal(Json.of(pattern)) == (
        "at /properties/a/items: pattern: a back-reference in a pattern cannot be held"
    )


@pytest.mark.parametrize(
    "nothing",
    [
        False,
        {"allOf": [{"type": "string"}, {"type": "null"}]},
        {"type": "integer", "minimum": 2, "maximum": 1},
        {"type": "string", "maxLength": 1, "minLength": 2},
        {"type": "array", "minItems": 2, "maxItems": 1},
        {"enum": ["a"], "type": "integer"},
        {"$ref": "#/$defs/Endless"},
    ],
    ids=str,
)
def test_an_optional_member_that_nothing_fits_is_left_out(nothing: Any, fill: Fill) -> None:
    endless = {"properties": {"a": {"$ref": "#/$defs/Endless"}}, "required": ["a"]}
    schema = {
        "type": "object",
        "properties": {"k": {"type": "boolean"}, "x": nothing},
        "required": ["k"],
        "$defs": {"Endless": {**endless, "type": "object"}},
    }
    assert all(value.keys() == {"k"} for value in values(fill, schema, 3))
    assert refusal(Json.of({**schema, "required": ["x"]})) is not None


MONEY: list[tuple[Any, Schema]] = [
    (0.01, {}),
    (0.1, {"minimum": 0.35, "maximum": 1}),
    (0.001, {"exclusiveMinimum": 0, "maximum": 0.005}),
    (0.05, {"minimum": -1.02, "exclusiveMaximum": 0.5}),
    (0.25, {}),
    (0.5, {"minimum": 1, "maximum": 5}),
    (2.5, {"minimum": 0}),
]


@pytest.mark.parametrize(("step", "bounds"), MONEY, ids=str)
def test_steps_with_decimals_are_held(step: float, bounds: Schema, fill: Fill) -> None:
    found = values(fill, {"type": "number", "multipleOf": step, **bounds}, 30)
    assert len(set(found)) > 2
    assert all(Decimal(repr(value)) % Decimal(repr(step)) == 0 for value in found)


def test_steps_are_those_within_the_bounds_and_no_others() -> None:
    made = automaton(steps(Bounds(Decimal("-0.3"), Decimal("1.2")), Decimal("0.15")))
    fitting = [text for n in range(-200, 200) if made.matches(text := repr(n / 100))]
    assert fitting == [
        *("-0.3", "-0.15", "0.0", "0.15", "0.3", "0.45", "0.6", "0.75", "0.9", "1.05", "1.2")
    ]
    assert made.matches("0")
    assert made.matches("0.30")
    assert not any(map(made.matches, ("0.300", "00.3", "-0", ".3", "1.", "0.1", "")))


@pytest.mark.parametrize("value", [0.07, 19.99, 1.1, 123456789012.34, -0.01, 5, 0])
def test_a_multiple_is_one_as_it_is_written(value: float) -> None:
    Json.of({"multipleOf": 0.01}).check(value)
    with pytest.raises(ContractError, match="not a multiple of"):
        Json.of({"multipleOf": 0.01}).check(value + 0.005)


def test_a_multiple_is_one_where_the_schema_names_its_draft_and_refers_to_itself() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "properties": {"n": {"multipleOf": 0.01}, "below": {"$ref": "#"}},
    }
    Json.of(schema).check({"n": 0.07, "below": {"n": 0.07}})


def test_an_integer_of_steps_with_decimals_is_a_whole_multiple(fill: Fill) -> None:
    schema = {"type": "integer", "multipleOf": 2.5, "minimum": 0, "maximum": 20}
    assert set(values(fill, schema, 60)) == {0, 5, 10, 15, 20}


def test_steps_that_hold_together_are_the_common_ones(fill: Fill) -> None:
    schema = {"type": "number", "minimum": 0, "maximum": 1}
    both = {"allOf": [{"multipleOf": 0.1}, {"multipleOf": 0.5}], **schema}
    assert set(values(fill, both, 60)) == {0, 0.5, 1}
    assert refusal(Json.of({"allOf": [{"multipleOf": 0.2}, {"multipleOf": 0.3}], **schema})) == (
        "at /allOf/1: multipleOf: steps of both 0.2 and 0.3 cannot be held"
    )


def test_the_items_of_one_schema_are_about_the_named_items_of_another(fill: Fill) -> None:
    fixed = {"type": "array", "prefixItems": [{"type": "string"}, {"type": ["null", "boolean"]}]}
    short = {"type": "array", "items": {"type": ["string", "null"], "maxLength": 1}}
    for order in ([fixed, short], [short, fixed]):
        for value in values(fill, {"allOf": order, "minItems": 2}, 10):
            assert len(value[0]) <= 1
            assert value[1] is None
    two = {"prefixItems": [{"minLength": 2}, {}, {"type": "null"}], "items": False}
    assert (
        values(fill, {"prefixItems": [{"type": "null"}, False], "minItems": 1}, 2) == [[None]] * 2
    )
    merged = {"allOf": [two, {**fixed, "items": False}]}
    assert all(len(value) == 2 and len(value[0]) >= 2 for value in values(fill, merged, 10))


def test_a_closed_schema_inside_another_stays_closed(fill: Fill) -> None:
    a, b = ({"properties": {name: {"type": "boolean"}}} for name in "ab")
    closed = {"type": "object", **a, "required": ["a"], "unevaluatedProperties": False}
    assert all(value.keys() == {"a"} for value in values(fill, {"allOf": [closed, b]}))
    assert refusal(Json.of({"allOf": [closed, b], "required": ["b"]})) == (
        "at /properties/b: no property of this name is allowed, and one is asked for"
    )
    around = {"type": "object", "allOf": [a, b], "unevaluatedProperties": False}
    assert {"a", "b"} in [value.keys() for value in values(fill, around)]
    opened = {"allOf": [closed | {"additionalProperties": True}, b], "required": ["b"]}
    assert all({"a", "b"} == value.keys() for value in values(fill, opened))
    items = {"prefixItems": [{"type": "null"}], "unevaluatedItems": False}
    both = {"type": "array", "allOf": [items, {"minItems": 1}, {"prefixItems": [{}, {}]}]}
    assert all(value == [None] for value in values(fill, both, 5))


def test_patterns_of_one_schema_do_not_open_another(fill: Fill) -> None:
    named = {"type": "object", "patternProperties": {"^x": {"type": "null"}}}
    shut = {"type": "object", "additionalProperties": False}
    assert all(value == {} for value in values(fill, {"allOf": [named, shut]}))


def test_listed_values_are_compared_as_json_is(fill: Fill) -> None:
    schema = {"allOf": [{"enum": [0, 1, "a"]}, {"enum": [False, True, "a", 1.0]}]}
    found = values(fill, schema, 40)
    assert set(map(repr, found)) == {"1", "'a'"}
    assert refusal(Json.of({"allOf": [{"const": 1}, {"const": True}]})) is not None
    assert values(fill, {"allOf": [{"const": 1}, {"const": 1.0}]}, 1) == [1]
    typed = {"allOf": [{"type": ["string", "null"], "enum": ["a", None]}, {"type": "string"}]}
    assert set(values(fill, typed, 3)) == {"a"}


def test_schemas_that_contain_themselves_are_merged(fill: Fill) -> None:
    schema = {
        "$defs": {
            one: {
                "type": "object",
                "properties": {
                    "n": {"anyOf": [{"$ref": f"#/$defs/{one}"}, {"type": "null"}]},
                    one: {"type": "boolean"},
                },
                "required": ["n", one],
            }
            for one in "AB"
        },
        "allOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}],
    }
    found = values(fill, schema)
    assert any(value["n"] for value in found)
    assert all(value.keys() == {"n", "A", "B"} for value in found)
    assert len(compiled(Json.of(schema)).rules) == 1


def test_a_schema_merged_with_what_contains_it_comes_to_an_end(fill: Fill) -> None:
    """Each level asks for one thing more until nothing is new."""
    schema = {
        "$defs": {
            "A": {
                "type": "object",
                "properties": {"n": {"allOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}]}},
            },
            "B": {"properties": {"n": {"$ref": "#/$defs/A"}, "b": {"type": "null"}}},
        },
        "$ref": "#/$defs/A",
    }
    values(fill, schema, 5)


def test_a_schema_that_is_closed_where_it_contains_itself_comes_to_an_end(fill: Fill) -> None:
    below = {"allOf": [{"$ref": "#/$defs/A"}], "unevaluatedProperties": False}
    node = {"type": "object", "properties": {"n": below, "a": {"type": "null"}}}
    for value in values(fill, {"$defs": {"A": node}, "$ref": "#/$defs/A"}, 10):
        assert value.keys() <= {"n", "a"}


def test_alternatives_that_contain_each_other_are_told_apart_whatever_comes_first(
    fill: Fill,
) -> None:
    either = {"oneOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}]}
    schema = {
        "$defs": {
            name: {
                "type": "object",
                "properties": {"v": {"anyOf": [either, {"type": "null"}]}, "kind": {"const": name}},
                "required": ["v", "kind"],
            }
            for name in "AB"
        },
        **either,
    }
    assert {value["kind"] for value in values(fill, schema)} == {"A", "B"}
    for one in schema["$defs"].values():
        del one["properties"]["kind"]
    assert "could both fit" in str(refusal(Json.of(schema)))


BAD = {"type": "string", "pattern": "(?=a)"}
LOOKS = "look-around in a pattern cannot be held"
PLACES: list[tuple[Schema, str]] = [
    (
        {"properties": {"a": {"anyOf": [{"type": "array", "items": BAD, "minItems": 1}, BAD]}}},
        f"at /properties/a/anyOf/0/items: pattern: {LOOKS}; at /properties/a/anyOf/1: pattern: {LOOKS}",
    ),
    (
        {"items": {"anyOf": [{"anyOf": [{"not": {}}]}]}, "minItems": 1},
        "at /items/anyOf/0/anyOf/0: the keyword 'not' cannot be held by a scaffold",
    ),
    (
        {
            "$defs": {"U": {"anyOf": [{"properties": {"z": BAD}, "required": ["z"]}, BAD]}},
            "properties": {"p": {"$ref": "#/$defs/U"}, "q": {"$ref": "#/$defs/U"}},
            "required": ["q"],
        },
        f"at /properties/p/anyOf/0/properties/z: pattern: {LOOKS}; at /properties/p/anyOf/1: pattern: {LOOKS}",
    ),
    (
        {
            "properties": {"x-1": {"type": "string"}},
            "required": ["x-1"],
            "patternProperties": {"^x-": {"maxLength": 3}},
        },
        "at /properties/x-1: it meets the pattern '^x-' of patternProperties, too; "
        "say in properties all that it must be",
    ),
    (
        {
            "properties": {"Big": {"type": "string"}},
            "required": ["Big"],
            "propertyNames": {"pattern": "^[a-z]+$"},
        },
        """at /properties/Big: its name does not fit propertyNames {"pattern": "^[a-z]+$"}""",
    ),
    (
        {"properties": {"a": {"oneOf": [{"type": "string"}, {"type": "null"}, {"minLength": 1}]}}},
        "at /properties/a: a oneOf whose branches 0 and 2 could both fit one value; use anyOf, "
        "or a property with another const in each branch",
    ),
    (
        {"allOf": [{"type": "string", "format": "date"}, {"format": "uuid"}]},
        "at /allOf/1: two different 'format' that both must hold",
    ),
    (
        {
            "allOf": [
                {"properties": {"a": {"type": "string", "format": name}}}
                for name in ("date", "uuid")
            ]
        },
        "at /properties/a: two different 'format' that both must hold",
    ),
]


@pytest.mark.parametrize(
    ("schema", "reason"), PLACES, ids=lambda x: x if isinstance(x, str) else ""
)
def test_a_refusal_tells_the_whole_place(schema: Schema, reason: str) -> None:
    assert refusal(Json.of(schema)) == reason


def test_a_scalar_that_cannot_be_held_takes_no_other_one_away(fill: Fill) -> None:
    schema = {"anyOf": [{"type": "array", "maxItems": 0}, BAD, {"type": "null"}]}
    assert set(map(str, values(fill, schema))) == {"[]", "None"}


ALTERNATIVES: list[list[Schema]] = [
    [{"type": "integer", "minimum": 0, "maximum": 5}, {"type": "integer", "minimum": 6}],
    [{"type": "number", "exclusiveMaximum": 1}, {"type": "number", "minimum": 1}],
    [{"type": "number", "maximum": -0.5}, {"type": "integer", "minimum": 0}],
    [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}],
    [{"type": "string", "format": "uuid"}, {"type": "string", "format": "email"}],
    [{"type": "string", "maxLength": 2}, {"type": "string", "minLength": 3}],
    [{"const": 1}, {"const": True}, {"enum": ["a", 2]}],
    [{"type": "array", "maxItems": 1}, {"type": "array", "minItems": 2}],
    [
        {"properties": {"at": {"type": "string", "format": name}}, "required": ["at"]}
        for name in ("date", "time", "duration")
    ],
]


@pytest.mark.parametrize("alternatives", ALTERNATIVES, ids=str)
def test_a_one_of_of_plainly_different_values_is_held(
    alternatives: list[Schema], fill: Fill
) -> None:
    kind = {"type": "object"} if "properties" in alternatives[0] else {}
    values(fill, {"oneOf": alternatives, **kind}, 30)


OVERLAPPING: list[list[Schema]] = [
    [{"type": "integer", "maximum": 6}, {"type": "integer", "minimum": 6}],
    [{"type": "string", "maxLength": 3}, {"type": "string", "minLength": 3}],
    [{"type": "string", "format": "date"}, {"type": "string", "format": "unknown"}],
    [{"type": "string", "format": "uri"}, {"type": "string", "format": "email"}],
    [{"const": 1}, {"const": 1.0}],
    [{"minimum": 5, "type": "integer"}, {"maximum": 2}],
]


@pytest.mark.parametrize("alternatives", OVERLAPPING, ids=str)
def test_a_one_of_that_may_overlap_is_refused(alternatives: list[Schema]) -> None:
    if alternatives[-1] == {"maximum": 2}:  # of numbers they are apart, and only these are written
        assert refusal(Json.of({"oneOf": alternatives})) is None
    else:
        assert "could both fit" in str(refusal(Json.of({"oneOf": alternatives})))


def test_a_value_of_two_formats_is_one_of_those_that_it_has() -> None:
    """No library checks date-time where it stands alone: many spellings are in use."""
    text = {"type": "string"}
    contract = Json.of({"oneOf": [{**text, "format": "date"}, {**text, "format": "date-time"}]})
    contract.check("2024-02-29")
    contract.check("2024-02-29T10:00:00Z")
    Json.of({**text, "format": "date-time"}).check("2024-02-29 at 10")


def test_of_members_that_may_all_be_left_out_the_first_is_chosen_at_once(
    fill: Fill, lexicon: Lexicon
) -> None:
    members = {f"f{number}": {"type": "boolean"} for number in range(6)}
    schema = {"type": "object", "properties": members}
    found = values(fill, schema, 200)
    assert {frozenset(value) for value in found} > {
        frozenset(),
        frozenset({"f5"}),
        frozenset({"f0"}),
    }
    assert all(list(value) == sorted(value) for value in found)
    scaffold = Scaffold(compiled(Json.of(schema)), lexicon)
    for value in ({}, {"f3": True}, {"f0": False, "f5": True}, dict.fromkeys(members, True)):
        tree = Tree(scaffold, Budget(200))
        Filler(tree).fill(tree.root, value)
        assert read.text(tree.root) == json.dumps(value)
