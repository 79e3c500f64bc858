"""JSON lines and CSV: every row is written with one system call on a file opened for appending."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from carrara.workflows.places import OutputError, PlaceError, is_stream
from carrara.workflows.row_format import RowFormat
from carrara.workflows.sinks.flat import Flat
from carrara.workflows.sinks.held import lock_of
from carrara.workflows.sinks.sink import Before, Fields, Refused, of_before

_KEPT = (
    "What had finished is in the journal: make room and run the same command with --resume, "
    "or `carrara resume last --output OTHER`."
)


class LineFile:
    """A file that grows by whole lines, made when the first one comes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def open(self, header: bytes = b"") -> None:
        """Open it now; an empty one gets the header.

        Raises:
            PlaceError: it cannot be written.
        """
        try:
            file = self._opened()
            if is_stream(self.path) or os.fstat(file).st_size == 0:
                _write_whole(file, header)
        except OSError as error:
            raise misplaced(self.path, error) from error

    def write(self, lines: bytes) -> None:
        """Raises OutputError where they cannot be written."""
        try:
            _write_whole(self._opened(), lines)
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}. {_KEPT}") from error

    def check(self) -> None:
        """Raises OutputError where the file that was written is not there any more under its name."""
        if self._file is not None and not is_stream(self.path):
            check_still(self.path, os.fstat(self._file), str(self.path))

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _opened(self) -> int:
        if self._file is None:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        return self._file


class LineSink:
    """Lines in one format. A device or pipe is written to and never replaced; beside it there is no file of failed
    records."""

    ordered = True

    def __init__(self, output: Path, form: RowFormat, flat: Flat | None = None) -> None:
        self.output: Path | None = None if is_stream(output) else output
        self.shown = str(output)
        self._path = output
        self.failed = None if is_stream(output) else beside(output)
        self.lock = None if is_stream(output) else lock_of(output)
        self._form = form
        self._flat = flat
        self._file = LineFile(output)

    def prepare(self, fields: Fields) -> bytes:
        if self._flat is None:
            return self._form.line(fields)
        return b"".join(map(self._form.line, self._flat.rows(fields)))

    def open(self) -> None:
        """Nothing is to be known before the file is made anew."""

    def begin(self, done: Iterable[Before], *, fresh: bool) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if not is_stream(self._path):
                if fresh:
                    unfinished(self._path).unlink(missing_ok=True)
                else:
                    self._replace(done)
        except OSError as error:
            raise misplaced(self._path, error) from error
        self._file.open(self._form.header)

    def put(self, row: bytes, refused: Refused | None = None) -> None:
        self._file.write(row)

    def finish(self) -> None:
        """Nothing is held back; a file that was removed or replaced meanwhile has taken the rows with it."""
        self._file.check()

    def close(self) -> None:
        self._file.close()

    def _replace(self, done: Iterable[Before]) -> None:
        """The new file takes the old one's place in one step."""
        temporary = unfinished(self._path)
        try:
            with temporary.open("wb") as file:
                file.write(self._form.header)
                file.writelines(of_before(self, each.fields) for each in done)
            temporary.replace(self._path)
        finally:
            temporary.unlink(missing_ok=True)


def beside(output: Path) -> Path:
    """The file of the records that fail: rows.jsonl -> rows.failed.jsonl, rows.csv -> rows.csv.failed.jsonl, so that
    no two outputs share one."""
    name = output.stem if output.suffix == ".jsonl" else output.name
    return output.with_name(f"{name}.failed.jsonl")


def unfinished(path: Path) -> Path:
    """The hidden file in which the next version of `path` is made. What a killed job has left there goes with the next
    one; two jobs never make it at a time (see `held`)."""
    return path.with_name(f".{path.name}.partial")


def misplaced(path: Path, error: OSError) -> PlaceError:
    return PlaceError(f"cannot write {path}: {error.strerror or error}")


def check_still(path: Path, opened: os.stat_result, shown: str) -> None:
    """Raises OutputError where another file than the one that was opened has the name `path` now, or none has it."""
    try:
        is_same = os.path.samestat(opened, path.stat())
    except OSError:
        is_same = False
    if not is_same:
        raise OutputError(
            f"{shown} was removed or replaced while the job wrote it. The rows are in the journal: "
            "run the same command with --resume, or `carrara resume last --output OTHER`."
        )


def _write_whole(file: int, content: bytes) -> None:
    while content:
        content = content[os.write(file, content) :]


__all__ = ["LineFile", "LineSink", "beside", "check_still", "misplaced", "unfinished"]
