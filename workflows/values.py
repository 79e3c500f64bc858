"""What a step with a table or an outline contract returns: typed rows, nested items, and their Markdown.

Both are immutable sequences and plain dataclasses, so the journal stores them like any value. Pydantic knows
them too, so they may be fields of models and inputs of workflows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import GenericAlias
from typing import TYPE_CHECKING, Annotated, Any, Generic, Self, TypeVar, overload

from carrara.engines.contract import Column
from carrara.engines.contract import Table as TableContract

Row = TypeVar("Row", covariant=True)


@dataclass(frozen=True, slots=True)
class Table(Sequence[Row], Generic[Row]):
    """Rows under named columns. `Table[Ingredient]` takes its columns from the row type; `Table` alone has
    rows that are dicts, and its columns are given: `Annotated[Table, Columns("title", "qty:int")]`."""

    rows: tuple[Row, ...]
    columns: tuple[str, ...]

    @classmethod
    def of(cls, rows: Iterable[Row], columns: Sequence[str] | None = None) -> Self:
        """A table of these rows; without `columns` those of the first row, in its order."""
        found = tuple(rows)
        if columns is None:
            columns = tuple(as_record(found[0])) if found else ()
        return cls(found, tuple(columns))

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Row, ...]: ...
    def __getitem__(self, index: int | slice) -> Row | tuple[Row, ...]:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def records(self) -> list[dict[str, Any]]:
        """Each row as a dict from column name to cell value."""
        return [as_record(row) for row in self.rows]

    def markdown(self) -> str:
        """The table as a GitHub-flavoured Markdown table, "" for one without columns."""
        from carrara.engines.markdown import render_table

        if not self.columns:
            return ""
        contract = TableContract(tuple(Column(name) for name in self.columns))
        return render_table(self.records(), contract)

    if not TYPE_CHECKING:

        def __class_getitem__(cls, row: Any) -> Any:
            """`Annotated[Table, Rows(row)]`: pydantic asks a plain class for its schema, a generic
            dataclass never."""
            return (
                GenericAlias(cls, (row,)) if isinstance(row, TypeVar) else Annotated[cls, Rows(row)]
            )

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from carrara.workflows.value_schemas import table_schema

        return table_schema()


@dataclass(frozen=True, slots=True)
class Rows:
    """The row type in `Table[row]`."""

    row: Any

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from carrara.workflows.value_schemas import typed_table_schema

        return typed_table_schema(self.row, handler)


@dataclass(frozen=True, slots=True)
class OutlineItem:
    """One bullet: its text and the items nested under it."""

    text: str
    items: tuple[OutlineItem, ...] = ()

    def data(self) -> dict[str, Any]:
        """`{"text": ..., "items": [...]}`."""
        return {"text": self.text, "items": [item.data() for item in self.items]}

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> OutlineItem:
        """The inverse of `data`; a missing "items" means none."""
        return cls(str(data["text"]), tuple(cls.read(item) for item in data.get("items", ())))


@dataclass(frozen=True, slots=True)
class Outline(Sequence[OutlineItem]):
    """A nested list. Iterating gives the items at the top, `walk` all of them with their depth."""

    items: tuple[OutlineItem, ...] = ()

    @classmethod
    def of(cls, items: Iterable[OutlineItem | Mapping[str, Any]]) -> Self:
        """An outline of items, or of what `data` gives."""
        return cls(tuple(i if isinstance(i, OutlineItem) else OutlineItem.read(i) for i in items))

    @overload
    def __getitem__(self, index: int) -> OutlineItem: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[OutlineItem, ...]: ...
    def __getitem__(self, index: int | slice) -> OutlineItem | tuple[OutlineItem, ...]:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[OutlineItem]:
        return iter(self.items)

    def walk(self) -> Iterator[tuple[int, OutlineItem]]:
        """(depth, item) in reading order; items at the top have depth 1."""
        todo = [(1, item) for item in reversed(self.items)]
        while todo:
            depth, item = todo.pop()
            yield depth, item
            todo += [(depth + 1, inner) for inner in reversed(item.items)]

    def data(self) -> list[dict[str, Any]]:
        """The items as JSON data, each `{"text": ..., "items": [...]}`."""
        return [item.data() for item in self.items]

    def markdown(self) -> str:
        """The outline as a Markdown bullet list."""
        from carrara.engines.markdown import render_outline

        return render_outline(self.data())

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from carrara.workflows.value_schemas import outline_schema

        return outline_schema()


def as_record(row: Any) -> dict[str, Any]:
    """A row of any kind (dict, dataclass, pydantic model, named tuple) as a dict."""
    if isinstance(row, Mapping):
        return dict(row)
    if hasattr(row, "model_dump"):
        dumped: dict[str, Any] = row.model_dump(by_alias=True)
        return dumped
    if dataclasses.is_dataclass(row):
        return {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
    if hasattr(row, "_asdict"):
        named: dict[str, Any] = row._asdict()
        return named
    raise TypeError(f"a table row is a dict, a dataclass or a model, not {type(row).__name__}")
