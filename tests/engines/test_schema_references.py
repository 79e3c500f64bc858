"""References of a schema lead somewhere, or it is refused with the place before anything is asked."""

from typing import Any

import pytest

from carrara.engines.errors import CarraraError
from carrara.engines.json_schema import validator, violations
from carrara.engines.schema_references import dangling

STRING = {"type": "string"}


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$defs": {"a/b~c": STRING}, "$ref": "#/$defs/a~1b~0c"},
        {"$defs": {"é": STRING}, "$ref": "#/$defs/%C3%A9"},
        {"definitions": {"a": STRING}, "$ref": "#/definitions/a"},
        {"$defs": {"a": {"$anchor": "here", **STRING}}, "$ref": "#here"},
        {"$defs": {"a": {"$dynamicAnchor": "node"}}, "items": {"$dynamicRef": "#node"}},
        {"$defs": {"a": True}, "$ref": "#/$defs/a"},
        {"allOf": [STRING], "items": {"$ref": "#/allOf/0"}},
        {"$id": "https://here.test/a", "items": {"$ref": "a"}},
        {
            "$id": "https://here.test/a",
            "$defs": {"b": {"$id": "b", "$defs": {"c": STRING}, "items": {"$ref": "#/$defs/c"}}},
            "items": {"$ref": "b#/$defs/c"},
        },
        {"$ref": "https://json-schema.org/draft/2020-12/schema"},
        {
            "components": {"a": {"items": {"$ref": "#/components/b"}}, "b": STRING},
            "$ref": "#/components/a",
        },
        {"enum": [{"$ref": "#/nope"}], "default": {"$ref": 5}, "examples": [{"$ref": "http://x"}]},
        {"const": {"$ref": "#/nope"}},
        {"properties": {"$ref": {"type": "string"}}},
    ],
)
def test_a_reference_that_leads_to_a_part_of_its_schema_is_right(schema: dict[str, Any]) -> None:
    assert list(dangling(schema)) == []


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"$ref": "#/nope"}, ("$ref",)),
        ({"items": {"$ref": "#/$defs/a"}, "$defs": {"b": STRING}}, ("items", "$ref")),
        ({"properties": {"a": {"$ref": "http://127.0.0.1:1/s"}}}, ("properties", "a", "$ref")),
        ({"anyOf": [STRING, {"$ref": "other.json"}]}, ("anyOf", 1, "$ref")),
        ({"anyOf": [STRING], "not": {"$ref": "#/anyOf/x"}}, ("not", "$ref")),
        ({"anyOf": [STRING], "not": {"$ref": "#/anyOf/1"}}, ("not", "$ref")),
        ({"title": "x", "$ref": "#/title"}, ("$ref",)),
        ({"title": "x", "$ref": "#/title/0"}, ("$ref",)),
        ({"minLength": 3, "$ref": "#/minLength/a"}, ("$ref",)),
        ({"$ref": "#there"}, ("$ref",)),
        ({"$dynamicRef": "#there"}, ("$dynamicRef",)),
        ({"$ref": "http://["}, ("$ref",)),
        ({"a": {"properties": 5}, "$ref": "#/a"}, ("$ref",)),
        ({"a": {"items": {"$ref": "#/nope"}}, "$ref": "#/a"}, ("a", "items", "$ref")),
        ({"$id": "https://here.test/a", "$ref": "b"}, ("$ref",)),
        (
            {"$defs": {"b": {"$id": "https://b.test/", "$ref": "#/$defs/c"}, "c": STRING}},
            ("$defs", "b", "$ref"),
        ),
    ],
)
def test_one_that_leads_nowhere_is_told_with_its_place(
    schema: dict[str, Any], path: tuple[Any, ...]
) -> None:
    assert [found for found, _ in dangling(schema)] == [path]


def test_a_schema_with_such_a_reference_is_refused_before_a_value_is_there() -> None:
    with pytest.raises(CarraraError, match="bad JSON Schema: /items/\\$ref: '#/nope' leads to no"):
        validator('{"items": {"$ref": "#/nope"}}')


def test_a_schema_that_refers_to_itself_is_checked_on() -> None:
    tree = '{"$defs": {"T": {"properties": {"kids": {"items": {"$ref": "#/$defs/T"}}}}}, "$ref": "#/$defs/T"}'
    assert violations(tree, {"kids": [{"kids": []}]}) == []
