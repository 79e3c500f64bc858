"""The types that pydantic knows: their JSON Schema as a contract, and validation with readable refusals."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

from carrara.engines.contract import Json
from carrara.engines.json_schema import pointer
from carrara.workflows.errors import DefinitionError, Refusal

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_SHOWN_ERRORS = 5


def adapter_for(annotation: Any) -> TypeAdapter[Any]:
    """Pydantic's adapter for a type.

    Raises:
        DefinitionError: pydantic cannot validate it, or a name in it is not known.
    """
    from pydantic import PydanticUserError, TypeAdapter

    try:
        return TypeAdapter(annotation)
    except (PydanticUserError, NameError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise DefinitionError(f"{annotation!r} cannot be read from an answer: {reason}") from error


def json_contract(adapter: TypeAdapter[Any], name: str) -> Json:
    """The JSON contract of a type. Titles are left out: they repeat names and cost prompt tokens.

    Raises:
        DefinitionError: JSON has no such values.
    """
    from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError

    try:
        schema = adapter.json_schema(schema_generator=_generator())
    except (PydanticInvalidForJsonSchema, PydanticUserError) as error:
        raise DefinitionError(f"{name} has no JSON form: {error}") from error
    return Json.of(_untitled(schema), name)


def checked(annotation: Any, adapter: TypeAdapter[Any] | None = None) -> Callable[[Any], Any]:
    """A function from JSON data to the validated value; it raises Refusal naming the fields."""
    held = adapter or adapter_for(annotation)

    def check(value: Any) -> Any:
        from pydantic import ValidationError

        try:  # as JSON, so that strict models take dates and tuples in the form JSON has for them
            return held.validate_json(json.dumps(value))
        except ValidationError as error:
            raise refusal(error) from error

    return check


def refusal(error: Any) -> Refusal:
    """A pydantic ValidationError in one line for each wrong part."""
    found = error.errors(include_url=False, include_context=False)
    lines = [f"{place(e['loc'])}: {_reason(e)}" for e in found[:_SHOWN_ERRORS]]
    if len(found) > _SHOWN_ERRORS:
        lines.append(f"and {len(found) - _SHOWN_ERRORS} more")
    return Refusal("; ".join(lines), tuple(dict.fromkeys(pointer(e["loc"]) for e in found)))


def place(path: Iterable[str | int]) -> str:
    """`ingredients[2].unit`, or "value" for the whole."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".") or "value"


def _reason(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    shown = repr(error["input"])
    if error["type"] == "missing" or len(shown) > 80:
        return message
    return f"{message}, got {shown}"


@cache
def _generator() -> type[Any]:
    from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

    class Plain(GenerateJsonSchema):
        """Without field titles; a Decimal is a number, not a number or a text."""

        def field_title_should_be_set(self, schema: Any) -> bool:
            return False

        def decimal_schema(self, schema: Any) -> JsonSchemaValue:
            return self.float_schema(schema)

    return Plain


_NAMED = frozenset({"properties", "patternProperties", "$defs", "dependentSchemas"})
_LISTED = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_SINGLE = frozenset({"items", "additionalProperties", "not", "contains", "propertyNames"})


def _untitled(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    found: dict[str, Any] = {}
    for key, part in schema.items():
        if key in _NAMED:
            found[key] = {name: _untitled(inner) for name, inner in part.items()}
        elif key in _LISTED:
            found[key] = [_untitled(inner) for inner in part]
        elif key in _SINGLE:
            found[key] = _untitled(part)
        elif key != "title":
            found[key] = part
    return found
