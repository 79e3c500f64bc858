"""A first pipeline from a schema or from rows: always valid, and its answers hold to what it was made from."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.engines.contract import Json
from carrara.engines.json_schema import first_violation
from carrara.workflows.inferring import inferred
from carrara.workflows.starting import Start, StartError, pipeline_text, read_start
from carrara.workflows.steps import Llm
from carrara.workflows.yaml.load import loads

names = st.text("abcde_", min_size=1, max_size=4)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(-9, 9)
    | st.text("ab \n\"'", max_size=4)
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(
    names | st.sampled_from(["type", "list", "no", "a b"]), values, min_size=1, max_size=3
)


def schema_of(text: str) -> dict[str, Any]:
    step = loads(text).workflow.steps["answer"]
    assert isinstance(step, Llm)
    assert isinstance(step.contract, Json)
    return step.contract.schema


@given(st.lists(values, min_size=1, max_size=4))
def test_values_hold_to_the_schema_that_they_have_in_common(found: list[Any]) -> None:
    schema = json.dumps(inferred(found))
    assert [first_violation(schema, value) for value in found] == [None] * len(found)


@settings(max_examples=40, deadline=None)
@given(st.lists(objects, min_size=1, max_size=3))
def test_whatever_the_rows_hold_the_pipeline_is_valid_and_takes_them(found: list[Any]) -> None:
    examples = [("a text", wanted) for wanted in found]
    schema = json.dumps(schema_of(pipeline_text(Start(inferred(found), "text", examples), "job")))
    assert [first_violation(schema, value) for value in found] == [None] * len(found)


SCHEMA = {
    "$ref": "#/$defs/Bill",
    "$defs": {
        "Bill": {
            "type": "object",
            "properties": {
                "shop": {"type": "string", "description": "Who sold it.", "maxLength": 40},
                "paid_on": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
                "kind": {"enum": ["food", "tools"]},
                "lines": {"type": "array", "items": {"$ref": "#/$defs/Line"}, "maxItems": 5},
            },
            "required": ["shop", "kind", "lines"],
        },
        "Line": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "price": {"type": "number"}},
        },
    },
}


def test_a_schema_becomes_types_with_names_bounds_and_words(tmp_path: Path) -> None:
    path = tmp_path / "bill.json"
    path.write_text(json.dumps(SCHEMA))
    text = pipeline_text(read_start(path), "bill")
    assert "paid_on: date?" in text
    assert "max_length: 40" in text
    assert "# validators:" in text
    schema = json.dumps(schema_of(text))
    right = {"shop": "A", "paid_on": None, "kind": "food", "lines": [{"name": "tea", "price": 2.5}]}
    assert first_violation(schema, right) is None
    assert first_violation(schema, right | {"kind": "cars"}) is not None
    assert first_violation(schema, right | {"lines": right["lines"] * 6}) is not None


def test_an_object_may_hold_itself_and_a_list_of_nothing_but_itself_may_not() -> None:
    own = {"$ref": "#/$defs/Group"}
    group = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "inside": {"anyOf": [own, {"type": "null"}]}},
    }
    text = pipeline_text(Start({**own, "$defs": {"Group": group}}), "groups")
    assert "inside: Group?" in text
    lines = {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer"}}}}
    of_lines = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/L"}, "b": {"$ref": "#/$defs/L"}},
    }
    schema = schema_of(pipeline_text(Start({**of_lines, "$defs": {"L": lines}}), "two"))
    assert first_violation(json.dumps(schema), {"a": [{"n": 1}], "b": [{"n": 2}]}) is None
    endless = {
        "$ref": "#/$defs/L",
        "$defs": {"L": {"type": "array", "items": {"$ref": "#/$defs/L"}}},
    }
    with pytest.raises(StartError, match="cannot say"):
        pipeline_text(Start(endless), "endless")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.json", "{", "not JSON"),
        ("a.json", "[1]", "not a JSON Schema"),
        ("a.json", "{}", r"no 'type', 'properties', 'items', 'enum' or '\$ref' at the top"),
        ("a.json", '{"allOf": [{"type": "object"}]}', "write what 'allOf' says there"),
        ("a.json", "", "a.json: empty"),
        ("a.jsonl", "", "empty, there is no example in it"),
        ("a.jsonl", "{", "a.jsonl:1: not JSON"),
        ("a.jsonl", '{"text": "x"}', "a.jsonl:1: an example without 'gold'"),
        ("a.jsonl", '{"n": 1, "gold": {}}', "a.jsonl:1: no text in it"),
        (
            "a.jsonl",
            '{"text": "x", "gold": {}}\n{"other": "y", "gold": {}}',
            "a.jsonl:2: no text under 'text', as in the rows before",
        ),
        ("a.jsonl", '{"the text": "x", "gold": {}}', "is no name for an input"),
    ],
)
def test_what_nothing_can_be_started_from_is_refused(
    tmp_path: Path, name: str, content: str, told: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(StartError, match=told):
        read_start(path)


def test_what_the_examples_do_not_show_is_a_guess_that_is_told() -> None:
    answers = [{"at": None, "tags": [], "size": {"note": None}}, {"at": None, "tags": []}]
    start = Start(inferred(answers), "text", [("a", answers[0])])
    assert start.guesses == [
        "at is null in every example, so it is taken for a text",
        "tags is an empty list in every example, so its items are taken for texts",
        "size.note is null in every example, so it is taken for a text",
    ]
    text = pipeline_text(start, "job")
    assert "# is null in every example, so it is taken for a text: change it" in text
    assert "at: str?" in text
    assert "any" not in text.partition("types:")[2].partition("steps:")[0]
    schema = json.dumps(schema_of(text))
    assert first_violation(schema, {"at": "noon", "tags": ["x"], "size": None}) is None


def test_line_separators_inside_a_text_are_no_ends_of_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a\u2028b\x85c", "gold": {"n": 1}}\n', encoding="utf-8")
    assert read_start(path).examples == [("a\u2028b\x85c", {"n": 1})]
