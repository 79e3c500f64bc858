"""Contracts describe themselves, travel as data, read good answers and refuse the others with a reason."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrara.engines.contract import (
    Choice,
    Column,
    Contract,
    Hole,
    Infill,
    Json,
    Outline,
    Regex,
    Table,
    Text,
    from_data,
    to_data,
)
from carrara.engines.contract_text import describe
from carrara.engines.errors import CarraraError, ContractError
from carrara.engines.json_schema import first_violation, strict_loads

PERSON = Json.of(
    {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"$ref": "#/$defs/Age"}},
        "required": ["name", "age"],
        "additionalProperties": False,
        "$defs": {"Age": {"type": "integer", "minimum": 0}},
    },
    "person",
)
CONTRACTS: list[Contract] = [
    Text(),
    Text(80),
    Choice(("yes", "no, never")),
    PERSON,
    Table((Column("a"), Column("n", "number")), 1, 5),
    Outline(2, 0, 9),
    Regex(r"[a-z]+\d"),
    Infill(("Dear ", Hole(4), ", ", Hole(2, Choice(("a", "b"))))),
]
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab\"\\'", max_size=3), inner)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.kind)
def test_a_contract_comes_back_from_its_data(contract: Contract) -> None:
    assert from_data(json.loads(json.dumps(to_data(contract)))) == contract
    assert hash(from_data(to_data(contract))) == hash(contract)


def test_each_form_is_described_and_free_text_is_not() -> None:
    assert [bool(describe(contract)) for contract in CONTRACTS] == [False] + [True] * 7
    assert describe(Text(80)) == "Answer with at most 80 characters."
    assert describe(CONTRACTS[4]) == (
        "Answer with one Markdown table of 1 to 5 rows and nothing else. "
        "Its columns are: | a | n | Column n holds numbers."
    )
    assert "at most 2 levels" in describe(Outline(2))


@given(JSON_VALUES)
def test_any_json_value_is_read_as_it_was_written(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert Json.of({}).parse(text) == value
    assert Json.of({}).parse(f"```json\n{text}\n```") == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ('{"name": "Ann", "age": 3', "not JSON"),
        ('Sure: {"name": "Ann", "age": 3}', "not JSON"),
        ('{"name": "Ann", "age": NaN}', "NaN is not JSON"),
        ('{"name": "Ann", "age": 1e999}', "1e999 is too large a number"),
        ('{"name": "Ann", "name": "Bob", "age": 3}', "key 'name' is repeated"),
        ('{"name": "\\ud800", "age": 3}', "surrogates not allowed"),
        ("[" * 100_000, "not JSON"),
        ('{"name": "Ann", "age": -1}', "/age: -1 is less than the minimum of 0"),
        ('{"name": "Ann", "age": true}', "/age: True is not of type 'integer'"),
        ('{"name": "Ann"}', "value: 'age' is a required property"),
        ('{"name": "Ann", "age": 1, "x": 2}', "Additional properties"),
    ],
)
def test_crooked_json_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ContractError) as caught:
        PERSON.parse(text)
    assert reason in str(caught.value)
    assert caught.value.text == text


def test_a_schema_violation_names_the_place_and_keeps_the_value() -> None:
    contract = Json.of({"type": "array", "items": PERSON.schema["properties"]["name"]})
    with pytest.raises(ContractError) as caught:
        contract.parse('["a", 2, 3]')
    assert (caught.value.path, caught.value.value) == ("/1", ["a", 2, 3])


def test_a_long_value_does_not_flood_the_reason() -> None:
    violation = first_violation('{"type": "integer"}', "x" * 5000)
    assert violation is not None
    assert len(violation[1]) < 400


@pytest.mark.parametrize(
    "schema",
    [{"type": "strin"}, {"$ref": "#/$defs/Missing"}, {"$ref": "https://example.com/schema.json"}],
)
def test_a_wrong_schema_is_an_error_of_ours_and_nothing_is_fetched(schema: dict[str, Any]) -> None:
    with pytest.raises(CarraraError, match="bad JSON Schema"):
        Json.of(schema).parse("1")


@pytest.mark.parametrize("levels", [450, 3000])
def test_a_schema_nested_too_deep_is_refused(levels: int) -> None:
    schema: dict[str, Any] = {"type": "boolean"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    with pytest.raises(CarraraError, match="bad JSON Schema of 'deep': it is nested too deep"):
        Json.of(schema, "deep")


def test_a_schema_that_is_no_json_is_refused() -> None:
    circle: dict[str, Any] = {"type": "array"}
    circle["items"] = circle
    for schema in (circle, {"const": {1}}):
        with pytest.raises(CarraraError, match="bad JSON Schema of 'value': it is no JSON"):
            Json.of(schema)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Text(2.5),  # type: ignore[arg-type]
        lambda: Text("9"),  # type: ignore[arg-type]
        lambda: Hole("9"),  # type: ignore[arg-type]
        lambda: Hole(2.5),  # type: ignore[arg-type]
        lambda: Outline(1.5),  # type: ignore[arg-type]
        lambda: Outline(3, "1"),  # type: ignore[arg-type]
        lambda: Table((Column("a"),), 0, 1.5),  # type: ignore[arg-type]
    ],
)
def test_sizes_of_contracts_are_whole_numbers(make: Callable[[], Contract | Hole]) -> None:
    with pytest.raises(CarraraError):
        make()


def test_a_value_too_deep_for_its_schema_is_refused() -> None:
    endless = '{"type": "array", "items": {"$ref": "#"}}'
    value: Any = []
    for _ in range(20_000):
        value = [value]
    assert first_violation(endless, value) == ("", "nested too deep to be checked")


def test_strict_reading_keeps_what_json_can_keep() -> None:
    assert strict_loads('{"a": {"b": 1}, "c": {"b": 1}}') == {"a": {"b": 1}, "c": {"b": 1}}
    assert strict_loads('"\\ud83d\\ude00"') == "\U0001f600"


def test_a_choice_is_taken_exactly_and_white_space_around_it_is_not_counted() -> None:
    contract = Choice(("yes", "no"))
    assert contract.parse(" yes\n") == "yes"
    for crooked in ("Yes", "yes.", "yes no", ""):
        with pytest.raises(ContractError, match="is none of yes, no"):
            contract.parse(crooked)


def test_a_pattern_must_match_all_of_the_text() -> None:
    assert Regex(r"[A-Z]{2}\d").parse(" AB1 ") == "AB1"
    assert Regex(r"a ").parse("a ") == "a "
    with pytest.raises(ContractError, match="does not match"):
        Regex(r"\d+").parse("12 and 13")


def test_free_text_is_stripped() -> None:
    assert Text().parse("\n hello\n") == "hello"
    assert Text(5).parse("\n hello\n") == "hello"
    with pytest.raises(ContractError, match="5 characters, at most 4"):
        Text(4).parse("hello")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Choice(()),
        lambda: Text(0),
        lambda: Choice(("a", "a")),
        lambda: Choice(("a", " ")),
        lambda: Choice((" a",)),
        lambda: Regex("("),
        lambda: Column(" "),
        lambda: Column("a|b"),
        lambda: Column("a\nb"),
        lambda: Column("a", "money"),  # type: ignore[arg-type]
        lambda: Table(()),
        lambda: Table((Column("a b"), Column("a  b"))),
        lambda: Table((Column("a"),), 3, 2),
        lambda: Outline(0),
        lambda: Outline(1, -1),
        lambda: from_data({"kind": "poem"}),
        lambda: from_data({"kind": "choice"}),
    ],
)
def test_a_contract_nobody_can_keep_is_refused_at_once(make: Any) -> None:
    with pytest.raises(CarraraError):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Choice(("\ud800", "b")),
        lambda: Table((Column("a\udfff"),)),
        lambda: Json.of({"enum": ["\ud800", "a"]}),
        lambda: Json.of({"anyOf": [{"const": {"deep": ["\udc00"]}}, {"type": "null"}]}),
        lambda: Json.of({"properties": {"x\udc00": {"type": "string"}}}),
        lambda: Json.of({"type": "object", "required": ["\ud83d"]}),
    ],
)
def test_half_a_character_that_each_answer_would_hold_is_refused(
    make: Callable[[], Contract],
) -> None:
    with pytest.raises(CarraraError, match="half a character"):
        make()


def test_half_a_character_that_no_answer_repeats_is_allowed() -> None:
    assert Choice(("😀", "é")).options
    for said in ({"description": "\ud800"}, {"pattern": "[^\ud800-\udfff]"}, {"const": "😀"}):
        assert Json.of(said).schema == said
    assert Json.of({"const": "\ud83d\ude00"}).schema == {"const": "😀"}
