"""JSON Schema as this project uses it: validation with a JSON pointer to the first violation."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any


@lru_cache(maxsize=256)
def _validator(schema_text: str) -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(
        json.loads(schema_text), format_checker=Draft202012Validator.FORMAT_CHECKER
    )


def first_violation(schema_text: str, value: Any) -> tuple[str, str] | None:
    """The JSON pointer and the reason of the shallowest violation, None for a value that fits."""
    errors = sorted(_validator(schema_text).iter_errors(value), key=lambda e: len(e.absolute_path))
    if not errors:
        return None
    error = errors[0]
    return pointer(error.absolute_path), error.message


def pointer(path: Any) -> str:
    """A JSON pointer (RFC 6901) from a sequence of keys and indexes."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
