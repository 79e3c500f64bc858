"""Which positions of a canvas a pass must compute, where what was computed before may stand.

The keys and values of a canvas stay in the cache, behind the row's length, until the next pass writes over them. A
position whose token has not changed since has nearly the same ones again: what changed is only what it sees. So
between two full passes it is enough to compute positions that are asked about, and those whose token is another
one than when they were computed last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Computed:
    """What lies in the cache behind a row's clean tokens: the tokens from `start` on, as of the last pass."""

    row: int
    start: int
    tokens: list[int]
    passes: int = 0


@dataclass(slots=True, eq=False)
class Stale:
    """The canvases of one cache, by ticket."""

    _known: dict[int, _Computed] = field(default_factory=dict)

    def offsets(
        self,
        ticket: int,
        row: int,
        start: int,
        tokens: Sequence[int],
        asked: Sequence[int],
        refresh: int,
    ) -> list[int]:
        """Which of `tokens`, which begin at slot `start` of `row`, to compute; they count as computed from here on.

        `asked`: offsets whose hidden states are wanted. All of them where nothing is known about the row, the
        canvas moved, or `refresh` passes went by.
        """
        known = self._known.get(ticket)
        if known is None or (known.row, known.start) != (row, start) or known.passes + 1 >= refresh:
            self._known[ticket] = _Computed(row, start, list(tokens))
            return list(range(len(tokens)))
        old = known.tokens
        wanted = set(asked)
        wanted |= {at for at, token in enumerate(tokens) if at >= len(old) or old[at] != token}
        known.tokens = list(tokens)
        known.passes += 1
        return sorted(wanted)

    def moved(self, source: int, target: int) -> int:
        """The canvas of row `source` goes to row `target`; up to which slot there is something to take along."""
        end = 0
        for known in self._known.values():
            if known.row == source:
                known.row, end = target, known.start + len(known.tokens)
        return end

    def forget(self, ticket: int) -> None:
        """Nothing of this canvas is in the cache any more."""
        self._known.pop(ticket, None)

    def keep(self, tickets: Sequence[int]) -> None:
        """Forget all others: they left."""
        if self._known.keys() - tickets:
            self._known = {t: self._known[t] for t in tickets if t in self._known}
