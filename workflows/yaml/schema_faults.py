"""What is wrong with a JSON Schema that is to be a contract: no schema, or one that no answer can fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from carrara.engines.patterns import fault
from carrara.engines.schema_references import dangling
from carrara.workflows.yaml.source import Location

_BOUNDS: Final = (
    ("minimum", "maximum"),
    ("minLength", "maxLength"),
    ("minItems", "maxItems"),
    ("minProperties", "maxProperties"),
)
_NAMED: Final = ("properties", "patternProperties", "$defs", "dependentSchemas")
_LISTED: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE: Final = ("items", "additionalProperties", "contains", "propertyNames")


def schema_faults(schema: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
    """Each mistake with the path to it in `schema`."""
    from jsonschema import Draft202012Validator

    wrong = sorted(
        Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema),
        key=lambda error: list(map(str, error.absolute_path)),
    )
    for error in wrong:
        yield tuple(error.absolute_path), f"no JSON Schema: {error.message}"
    if not wrong:
        yield from _unfit(schema, ())
        yield from dangling(schema)


def _unfit(schema: Any, where: Location) -> Iterator[tuple[Location, str]]:
    if not isinstance(schema, Mapping):
        return
    if "pattern" in schema and (told := fault(schema["pattern"])) is not None:
        yield (*where, "pattern"), told
    for least, most in _BOUNDS:
        low, high = schema.get(least), schema.get(most)
        if low is not None and high is not None and low > high:
            yield (*where, most), f"'{most}' {high:g} is below '{least}' {low:g}"
    for key in _NAMED:
        for name, part in schema.get(key, {}).items():
            yield from _unfit(part, (*where, key, name))
    for key in _LISTED:
        for i, part in enumerate(schema.get(key, ())):
            yield from _unfit(part, (*where, key, i))
    for key in _SINGLE:
        yield from _unfit(schema.get(key), (*where, key))
