"""Automata over tokens: which token may stand at a position of a slot, in any order of filling.

Around a position, the states that what stands to its left can reach and the states from which what stands to its
right can be finished say which classes of tokens fit: exactly, for any set of positions already fixed. Token
automata used in both directions, as in DINGO (arXiv 2505.23061).

A set of states is one int. Each state owns `width` bits, bit k meaning "here after k counted characters"; automata
that count nothing have width 1. The last state is PAD: behind an accepting state, only pads follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from carrara.engines.diffusion.scaffold.lift import PAD, Lift

_MEMO = 20_000


@dataclass(slots=True, eq=False)
class TokenAutomaton:
    """The texts of a slot as token sequences. Built once per language and tokenizer, then only read
    (what it remembers aside).

    `least` and `most` bound the counted characters of a text. With `gaps`, pads may stand between tokens too.
    """

    table: Lift
    accepts: frozenset[int]
    least: int = 0
    most: int | None = None
    gaps: bool = False
    width: int = field(init=False)
    start: int = field(init=False)
    done: int = field(init=False)
    ends: int = field(init=False)
    _moves: list[list[tuple[int, int, int]]] = field(init=False)
    _forward: dict[tuple[int, int], int] = field(init=False, default_factory=dict)
    _backward: dict[tuple[int, int], int] = field(init=False, default_factory=dict)
    _fitting: dict[tuple[int, int], int] = field(init=False, default_factory=dict)
    _fewest: dict[int, int | None] = field(init=False, default_factory=dict)
    _most: dict[int, int] = field(init=False, default_factory=dict)
    _counts: bool = field(init=False)
    _segment: int = field(init=False)
    _pad: int = field(init=False)

    def __post_init__(self) -> None:
        self._grow_moves()
        limited = self.least > 0 or self.most is not None
        self._counts = limited and bool(self.table.count.any())
        top = (self.most if self.most is not None else self.least) if self._counts else 0
        self.width = top + 1
        self._segment = (1 << self.width) - 1
        self._pad = 1 << len(self._moves) * self.width
        enough = self._segment & ~((1 << self.least) - 1) if self._counts else 1
        self.done = sum(enough << state * self.width for state in self.accepts)
        self.ends = self.done | self._pad
        self.start = 1

    def _grow_moves(self) -> None:
        """Per state: (target, characters, classes that do so as bits)."""
        self._moves = []
        for targets, counts in zip(
            self.table.target.tolist(), self.table.count.tolist(), strict=True
        ):
            found: dict[tuple[int, int], int] = {}
            for number, (target, count) in enumerate(zip(targets, counts, strict=True)):
                if target >= 0:
                    found[target, count] = found.get((target, count), 0) | 1 << number
            self._moves.append([(t, c, bits) for (t, c), bits in found.items()])

    def forward(self, states: int, only: int = -1) -> int:
        """States after one more token, of the classes in the bits of `only` (-1: any, pads too)."""
        key = (states, only)
        if key not in self._forward:
            _make_room(self._forward)
            self._forward[key] = self._step_forward(states, only)
        return self._forward[key]

    def backward(self, states: int, only: int = -1) -> int:
        """States from which one token, of the classes in `only`, leads into `states`."""
        key = (states, only)
        if key not in self._backward:
            _make_room(self._backward)
            self._backward[key] = self._step_backward(states, only)
        return self._backward[key]

    def fitting(self, before: int, after: int) -> int:
        """Classes, as bits, of the tokens that lead from one of `before` into one of `after`."""
        key = (before, after)
        if key not in self._fitting:
            _make_room(self._fitting)
            found = 1 << PAD if after & self._pad and before & self.ends else 0
            if self.gaps and before & after & self._pad - 1:
                found |= 1 << PAD
            for state, counts in self._occupied(before):
                for target, count, classes in self._moves[state]:
                    if self._counted(counts, count) & self._of(after, target):
                        found |= classes
            self._fitting[key] = found
        return self._fitting[key]

    def fewest_tokens(self, limit: int = 4096) -> int | None:
        """The length of the shortest text in tokens, None if there is none within `limit`."""
        if limit not in self._fewest:
            self._fewest[limit] = self._shortest(limit)
        return self._fewest[limit]

    def most_tokens(self, limit: int = 256) -> int:
        """The length of the longest text in tokens, `limit` if there are longer ones."""
        if limit not in self._most:
            self._most[limit] = self._longest(limit)
        return self._most[limit]

    def accepts_tokens(self, ids: Sequence[int]) -> bool:
        """Whether these tokens, without pads, spell a text of the language."""
        states = self.start
        for token in ids:
            states = self.forward(states, 1 << int(self.table.class_of[token])) & ~self._pad
        return bool(states & self.done)

    # Walks see sets of states that nobody asks for again, large ones where many characters are counted.

    def _shortest(self, limit: int) -> int | None:
        states, seen = self.start, 0
        for length in range(limit + 1):
            if states & self.done:
                return length
            if not states & ~seen:
                return None
            seen |= states
            states = self._step_forward(states, -1) & ~self._pad
        return None

    def _longest(self, limit: int) -> int:
        states, seen = self.start, set[int]()
        for length in range(limit):
            states = self._step_forward(states, -1) & ~self._pad
            if not states:
                return length
            if states in seen:  # and so for ever
                return limit
            seen.add(states)
        return limit

    def _step_forward(self, states: int, only: int) -> int:
        found = self._pad if states & self.ends and only >> PAD & 1 else 0
        if self.gaps and only >> PAD & 1:
            found |= states & self._pad - 1
        for state, counts in self._occupied(states):
            for target, count, classes in self._moves[state]:
                if classes & only:
                    found |= self._counted(counts, count) << target * self.width
        return found

    def _step_backward(self, states: int, only: int) -> int:
        found = self.ends if states & self._pad and only >> PAD & 1 else 0
        if self.gaps and only >> PAD & 1:
            found |= states & self._pad - 1
        for state, moves in enumerate(self._moves):
            counts = 0
            for target, count, classes in moves:
                if classes & only:
                    counts |= self._uncounted(self._of(states, target), count)
            found |= counts << state * self.width
        return found

    def _counted(self, counts: int, more: int) -> int:
        """Counts after `more` characters. Without an upper bound, enough is as good as more."""
        if not more or not self._counts:
            return counts
        moved = counts << more
        if self.most is None and moved >> self.width:
            moved |= 1 << self.width - 1
        return moved & self._segment

    def _uncounted(self, counts: int, less: int) -> int:
        if not less or not self._counts:
            return counts
        before = counts >> less
        if self.most is None and counts >> self.width - 1:
            before |= self._segment & ~((1 << max(self.width - 1 - less, 0)) - 1)
        return before

    def _of(self, states: int, state: int) -> int:
        return states >> state * self.width & self._segment

    def _occupied(self, states: int) -> list[tuple[int, int]]:
        """The states (PAD aside) that have a bit set, with their counts."""
        found = []
        states &= self._pad - 1
        while states:
            state = ((states & -states).bit_length() - 1) // self.width
            found.append((state, self._of(states, state)))
            states &= ~(self._segment << state * self.width)
        return found


def _make_room(memo: dict[tuple[int, int], int]) -> None:
    if len(memo) >= _MEMO:
        memo.clear()
