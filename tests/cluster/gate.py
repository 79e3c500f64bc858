"""Gates on the way of a job's steps and engines, so that a test kills what is surely in the middle of something.

A gate is a file. Whoever comes to it leaves the number of its process, and waits until the file is gone.
"""

from __future__ import annotations

import os
import time
from pathlib import Path


def pass_gate(gate: Path) -> None:
    """Called by steps and engines; returns at once where there is no gate."""
    if gate.exists():
        with _visitors(gate).open("a") as told:
            told.write(f"{os.getpid()}\n")
    while gate.exists():
        time.sleep(0.01)


class Gate:
    """The gate at `path`, which nobody passes before it is opened."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self.path = path
        self._met = 0

    def next(self) -> int | None:
        """The process that has come after those that were met before, None where none has yet."""
        later = self.visitors()[self._met :]
        self._met += len(later[:1])
        return later[0] if later else None

    def visitors(self) -> list[int]:
        """Processes that have come to the gate, in their order."""
        seen = _visitors(self.path)
        told = seen.read_text() if seen.exists() else ""
        return [int(line) for line in told.splitlines(keepends=True) if line.endswith("\n")]

    def open(self) -> None:
        self.path.unlink()


def _visitors(gate: Path) -> Path:
    return gate.with_name(f"{gate.name}.visitors")
