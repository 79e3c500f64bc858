"""A JSON contract as a canvas: literal text that is pinned, and slots for the values, each with room for some tokens.

Only objects whose keys are fixed and whose leaves are scalars can be laid out; lists need a length that nobody knows
beforehand. What is read out of a slot is written anew as JSON, so what is assembled always parses.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_ENDS = re.compile(r'(?<!\\)"|\n|<eos>|<pad>|<turn\|>|<end_of_turn>|</s>|<\|im_end\|>')
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")
_STRING_TOKENS, _NUMBER_TOKENS, _WORD_TOKENS = 16, 8, 5


class Unpinnable(Exception):
    """This contract, or this answer, has no place on a canvas; it is asked for in words."""


@dataclass(frozen=True, slots=True)
class Literal:
    text: str


@dataclass(frozen=True, slots=True)
class Slot:
    """A leaf: its path, its schema with references resolved, whether it may be null, whether quotes stand around it."""

    path: tuple[str, ...]
    schema: Mapping[str, Any]
    nullable: bool
    quoted: bool

    @property
    def room(self) -> int:
        """Tokens that a value may take."""
        if options := self.options:
            return max(len(json.dumps(option)) for option in options) // 2 + 1
        match self.kind:
            case "string":
                longest = self.schema.get("maxLength")
                by_length = longest // 3 + 2 if isinstance(longest, int) else _STRING_TOKENS
                return min(max(by_length, 4), 48)
            case "boolean":
                return _WORD_TOKENS
            case _:
                return _NUMBER_TOKENS

    @property
    def kind(self) -> str:
        found = self.schema.get("type")
        kinds = [k for k in (found if isinstance(found, list) else [found]) if k != "null"]
        return str(kinds[0]) if len(kinds) == 1 else ""

    @property
    def options(self) -> tuple[Any, ...]:
        if "const" in self.schema:
            return (self.schema["const"],)
        return tuple(option for option in self.schema.get("enum", ()) if option is not None)

    def written(self, value: Any) -> str:
        """The text of a known value in this slot.

        Raises:
            Unpinnable: a null in a slot with quotes.
        """
        text = json.dumps(value, ensure_ascii=False)
        if not self.quoted:
            return text
        if not isinstance(value, str):
            raise Unpinnable(f"{value!r} is no text")
        return text[1:-1]

    def read(self, text: str) -> Any:
        """The value in what the model wrote here.

        Raises:
            Unpinnable: there is none.
        """
        bare = text.lstrip()
        if self.nullable and bare.startswith("null"):
            return None
        if self.options:
            return self._option(bare)
        match self.kind:
            case "string":
                return self._string(text)
            case "boolean":
                word = bare.lower()
                if word.startswith(("true", "false")):
                    return word.startswith("true")
            case "number" | "integer":
                found = _NUMBER.match(bare)
                if found and (self.kind == "number" or re.fullmatch(r"-?\d+", found[0])):
                    return json.loads(found[0])
        raise Unpinnable(f"{'/'.join(self.path)}: no {self.kind} in {text[:40]!r}")

    def _string(self, text: str) -> str:
        body = text if self.quoted else text.lstrip().removeprefix('"')
        end = _ENDS.search(body)
        words = (body[: end.start()] if end else body).strip()
        try:
            return str(json.loads(f'"{words}"', strict=False))
        except ValueError:
            return words

    def _option(self, bare: str) -> Any:
        texts = {
            (option if isinstance(option, str) else json.dumps(option)): option
            for option in self.options
        }
        word = self._string(bare)
        for text in sorted(texts, key=len, reverse=True):
            if word.startswith(text):
                return texts[text]
        near = difflib.get_close_matches(word, texts, 1, cutoff=0.8)
        if not near:
            raise Unpinnable(f"{'/'.join(self.path)}: {word[:40]!r} is no option")
        return texts[near[0]]


Part = Literal | Slot


def layout(schema: Mapping[str, Any]) -> list[Part]:
    """The parts of a canvas in order; neighbouring literals are joined.

    Raises:
        Unpinnable: the schema has a part that cannot be laid out.
    """
    parts: list[Part] = []
    for part in _object(schema, schema, ()):
        if isinstance(part, Literal) and parts and isinstance(parts[-1], Literal):
            parts[-1] = Literal(parts[-1].text + part.text)
        else:
            parts.append(part)
    return parts


def assembled(values: Mapping[tuple[str, ...], Any], parts: list[Part]) -> str:
    """The JSON text with these values in its slots."""
    return "".join(
        part.text
        if isinstance(part, Literal)
        else json.dumps(values[part.path], ensure_ascii=False)[
            1 if part.quoted else 0 : -1 if part.quoted else None
        ]
        for part in parts
    )


def _object(
    schema: Mapping[str, Any], root: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[Part]:
    schema = _resolved(schema, root)
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or not properties or len(path) > 8:
        raise Unpinnable("only objects with fixed keys can be laid out")
    opening = "{"
    for name, part in properties.items():
        yield Literal(f"{opening}{json.dumps(name, ensure_ascii=False)}: ")
        yield from _value(part, root, (*path, name))
        opening = ", "
    yield Literal("}")


def _value(schema: Any, root: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[Part]:
    found = _resolved(schema, root)
    nullable = False
    for key in ("anyOf", "oneOf"):
        if key in found:
            rest = [part for part in found[key] if part.get("type") != "null"]
            if len(rest) != 1:
                raise Unpinnable(f"{'/'.join(path)}: one of several types")
            nullable, found = len(rest) < len(found[key]), _resolved(rest[0], root)
    if "properties" in found and not nullable:
        yield from _object(found, root, path)
        return
    kinds = found.get("type")
    nullable = nullable or (isinstance(kinds, list) and "null" in kinds)
    slot = Slot(path, found, nullable, False)
    strings = [option for option in slot.options if isinstance(option, str)]
    is_text = slot.kind == "string" or (slot.options and len(strings) == len(slot.options))
    if not is_text and slot.kind not in ("number", "integer", "boolean") and not slot.options:
        raise Unpinnable(f"{'/'.join(path)}: a {slot.kind or 'value of several types'}")
    if is_text and not nullable:
        yield Literal('"')
        yield Slot(path, found, False, True)
        yield Literal('"')
    else:
        yield slot


def _resolved(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    for _ in range(16):
        if not isinstance(schema, Mapping):
            raise Unpinnable("a schema that is no object")
        target = schema.get("$ref")
        if target is None:
            return schema
        if not isinstance(target, str) or not target.startswith("#/"):
            raise Unpinnable(f"the reference {target!r}")
        schema = root
        for key in target[2:].split("/"):
            schema = schema.get(key) if isinstance(schema, Mapping) else None
    raise Unpinnable("references without end")


__all__ = ["Literal", "Part", "Slot", "Unpinnable", "assembled", "layout"]
