"""Parquet files by pyarrow, read in batches: memory does not grow with the number of rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from carrara.engines.errors import CarraraError
from carrara.workflows.row_weight import at_once
from carrara.workflows.sources.record import (
    EmptySource,
    Kept,
    NoRoom,
    Record,
    SourceError,
    differing,
    from_columns,
    key_of,
)

INSTALL = "pip install 'carrara[data]'"
_FRACTION = re.compile(r"\.\d{6}")


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
        with pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as file:
            if not file.metadata.num_rows:
                raise EmptySource(f"{path}: empty, there is no row in it")
            differing(file.schema_arrow.names, str(path), "give them names that differ")
            index = 0
            for batch in file.iter_batches(batch_size=_batch_size(file)):
                for row in _rows(batch):
                    yield _record(path, index, row, keep)
                    index += 1
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from error
    except pyarrow.ArrowException as error:
        raise SourceError(f"{path}: not a readable Parquet file: {error}") from error


def _batch_size(file: Any) -> int:
    """How many rows are read at once: fewer where they are large, as far as the file tells."""
    groups = [file.metadata.row_group(n) for n in range(file.metadata.num_row_groups)]
    largest = max((g.total_byte_size / g.num_rows for g in groups if g.num_rows), default=0)
    return at_once(largest)


def _rows(batch: Any) -> Iterator[dict[str, object]]:
    """The rows of a batch. A value that Python has no room for stands in its row as NoRoom; a moment in nanoseconds as
    text."""
    names = batch.schema.names
    columns = map(_values, batch.columns)
    for _, *values in zip(range(batch.num_rows), *columns, strict=True):
        yield dict(zip(names, values, strict=True))


def _values(column: Any) -> list[object]:
    try:
        found: list[object] = column.to_pylist()
    except (ValueError, OverflowError):
        found = [_value(scalar) for scalar in column]
    return found


def _value(scalar: Any) -> object:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError) as error:
        return _with_nanoseconds(scalar) or NoRoom(str(scalar.type), str(error))


def _with_nanoseconds(scalar: Any) -> object:
    """A moment in ISO 8601 with nine digits of a second, a duration in seconds, a list or struct with such within; None
    for other values."""
    import pyarrow
    from pyarrow import types

    of = scalar.type
    if types.is_list(of) or types.is_large_list(of) or types.is_fixed_size_list(of):
        return [_value(item) for item in scalar.values]
    if types.is_map(of):
        return [[_value(part) for part in pair.values()] for pair in scalar.values]
    if types.is_struct(of):
        return {key: _value(item) for key, item in scalar.items()}
    is_time = types.is_timestamp(of) or types.is_time(of) or types.is_duration(of)
    if not is_time or of.unit != "ns":
        return None
    if types.is_duration(of):
        return float(scalar.value / 10**9)
    micros, nanos = divmod(scalar.value, 1000)
    rough = pyarrow.timestamp("us", of.tz) if types.is_timestamp(of) else pyarrow.time64("us")
    text: str = pyarrow.scalar(micros, rough).as_py().isoformat(timespec="microseconds")
    return _FRACTION.sub(rf"\g<0>{nanos:03}", text)


def _record(path: Path, index: int, row: dict[str, object], keep: Kept) -> Record:
    empty = Record(index, key_of(row, f"row:{index + 1}"), f"{path}:row {index + 1}")
    return from_columns(empty, row, keep)


__all__ = ["INSTALL", "read_parquet"]
