"""How many threads a pass shall use, found out while working.

More threads make a pass faster on a quiet machine. On a busy one each of its some 200 parallel parts
waits for a thread that does not get a core: seen were 400 ms instead of 40 for one token (2 threads on 2
cores, one other program busy). So both are tried, and the loser is tried again at growing intervals.
Results do not depend on it: on the processors tested, steady passes (`model.llama`) have the same bits
with 1 thread and with 2.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

FIRST_TRIAL, LONGEST_WAIT = 2, 256
"""Passes before the first trial of the other way, and between trials at most."""

LARGE_PASS = 32
"""From so many tokens on a pass takes about as long as they are many."""


@dataclass(slots=True)
class Choice:
    """One thread or `most` for passes of one kind; says which and is told how long that took."""

    most: int
    alone: bool = False
    wait: int = FIRST_TRIAL
    passes: int = 0
    last_places: int = 0
    last_s: float = 0.0

    @property
    def is_trial(self) -> bool:
        return self.passes >= self.wait

    @property
    def threads(self) -> int:
        return 1 if self.alone != self.is_trial else self.most

    def took(self, places: int, seconds: float) -> None:
        """A pass over `places` tokens with `threads` is done. A trial is compared with the pass before it.

        Large passes are compared by their time a token; small ones, whose time does not grow with them,
        only if they are of one size, else the trial is repeated.
        """
        if not self.is_trial:
            self.last_places, self.last_s = places, seconds
            self.passes += 1
        elif places != self.last_places and min(places, self.last_places) < LARGE_PASS:
            self.passes -= 1  # the next pass is ordinary again, and a trial follows it
        elif seconds * self.last_places < self.last_s * places:
            self.alone, self.wait, self.passes = not self.alone, FIRST_TRIAL, 0
        else:
            self.wait, self.passes = min(2 * self.wait, LONGEST_WAIT), 0


@dataclass(frozen=True, slots=True)
class Made:
    """How many passes there were, over how many tokens (canvases, where they denoise) together, and of how many
    requests: one counts in each of its passes."""

    passes: int = 0
    places: int = 0
    requests: int = 0

    def since(self, before: Made) -> Made:
        """What was made after `before` was read."""
        return Made(
            self.passes - before.passes,
            self.places - before.places,
            self.requests - before.requests,
        )


class Pace:
    """The choices of one model's thread, and a count of its passes. `most` 1 leaves no choice, changes no setting."""

    def __init__(self, most: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self._most, self._clock = most, clock
        self._choices: dict[str, Choice] = {}
        self._made: dict[str, Made] = {}

    def made(self, kind: str) -> Made:
        """The passes of `kind` that were begun so far. On any thread."""
        return self._made.get(kind, Made())

    @contextmanager
    def timed(self, kind: str, places: int, requests: int) -> Iterator[None]:
        """Run a pass of `kind` over `places` tokens of so many requests inside, with the threads chosen for it. On the
        model's thread."""
        before = self.made(kind)
        self._made[kind] = Made(
            before.passes + 1, before.places + places, before.requests + requests
        )
        if self._most == 1:
            yield
            return
        choice = self._choices.setdefault(kind, Choice(self._most))
        torch.set_num_threads(choice.threads)
        begun = self._clock()
        yield
        choice.took(places, self._clock() - begun)
