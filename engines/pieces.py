"""A canvas as it may be shown before it is finished: pieces of text, each final or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat

from carrara.engines.request import Progress, Span

UNDECIDED = "·"
"""What stands for a position that is not decided yet."""
TORN = "\ufffd"
"""What decoding writes for bytes that are no whole character."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that is final, with the probability it was decided with (None: it was pinned, or the only possibility), or
    text that still may change."""

    text: str
    sure: float | None = None
    is_final: bool = True


OPEN = Piece(UNDECIDED, is_final=False)


def of_tokens(
    tokens: Iterable[tuple[int | None, float | None]],
    decode: Callable[[Sequence[int]], str],
    is_final: Iterable[bool] = repeat(True),
) -> Iterator[Piece]:
    """Pieces of tokens (None: undecided) and how sure each is. Tokens that write one character together are one piece,
    as sure as the least sure of them, and final if all of them are (`is_final`, one for each). A token with a part of a
    character of which another part is undecided is shown as undecided, too."""
    run: list[int] = []
    least: float | None = None
    is_torn = False  # what stands before is undecided: a character may have begun there
    stays = True
    for (token, sure), token_stays in zip(tokens, is_final, strict=False):
        if token is None:
            yield from [OPEN] * (len(run) + 1)
            run, least, is_torn, stays = [], None, True, True
            continue
        if is_torn:
            alone = decode([token])
            if alone.startswith(TORN):
                yield OPEN
                continue
            is_torn = not alone
        run.append(token)
        stays = stays and token_stays
        least = sure if least is None else least if sure is None else min(least, sure)
        text = decode(run)
        if not text.endswith(TORN):
            yield Piece(text, least, stays)
            run, least, stays = [], None, True
    if run:
        yield Piece(decode(run), least, stays)


def progress(pieces: Iterable[Piece], settled: float, step: int) -> Progress:
    """The draft that pieces make. Neighbours that are pinned are one span, unless text may yet come between them."""
    texts: list[str] = []
    final: list[Span] = []
    at, goes_on = 0, False
    for piece in pieces:
        if piece.is_final and not piece.text:
            continue
        texts.append(piece.text)
        end = at + len(piece.text)
        is_pinned = piece.is_final and piece.sure is None
        if is_pinned and goes_on:
            final[-1] = Span(final[-1].start, end, None)
        elif piece.is_final:
            final.append(Span(at, end, piece.sure))
        at, goes_on = end, is_pinned
    return Progress("".join(texts), settled, step, tuple(final))
