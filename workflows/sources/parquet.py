"""Parquet files by pyarrow, read in batches: memory does not grow with the number of rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from carrara.engines.errors import CarraraError
from carrara.workflows.sources.record import (
    EmptySource,
    Kept,
    Record,
    SourceError,
    Unreadable,
    from_columns,
    key_of,
)

INSTALL = "pip install 'carrara[data]'"
_BATCH = 1024


def read_parquet(path: Path, keep: Kept = ()) -> Iterator[Record]:
    """A record for each row, with its columns as fields. Dates and decimals become text, but for the types to `keep`.

    Raises:
        SourceError: not a Parquet file, or one without rows.
        CarraraError: the package for it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise CarraraError(f"Parquet files need the package pyarrow: {INSTALL}") from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if not file.metadata.num_rows:
                raise EmptySource(f"{path}: empty, there is no row in it")
            index = 0
            for batch in file.iter_batches(batch_size=_BATCH):
                for row in _rows(batch):
                    yield _record(path, index, row, keep)
                    index += 1
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from error
    except pyarrow.ArrowException as error:
        raise SourceError(f"{path}: not a readable Parquet file: {error}") from error


def _rows(batch: Any) -> Iterator[dict[str, object]]:
    """The rows of a batch. A value that Python has no room for, such as a date after the year 9999, stands in its row
    as what is wrong with it."""
    try:
        yield from batch.to_pylist()
    except (ValueError, OverflowError):
        for index in range(batch.num_rows):
            yield {name: _value(batch.column(name)[index], name) for name in batch.schema.names}


def _value(scalar: Any, name: str) -> object:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError) as error:
        return Unreadable(f"column {name!r} holds a {scalar.type} that is out of range: {error}")


def _record(path: Path, index: int, row: dict[str, object], keep: Kept) -> Record:
    empty = Record(index, key_of(row, f"row:{index + 1}"), f"{path}:row {index + 1}")
    return from_columns(empty, row, keep)


__all__ = ["INSTALL", "read_parquet"]
