"""Which record runs where: a state machine without clock or network. Records are known by their places.

A worker holds up to `window` records; it is sent a chunk when it has room for one. What a lost worker held goes to the
front of the line. A record that was held by two workers when they were lost is a suspect: it is sent alone, to a worker
that holds nothing else. The third worker that is lost with it alone makes it the culprit, and it fails.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

SUSPECT_AFTER = 2
"""Lost workers after which a record runs alone."""

CULPRIT_AFTER = 3
"""Workers lost with the record alone after which it fails."""


@dataclass(slots=True)
class Dispatch:
    """`window` and `chunk` are records; a chunk is never larger than the window."""

    window: int
    chunk: int
    waiting: deque[int] = field(default_factory=deque)
    suspects: deque[int] = field(default_factory=deque)
    held: dict[int, set[int]] = field(default_factory=dict)
    losses: dict[int, int] = field(default_factory=dict)

    def offer(self, place: int) -> None:
        """A record wants to run."""
        self.waiting.append(place)

    def withdraw(self, place: int) -> None:
        """Nobody wants the record any more. Where it runs, it runs to its end, for nothing."""
        for line in (self.waiting, self.suspects):
            if place in line:
                line.remove(place)
        for held in self.held.values():
            held.discard(place)
        self._forget(place)

    def joined(self, worker: int) -> None:
        """A worker is there, and holds nothing."""
        self.held[worker] = set()

    def ended(self, worker: int, place: int) -> bool:
        """A worker gives a record back; False where it is not one that it held."""
        if place not in self.held.get(worker, ()):
            return False
        self.held[worker].discard(place)
        self._forget(place)
        return True

    def lost(self, worker: int) -> list[int]:
        """A worker is gone; gives the culprits, which are not to be run again."""
        culprits = []
        for place in sorted(self.held.pop(worker, ()), reverse=True):
            count = self.losses[place] = self.losses.get(place, 0) + 1
            if count < SUSPECT_AFTER:
                self.waiting.appendleft(place)
            elif count < SUSPECT_AFTER + CULPRIT_AFTER:
                self.suspects.appendleft(place)
            else:
                self._forget(place)
                culprits.append(place)
        return culprits

    def sends(self) -> list[tuple[int, list[int]]]:
        """What to send now, (worker, places): chunk by chunk to the emptiest worker. It counts as sent."""
        found: dict[int, list[int]] = {}
        for worker in self._by_load() if self.suspects else ():
            if self.suspects and not self.held[worker]:
                self._send(found, worker, [self.suspects.popleft()])
        # A suspect waits for a worker that holds nothing: one of them takes nothing new until then.
        spared = min(self.held, default=None) if self.suspects else None
        takes = [worker for worker in self.held if worker != spared and not self._is_alone(worker)]
        while self.waiting and takes:
            worker = min(takes, key=lambda worker: len(self.held[worker]))
            room = self.window - len(self.held[worker])
            if room < min(self.chunk, self.window):
                break
            count = min(self.chunk, room, len(self.waiting))
            self._send(found, worker, [self.waiting.popleft() for _ in range(count)])
        return [(worker, sorted(places)) for worker, places in found.items()]

    def _send(self, found: dict[int, list[int]], worker: int, places: list[int]) -> None:
        self.held[worker].update(places)
        found.setdefault(worker, []).extend(places)

    def _by_load(self) -> list[int]:
        return sorted(self.held, key=lambda worker: len(self.held[worker]))

    def _is_alone(self, worker: int) -> bool:
        return any(self.losses.get(place, 0) >= SUSPECT_AFTER for place in self.held[worker])

    def _forget(self, place: int) -> None:
        self.losses.pop(place, None)


__all__ = ["CULPRIT_AFTER", "SUSPECT_AFTER", "Dispatch"]
