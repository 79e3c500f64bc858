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
    first = State(0.0, start, VALUE, None, None, start)
    if torn:
        first = State(
            2.0,
            start,
            KEY,
            opened("{", None, start),
            edited(None, start, start, "{", "bracket_lost"),
            start,
        )
    heap: list[tuple[int, int, float, int, State]] = []
    count = 0
    known: dict[tuple[int, int, int, bool], float] = {}
    ended: State | None = None
    margin = 9.0

    def push(state: State) -> None:
        nonlocal count
        count += 1
        heapq.heappush(heap, (state.at, state.expect, state.cost, count, state))

    push(read_on(text, first, masked, indented))
    best = 0.0
    left, contested = (
        LEAST_MOVES + len(text),
        LEAST_MOVES + min(len(text) // CHARACTERS, MOST_CONTESTED),
    )
    while heap:
        left -= 1
        contested -= len(heap) > 1
        if left < 0 or contested < 0:
            return None
        state = heapq.heappop(heap)[-1]
        if state.expect == END:
            if ended is None or state.cost < ended.cost:
                margin = min(margin, ended.cost - state.cost) if ended else margin
                ended = state
            else:
                margin = min(margin, state.cost - ended.cost)
            continue
        if not heap:
            best = state.cost
            known.clear()
        elif state.cost > best + SLACK:
            continue
        frame = state.frame
        if frame is not None and frame.depth > DEEPEST:
            return None
        sort = (state.at, state.expect, frame.shape if frame else 0, state.comma >= 0)
        if known.get(sort, 1e9) <= state.cost:
            continue
        known[sort] = state.cost
        if len(known) > KNOWN:
            known.clear()
        for following in moves(text, state, masked):
            if following.cost < HOPELESS + (following.at - start) / CHARACTERS:
                push(
                    read_on(text, following, masked, indented)
                    if following.expect != END
                    else following
                )
        if len(heap) > WIDTH:
            heap = _narrowed(heap)
        if heap:
            best = min(item[2] for item in heap)
        if len(heap) == 1:
            known.clear()

    def inside(first: int, after: int) -> list[tuple[int, int, str, str]]:
        edits = inner_edits(text, first, after)
        return sorted(edits + mask_edits(text, first, after)) if masked else edits

    return None if ended is None else Mended(edits_of(ended.trail, inside), ended.cost, margin)


def _narrowed(
    heap: list[tuple[int, int, float, int, State]],
) -> list[tuple[int, int, float, int, State]]:
    """The WIDTH cheapest readings."""
    heap = heapq.nsmallest(WIDTH, heap, key=lambda item: (item[2], -item[0]))
    heapq.heapify(heap)
    return heap


__all__ = ["Mended", "mend"]
