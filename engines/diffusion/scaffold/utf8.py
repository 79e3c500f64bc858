"""Automata over characters spelled out in UTF-8 bytes, which is what tokens are made of.

Legend: S states, the last row of a table is the dead state.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carrara.engines.diffusion.scaffold.dfa import Dfa

Sequences = tuple[tuple[tuple[tuple[int, int], ...], int, bool], ...]
"""Byte ranges still to be read, the state reached after them, and whether the character counts."""


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
    target = np.array(builder.target, dtype=np.int32)
    target[target < 0] = len(target)
    count = np.array(builder.count, dtype=np.int32)
    dead = np.full((1, 256), len(target), dtype=np.int32)
    accepts = np.zeros(len(target) + 1, dtype=bool)
    accepts[list(dfa.accepts)] = True
    return _minimal(
        np.concatenate((target, dead)), np.concatenate((count, np.zeros_like(dead))), accepts
    )


class _Builder:
    def __init__(self, dfa: Dfa) -> None:
        self.target = [[-1] * 256 for _ in dfa.moves]
        self.count = [[0] * 256 for _ in dfa.moves]
        self.known: dict[Sequences, int] = {}
        for state, moves in enumerate(dfa.moves):
            found = [
                (pieces, move.target, move.counted)
                for move in moves
                for pieces in byte_ranges(move.low, move.high)
            ]
            self._fill(state, tuple(found), first=True)

    def _fill(self, state: int, sequences: Sequences, first: bool = False) -> None:
        after: dict[int, list[tuple[tuple[tuple[int, int], ...], int, bool]]] = {}
        for pieces, target, counted in sequences:
            low, high = pieces[0]
            for byte in range(low, high + 1):
                after.setdefault(byte, []).append((pieces[1:], target, counted))
        for byte, rest in after.items():
            self.target[state][byte] = self._state(tuple(rest))
            self.count[state][byte] = int(first and rest[0][2])

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


def _minimal(
    target: NDArray[np.int32], count: NDArray[np.int32], accepts: NDArray[np.bool_]
) -> ByteDfa:
    """Join states that behave alike (Moore's refinement); the dead state comes last."""
    groups = accepts.astype(np.int32)
    groups[-1] = 2
    known = 0
    while True:
        shape = np.concatenate((groups[:, None], groups[target], count), axis=1)
        _, groups = np.unique(shape, axis=0, return_inverse=True)
        groups = groups.reshape(-1).astype(np.int32)
        if (found := int(groups.max()) + 1) == known:
            break
        known = found
    order = _numbered(target, groups)
    firsts = {int(group): state for state, group in reversed(list(enumerate(groups)))}
    rows = [firsts[group] for group in order]
    into = np.zeros(known, dtype=np.int32)
    into[order] = np.arange(known)
    accepting = frozenset(int(into[g]) for g in set(groups[accepts].tolist()))
    return ByteDfa(into[groups[target[rows]]], count[rows], accepting)


def _numbered(target: NDArray[np.int32], groups: NDArray[np.int32]) -> list[int]:
    """Groups in the order of their new numbers: the start's first, the dead one last."""
    start, dead = int(groups[0]), int(groups[-1])
    others = sorted(set(groups.tolist()) - {start, dead})
    return [start, *others, dead] if start != dead else [dead]
