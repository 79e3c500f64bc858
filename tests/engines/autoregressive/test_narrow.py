"""A narrowed schema accepts less, never more, and asks for what can say "nothing"."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from carrara.engines.autoregressive.guide import usable_grammar
from carrara.engines.autoregressive.narrow import narrowed, was_cut
from carrara.engines.contract import Json
from carrara.engines.errors import CarraraError, EngineRefused

LEAVES = st.sampled_from(
    [
        {"type": "string"},
        {"type": "string", "maxLength": 3},
        {"type": ["string", "null"]},
        {"type": "integer", "minimum": 0},
        {"enum": ["a", None]},
        {"type": "null"},
    ]
)


def objects(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(
        lambda properties, required, more: (
            {
                "type": "object",
                "properties": properties,
                "required": sorted(set(required) & set(properties)),
            }
            | more
        ),
        st.dictionaries(st.sampled_from("abc"), parts, max_size=3),
        st.lists(st.sampled_from("abc"), max_size=2),
        st.sampled_from(
            [{}, {"additionalProperties": False}, {"additionalProperties": {"type": "null"}}]
        ),
    )


def mapping(keys: list[str], values: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "propertyNames": {"enum": keys},
        "additionalProperties": values,
    }


SCHEMAS = st.recursive(
    LEAVES,
    lambda parts: (
        objects(parts)
        | st.builds(lambda part: {"type": "array", "items": part}, parts)
        | st.builds(lambda one, two: {"anyOf": [one, two]}, parts, parts)
        | st.builds(mapping, st.lists(st.sampled_from("abc"), min_size=1, unique=True), parts)
    ),
    max_leaves=6,
)
VALUES = st.recursive(
    st.none() | st.integers(-2, 2) | st.text("ab", max_size=5),
    lambda parts: (
        st.lists(parts, max_size=3) | st.dictionaries(st.sampled_from("abcd"), parts, max_size=3)
    ),
    max_leaves=8,
)


@given(schema=SCHEMAS, value=VALUES)
def test_what_fits_the_narrowed_schema_fits_the_original(
    schema: dict[str, Any], value: Any
) -> None:
    if Draft202012Validator(narrowed(schema, 4)).is_valid(value):
        assert Draft202012Validator(schema).is_valid(value)


def test_strings_get_a_bound_and_objects_are_closed() -> None:
    schema = {
        "type": "object",
        "properties": {
            "free": {"type": "string"},
            "bounded": {"type": "string", "maxLength": 5},
            "dated": {"type": "string", "format": "date"},
            "long": {"type": "string", "minLength": 200},
        },
    }
    found = narrowed(schema, 100)
    assert found["additionalProperties"] is False
    assert found["properties"]["free"] == {"type": "string", "maxLength": 100}
    assert found["properties"]["bounded"]["maxLength"] == 5
    assert "maxLength" not in found["properties"]["dated"]
    assert found["properties"]["long"]["maxLength"] == 200
    assert schema["properties"]["free"] == {"type": "string"}, "the schema itself is left alone"


def test_numbers_stay_within_what_can_be_read() -> None:
    found = narrowed({"type": "array", "items": {"type": "number", "exclusiveMinimum": 0}}, 9)
    assert found["items"] == {"type": "number", "exclusiveMinimum": 0, "maximum": 10**15}
    assert narrowed({"type": "integer", "enum": [1]}, 9) == {"type": "integer", "enum": [1]}


def test_optional_parts_are_asked_for_only_where_they_can_say_nothing() -> None:
    schema = {
        "$defs": {
            "Maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "Number": {"type": "number"},
        },
        "type": "object",
        "properties": {
            "must": {"type": "integer"},
            "list": {"type": "array", "items": {"type": "integer"}},
            "some": {"type": "array", "items": {"type": "integer"}, "minItems": 1},
            "ref": {"$ref": "#/$defs/Maybe"},
            "number": {"$ref": "#/$defs/Number"},
            "type": {"type": ["string", "null"]},
            "yes": True,
        },
        "required": ["must"],
    }
    assert narrowed(schema, 9)["required"] == ["must", "list", "ref", "type"]


def test_a_schema_that_refers_to_itself_is_narrowed_once() -> None:
    node = {
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}},
    }
    found = narrowed({"$defs": {"Node": node}, "$ref": "#/$defs/Node"}, 9)
    assert found["$defs"]["Node"]["required"] == ["next"]


@pytest.mark.parametrize("keyword", ["allOf", "not", "if"])
def test_schemas_in_which_narrower_could_be_wider_are_left_alone(keyword: str) -> None:
    part: Any = [{}] if keyword == "allOf" else {}
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, keyword: part}
    assert narrowed(schema, 9) == schema


@pytest.mark.parametrize(
    "schema", [{"type": 5}, {"type": "string", "minLength": "x"}, {"required": "a"}, {"$defs": 5}]
)
def test_what_is_no_schema_is_told_before_it_is_narrowed(schema: dict[str, Any]) -> None:
    with pytest.raises(CarraraError, match="bad JSON Schema: /"):
        narrowed(schema, 9)


def test_a_schema_that_is_nested_too_deep_is_refused() -> None:
    value: list[Any] = []
    deep: dict[str, Any] = {"type": "integer"}
    for _ in range(300):
        value, deep = [value], {"type": "array", "items": deep}
    with pytest.raises(EngineRefused, match="recursion limit"):
        usable_grammar(Json.of({"const": value}), 9)
    with pytest.raises(CarraraError, match="nested too deep"):
        usable_grammar(Json.of(deep), 9)


def test_a_string_that_ended_at_the_bound_is_noticed() -> None:
    assert was_cut({"a": [1, {"b": "xxxx"}]}, 4)
    assert not was_cut({"a": ["xxx", "xxxxx", None, 4]}, 4)


def test_the_listed_keys_of_a_mapping_become_a_pattern() -> None:
    schema = mapping(["a", "b.c"], {"type": "integer", "minimum": 0, "maximum": 9})
    narrow = Draft202012Validator(narrowed(schema, 5))
    assert narrow.is_valid({"a": 1, "b.c": 2})
    assert not narrow.is_valid({"bxc": 1})
    assert not narrow.is_valid({"a": 10})
    assert "propertyNames" not in narrowed(schema, 5)
