"""From settled tokens of free text to the answer: cut before a stop string and at what it may have at most, without
white space around it. What a draft shows agrees with that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from carrara.engines.answer_text import AnswerText
from carrara.engines.contract import Text
from carrara.engines.pieces import Piece
from carrara.engines.request import Request


def ended_text(text: str, request: Request) -> AnswerText:
    """Settled free text, cut before a stop string and at what it may have at most."""
    bound = request.output if isinstance(request.output, Text) else Text()
    found = AnswerText(request.stop, bound)
    found.add(text.encode())
    return found


def answered(found: AnswerText) -> str:
    """The answer, once nothing follows."""
    return found.final().strip()


def as_answered(pieces: Iterable[Piece], request: Request, is_whole: bool) -> list[Piece]:
    """The pieces of a canvas as they stand in the answer. `is_whole`: nothing more will be decided.

    Final is what has nothing undecided before it, as the text may still end there. White space at its end, and what may
    turn out to begin a stop string, is final once something stands behind it.
    """
    settled: list[Piece] = []
    rest: list[Piece] = []
    for piece in pieces:
        if piece.is_final and not rest:
            settled.append(piece)
        else:
            rest.append(replace(piece, is_final=False))
    written = "".join(piece.text for piece in settled)
    found = ended_text(written, request)
    is_over = is_whole or found.is_over
    text = found.final() if is_over else found.shown()
    begin = len(text) - len(text.lstrip())
    end = max(begin, len(text.rstrip()))
    final = list(_between(settled, begin, end))
    if is_over:
        return final
    waiting = (replace(piece, is_final=False) for piece in _between(settled, end, len(written)))
    return [*final, *waiting, *rest]


def _between(pieces: Sequence[Piece], begin: int, end: int) -> Iterator[Piece]:
    """The pieces from one character to another."""
    at = 0
    for piece in pieces:
        text = piece.text[max(begin - at, 0) : max(end - at, 0)]
        at += len(piece.text)
        if text:
            yield replace(piece, text=text)


__all__ = ["answered", "as_answered", "ended_text"]
