"""Files beside a job's output that hold one line for some of its records, written as exactly as the output."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from carrara.workflows.places import OutputError, PlaceError
from carrara.workflows.row_format import json_line


class Lines:
    """JSON lines in input order at `path`; a record may have none. Made when the first line is there.
    `count` is the number of lines in it.

    The journal is written before; `begin` makes the file anew from what it holds, in one step.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._waiting: dict[int, Mapping[str, Any] | None] = {}
        self._next = 0
        self._file: int | None = None

    def begin(self, kept: Mapping[int, Mapping[str, Any] | None], *, fresh: bool) -> None:
        """Take the lines of the records that are done already; None for one without. A fresh job has none.

        Raises:
            PlaceError: the file cannot be written.
        """
        try:
            if fresh:
                return
            self._waiting = dict(kept)
            self._replace(self._ready())
        except OSError as error:
            raise PlaceError(f"cannot write {self.path}: {error.strerror}") from error

    def _replace(self, lines: list[Mapping[str, Any]]) -> None:
        if not lines:
            self.path.unlink(missing_ok=True)
            return
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                file.writelines(map(json_line, lines))
            temporary.replace(self.path)
        finally:
            temporary.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write out what waits behind records that never came, and close the file."""
        try:
            left = [line for _, line in sorted(self._waiting.items()) if line is not None]
            self.count += len(left)
            self._write(left)
        finally:
            self._waiting.clear()
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def put(self, place: int, line: Mapping[str, Any] | None) -> None:
        """The record at `place` has ended, with this line or none.

        Raises:
            OutputError: the file cannot be written.
        """
        self._waiting[place] = line
        self._write(self._ready())

    def _ready(self) -> list[Mapping[str, Any]]:
        ready: list[Mapping[str, Any]] = []
        while self._next in self._waiting:
            line = self._waiting.pop(self._next)
            self._next += 1
            if line is not None:
                ready.append(line)
        self.count += len(ready)
        return ready

    def _write(self, lines: list[Mapping[str, Any]]) -> None:
        try:
            for line in lines:
                if self._file is None:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
                content = json_line(line)
                while content:
                    content = content[os.write(self._file, content) :]
        except OSError as error:
            raise OutputError(
                f"cannot write {self.path}: {error.strerror}. What had finished is in the journal: make room and run "
                "the same command with --resume."
            ) from error


__all__ = ["Lines"]
