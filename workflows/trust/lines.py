"""Files beside a job's output that hold one line for some of its records, written as exactly as the output."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from carrara.workflows.places import OutputError, PlaceError
from carrara.workflows.row_format import json_line
from carrara.workflows.sinks.lines import unfinished


class Kept(Protocol):
    """The lines of the records that were done before, by place: None for one without. Asked for in ascending order."""

    def __contains__(self, place: int, /) -> bool: ...

    def line(self, place: int) -> Mapping[str, Any] | None: ...

    def places(self) -> Iterable[int]: ...


class Lines:
    """JSON lines in input order at `path`; a record may have none. Made when the first line is there.
    `count` is the number of lines in it.

    The journal is written before; `begin`, which comes first, makes the file anew from what it holds, in one step.
    """

    _kept: Kept

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._waiting: dict[int, Mapping[str, Any] | None] = {}
        self._next = 0
        self._file: int | None = None

    def begin(self, kept: Kept, *, fresh: bool) -> None:
        """Take the lines of the records that are done already, which are read as they are written. A fresh job has
        none.

        Raises:
            PlaceError: the file cannot be written.
        """
        self._kept = kept
        try:
            if fresh:
                unfinished(self.path).unlink(missing_ok=True)
            else:
                self._replace()
        except OSError as error:
            raise PlaceError(f"cannot write {self.path}: {error.strerror}") from error

    def _replace(self) -> None:
        temporary = unfinished(self.path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.writelines(map(json_line, self._ready()))
            if self.count:
                temporary.replace(self.path)
            else:
                self.path.unlink(missing_ok=True)
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
            self._write(self._left())
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

    def _ready(self) -> Iterator[Mapping[str, Any]]:
        """The lines that stand behind each other from the next place on."""
        while True:
            if self._next in self._waiting:
                line = self._waiting.pop(self._next)
            elif self._next in self._kept:
                line = self._kept.line(self._next)
            else:
                return
            self._next += 1
            yield from self._counted(line)

    def _left(self) -> Iterator[Mapping[str, Any]]:
        """The lines behind records that never came."""
        waiting = sorted(self._waiting)
        for place in self._kept.places():
            if place >= self._next:
                while waiting and waiting[0] < place:
                    yield from self._counted(self._waiting[waiting.pop(0)])
                yield from self._counted(self._kept.line(place))
        for place in waiting:
            yield from self._counted(self._waiting[place])

    def _counted(self, line: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
        if line is not None:
            self.count += 1
            yield line

    def _write(self, lines: Iterable[Mapping[str, Any]]) -> None:
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


__all__ = ["Kept", "Lines"]
