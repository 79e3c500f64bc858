"""JSON and JSON Schema as this project uses them: strict reading, and validation with a JSON pointer.

Nothing is fetched: a `$ref` must point into its own schema.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from functools import lru_cache
from typing import Any

from carrara.engines.errors import CarraraError
from carrara.engines.json_keywords import kind_of_validator
from carrara.engines.patterns import fault
from carrara.engines.schema_references import dangling


def strict_loads(text: str) -> Any:
    """The value of JSON text, refusing what could not be written out again unchanged.

    Raises:
        ValueError: not JSON, NaN or an infinite number, a repeated key, a lone surrogate.
        RecursionError: nested deeper than Python can follow.
    """
    value = json.loads(
        text,
        parse_constant=_no_constant,
        parse_float=_finite,
        object_pairs_hook=_distinct,
    )
    if "\\u" in text or not text.isascii():
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def first_violation(schema_text: str, value: Any) -> tuple[str, str] | None:
    """The JSON pointer and the reason of the shallowest violation, None for a value that fits.

    Raises:
        CarraraError: the schema itself is wrong.
    """
    found = violations(schema_text, value)
    return found[0] if found else None


def violations(schema_text: str, value: Any) -> list[tuple[str, str]]:
    """Pointer and reason of everything in `value` that the schema forbids, the shallowest first.

    Raises:
        CarraraError: the schema itself is wrong.
    """
    from jsonschema.exceptions import UnknownType

    try:
        errors = sorted(
            validator(schema_text).iter_errors(value), key=lambda e: len(e.absolute_path)
        )
    except RecursionError:
        return [("", "nested too deep to be checked")]
    except UnknownType as error:
        raise CarraraError(f"bad JSON Schema: {error}") from error
    return [(pointer(error.absolute_path), _shortened(error.message)) for error in errors]


def pointer(path: Any) -> str:
    """A JSON pointer (RFC 6901) from a sequence of keys and indexes."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


@lru_cache(maxsize=256)
def validator(schema_text: str) -> Any:
    """The jsonschema validator of a schema, formats checked.

    Raises:
        CarraraError: the schema itself is wrong.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError
    from referencing.jsonschema import EMPTY_REGISTRY

    schema = json.loads(schema_text)
    try:
        Draft202012Validator.check_schema(schema)
    except RecursionError as error:
        raise CarraraError("bad JSON Schema: it is nested too deep to be checked") from error
    except SchemaError as error:
        where = pointer(error.absolute_path) or "the schema"
        reason = fault(str(error.instance)) if error.validator_value == "regex" else None
        raise CarraraError(
            f"bad JSON Schema: {where}: {reason or _shortened(error.message)}"
        ) from error
    for path, reason in dangling(schema):
        raise CarraraError(f"bad JSON Schema: {pointer(path)}: {reason}")
    if isinstance(
        schema, dict
    ):  # a schema that names its draft and refers to itself is read as another kind there
        schema.pop("$schema", None)
    return kind_of_validator()(
        schema, registry=EMPTY_REGISTRY, format_checker=Draft202012Validator.FORMAT_CHECKER
    )


def _shortened(message: str) -> str:
    return message if len(message) <= 300 else f"{message[:150]} ... {message[-140:]}"


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        [(repeated, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"key {repeated!r} is repeated")
    return found


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:40]} is too large a number")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


__all__ = ["first_violation", "pointer", "strict_loads", "validator", "violations"]
