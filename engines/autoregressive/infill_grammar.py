"""A text with holes as a grammar: the pinned text is forced, the holes are written from left to right.

What is regular is one lexeme, for the reason that a table's row is (see `grammar`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from carrara.engines.autoregressive.narrow import narrowed
from carrara.engines.contract import Choice, Hole, Infill, Json, Regex
from carrara.engines.infill_text import end_sign
from carrara.engines.request import Request

CHARACTERS_A_TOKEN = 4  # the bound of a hole of text is one of characters here
_BYTES_A_CHARACTER = 4
_CHARACTER = r"[^\x00-\x08\x0b-\x1f\x7f]"
_PLAIN = {"type", "title", "description", "enum", "const"}
_NUMBERS = {
    "integer": r"-?(0|[1-9][0-9]{0,14})",
    "number": r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,10})?",
}


def infill_lark(contract: Infill, pattern: Callable[[str], str]) -> str:
    """The grammar of an infill; `pattern` turns a Python regular expression into one of Lark."""
    start: list[str] = []
    lines: list[str] = []
    lexeme: list[str] = []

    def close() -> None:
        if lexeme:
            start.append(f"W{len(start)}")
            lines.append(f"W{len(start) - 1}: {' '.join(lexeme)}")
            lexeme.clear()

    for at, part in enumerate(contract.parts):
        if isinstance(part, str):
            sign = end_sign(contract, at - 1) if at and _is_text(contract.parts[at - 1]) else ""
            if rest := part[len(sign) :]:
                lexeme.append(json.dumps(rest))
            continue
        match part.contract:
            case Choice(options):
                lexeme.append(_either(json.dumps(option) for option in options))
            case Regex(found):
                lexeme.append(f"/{pattern(found)}/")
            case Json():
                words = _scalar(part.contract.schema)
                if words is not None:
                    lexeme.append(words)
                else:
                    close()
                    start.append(f"j{at}")
                    lines.append(
                        f"j{at}: %json {json.dumps(_spelled(part.contract.schema, part.max_tokens))}"
                    )
            case _:
                lexeme.append(_text(part, end_sign(contract, at), at, lines))
    close()
    return "\n".join([f"start: {' '.join(start)}", *lines])


def with_room(request: Request, encode: Callable[[str], list[int]], left: int) -> Request:
    """An infill with room for its pinned text and for what its holes may hold: it has its limits in itself.

    That is enough for holes of any characters, where `left` tokens of the context are; else for usual ones.
    """
    if not isinstance(request.output, Infill):
        return request
    pinned, holes = 8, 0
    for part in request.output.parts:
        if isinstance(part, str):
            pinned += len(encode(part)) + 1
            continue
        holes += part.max_tokens
        if isinstance(part.contract, Choice):
            pinned += max(len(encode(option)) for option in part.contract.options)
    room = pinned + holes * CHARACTERS_A_TOKEN
    if left > room:
        room = min(left, pinned + holes * CHARACTERS_A_TOKEN * _BYTES_A_CHARACTER)
    return replace(request, limits=replace(request.limits, max_tokens=room))


def _is_text(part: str | Hole) -> bool:
    return isinstance(part, Hole) and not isinstance(part.contract, Choice | Regex | Json)


def _text(hole: Hole, sign: str, at: int, lines: list[str]) -> str:
    """A hole of text with the sign behind it: the first one ends it."""
    most = CHARACTERS_A_TOKEN * hole.max_tokens
    inside = f"/(?s:{_CHARACTER}{{0,{most}}})/"
    if not sign:
        return inside
    quoted = json.dumps(sign)
    lines += [
        f"ONCE{at}: {inside} {quoted}",
        f"AGAIN{at}: /(?s:.*)/ {quoted} /(?s:.+)/",
        f"HOLE{at}: ONCE{at} & ~AGAIN{at}",
    ]
    return f"HOLE{at}"


def _scalar(schema: Any) -> str | None:
    """A listed value or a number without bounds, None for other schemas: a lexeme of its own would swallow the
    full stop behind a number."""
    if not isinstance(schema, dict) or schema.keys() - _PLAIN:
        return None
    if "const" in schema or "enum" in schema:
        values = [schema["const"]] if "const" in schema else schema["enum"]
        return _either(json.dumps(json.dumps(value, ensure_ascii=False)) for value in values)
    match schema.get("type"):
        case "boolean":
            return '("true" | "false")'
        case "null":
            return '"null"'
        case "integer" | "number" as kind:
            return f"/{_NUMBERS[kind]}/"
    return None


def _spelled(schema: Any, most: int) -> Any:
    """The schema with the spelling that the rest of the grammars have, and strings with an end."""
    schema = narrowed(schema, CHARACTERS_A_TOKEN * most)
    options = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
    return {**schema, "x-guidance": options} if isinstance(schema, dict) else schema


def _either(options: Any) -> str:
    return "(" + " | ".join(options) + ")"


__all__ = ["infill_lark", "with_room"]
