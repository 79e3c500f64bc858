"""Tells which step keeps the event loop from going on, where the time of an attempt has run out and the loop cannot end
it: Python code that blocks cannot be stopped from within its process.

A thread looks on. It is started with the first attempt that has a timeout, and sleeps until the next one is due.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from threading import Condition, Thread
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carrara.runtime.node import StepNode

_log = logging.getLogger(__name__)

GRACE_S = 1.0
"""So much later than due an attempt ends in a loop that goes on."""

_LONGEST_S = 5.0
"""An attempt that began meanwhile may be due before the one that is slept for."""


class LoopWatch:
    """Watches the loop of `thread`, this one. `node_of` finds the node that a task works for, from another thread."""

    def __init__(self, thread: int, node_of: Callable[[Any], StepNode | None]) -> None:
        self._thread, self._node_of = thread, node_of
        self._loop = asyncio.get_running_loop()
        self._limits: dict[int, asyncio.Timeout] = {}
        self._some = Condition()
        self._told: set[str] = set()
        self._watching = self._over = False

    def begin(self, limit: asyncio.Timeout) -> None:
        """An attempt with this limit is under way, until `end`."""
        was_idle = not self._limits
        self._limits[id(limit)] = limit
        if not self._watching:
            self._watching = True
            Thread(target=self._watch, name="carrara-loop-watch", daemon=True).start()
        elif was_idle:
            with self._some:
                self._some.notify()

    def end(self, limit: asyncio.Timeout) -> None:
        self._limits.pop(id(limit), None)

    def close(self) -> None:
        """Let the thread end."""
        self._over = True
        with self._some:
            self._some.notify()

    def _watch(self) -> None:
        while not self._over:
            late_s = self._late_s()
            if late_s is not None and late_s >= GRACE_S:
                self._tell(late_s)
                late_s = None
            with self._some:
                if self._over:
                    return
                if self._limits:
                    wait_s = _LONGEST_S if late_s is None else min(GRACE_S - late_s, _LONGEST_S)
                    self._some.wait(max(wait_s, 0.1))
                else:
                    self._some.wait()

    def _late_s(self) -> float | None:
        """By how much the first attempt is overdue that the loop has not ended; negative where none is. None: there is
        no attempt whose time runs."""
        now = self._loop.time()
        dues = [
            due
            for limit in list(self._limits.values())
            if (due := limit.when()) is not None and not limit.expired()
        ]
        return now - min(dues) if dues else None

    def _tell(self, late_s: float) -> None:
        task = asyncio.current_task(self._loop)
        node = None if task is None else self._node_of(task)
        frame = sys._current_frames().get(self._thread)
        if task is None or frame is None:  # between two tasks: it goes on
            return
        name = "" if node is None else node.spec.name
        if name in self._told:
            return
        self._told.add(name)
        who = "a task that is no step" if node is None else f"step {node.path!r}"
        _log.warning(
            "%s has blocked the event loop for more than %.0f s (%s): nothing else in this process goes on "
            "meanwhile, and no timeout can end it. Write code that blocks as a plain `def`, which runs in a thread, or "
            "isolate the step",
            who,
            late_s,
            _place(frame, node),
        )


def _place(frame: FrameType, node: StepNode | None) -> str:
    """file:line of the innermost call in the file of the step's body, else of the innermost one."""
    file = getattr(getattr(getattr(node, "spec", None), "body", None), "__code__", None)
    found: FrameType | None = frame
    while found is not None and file is not None:
        if found.f_code.co_filename == file.co_filename:
            return f"{file.co_filename}:{found.f_lineno}"
        found = found.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


__all__ = ["LoopWatch"]
