"""Where the rows of a job go: one JSON line per record, written whole, in input order or as completed.

The rows that are done lie in the journal first; the files here are made from them, so that a killed job's
files are rebuilt exactly when it goes on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from carrara.engines.errors import CarraraError

Order = Literal["input", "completed"]


class OutputError(CarraraError):
    """An output file cannot be made or written; rows that are done stay in the journal."""


class PlaceError(OutputError):
    """An output cannot be where it was asked for. Raised before anything runs."""


_KEPT = (
    "What had finished is in the journal: make room and run the same command with --resume, "
    "or `carrara resume last --output OTHER`."
)


@dataclass(frozen=True, slots=True)
class Row:
    """What a record became: its outputs, or why it failed (then `fields` say so)."""

    index: int
    ok: bool
    fields: dict[str, Any]


class RowFiles:
    """The output file and, beside it, the file of failed records (made when the first one fails).

    Every line is written with one system call on a file opened for appending. With order "input" a row waits
    in memory for the rows before it.
    """

    def __init__(self, output: Path, order: Order = "input") -> None:
        self.output = output
        self.failed = output.with_name(f"{output.stem}.failed.jsonl")
        self._order = order
        self._waiting: dict[int, Row] = {}
        self._next = 0
        self._files: dict[Path, int] = {}

    def __enter__(self) -> Self:
        try:
            self._open(self.output)
        except OSError as error:
            raise _misplaced(self.output, error) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write out what still waits (rows behind one that never came) and close the files."""
        try:
            for row in sorted(self._waiting.values(), key=lambda row: row.index):
                self._write(row)
        finally:
            self._waiting.clear()
            for file in self._files.values():
                os.close(file)
            self._files.clear()

    def begin(self, done: Sequence[Row], *, fresh: bool) -> None:
        """Make the output hold what an earlier process had `done` (in order of index); call it before `with`.

        With order "input" the rows after the first gap wait for the records in it. The new file takes the old one's
        place in one step. The failed file goes: those records run again. A `fresh` job overwrites nothing.

        Raises:
            PlaceError: the file cannot be written, or a fresh job finds it filled.
        """
        try:
            self.output.parent.mkdir(parents=True, exist_ok=True)
            if fresh:
                self._refuse_filled()
                return
            ready = list(done)
            if self._order == "input":
                ready = [row for place, row in enumerate(done) if row.index == place]
                self._next = len(ready)
                self._waiting = {row.index: row for row in done[len(ready) :]}
            self._replace(ready)
            self.failed.unlink(missing_ok=True)
        except OSError as error:
            raise _misplaced(self.output, error) from error

    def _refuse_filled(self) -> None:
        for path in (self.output, self.failed):
            if path.is_file() and path.stat().st_size:
                raise PlaceError(
                    f"{path} is there already. Go on with its job by --resume, or name another --output."
                )

    def _replace(self, rows: Iterable[Row]) -> None:
        if self.output.exists() and not self.output.is_file():
            return  # a device or pipe: nothing of an earlier process is there
        temporary = self.output.with_name(f".{self.output.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                for row in rows:
                    file.write(_line(row))
            temporary.replace(self.output)
        finally:
            temporary.unlink(missing_ok=True)

    def put(self, row: Row) -> None:
        """Take a row; it is written now, or once the rows before it are there."""
        if self._order == "completed":
            self._write(row)
            return
        self._waiting[row.index] = row
        while (ready := self._waiting.pop(self._next, None)) is not None:
            self._next += 1
            self._write(ready)

    def _write(self, row: Row) -> None:
        path = self.output if row.ok else self.failed
        line = _line(row)
        try:
            file = self._files.get(path)
            if file is None:
                file = self._open(path)
            written = os.write(file, line)
            while written < len(line):
                written += os.write(file, line[written:])
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}. {_KEPT}") from error

    def _open(self, path: Path) -> int:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._files[path] = file
        return file


def _line(row: Row) -> bytes:
    return (json.dumps(row.fields, ensure_ascii=False) + "\n").encode()


def _misplaced(path: Path, error: OSError) -> PlaceError:
    return PlaceError(f"cannot write {path}: {error.strerror}")
