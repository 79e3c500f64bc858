"""Looking ahead: which tokens of a draft go into a verifying pass, and what its grammar allows after each.

The pass reads the answer's last tokens and then those of the draft. At every `Point` the decoder that writes one
token after the other would take a decision; there it is taken from the very logits and mask that it would have had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carrara.engines.autoregressive.guide import Guide
from carrara.engines.verified.draft import Draft

Mask = NDArray[np.int32]

LEAST_CHANCE = 0.2
"""A draft is followed while it is at least so likely to be right from here to there. Reading one more token takes about
a quarter of what a pass over one token takes (1: 27 ms, 16: 122 ms; SmolLM2, int8, one thread, AVX-512)."""


@dataclass(frozen=True, slots=True)
class Point:
    """A decision behind `at` tokens of the draft. `mask`: the allowed tokens as bits, None for all."""

    at: int
    mask: Mask | None


@dataclass(frozen=True, slots=True)
class Ahead:
    """The draft's tokens to read behind the answer's own, and the decisions to take. The first is at 0 tokens."""

    tokens: tuple[int, ...]
    points: tuple[Point, ...]


def look_ahead(
    guide: Guide | None, draft: Draft | None, vocabulary: Sequence[bytes], most: int
) -> Ahead:
    """Follow the draft for at most `most` tokens, over what the grammar forces too. `guide` is left where it is.

    Raises:
        EngineRefused: the grammar failed.
    """
    words = -(-len(vocabulary) // 32)
    at = draft.cursor if draft is not None else None
    walker = guide if guide is None or at is None else guide.copy()
    tokens: list[int] = []
    points: list[Point] = []
    likely = 1.0
    while True:
        mask = _mask(walker, words)
        points.append(Point(len(tokens), mask))
        if draft is None or at is None:
            break
        token = next((t for t in draft.candidates(at) if _allows(mask, t)), None)
        if token is None:
            break
        end = at + len(vocabulary[token])
        likely *= draft.chance(at, end)
        if likely < LEAST_CHANCE or len(tokens) == most:
            break
        forced = [] if walker is None else walker.take(token)
        is_over = walker is not None and walker.is_finished
        if is_over or len(tokens) + 1 + len(forced) > most:
            break
        tokens += [token, *forced]
        at = draft.after(end, b"".join(vocabulary[i] for i in forced))
    return Ahead(tuple(tokens), tuple(points))


def _mask(guide: Guide | None, words: int) -> Mask | None:
    if guide is None:
        return None
    bits = np.full(words, -1, dtype=np.int32)
    guide.allowed(bits)
    return bits


def _allows(mask: Mask | None, token: int) -> bool:
    return mask is None or bool(int(mask[token >> 5]) >> (token & 31) & 1)
