"""How sure the model was: token probabilities, gathered for the parts of an answer.

A token's probability is taken among the tokens its grammar allowed, at temperature 1. Tokens that the
grammar forced were not decided and do not count. A part's confidence is the geometric mean over the
tokens that write into it; a choice's is the product, which is the probability of that option among all
of them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from carrara.engines.contract import Choice, Contract, Infill, Json, Outline, Regex, Table
from carrara.engines.infill_text import hole_texts
from carrara.engines.json_schema import pointer
from carrara.engines.request import Confidence

_SCALAR = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s,\]}]+')
_SPACE = re.compile(r"\s*")
_ITEM = re.compile(r"( *)- (.*)")


@dataclass(frozen=True, slots=True)
class Written:
    """One token of an answer: how many bytes it wrote, and its probability, None where it was forced."""

    size: int
    chance: float | None


@dataclass(frozen=True, slots=True)
class Span:
    """A part of an answer: its JSON pointer and its bytes start..stop."""

    path: str
    start: int
    stop: int


def confidence_of(
    contract: Contract, raw: bytes, tokens: Sequence[Written], ending: float | None = None
) -> Confidence:
    """The confidence in a whole answer that holds to `contract`.

    `raw` are the bytes that `tokens` wrote. `ending` is the probability of the end of the text where the
    model decided it, None where it was forced; it counts for a choice, which may begin like another one.
    """
    decided = [token.chance for token in tokens if token.chance is not None]
    fields: dict[str, float] = {}
    if isinstance(contract, Choice):
        fields[""] = math.prod([*decided, 1.0 if ending is None else ending])
    else:
        parts = list(spans(contract, raw))
        chances = _by_part(parts, tokens)
        fields = {part.path: mean(found) for part, found in zip(parts, chances, strict=True)}
    return Confidence(mean(decided), fields, tuple(decided))


def mean(chances: Sequence[float]) -> float:
    """Geometric mean; 1 for nothing, because what was not decided was certain."""
    if not chances:
        return 1.0
    return math.exp(sum(math.log(max(chance, 1e-30)) for chance in chances) / len(chances))


def spans(contract: Contract, raw: bytes) -> Iterator[Span]:
    """Where the fields of an answer stand in its bytes, in order. Leaves of JSON, cells, items, or the
    whole."""
    # One character a byte: positions are byte positions, and nothing beyond ASCII has a meaning here.
    text = raw.decode("latin-1")
    match contract:
        case Json():
            yield from _json_spans(text, _skip(text, 0), ())[0]
        case Table(columns):
            yield from _table_spans(text, [column.name for column in columns])
        case Outline():
            yield from _outline_spans(text)
        case Regex():
            yield Span("", 0, len(text))
        case Infill():
            yield from _hole_spans(contract, raw.decode())


def _by_part(parts: Sequence[Span], tokens: Sequence[Written]) -> list[list[float]]:
    """The probabilities of the tokens that overlap each part. Parts are in order and apart from each
    other."""
    found: list[list[float]] = [[] for _ in parts]
    start, first = 0, 0
    for token in tokens:
        stop = start + token.size
        while first < len(parts) and parts[first].stop <= start:
            first += 1
        if token.chance is not None:
            for index in range(first, len(parts)):
                if parts[index].start >= stop:
                    break
                found[index].append(token.chance)
        start = stop
    return found


def _json_spans(text: str, at: int, path: tuple[Any, ...]) -> tuple[list[Span], int]:
    """The leaves of the value that begins at `at` (an empty list or object is one), and where it ends."""
    if text[at] not in "[{":
        match = _SCALAR.match(text, at)
        end = match.end() if match else len(text)
        return [Span(pointer(path), at, end)], end
    start, closing = at, "]" if text[at] == "[" else "}"
    at, index = _skip(text, at + 1), 0
    found: list[Span] = []
    while text[at] != closing:
        key: Any = index
        if closing == "}":
            name = _SCALAR.match(text, at)
            end = name.end() if name else len(text)
            key = json.loads(text[at:end].encode("latin-1"))
            at = _skip(text, _skip(text, end) + 1)
        inner, at = _json_spans(text, at, (*path, key))
        found += inner
        at, index = _skip(text, at), index + 1
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found or [Span(pointer(path), start, at + 1)], at + 1


def _hole_spans(contract: Infill, text: str) -> Iterator[Span]:
    at, written = 0, iter(hole_texts(text, contract))
    number = 0
    for part in contract.parts:
        size = len((part if isinstance(part, str) else next(written)).encode())
        if not isinstance(part, str):
            yield Span(f"/{number}", at, at + size)
            number += 1
        at += size


def _table_spans(text: str, names: Sequence[str]) -> Iterator[Span]:
    start = 0
    for number, line in enumerate(text.split("\n")):
        if number >= 2:
            at = start + 1
            for name, cell in zip(names, line[1:].split("|"), strict=False):
                yield Span(pointer((number - 2, name)), at, at + len(cell))
                at += len(cell) + 1
        start += len(line) + 1


def _outline_spans(text: str) -> Iterator[Span]:
    start = 0
    counts: list[int] = []
    for line in text.split("\n"):
        match = _ITEM.match(line)
        if match:
            depth = len(match[1]) // 2
            counts = [*counts[: depth + 1], -1][: depth + 1]
            counts[depth] += 1
            path = [part for count in counts for part in (count, "items")][:-1]
            yield Span(pointer(path), start + match.start(2), start + len(line))
        start += len(line) + 1


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
