"""Deterministic automata over characters: built from language trees, intersected, minimised.

Moves carry ranges of code points, so that an automaton over all of Unicode stays small; `utf8` spells it out in
bytes later.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from carrara.engines.diffusion.scaffold import chars
from carrara.engines.diffusion.scaffold.language import Alt, Chars, Embedded, Node, Repeat, Seq
from carrara.engines.errors import CarraraError

MOST_STATES = 2000
_WORTH_JOINING = 300  # refining takes quadratic time on chains, and larger automata work as they are


@dataclass(frozen=True, slots=True)
class Move:
    """From `low` to `high`, both included, to state `target`; `counted` characters add to a length."""

    low: int
    high: int
    target: int
    counted: bool = False


@dataclass(frozen=True, slots=True)
class Dfa:
    """State 0 is the start. Every state can be reached and can reach an accepting one; an automaton
    that accepts nothing has state 0 alone. Moves of a state are sorted and disjoint."""

    moves: tuple[tuple[Move, ...], ...]
    accepts: frozenset[int]

    @property
    def is_empty(self) -> bool:
        return not self.accepts

    def matches(self, text: str) -> bool:
        state = 0
        for char in text:
            found = next((m for m in self.moves[state] if m.low <= ord(char) <= m.high), None)
            if found is None:
                return False
            state = found.target
        return state in self.accepts


@lru_cache(maxsize=512)
def automaton(node: Node) -> Dfa:
    """The automaton of a language.

    Raises:
        CarraraError: it would have more than MOST_STATES states.
    """
    return minimal(_determinised(_Nfa.of(node)))


def intersection(left: Dfa, right: Dfa) -> Dfa:
    """What both accept."""
    index: dict[tuple[int, int], int] = {(0, 0): 0}
    order, moves = [(0, 0)], []
    for a, b in order:  # grows while it runs
        found = []
        for x in left.moves[a]:
            for y in right.moves[b]:
                low, high = max(x.low, y.low), min(x.high, y.high)
                if low <= high:
                    pair = (x.target, y.target)
                    if pair not in index:
                        index[pair] = len(order)
                        order.append(pair)
                        _check_size(len(order))
                    found.append(Move(low, high, index[pair], x.counted or y.counted))
        moves.append(tuple(sorted(found, key=lambda m: m.low)))
    accepts = {
        index[pair] for pair in order if pair[0] in left.accepts and pair[1] in right.accepts
    }
    return minimal(Dfa(tuple(moves), frozenset(accepts)))


_SHORT_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\b": "\\b",
    "\f": "\\f",
}
_ESCAPES = {
    char: _SHORT_ESCAPES.get(char, f"\\u{ord(char):04x}")
    for char in [*(chr(code) for code in range(32)), '"', "\\"]
}
_PLAIN = chars.complement(chars.of("".join(_ESCAPES)))


def json_escaped(dfa: Dfa, counted: bool = False) -> Dfa:
    """The texts of `dfa` as they stand between the quotes of a JSON string, in json.dumps's spelling.

    With `counted`, each character before escaping counts one.
    """
    moves: list[list[Move]] = [[] for _ in dfa.moves]
    for state, found in enumerate(dfa.moves):
        tries: dict[str, int] = {"": state}
        for move in found:
            for low, high in chars.intersection(((move.low, move.high),), _PLAIN):
                moves[state].append(Move(low, high, move.target, counted))
            for char, spelled in _ESCAPES.items():
                if move.low <= ord(char) <= move.high:
                    _spell(moves, tries, spelled, move.target, counted)
    ordered = tuple(tuple(sorted(m, key=lambda one: one.low)) for m in moves)
    return minimal(Dfa(ordered, dfa.accepts))


def minimal(dfa: Dfa) -> Dfa:
    """The same language without useless states and, up to _WORTH_JOINING states, alike ones joined (Moore)."""
    kept = _useful(dfa)
    if not kept:
        return Dfa(((),), frozenset())
    if len(kept) > _WORTH_JOINING:
        return _renumbered(dfa, {state: state for state in kept})
    groups = {state: int(state in dfa.accepts) for state in kept}
    while True:
        signatures: dict[tuple[int, tuple[Move, ...]], int] = {}
        finer = {}
        for state in kept:
            shape = (groups[state], _joined(dfa.moves[state], groups))
            finer[state] = signatures.setdefault(shape, len(signatures))
        if len(set(finer.values())) == len(set(groups.values())):
            return _renumbered(dfa, finer)
        groups = finer


def _spell(
    moves: list[list[Move]], tries: dict[str, int], spelled: str, target: int, counted: bool
) -> None:
    """Add the moves of one escape to the tree of escapes that leaves a state."""
    for end in range(1, len(spelled) + 1):
        source = tries[spelled[: end - 1]]
        if end == len(spelled):
            there = target
        elif spelled[:end] in tries:
            continue
        else:
            there = tries[spelled[:end]] = len(moves)
            moves.append([])
        code = ord(spelled[end - 1])
        moves[source].append(Move(code, code, there, counted and end == 1))


class _Nfa:
    """Thompson's construction. `free` are moves that read nothing."""

    def __init__(self) -> None:
        self.moves: list[list[Move]] = []
        self.free: list[list[int]] = []

    @classmethod
    def of(cls, node: Node) -> _Nfa:
        nfa = cls()
        start, end = nfa.state(), nfa.state()
        nfa.add(node, start, end)
        return nfa

    def state(self) -> int:
        self.moves.append([])
        self.free.append([])
        if len(self.moves) > 25 * MOST_STATES:
            _check_size(len(self.moves))
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
                Move(m.low, m.high, states[m.target], m.counted) for m in moves
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


