"""The JSON Schema of pipeline files, for editors: made from the document models, within draft-7 keywords.

A first line `# yaml-language-server: $schema=PATH` in a pipeline turns on completion, descriptions and squiggles.
The schema checks shapes only: what names refer to, `carrara validate` knows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import permutations
from typing import Any, Final

from carrara.workflows.yaml.document import PipelineDoc, TypeDoc
from carrara.workflows.yaml.document_base import NAME
from carrara.workflows.yaml.notation import KIND_KEYS
from carrara.workflows.yaml.step_keys import FAN_OUTS, KEYS, KINDS, NEEDS

_NAMED_PARTS: Final = ("inputs", "types", "steps", "outputs")

_NOTATION: Final[Mapping[str, Any]] = {
    "description": (
        "A type: str, int, float, decimal, bool, date, datetime, any, or the name of a declared type; '?' after it "
        "allows null; [T] is a list; {field: type} is an object; {one_of: [a, b]} and the like have details."
    ),
    "anyOf": [
        {
            "type": "string",
            "examples": ["str", "int?", "float", "decimal", "bool", "date", "datetime", "any"],
        },
        {
            "type": "array",
            "items": {"$ref": "#/definitions/TypeNotation"},
            "minItems": 1,
            "maxItems": 1,
        },
        {
            "type": "object",
            "minProperties": 1,
            "if": {"anyOf": [{"required": [key]} for key in KIND_KEYS]},
            "then": {"$ref": "#/definitions/TypeDoc"},
            "else": {"additionalProperties": {"$ref": "#/definitions/TypeNotation"}},
        },
    ],
}


def pipeline_schema() -> dict[str, Any]:
    """The schema as JSON data."""
    made = PipelineDoc.model_json_schema(ref_template="#/definitions/{model}")
    types = TypeDoc.model_json_schema(ref_template="#/definitions/{model}")
    definitions = {**made.pop("$defs", {}), **types.pop("$defs", {})}
    definitions |= {"TypeDoc": types, "TypeNotation": dict(_NOTATION)}
    for part in _NAMED_PARTS:
        made["properties"][part]["propertyNames"] = {"pattern": NAME}
    made["required"] = ["steps"]
    definitions["TypeDoc"]["oneOf"] = [{"required": [key]} for key in KIND_KEYS]
    _tell_kinds(definitions["StepDoc"])
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Carrara pipeline",
        **_plain({**made, "title": "Carrara pipeline", "definitions": definitions}),
    }


def schema_text() -> str:
    """The schema as the text of a file."""
    return json.dumps(pipeline_schema(), indent=2, ensure_ascii=False) + "\n"


def _tell_kinds(step: dict[str, Any]) -> None:
    """One of llm, python and use, each with its own keys only."""
    known = list(step["properties"])
    step["oneOf"] = [
        {
            "required": [kind],
            "properties": {key: False for key in known if key not in KEYS[kind]},
        }
        for kind in KINDS
    ]
    step["dependencies"] = {
        **{
            key: {"anyOf": [{"required": [one]} for one in needed]} for key, needed in NEEDS.items()
        },
        **{one: {"properties": {other: False}} for one, other in permutations(FAN_OUTS)},
    }


def _plain(node: Any) -> Any:
    """Without pydantic's titles, and without null where a key may simply be left out."""
    if isinstance(node, list):
        return [_plain(part) for part in node]
    if not isinstance(node, dict):
        return node
    rest = {key: part for key, part in node.items() if key != "title" or isinstance(part, dict)}
    if rest.get("default", 0) is None:
        del rest["default"]
    if rest.pop("x-is", None) is not None:
        rest["allOf"] = [{"$ref": "#/definitions/TypeNotation"}]  # beside it, a description is kept
    keeps_null = rest.pop("x-null", False)
    options = [part for part in rest.get("anyOf", ()) if keeps_null or part != {"type": "null"}]
    if len(options) == 1:
        del rest["anyOf"]
        rest = {**options[0], **rest}
    if "$ref" in rest and len(rest) > 1:  # draft 7 does not look beside a reference
        rest["allOf"] = [{"$ref": rest.pop("$ref")}]
    return {key: _plain(part) for key, part in rest.items()}
