"""What the compilers of the parts of a JSON Schema share: how they reach each other, and tests on values."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

from carrara.engines.diffusion.scaffold.forms import MISSING, Form
from carrara.engines.diffusion.scaffold.schema import Schemas
from carrara.engines.diffusion.scaffold.schema_parts import Schema, constants
from carrara.engines.json_values import json_equal

Takes = Callable[[Any], bool]
Make = Callable[[Schema, str], Form]


class Build(Protocol):
    """The compiler in progress (see `json_form`). `prefix` is the white space before a value."""

    @property
    def schemas(self) -> Schemas: ...

    def value(self, schema: Any, prefix: str) -> Form:
        """The form of any value of a schema."""
        ...

    def named(self, schema: Schema, prefix: str, make: Make, variant: str = "") -> Form:
        """The form that `make` gives, or a reference where it is being made already."""
        ...


def dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def always(value: Any) -> bool:
    return True


def taken_by(schemas: Schemas, schema: Schema) -> Takes:
    return lambda value: value is not MISSING and schemas.takes(schema, value)


def taken_by_any(schemas: Schemas, branches: list[Schema]) -> Takes:
    return lambda value: value is not MISSING and any(schemas.takes(b, value) for b in branches)


def taken_by_both(a: Takes, b: Takes) -> Takes:
    return lambda value: a(value) and b(value)


def equal_to(expected: Any) -> Takes:
    return lambda value: value is not MISSING and json_equal(value, expected)


def has_key(name: str) -> Takes:
    return lambda value: isinstance(value, dict) and name in value


def is_container(schema: Schema) -> bool:
    return constants(schema) is None and schema["type"] in ("object", "array")
