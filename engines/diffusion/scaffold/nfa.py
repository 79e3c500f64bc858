"""Nondeterministic automata over characters, and what is reached by reading ranges of them together.

Thompson's construction from language trees; `dfa` makes it deterministic.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from carrara.engines.diffusion.scaffold.language import Alt, Chars, Embedded, Node, Repeat, Seq
from carrara.engines.errors import CarraraError

if TYPE_CHECKING:
    from carrara.engines.diffusion.scaffold.dfa import Dfa

MOST_STATES = 2000


@dataclass(frozen=True, slots=True)
class Move:
    """From `low` to `high`, both included, to state `target`; each character adds `count` to a length."""

    low: int
    high: int
    target: int
    count: int = 0


class Nfa:
    """Thompson's construction. `free` are moves that read nothing."""

    def __init__(self) -> None:
        self.moves: list[list[Move]] = []
        self.free: list[list[int]] = []

    @classmethod
    def of(cls, node: Node) -> Nfa:
        nfa = cls()
        start, end = nfa.state(), nfa.state()
        nfa.add(node, start, end)
        return nfa

    def state(self) -> int:
        self.moves.append([])
        self.free.append([])
        if len(self.moves) > 25 * MOST_STATES:
            check_size(len(self.moves))
        return len(self.moves) - 1

    def add(self, node: Node, start: int, end: int) -> None:
        match node:
            case Chars(ranges):
                self.moves[start] += [Move(low, high, end) for low, high in ranges]
            case Seq(parts):
                self._chain(parts, start, end)
            case Alt(options):
                for option in options:
                    inner, after = self.state(), self.state()
                    self.free[start].append(inner)
                    self.add(option, inner, after)
                    self.free[after].append(end)
            case Repeat(part, least, most):
                self._repeat(part, least, most, start, end)
            case Embedded(dfa):
                self._embed(dfa, start, end)

    def _chain(self, parts: Iterable[Node], start: int, end: int) -> None:
        at = start
        for part in parts:
            after = self.state()
            self.add(part, at, after)
            at = after
        self.free[at].append(end)

    def _repeat(self, part: Node, least: int, most: int | None, start: int, end: int) -> None:
        at = self.state()
        self.free[start].append(at)
        for _ in range(least):
            after = self.state()
            self.add(part, at, after)
            at = after
        if most is None:
            inner, after = self.state(), self.state()
            self.free[at] += [inner, end]
            self.add(part, inner, after)
            self.free[after] += [inner, end]
            return
        for _ in range(most - least):
            self.free[at].append(end)
            after = self.state()
            self.add(part, at, after)
            at = after
        self.free[at].append(end)

    def _embed(self, dfa: Dfa, start: int, end: int) -> None:
        states = [self.state() for _ in dfa.moves]
        self.free[start].append(states[0])
        for number, moves in enumerate(dfa.moves):
            self.moves[states[number]] += [
                Move(m.low, m.high, states[m.target], m.count) for m in moves
            ]
        for accepting in dfa.accepts:
            self.free[states[accepting]].append(end)

    def closure(self, states: Iterable[int]) -> frozenset[int]:
        found, stack = set(states), list(states)
        while stack:
            for after in self.free[stack.pop()]:
                if after not in found:
                    found.add(after)
                    stack.append(after)
        return frozenset(found)


def pieces(moves: list[Move]) -> Iterable[tuple[int, int, frozenset[int], int]]:
    """Cut overlapping moves into disjoint ranges, each with all its targets."""
    starts: dict[int, list[Move]] = {}
    ends: dict[int, list[Move]] = {}
    for move in moves:
        starts.setdefault(move.low, []).append(move)
        ends.setdefault(move.high + 1, []).append(move)
    borders = sorted(starts.keys() | ends.keys())
    live: dict[Move, int] = {}
    for low, after in pairwise(borders):
        for move in ends.get(low, ()):
            live[move] -= 1
            if not live[move]:
                del live[move]
        for move in starts.get(low, ()):
            live[move] = live.get(move, 0) + 1
        if live:
            counts = {move.count for move in live}
            if len(counts) > 1:
                raise CarraraError("a counted text cannot be told from an uncounted one beside it")
            yield low, after - 1, frozenset(move.target for move in live), counts.pop()


def check_size(states: int) -> None:
    if states > MOST_STATES:
        raise CarraraError(f"the pattern is too large: its automaton has over {MOST_STATES} states")