def _determinised(nfa: _Nfa) -> Dfa:
    first = nfa.closure((0,))
    index, order, rows = {first: 0}, [first], []
    closures: dict[frozenset[int], frozenset[int]] = {}
    for group in order:  # grows while it runs
        row = []
        for low, high, targets, counted in _pieces([m for s in group for m in nfa.moves[s]]):
            if targets not in closures:
                closures[targets] = nfa.closure(targets)
            after = closures[targets]
            if after not in index:
                index[after] = len(order)
                order.append(after)
                _check_size(len(order))
            row.append(Move(low, high, index[after], counted))
        rows.append(tuple(row))
    return Dfa(tuple(rows), frozenset(i for group, i in index.items() if 1 in group))


def _pieces(moves: list[Move]) -> Iterable[tuple[int, int, frozenset[int], bool]]:
    """Cut overlapping moves into disjoint ranges, each with all its targets."""
    starts: dict[int, list[Move]] = {}
    ends: dict[int, list[Move]] = {}
    for move in moves:
        starts.setdefault(move.low, []).append(move)
        ends.setdefault(move.high + 1, []).append(move)
    borders = sorted(starts.keys() | ends.keys())
    live: dict[Move, int] = {}
    for low, after in zip(borders, borders[1:], strict=False):
        for move in ends.get(low, ()):
            live[move] -= 1
            if not live[move]:
                del live[move]
        for move in starts.get(low, ()):
            live[move] = live.get(move, 0) + 1
        if live:
            counted = {move.counted for move in live}
            if len(counted) > 1:
                raise CarraraError("a counted text cannot be told from an uncounted one beside it")
            yield low, after - 1, frozenset(move.target for move in live), counted.pop()


def _useful(dfa: Dfa) -> list[int]:
    """States on a way from the start to an accepting one, the start first; none if nothing is accepted."""
    before: list[list[int]] = [[] for _ in dfa.moves]
    for state, moves in enumerate(dfa.moves):
        for move in moves:
            before[move.target].append(state)
    ending, stack = set(dfa.accepts), list(dfa.accepts)
    while stack:
        for state in before[stack.pop()]:
            if state not in ending:
                ending.add(state)
                stack.append(state)
    if 0 not in ending:
        return []
    reached, order = {0}, [0]
    for state in order:  # grows while it runs
        for move in dfa.moves[state]:
            if move.target in ending and move.target not in reached:
                reached.add(move.target)
                order.append(move.target)
    return order


def _joined(moves: Iterable[Move], groups: dict[int, int]) -> tuple[Move, ...]:
    """Moves onto groups of states, neighbouring ranges with one target joined, useless ones dropped."""
    found: list[Move] = []
    for move in moves:
        target = groups.get(move.target)
        if target is None:
            continue
        last = found[-1] if found else None
        if last and (last.high + 1, last.target, last.counted) == (move.low, target, move.counted):
            found[-1] = Move(last.low, move.high, target, move.counted)
        else:
            found.append(Move(move.low, move.high, target, move.counted))
    return tuple(found)


def _renumbered(dfa: Dfa, groups: dict[int, int]) -> Dfa:
    """One state a group, numbered as first met; the start is met first."""
    number: dict[int, int] = {}
    firsts = []
    for state, group in groups.items():
        if group not in number:
            number[group] = len(number)
            firsts.append(state)
    into = {state: number[group] for state, group in groups.items()}
    moves = tuple(_joined(dfa.moves[state], into) for state in firsts)
    return Dfa(moves, frozenset(into[state] for state in dfa.accepts if state in into))


def _check_size(states: int) -> None:
    if states > MOST_STATES:
        raise CarraraError(f"the pattern is too large: its automaton has over {MOST_STATES} states")
