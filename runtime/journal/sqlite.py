"""The journal in one SQLite file.

Promise: with durability "normal" whatever `done` was called for survives a kill -9 of the process; the last
moments may be lost with the machine's power. With "full" they are not: every group is synced to the disk.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from carrara.runtime.journal.group import GroupCommit
from carrara.runtime.journal.keeper import Keeper
from carrara.runtime.journal.reading import DEFAULT_PATH
from carrara.runtime.journal.recording import Recorder

CHECKPOINT_PAGES = 8192
"""Commits after which the WAL file is emptied, about 8 MB of it."""


class SqliteJournal(Recorder):
    """A journal in a file that runs are written to."""

    def __init__(
        self,
        path: Path | str = DEFAULT_PATH,
        *,
        durability: Literal["normal", "full"] = "normal",
    ) -> None:
        """Open or make the file.

        Raises:
            JournalError: it cannot be made or written, is no journal, is damaged, or too new.
        """
        self._file_group = group = GroupCommit(Path(path), full=durability == "full")
        self._checkpoints = keeper = Keeper(group.path)
        super().__init__(group, keeper, str(group.path.resolve()))

    def _written(self) -> None:
        group = self._file_group
        if group.written > CHECKPOINT_PAGES:
            group.written = 0
            group.pin.forbid()
            self._checkpoints.checkpoint(group.pin.allow)


__all__ = ["SqliteJournal"]
