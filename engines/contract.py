"""Output contracts: what the answer of a call must be, as plain data.

One contract serves the prompt, the scaffold on a diffusion canvas, the grammar of an AR engine, repair and
validation. A contract knows how to describe itself, how to become a JSON Schema and how to read a text back.
It knows nothing of Python types: `carrara.workflows` compiles those to contracts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

from carrara.engines.errors import CarraraError, ContractError
from carrara.engines.fields import COUNT, SIZE, Range
from carrara.engines.nullable import with_nulls
from carrara.engines.patterns import unreadable

ColumnKind = Literal["string", "integer", "number", "boolean", "date"]


@dataclass(frozen=True, slots=True)
class Text:
    """Free text, Markdown included, of at most `max_length` characters; None: as many as tokens allow."""

    max_length: int | None = None
    kind: ClassVar[str] = "text"

    def __post_init__(self) -> None:
        if self.max_length is not None and self.max_length not in SIZE:
            raise CarraraError(f"no text has at most {self.max_length!r} characters")

    def cut(self, text: str) -> str:
        """The beginning of `text` that is not longer than allowed; white space before it does not count."""
        if self.max_length is None:
            return text
        return text[: len(text) - len(text.lstrip()) + self.max_length]

    def parse(self, text: str) -> str:
        """The text without white space around it.

        Raises:
            ContractError: it is longer than `max_length`.
        """
        found = text.strip()
        if self.max_length is not None and len(found) > self.max_length:
            reason = f"{len(found):,} characters, at most {self.max_length:,} are allowed"
            raise ContractError(reason, text=text)
        return found


@dataclass(frozen=True, slots=True)
class Choice:
    """One of `options`, spelled exactly so. At least one option, no two alike, none empty."""

    options: tuple[str, ...]
    kind: ClassVar[str] = "choice"

    def __post_init__(self) -> None:
        stripped = {option.strip() for option in self.options} - {""}
        if not self.options or stripped != set(self.options) or len(stripped) != len(self.options):
            raise CarraraError(
                "a choice needs distinct, non-empty options without white space around them, "
                f"got {self.options!r}"
            )
        for option in self.options:
            _check_encodable(option, "an option")

    def parse(self, text: str) -> str:
        """The option that `text` names; white space around it is not counted.

        Raises:
            ContractError: the text is none of the options.
        """
        answer = text.strip()
        if answer in self.options:
            return answer
        raise ContractError(f"{answer[:80]!r} is none of {', '.join(self.options)}", text=text)


MOST_LEVELS = 400
"""Of a JSON Schema. Python follows about a thousand levels, and whoever reads a schema is some way down already."""


@dataclass(frozen=True, slots=True)
class Json:
    """A JSON value that fits a JSON Schema (draft 2020-12 as pydantic writes it, `$defs` allowed).

    The schema is kept as canonical JSON text, so that contracts compare, hash and serialise.
    """

    schema_text: str
    name: str = "value"
    kind: ClassVar[str] = "json"

    @classmethod
    def of(cls, schema: Mapping[str, Any], name: str = "value") -> Json:
        """The contract of a schema as Python has it. What is `nullable: true`, as OpenAPI 3.0 says it, takes null.

        Raises:
            CarraraError: it is nested more than MOST_LEVELS deep, holds something that is no JSON, or has a key or a
            listed value with half a character in it.
        """
        try:
            text = json.dumps(schema, sort_keys=False, separators=(",", ":"))
            is_too_deep = _levels(schema) > MOST_LEVELS
        except RecursionError:
            is_too_deep = True
        except (TypeError, ValueError) as error:
            raise CarraraError(f"bad JSON Schema of {name!r}: it is no JSON: {error}") from error
        if is_too_deep:
            raise CarraraError(
                f"bad JSON Schema of {name!r}: it is nested too deep, at most {MOST_LEVELS} levels can be. "
                "Flatten it, or let `$defs` refer to each other."
            )
        if '"nullable":true' in text:
            text = json.dumps(with_nulls(json.loads(text)), separators=(",", ":"))
        if _HALF.search(text):
            for word in _pinned_words(json.loads(text)):
                _check_encodable(word, f"bad JSON Schema of {name!r}: a key or listed value")
        return cls(text, name)

    @property
    def schema(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(self.schema_text)
        return loaded

    def parse(self, text: str) -> Any:
        """The JSON value in `text`, checked against the schema. A Markdown fence around it is taken off.

        Raises:
            ContractError: not JSON (a repeated key, an infinite number and a lone surrogate count as
                such: they cannot be kept), or a value that the schema forbids; `path` is a JSON pointer.
        """
        from carrara.engines.json_schema import strict_loads
        from carrara.engines.markdown import unfenced

        try:
            value = strict_loads(unfenced(text))
        except (ValueError, RecursionError) as error:
            raise ContractError(f"not JSON: {error}", text=text) from error
        self.check(value, text)
        return value

    def check(self, value: Any, text: str = "") -> None:
        """Raise ContractError with the JSON pointer of the first part of `value` the schema forbids."""
        from carrara.engines.json_schema import first_violation

        found = first_violation(self.schema_text, value)
        if found is not None:
            path, reason = found
            raise ContractError(f"{path or 'value'}: {reason}", text=text, path=path, value=value)


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    kind: ColumnKind = "string"

    def __post_init__(self) -> None:
        _check_encodable(self.name, "the name of a column")
        if not self.name.strip() or "|" in self.name or len(self.name.splitlines()) != 1:
            raise CarraraError(f"a column needs a name of one line without '|', got {self.name!r}")
        if self.kind not in get_args(ColumnKind):
            kinds = ", ".join(get_args(ColumnKind))
            raise CarraraError(
                f"column {self.name!r}: unknown kind {self.kind!r}, use one of {kinds}"
            )


@dataclass(frozen=True, slots=True)
class Table:
    """A GitHub-flavoured Markdown table with exactly these columns, in this order.

    The value is a list of rows, each a dict from column name to a value of the column's kind
    (an empty cell is None).
    """

    columns: tuple[Column, ...]
    min_rows: int = 0
    max_rows: int | None = None
    kind: ClassVar[str] = "table"

    def __post_init__(self) -> None:
        names = [" ".join(column.name.split()) for column in self.columns]
        if not names or len(set(names)) != len(names):
            raise CarraraError(f"a table needs columns with distinct names, got {names!r}")
        _check_range("rows", self.min_rows, self.max_rows)

    def parse(self, text: str) -> list[dict[str, Any]]:
        from carrara.engines.markdown import parse_table

        return parse_table(text, self)


@dataclass(frozen=True, slots=True)
class Outline:
    """A nested Markdown bullet list, at most `max_depth` levels deep.

    The value is a list of items, each `{"text": str, "items": [items]}`; `min_items` and `max_items`
    count those at the top.
    """

    max_depth: int = 3
    min_items: int = 1
    max_items: int | None = None
    kind: ClassVar[str] = "outline"

    def __post_init__(self) -> None:
        if self.max_depth not in SIZE:
            raise CarraraError(f"an outline is at least 1 level deep, got {self.max_depth!r}")
        _check_range("items", self.min_items, self.max_items)

    def parse(self, text: str) -> list[dict[str, Any]]:
        from carrara.engines.markdown import parse_outline

        return parse_outline(text, self)


@dataclass(frozen=True, slots=True)
class Regex:
    """Text that a regular expression matches in full (Python syntax, no look-around, no references)."""

    pattern: str
    kind: ClassVar[str] = "regex"

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise CarraraError(unreadable(self.pattern, error)) from error

    def parse(self, text: str) -> str:
        answer = text.strip()
        for whole in (answer, text):
            if re.fullmatch(self.pattern, whole):
                return whole
        raise ContractError(f"{answer[:80]!r} does not match {self.pattern!r}", text=text)


MOST_HOLES = 200


@dataclass(frozen=True, slots=True)
class Hole:
    """A place in an `Infill` that is to be filled: with what, and with how many tokens at most.

    Text, patterns, numbers and the strings inside JSON are held to `max_tokens`; a choice has its own length.
    """

    max_tokens: int = 24
    contract: Contract = field(default_factory=Text)

    def __post_init__(self) -> None:
        if self.max_tokens not in SIZE:
            raise CarraraError(f"a hole takes at least 1 token, not {self.max_tokens!r}")
        if not isinstance(self.contract, Text | Choice | Regex | Json):
            kind = getattr(self.contract, "kind", type(self.contract).__name__)
            raise CarraraError(
                f"a hole holds text, a choice, a pattern or JSON, not {kind!r}; ask for that by itself"
            )


@dataclass(frozen=True, slots=True)
class Infill:
    """A text with holes: strings that are pinned, byte for byte, and a `Hole` for each part to be written.

    The value is the list of what the holes hold, each read by its own contract. A hole of text ends before the
    first place where what follows it begins; two holes have text between them.
    """

    parts: tuple[str | Hole, ...]
    kind: ClassVar[str] = "infill"

    def __post_init__(self) -> None:
        parts: list[str | Hole] = []
        for part in self.parts:
            if isinstance(part, str):
                _check_encodable(part, "pinned text")
                if parts and isinstance(parts[-1], str):
                    parts[-1] += part
                elif part:
                    parts.append(part)
                continue
            if not isinstance(part, Hole):
                raise CarraraError(f"an infill is made of strings and holes, not {part!r:.80}")
            if parts and isinstance(parts[-1], Hole):
                number = sum(isinstance(one, Hole) for one in parts)
                raise CarraraError(f"holes {number} and {number + 1} need text between them")
            parts.append(part)
        if not any(isinstance(part, Hole) for part in parts):
            raise CarraraError("an infill needs a hole to fill")
        if len(parts) > 2 * MOST_HOLES:
            raise CarraraError(
                f"an infill has at most {MOST_HOLES} holes; fill a longer text piece by piece"
            )
        object.__setattr__(self, "parts", tuple(parts))

    @property
    def holes(self) -> tuple[Hole, ...]:
        return tuple(part for part in self.parts if isinstance(part, Hole))

    def parse(self, text: str) -> list[Any]:
        """The values of the holes in a text that has all pinned parts.

        Raises:
            ContractError: pinned text is not there, or a hole holds something else than it may; `path` is
                "/0" for the first hole.
        """
        from carrara.engines.infill_text import values_in

        return values_in(text, self)


Contract = Text | Choice | Json | Table | Outline | Regex | Infill


def to_data(contract: Contract) -> dict[str, Any]:
    """The contract as JSON data with its kind; `from_data` is the inverse. Used by hashes and wires."""
    match contract:
        case Text(max_length):
            return {"kind": "text"} | ({} if max_length is None else {"max_length": max_length})
        case Choice(options):
            return {"kind": "choice", "options": list(options)}
        case Json():
            return {"kind": "json", "schema": contract.schema, "name": contract.name}
        case Table():
            return {
                "kind": "table",
                "columns": [{"name": c.name, "kind": c.kind} for c in contract.columns],
                "min_rows": contract.min_rows,
                "max_rows": contract.max_rows,
            }
        case Outline():
            return {
                "kind": "outline",
                "max_depth": contract.max_depth,
                "min_items": contract.min_items,
                "max_items": contract.max_items,
            }
        case Regex(pattern):
            return {"kind": "regex", "pattern": pattern}
        case Infill(parts):
            return {"kind": "infill", "parts": [_part_data(part) for part in parts]}


def from_data(found: Mapping[str, Any]) -> Contract:
    """Rebuild a contract from `to_data`.

    Raises:
        CarraraError: unknown kind or missing part.
    """
    try:
        match found["kind"]:
            case "text":
                return Text(found.get("max_length"))
            case "choice":
                return Choice(tuple(found["options"]))
            case "json":
                return Json.of(found["schema"], found.get("name", "value"))
            case "table":
                columns = tuple(
                    Column(c["name"], c.get("kind", "string")) for c in found["columns"]
                )
                return Table(columns, found.get("min_rows", 0), found.get("max_rows"))
            case "outline":
                return Outline(
                    found.get("max_depth", 3), found.get("min_items", 1), found.get("max_items")
                )
            case "regex":
                return Regex(found["pattern"])
            case "infill":
                return Infill(
                    tuple(
                        part
                        if isinstance(part, str)
                        else Hole(part["max_tokens"], from_data(part["contract"]))
                        for part in found["parts"]
                    )
                )
            case other:
                raise CarraraError(f"unknown contract kind {other!r}")
    except KeyError as error:
        raise CarraraError(f"contract {dict(found)!r} lacks {error}") from error


def _part_data(part: str | Hole) -> Any:
    if isinstance(part, str):
        return part
    return {"max_tokens": part.max_tokens, "contract": to_data(part.contract)}


def _levels(value: Any) -> int:
    """How many levels of objects and lists a JSON value has, looked at level by level."""
    found, level = 0, [value]
    while level:
        inside = [
            one.values() if isinstance(one, Mapping) else one
            for one in level
            if isinstance(one, Mapping | list | tuple)
        ]
        found, level = found + bool(inside), [part for parts in inside for part in parts]
    return found


_HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""Half of a surrogate pair in JSON that is written in ASCII, whether or not its other half follows."""


def _pinned_words(schema: Any) -> Iterator[str]:
    """The strings that an answer repeats from its schema: keys, and the values that it lists."""
    waiting = [(schema, False)]
    while waiting:
        part, is_listed = waiting.pop()
        if isinstance(part, str) and is_listed:
            yield part
        elif isinstance(part, Mapping):
            yield from part
            waiting += [
                (value, is_listed or key in ("const", "enum", "required"))
                for key, value in part.items()
            ]
        elif isinstance(part, list):
            waiting += [(value, is_listed) for value in part]


def _check_encodable(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise CarraraError(f"{what} with half a character in it: {error}") from error


def _check_range(what: str, least: int, most: int | None) -> None:
    if least not in COUNT or (most is not None and most not in Range(least, whole=True)):
        raise CarraraError(f"no number of {what} is between {least!r} and {most!r}")


__all__ = [
    "Choice",
    "Column",
    "Contract",
    "Hole",
    "Infill",
    "Json",
    "Outline",
    "Regex",
    "Table",
    "Text",
    "from_data",
    "to_data",
]
