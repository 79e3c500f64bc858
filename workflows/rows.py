"""Where the rows of a job go: one JSON line per record, written whole, in input order or as completed.

The rows that are done lie in the journal first; the files here are made from them, so that a killed job's
files are rebuilt exactly when it goes on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from carrara.engines.errors import CarraraError

Order = Literal["input", "completed"]


class OutputError(CarraraError):
    """An output file cannot be made or written; rows that are done stay in the journal."""


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
            self.output.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(self.output, error) from error
        self._open(self.output)
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

    def rebuild(self, done: Iterable[Row]) -> None:
        """Make the output hold exactly the `done` rows (an earlier process wrote some or all of them).

        The new file takes the old one's place in one step. The failed file goes: those records run again.
        """
        temporary = self.output.with_name(f".{self.output.name}.{os.getpid()}")
        try:
            self.output.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                for row in done:
                    file.write(_line(row))
            temporary.replace(self.output)
            self.failed.unlink(missing_ok=True)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise _unwritable(self.output, error) from error

    def put(self, row: Row) -> None:
        """Take a row; it is written now, or once the rows before it are there."""
        if self._order == "completed":
            self._write(row)
            return
        self._waiting[row.index] = row
        self.advance()

    def skip(self, index: int) -> None:
        """The row of `index` is in the file already (or its record is not part of this job)."""
        self.put(Row(index, True, {})) if self._order == "input" else None

    def advance(self) -> None:
        while (row := self._waiting.pop(self._next, None)) is not None:
            self._next += 1
            self._write(row)

    def _write(self, row: Row) -> None:
        if not row.fields:
            return
        path = self.output if row.ok else self.failed
        file = self._files.get(path)
        if file is None:
            file = self._open(path)
        line = _line(row)
        try:
            written = os.write(file, line)
            while written < len(line):
                written += os.write(file, line[written:])
        except OSError as error:
            raise _unwritable(path, error) from error

    def _open(self, path: Path) -> int:
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise _unwritable(path, error) from error
        self._files[path] = file
        return file


def _line(row: Row) -> bytes:
    return (json.dumps(row.fields, ensure_ascii=False) + "\n").encode()


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write {path}: {error.strerror}. What had finished is in the journal; make room or "
        "choose another --output, then run the same command with --resume."
    )
