"""Examples packed into rows of positions, those with the same beginning side by side.

What the prompts of a row begin with (a system message, an instruction, a list of labels) stands there once and is
seen by all of its examples: in labelled data that is often most of the prompt.

Legend: T positions of a row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from carrara.engines.adapt.examples import Canvas, Example

SHARED, PADDING = 0, -1
"""Segments: what all examples of a row see, and what nobody asks about. Examples count from 1."""


@dataclass(slots=True)
class Targets:
    """What is asked: at row position `sources` the model shall say `tokens`, with `weights` in the loss."""

    sources: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def add(self, source: int, token: int, weight: float) -> None:
        self.sources.append(source)
        self.tokens.append(token)
        self.weights.append(weight)


@dataclass(slots=True)
class PackedRow:
    """One row, [T] each: a position sees what is SHARED and what is of its segment, there the clean positions up to
    `limits` and all of its own `canvas` (numbered from 1; 0 for clean positions)."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    canvases: list[int] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)
    causal: Targets = field(default_factory=Targets)
    denoised: Targets = field(default_factory=Targets)
    examples: int = 0

    def __len__(self) -> int:
        return len(self.tokens)


def pack(
    examples: Iterable[Example], row_tokens: int, shift: bool, most: int = 1 << 30
) -> list[PackedRow]:
    """All examples in rows of at most `row_tokens` and `most` examples; a longer example gets a row of its own.

    Examples that begin alike stand side by side, so the result is ordered by beginnings: shuffle it.
    """
    ordered = sorted(examples, key=lambda example: example.clean[: example.answer])
    rows: list[PackedRow] = []
    group: list[Example] = []
    for example in ordered:
        if group and (len(group) >= most or _length([*group, example]) > row_tokens):
            rows.append(_row(group, shift))
            group = []
        group.append(example)
    if group:
        rows.append(_row(group, shift))
    return rows


def _length(group: Sequence[Example]) -> int:
    return _shared(group) + sum(example.positions - _shared(group) for example in group)


def _shared(group: Sequence[Example]) -> int:
    """How many tokens all prompts begin with, the last token of a prompt aside. `group` is ordered."""
    first, last = group[0], group[-1]
    most = min(example.answer for example in group) - 1
    same = 0
    while same < most and first.clean[same] == last.clean[same]:
        same += 1
    return same


def _row(group: Sequence[Example], shift: bool) -> PackedRow:
    row, shared = PackedRow(examples=len(group)), _shared(group)
    for at, token in enumerate(group[0].clean[:shared]):
        _put(row, token, at, SHARED, 0, at)
    for segment, example in enumerate(group, 1):
        _add(row, example, segment, shared, shift)
    return row


def _add(row: PackedRow, example: Example, segment: int, shared: int, shift: bool) -> None:
    offset = len(row) - shared
    for at in range(shared, len(example.clean)):
        _put(row, example.clean[at], at, segment, 0, at)

    def place(at: int) -> int:
        """Where a clean token stands in the row."""
        return at if at < shared else offset + at

    if example.taught:
        answer = range(example.answer, len(example.clean))
        weight = 1 / math.sqrt(max(1, len(answer)))
        for at in answer:
            row.causal.add(place(at - 1), example.clean[at], weight)
    for canvas in example.canvases:
        _add_canvas(row, canvas, segment, place(canvas.behind - 1), shift)


def _add_canvas(row: PackedRow, canvas: Canvas, segment: int, before: int, shift: bool) -> None:
    number, begin = max(row.canvases, default=0) + 1, len(row)
    # Short answers would count for little beside long ones, and long ones would drown in the mean over answers:
    # the root is between the two.
    scale = 1 / math.sqrt(sum(canvas.weights))
    for at, token in enumerate(canvas.tokens):
        _put(row, token, canvas.behind + at, segment, number, canvas.behind - 1)
        if canvas.weights[at]:
            source = begin + at - shift
            source = before if source < begin else source
            row.denoised.add(source, canvas.right[at], canvas.weights[at] * scale)


def _put(row: PackedRow, token: int, position: int, segment: int, canvas: int, limit: int) -> None:
    row.tokens.append(token)
    row.positions.append(position)
    row.segments.append(segment)
    row.canvases.append(canvas)
    row.limits.append(limit)
