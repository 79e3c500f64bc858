"""Deterministic automata over characters: built from language trees, intersected, minimised.

Moves carry ranges of code points, so that an automaton over all of Unicode stays small; `utf8` spells it out in
bytes later.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from carrara.engines.diffusion.scaffold import chars
from carrara.engines.diffusion.scaffold.language import Node
from carrara.engines.diffusion.scaffold.nfa import Move, Nfa, check_size, pieces

_WORTH_JOINING = 1000  # larger automata work as they are


@dataclass(frozen=True, slots=True, eq=False)
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
    return minimal(_determinised(Nfa.of(node)))


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
                        check_size(len(order))
                    found.append(Move(low, high, index[pair], max(x.count, y.count)))
        moves.append(tuple(sorted(found, key=lambda m: m.low)))
    accepts = {
        index[pair] for pair in order if pair[0] in left.accepts and pair[1] in right.accepts
    }
    return minimal(Dfa(tuple(moves), frozenset(accepts)))


def beginning_with(dfa: Dfa, count: int) -> Dfa:
    """The same texts, whose first character counts `count`: for texts that no limit on a length is about."""
    shifted = tuple(
        tuple(Move(m.low, m.high, m.target + 1, m.count) for m in moves) for moves in dfa.moves
    )
    start = tuple(Move(m.low, m.high, m.target, count) for m in shifted[0])
    accepts = {state + 1 for state in dfa.accepts} | ({0} if 0 in dfa.accepts else set())
    return minimal(Dfa((start, *shifted), frozenset(accepts)))


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
                moves[state].append(Move(low, high, move.target, int(counted)))
            for char, spelled in _ESCAPES.items():
                if move.low <= ord(char) <= move.high:
                    _spell(moves, tries, spelled, move.target, int(counted))
    ordered = tuple(tuple(sorted(m, key=lambda one: one.low)) for m in moves)
    return minimal(Dfa(ordered, dfa.accepts))


def minimal(dfa: Dfa) -> Dfa:
    """The same language without useless states and, up to _WORTH_JOINING states, alike ones joined (Moore)."""
    kept = _useful(dfa)
    if not kept:
        return Dfa(((),), frozenset())
    if len(kept) > _WORTH_JOINING:
        return _renumbered(dfa, {state: state for state in kept})
    groups = _first_guess(dfa, kept)
    while True:
        signatures: dict[tuple[int, tuple[Move, ...]], int] = {}
        finer = {}
        for state in kept:
            shape = (groups[state], _joined(dfa.moves[state], groups))
            finer[state] = signatures.setdefault(shape, len(signatures))
        if len(set(finer.values())) == len(set(groups.values())):
            return _renumbered(dfa, finer)
        groups = finer


def _first_guess(dfa: Dfa, kept: list[int]) -> dict[int, int]:
    """Groups that alike states share for sure: by acceptance and by the length of the longest text behind them.

    It spares the refinement a round for each state of a chain, which most automata here are made of.
    """
    useful = set(kept)
    after = {state: {m.target for m in dfa.moves[state]} & useful for state in kept}
    before: dict[int, list[int]] = {state: [] for state in kept}
    for state, targets in after.items():
        for target in targets:
            before[target].append(state)
    left = {state: len(targets) for state, targets in after.items()}
    longest = dict.fromkeys(kept, 0)
    order = [state for state in kept if not left[state]]
    for state in order:  # grows while it runs
        for earlier in before[state]:
            longest[earlier] = max(longest[earlier], longest[state] + 1)
            left[earlier] -= 1
            if not left[earlier]:
                order.append(earlier)
    endless = useful - set(order)
    return {
        state: 2 * (0 if state in endless else longest[state] + 1) + (state in dfa.accepts)
        for state in kept
    }


def _spell(
    moves: list[list[Move]], tries: dict[str, int], spelled: str, target: int, count: int
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
        moves[source].append(Move(code, code, there, count if end == 1 else 0))


def _determinised(nfa: Nfa) -> Dfa:
    first = nfa.closure((0,))
    index, order, rows = {first: 0}, [first], []
    closures: dict[frozenset[int], frozenset[int]] = {}
    for group in order:  # grows while it runs
        row = []
        for low, high, targets, count in pieces([m for s in group for m in nfa.moves[s]]):
            if targets not in closures:
                closures[targets] = nfa.closure(targets)
            after = closures[targets]
            if after not in index:
                index[after] = len(order)
                order.append(after)
                check_size(len(order))
            row.append(Move(low, high, index[after], count))
        rows.append(tuple(row))
    return Dfa(tuple(rows), frozenset(i for group, i in index.items() if 1 in group))


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
        if last and (last.high + 1, last.target, last.count) == (move.low, target, move.count):
            found[-1] = Move(last.low, move.high, target, move.count)
        else:
            found.append(Move(move.low, move.high, target, move.count))
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
