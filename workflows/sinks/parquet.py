"""Parquet: rows gather in a hidden file beside the output, which takes its place in one step when the job has ended."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from carrara.workflows.places import OutputError
from carrara.workflows.row_weight import AT_ONCE_BYTES, weight
from carrara.workflows.sinks.arrow import need_pyarrow, schema_of, table_of
from carrara.workflows.sinks.held import Lock, lock_of
from carrara.workflows.sinks.lines import beside, misplaced, unfinished
from carrara.workflows.sinks.sink import KEPT, Before, Fields, Refused, of_before
from carrara.workflows.sinks.typed_rows import Row, TypedRows

GROUP = 8192
"""Rows of a row group at most: so many are held in memory, fewer where they are large."""


class ParquetSink:
    """A file that appears whole, or stays what it was; of a job that was cut off nothing is seen."""

    ordered = True

    def __init__(self, output: Path, rows: TypedRows, *, group: int = GROUP) -> None:
        need_pyarrow("a Parquet file")
        self.output = output
        self.shown = str(output)
        self.failed: Path | None = beside(output)
        self.lock: Lock | None = lock_of(output)
        self._rows = rows
        self._schema = schema_of(rows.columns)
        self._hidden = unfinished(output)
        self._group = group
        self._held: list[Row] = []
        self._held_bytes = 0
        self._file: BinaryIO | None = None
        self._writer: Any = None

    def prepare(self, fields: Fields) -> list[Row]:
        return self._rows(fields)

    def open(self) -> None:
        """Nothing is to be known before the file is made anew."""

    def begin(self, done: Iterable[Before], *, fresh: bool) -> None:
        import pyarrow.parquet

        try:
            self.output.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._hidden.open("wb")  # what a killed job has left goes
            self._writer = pyarrow.parquet.ParquetWriter(self._file, self._schema)
        except OSError as error:
            raise misplaced(self.output, error) from error
        for before in done:
            self.put(of_before(self, before.fields))

    def put(self, row: list[Row], refused: Refused | None = None) -> None:
        self._held += row
        self._held_bytes += weight(row)
        if len(self._held) >= self._group or self._held_bytes >= AT_ONCE_BYTES:
            self._write()

    def finish(self) -> None:
        try:
            if self._held:
                self._write()
            self._writer.close()
            self._writer = None
            assert self._file is not None
            self._file.flush()
            self._hidden.replace(self.output)
            self._file.close()
            self._file = None
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        if self._writer is not None:
            with suppress(OSError):  # a full disk: what is thrown away need not be whole
                self._writer.close()
            self._writer = None
        if self._file is not None:
            self._hidden.unlink(missing_ok=True)
            with suppress(OSError):
                self._file.close()
            self._file = None

    def _write(self) -> None:
        held, self._held, self._held_bytes = self._held, [], 0
        try:
            self._writer.write_table(table_of(held, self._rows.columns, self._schema))
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write {self.output}: {error.strerror or error}. {KEPT}")


__all__ = ["GROUP", "ParquetSink"]
