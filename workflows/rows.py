"""Where the rows of a job go: one line per record, written whole, in input order or as completed.

The rows that are done lie in the journal first; the files here are made from them, so that a killed job's
files are rebuilt exactly when it goes on.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from carrara.workflows.places import OutputError, PlaceError, is_stream
from carrara.workflows.row_format import JSON, RowFormat, json_line

Order = Literal["input", "completed"]


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
    """The output file and, beside it, the file of failed records: JSON lines, made when the first one fails.

    Beside a device or pipe there is none: `failed` is None, and rows that failed are not written.

    Every line is written with one system call on a file opened for appending. With order "input" a row waits
    in memory for the rows before it.
    """

    def __init__(self, output: Path, order: Order = "input", form: RowFormat = JSON) -> None:
        self.output = output
        self.failed: Path | None = None
        if not is_stream(output):
            self.failed = output.with_name(f"{output.stem}.failed.jsonl")
        self._form = form
        self._order = order
        self._waiting: dict[int, Row] = {}
        self._next = 0
        self._files: dict[Path, int] = {}

    def __enter__(self) -> Self:
        try:
            file = self._open(self.output)
            if is_stream(self.output) or os.fstat(file).st_size == 0:
                _write_whole(file, self._form.header)
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
            if self.failed is not None:
                self.failed.unlink(missing_ok=True)
        except OSError as error:
            raise _misplaced(self.output, error) from error

    def _refuse_filled(self) -> None:
        for path in (self.output, self.failed):
            if path is not None and not is_stream(path) and path.is_file() and path.stat().st_size:
                raise PlaceError(
                    f"{path} is there already. Go on with its job by --resume, or name another --output."
                )

    def _replace(self, rows: Iterable[Row]) -> None:
        if is_stream(self.output):
            return  # nothing of an earlier process is there
        temporary = self.output.with_name(f".{self.output.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                file.write(self._form.header)
                for row in rows:
                    file.write(self._form.line(row.fields))
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
        if path is None:
            return
        line = self._form.line(row.fields) if row.ok else json_line(row.fields)
        try:
            file = self._files.get(path)
            if file is None:
                file = self._open(path)
            _write_whole(file, line)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}. {_KEPT}") from error

    def _open(self, path: Path) -> int:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._files[path] = file
        return file


def _write_whole(file: int, content: bytes) -> None:
    while content:
        content = content[os.write(file, content) :]


def _misplaced(path: Path, error: OSError) -> PlaceError:
    return PlaceError(f"cannot write {path}: {error.strerror}")
