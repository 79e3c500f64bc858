"""What `Annotated` may say of a value: the pattern of a text, columns of a table, depth of an outline.

```python
Code = Annotated[str, Pattern(r"[A-Z]{2}-[0-9]+")]
Shopping = Annotated[Table, Columns("item", "qty:integer", "fresh:boolean")]
Chapters = Annotated[Outline, Depth(2)]
```
They work as the return type of a step and as the type of a field in a pydantic model alike.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from carrara.engines.contract import Column
from carrara.engines.nullable import with_nulls
from carrara.engines.patterns import fault
from carrara.workflows.columns import parse_column
from carrara.workflows.errors import DefinitionError


@dataclass(frozen=True, slots=True)
class Pattern:
    """The whole text matches this regular expression (Python syntax, no look-around, no references)."""

    regex: str

    def __post_init__(self) -> None:
        if (wrong := fault(self.regex)) is not None:
            raise DefinitionError(wrong)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from carrara.workflows.value_schemas import pattern_schema

        return pattern_schema(handler(source), self.regex)


@dataclass(frozen=True, slots=True, init=False)
class Columns:
    """The columns of a table, each "name" or "name:kind", kind one of string, integer, number, boolean, date
    (or str, int, float, bool). Without names the columns are those of the table's row type."""

    columns: tuple[Column, ...]
    min_rows: int
    max_rows: int | None

    def __init__(self, *columns: str | Column, min_rows: int = 0, max_rows: int | None = None):
        read = tuple(c if isinstance(c, Column) else parse_column(c) for c in columns)
        object.__setattr__(self, "columns", read)
        object.__setattr__(self, "min_rows", min_rows)
        object.__setattr__(self, "max_rows", max_rows)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from carrara.workflows.value_schemas import given_table_schema

        return given_table_schema(handler(source), self.columns, self.min_rows, self.max_rows)


@dataclass(frozen=True, slots=True)
class Depth:
    """At most this many levels of an outline; at least `min_items` and at most `max_items` at the top."""

    levels: int = 3
    min_items: int = 1
    max_items: int | None = None

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise DefinitionError(f"an outline has at least one level, got {self.levels}")

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from carrara.workflows.value_schemas import outline_schema

        return outline_schema(self.levels, self.min_items, self.max_items)


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """The value is JSON data that fits this JSON Schema: `Annotated[Any, JsonSchema.of({...})]`."""

    text: str
    name: str = "value"

    @classmethod
    def of(cls, schema: Mapping[str, Any], name: str = "value") -> Self:
        """What is `nullable` takes null, as in OpenAPI 3.0.

        Raises DefinitionError where the schema itself is not valid.
        """
        from jsonschema import Draft202012Validator, SchemaError

        try:
            Draft202012Validator.check_schema(schema)
        except SchemaError as error:
            raise DefinitionError(f"not a JSON Schema: {error.message}") from error
        return cls(json.dumps(with_nulls(schema), separators=(",", ":")), name)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from carrara.workflows.value_schemas import raw_schema

        return raw_schema(self.text)
