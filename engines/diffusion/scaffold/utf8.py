"""Automata over characters spelled out in UTF-8 bytes, which is what tokens are made of.

Legend: S states, the last row of a table is the dead state.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carrara.engines.diffusion.scaffold.dfa import Dfa

Sequences = tuple[tuple[tuple[tuple[int, int], ...], int, int], ...]
"""Byte ranges still to be read, the state reached after them, and what the character counts."""


@dataclass(frozen=True, slots=True, eq=False)
class ByteDfa:
    """`target` and `count` are [S + 1, 256]: the next state and what the byte adds to the length.

    State 0 is the start, state S is dead and leads to itself.
    """

    target: NDArray[np.int32]
    count: NDArray[np.int32]
    accepts: frozenset[int]

    @property
    def states(self) -> int:
        return len(self.target) - 1


def spelled_out(dfa: Dfa) -> ByteDfa:
    """The automaton of the same texts in UTF-8. A character's count is added at its first byte."""
    builder = _Builder(dfa)
    dead = len(builder.target)
    target = np.array([*builder.target, [-1] * 256], dtype=np.int32)
    target[target < 0] = dead
    count = np.array([*builder.count, [0] * 256], dtype=np.int32)
    return ByteDfa(target, count, dfa.accepts)


class _Builder:
    def __init__(self, dfa: Dfa) -> None:
        self.target = [[-1] * 256 for _ in dfa.moves]
        self.count = [[0] * 256 for _ in dfa.moves]
        self.known: dict[Sequences, int] = {}
        for state, moves in enumerate(dfa.moves):
            found = [
                (pieces, move.target, move.count)
                for move in moves
                for pieces in byte_ranges(move.low, move.high)
            ]
            self._fill(state, tuple(found), first=True)

    def _fill(self, state: int, sequences: Sequences, first: bool = False) -> None:
        after: dict[int, list[tuple[tuple[tuple[int, int], ...], int, int]]] = {}
        for pieces, target, count in sequences:
            low, high = pieces[0]
            for byte in range(low, high + 1):
                after.setdefault(byte, []).append((pieces[1:], target, count))
        for byte, rest in after.items():
            self.target[state][byte] = self._state(tuple(rest))
            self.count[state][byte] = rest[0][2] if first else 0

    def _state(self, sequences: Sequences) -> int:
        pieces, target, _ = sequences[0]
        if not pieces:
            return target
        if sequences not in self.known:
            self.known[sequences] = len(self.target)
            self.target.append([-1] * 256)
            self.count.append([0] * 256)
            self._fill(self.known[sequences], sequences)
        return self.known[sequences]


def byte_ranges(low: int, high: int) -> Iterable[tuple[tuple[int, int], ...]]:
    """The UTF-8 spellings of all characters from `low` to `high`, as sequences of byte ranges."""
    for border in (0x7F, 0x7FF, 0xFFFF):
        if low <= border < high:
            yield from byte_ranges(low, border)
            yield from byte_ranges(border + 1, high)
            return
    if high <= 0x7F:
        yield ((low, high),)
        return
    length = len(chr(high).encode())
    for tail in range(1, length):
        size = 1 << 6 * tail
        if low // size != high // size:
            if low % size:
                middle = (low // size + 1) * size
            elif high % size != size - 1:
                middle = high // size * size
            else:
                continue
            yield from byte_ranges(low, middle - 1)
            yield from byte_ranges(middle, high)
            return
    yield tuple(zip(chr(low).encode(), chr(high).encode(), strict=True))
