"""The search for the cheapest repair: several readings side by side, the one furthest behind goes first.

At most WIDTH readings are kept, and equal ones become one, so time is linear in the length of the text.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

from carrara.runtime.repair.json_text.clean import DEEPEST, read_on
from carrara.runtime.repair.json_text.moves import moves
from carrara.runtime.repair.json_text.states import END, KEY, VALUE, State, edited, edits_of, opened
from carrara.runtime.repair.json_text.strings import inner_edits, mask_edits

WIDTH = 8
MOST_CONTESTED = 20_000  # moves with another reading beside: a text that needs more is not mended
KNOWN = 4096  # places remembered; readings meet again soon or never
SLACK = 5.0  # a reading that costs so much more than the best is given up
HOPELESS = (
    30.0  # more cost than that, and CHARACTERS less than one for each repair, is no broken JSON
)
CHARACTERS = 8
LEAST_MOVES = 2000  # and some for each character: more than any text needs that can be mended


class Mended(NamedTuple):
    """The cheapest reading: its edits (start, end, after, rule) in the order of the text, its cost, and by how much
    the next best reading was dearer."""

    edits: list[tuple[int, int, str, str]]
    cost: float
    margin: float


def mend(
    text: str, start: int, masked: bool, torn: bool = False, indented: bool = False
) -> Mended | None:
    """Read the JSON value that starts at `start` of `text` to the end of it, None if no reading is left. `torn`: it
    starts with a member whose object was never opened."""
    search = _Search(text, start, masked, indented)
    ended = search.run(_first(start, torn))
    if ended is None:
        return None

    def inside(first: int, after: int) -> list[tuple[int, int, str, str]]:
        edits = inner_edits(text, first, after)
        return sorted(edits + mask_edits(text, first, after)) if masked else edits

    return Mended(edits_of(ended.trail, inside), ended.cost, search.margin)


def _first(start: int, torn: bool) -> State:
    if not torn:
        return State(0.0, start, VALUE, None, None, start)
    opening = edited(None, start, start, "{", "bracket_lost")
    return State(2.0, start, KEY, opened("{", None, start), opening, start)


class _Search:
    """The readings that are open, the best that ended, and what the search may still spend."""

    def __init__(self, text: str, start: int, masked: bool, indented: bool) -> None:
        self.text, self.start, self.masked, self.indented = text, start, masked, indented
        self.heap: list[tuple[int, int, float, int, State]] = []
        self.known: dict[tuple[int, int, int, bool], float] = {}
        self.count = 0
        self.best = 0.0  # the cost of the cheapest open reading
        self.ended: State | None = None
        self.margin = 9.0
        self.left = LEAST_MOVES + len(text)
        self.contested = LEAST_MOVES + min(len(text) // CHARACTERS, MOST_CONTESTED)

    def run(self, first: State) -> State | None:
        """The cheapest reading to the end, None where none is left or the search has spent what it may."""
        self._push(first)
        while self.heap:
            self.left -= 1
            self.contested -= len(self.heap) > 1
            if self.left < 0 or self.contested < 0:
                return None
            state = heapq.heappop(self.heap)[-1]
            if state.expect == END:
                self._end(state)
                continue
            if not self.heap:
                self.best = state.cost
                self.known.clear()
            elif state.cost > self.best + SLACK:
                continue
            if state.frame is not None and state.frame.depth > DEEPEST:
                return None
            if self._is_new(state):
                self._go_on(state)
        return self.ended

    def _push(self, state: State) -> None:
        if state.expect != END:
            state = read_on(self.text, state, self.masked, self.indented)
        self.count += 1
        heapq.heappush(self.heap, (state.at, state.expect, state.cost, self.count, state))

    def _end(self, state: State) -> None:
        if self.ended is None:
            self.ended = state
            return
        self.margin = min(self.margin, abs(state.cost - self.ended.cost))
        if state.cost < self.ended.cost:
            self.ended = state

    def _is_new(self, state: State) -> bool:
        """Whether no reading as cheap was here before, expecting the same in the same nesting."""
        shape = state.frame.shape if state.frame else 0
        sort = (state.at, state.expect, shape, state.comma >= 0)
        if self.known.get(sort, 1e9) <= state.cost:
            return False
        self.known[sort] = state.cost
        if len(self.known) > KNOWN:
            self.known.clear()
        return True

    def _go_on(self, state: State) -> None:
        """All readings that one more repair leads to, of which the cheapest stay."""
        for following in moves(self.text, state, self.masked):
            if following.cost < HOPELESS + (following.at - self.start) / CHARACTERS:
                self._push(following)
        if len(self.heap) > WIDTH:
            self.heap = heapq.nsmallest(WIDTH, self.heap, key=lambda item: (item[2], -item[0]))
            heapq.heapify(self.heap)
        if self.heap:
            self.best = min(item[2] for item in self.heap)
        if len(self.heap) == 1:
            self.known.clear()


__all__ = ["Mended", "mend"]
