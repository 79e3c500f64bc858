"""Reading the type notation: `str`, `int?`, `[Group]`, `{title: str, servings: int?}`, `{one_of: [a, b]}`.

A name is a scalar or a declared type, `?` after it allows null, brackets make a list, a mapping is an object
with these fields. A mapping with one of the keys in KIND_KEYS is a type with its details instead
(`{type: int, min: 1}`); an object with a field of such a name is written with `fields:`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any, Final, cast

from carrara.engines.patterns import fault
from carrara.workflows.yaml.bounds import bounded, in_order
from carrara.workflows.yaml.document import TypeDoc
from carrara.workflows.yaml.document_base import NAME
from carrara.workflows.yaml.kinds import (
    MISSING,
    SCALARS,
    Field,
    ListOf,
    MapOf,
    Named,
    Nullable,
    ObjectOf,
    OneOf,
    OutlineOf,
    Pattern,
    Scalar,
    ScalarName,
    SchemaOf,
    TableOf,
    Type,
)
from carrara.workflows.yaml.mistakes import did_you_mean
from carrara.workflows.yaml.notes import Notes
from carrara.workflows.yaml.schema_faults import schema_faults
from carrara.workflows.yaml.shape import context, noun, read_shape
from carrara.workflows.yaml.source import Location

KIND_KEYS: Final = (
    "type", "one_of", "list", "map", "fields", "table", "outline", "regex", "schema",
)  # fmt: skip
COLUMN_TYPES: Final = ("str", "int", "float", "bool", "date")

_OTHER_WORDS = {
    "string": "str", "text": "str", "integer": "int", "number": "float", "double": "float",
    "boolean": "bool", "object": "{field: type}", "list": "[str]", "array": "[str]",
    "dict": "{map: any}", "enum": "{one_of: [a, b]}", "null": "any", "none": "any",
}  # fmt: skip


class TypeReader:
    """Reads the notation of one file. `names` are the types that the file declares.

    `defaults` collects every default that was met: whether it fits can be told when all types are known.
    """

    def __init__(self, notes: Notes, names: Collection[str] = ()) -> None:
        self.notes, self.names = notes, names
        self.defaults: list[tuple[Type, Any, Location]] = []

    def read(self, raw: object, where: Location) -> Type | None:
        """The type written as `raw` at `where`, None after a mistake was noted."""
        found = self.field("", raw, where)
        return None if found is None else found.type

    def field(self, name: str, raw: object, where: Location) -> Field | None:
        """A type with what is said about it: description and default. None after a mistake."""
        match raw:
            case str():
                kind = self.word(raw, where)
                return None if kind is None else Field(name, kind)
            case list():
                item = self.sole(raw, where)
                return None if item is None else Field(name, ListOf(item))
            case dict() if any(key in raw for key in KIND_KEYS):
                return self.detailed(name, raw, where)
            case dict():
                found = self.fields(raw, where)
                return None if found is None else Field(name, ObjectOf(found))
        self.notes.at_value(
            where,
            f"a type must be a name, a list or a mapping, not {noun(raw)}, in {context(where)}",
        )
        return None

    def word(self, written: str, where: Location) -> Type | None:
        text = written.strip()
        if text.endswith("?"):
            inner = self.word(text[:-1], where)
            return None if inner is None else _nullable(inner)
        if text.startswith("[") and text.endswith("]"):
            inner = self.word(text[1:-1], where)
            return None if inner is None else ListOf(inner)
        if text in SCALARS:
            return Scalar(cast(ScalarName, text))
        if text in self.names:
            return Named(text)
        self.notes.at_value(where, f"unknown type '{text}' in {context(where)}{self.hint(text)}")
        return None

    def hint(self, text: str) -> str:
        if text.lower() in _OTHER_WORDS:
            return f". Did you mean '{_OTHER_WORDS[text.lower()]}'?"
        return did_you_mean(text, [*SCALARS, *self.names])

    def sole(self, raw: list[Any], where: Location) -> Type | None:
        if len(raw) == 1:
            return self.read(raw[0], (*where, 0))
        self.notes.at_value(
            where,
            f"a list type names the type of its items, [str], not {len(raw)} of them, in "
            f"{context(where)}. One of several words is {{one_of: [a, b]}}",
        )
        return None

    def fields(self, raw: dict[str, Any], where: Location) -> tuple[Field, ...] | None:
        if not raw:
            self.notes.at_value(where, f"an object needs at least one field, in {context(where)}")
            return None
        found = []
        for name, notation in raw.items():
            if not re.match(NAME, name) or name.startswith("_"):
                self.notes.at_key(
                    (*where, name),
                    f"'{name}' cannot be a field: use letters, digits and _, a letter first",
                )
            found.append(self.field(name, notation, (*where, name)))
        whole = [field for field in found if field is not None]
        return tuple(whole) if len(whole) == len(found) else None

    def detailed(self, name: str, raw: dict[str, Any], where: Location) -> Field | None:
        before = len(self.notes.mistakes.found)
        doc = read_shape(TypeDoc, raw, where, self.notes)
        kinds = [key for key in KIND_KEYS if key in raw]
        if len(kinds) > 1:
            self.notes.at_key(
                (*where, kinds[1]),
                f"'{kinds[0]}' and '{kinds[1]}' exclude each other in a type, in {context(where)}. "
                "An object with fields of these names is written with 'fields:'",
            )
        if doc is None or len(self.notes.mistakes.found) > before:
            return None
        kind = self.kind(kinds[0], doc, where)
        if kind is None:
            return None
        kind = bounded(kind, raw, where, self.notes)
        if kind is None:
            return None
        if isinstance(kind, ObjectOf) and doc.description:
            kind = ObjectOf(kind.fields, doc.description)
        if doc.optional:
            kind = _nullable(kind)
        if "default" in raw:
            self.defaults.append((kind, raw["default"], (*where, "default")))
        return Field(name, kind, doc.description or "", raw.get("default", MISSING))

    def kind(self, key: str, doc: TypeDoc, where: Location) -> Type | None:
        """The type that the kind key gives, before bounds."""
        spot = (*where, key)
        match key:
            case "type":
                return self.read(doc.of, spot)
            case "list":
                item = self.read(doc.list_of, spot)
                return None if item is None else ListOf(item)
            case "map":
                item = self.read(doc.map_of, spot)
                return None if item is None else MapOf(item)
            case "fields":
                fields = self.fields(doc.field_types or {}, spot)
                return None if fields is None else ObjectOf(fields)
            case "one_of":
                return self.options(doc.one_of or [], spot)
            case "table":
                return self.table(doc.table, spot)
            case "regex":
                return Pattern(doc.regex or "") if self.regex(doc.regex or "", spot) else None
            case "schema":
                return self.schema(doc.json_schema or {}, spot)
            case _:
                found = doc.outline
                if found is None:
                    return OutlineOf()
                if not in_order(found.model_dump(), spot, self.notes):
                    return None
                return OutlineOf(found.depth, found.min_items, found.max_items)

    def options(self, raw: list[Any], where: Location) -> Type | None:
        bad = [
            i for i, word in enumerate(raw)
            if isinstance(word, bool) or not isinstance(word, str | int) or word == ""
        ]  # fmt: skip
        for i in bad:
            self.notes.at_value(
                (*where, i), f"'one_of' takes words and whole numbers, not {noun(raw[i])}"
            )
        twice = [i for i, word in enumerate(raw) if word in raw[:i]]
        for i in twice:
            self.notes.at_value((*where, i), f"'{raw[i]}' is there twice in 'one_of'")
        return None if bad or twice else OneOf(tuple(raw))

    def table(self, raw: object, where: Location) -> Type | None:
        pairs: list[tuple[str, object]]
        match raw:
            case list() if raw and all(isinstance(word, str) for word in raw):
                pairs = [(word, "str") for word in raw]
            case dict() if raw:
                pairs = list(raw.items())
            case _:
                self.notes.at_value(
                    where, "'table' takes its columns: [item, price] or {item: str, price: float}"
                )
                return None
        names = [name for name, _ in pairs]
        good = True
        for i, (name, column) in enumerate(pairs):
            spot: Location = (*where, i if isinstance(raw, list) else name)
            if not name.strip() or "|" in name or "\n" in name or name in names[:i]:
                self.notes.at_key(
                    spot, f"{name!r} cannot name a column: distinct, no '|', one line"
                )
                good = False
            if column not in COLUMN_TYPES:
                hint = did_you_mean(_OTHER_WORDS.get(str(column), str(column)), COLUMN_TYPES)
                self.notes.at_value(spot, f"unknown column type '{column}'{hint}")
                good = False
        columns = tuple((name, cast(ScalarName, column)) for name, column in pairs)
        return TableOf(columns) if good else None

    def regex(self, pattern: str, where: Location) -> bool:
        wrong = fault(pattern)
        if wrong is not None:
            self.notes.at_value(where, f"{wrong}, in {context(where)}")
        return wrong is None

    def schema(self, raw: dict[str, Any], where: Location) -> Type | None:
        found = list(schema_faults(raw))
        for path, message in found:
            self.notes.at_value((*where, *path), f"{message}, in {context(where)}")
        if found:
            return None
        return SchemaOf(json.dumps(raw, separators=(",", ":")))


def _nullable(kind: Type) -> Type:
    return kind if isinstance(kind, Nullable) else Nullable(kind)
