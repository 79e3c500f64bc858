"""Where the tables and lists of a Markdown text stand, as markdown-it-py reads it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from carrara.engines.errors import ContractError
from carrara.engines.markdown import block_tokens

if TYPE_CHECKING:
    from markdown_it.token import Token

LISTS = ("bullet_list_open", "ordered_list_open")
_NEWLINE = re.compile(r"\r\n|\r|\n")
Span = tuple[int, int]


def blocks_of(text: str, kinds: Sequence[str]) -> list[Span]:
    """Spans of the top-level blocks of these kinds; if there are none, of those inside the code fences.

    Neighbouring lists that differ only by their markers count as one.
    """
    spans: list[Span] = []
    fences: list[Span] = []
    lines = line_spans(text)
    for token in tokens_of(text):
        if token.level == 0 and token.map and token.type in kinds:
            span = (lines[token.map[0]][0], lines[token.map[1] - 1][1])
            if spans and token.type in LISTS and not text[spans[-1][1] : span[0]].strip():
                span = (spans.pop()[0], span[1])
            spans.append(span)
        elif token.type == "fence" and token.map:
            fences.append((lines[token.map[0]][1], lines[token.map[1] - 1][0]))
    if spans:
        return [_stripped(text, span) for span in spans]
    return [
        (start + a, start + b)
        for start, end in fences
        for a, b in blocks_of(text[start:end], kinds)
    ]


def tokens_of(text: str) -> list[Token]:
    try:
        return block_tokens(text)
    except ContractError:
        return []


def line_spans(text: str) -> list[Span]:
    """Start and end of each line, as Markdown counts lines; the end is before the newline."""
    spans: list[Span] = []
    at = 0
    for match in _NEWLINE.finditer(text):
        spans.append((at, match.start()))
        at = match.end()
    return [*spans, (at, len(text))]


def _stripped(text: str, span: Span) -> Span:
    start, end = span
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


__all__ = ["LISTS", "Span", "blocks_of", "line_spans", "tokens_of"]
