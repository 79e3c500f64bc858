"""Parquet files by pyarrow, read in batches: memory does not grow with the number of rows."""

from __future__ import annotations

import re
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
    as what is wrong with it; a moment in nanoseconds as text."""
    names = batch.schema.names
    columns = [_values(batch.column(name), name) for name in names]
    for _, *values in zip(range(batch.num_rows), *columns, strict=True):
        yield dict(zip(names, values, strict=True))


def _values(column: Any, name: str) -> list[object]:
    try:
        found: list[object] = column.to_pylist()
    except (ValueError, OverflowError):
        found = [_value(scalar, name) for scalar in column]
    return found


def _value(scalar: Any, name: str) -> object:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError) as error:
        return _with_nanoseconds(scalar, name) or Unreadable(
            f"column {name!r} holds a {scalar.type} that is out of range: {error}"
        )


def _with_nanoseconds(scalar: Any, name: str) -> object:
    """A moment in ISO 8601 with nine digits of a second, a duration in seconds, a list or struct with such within; None
    for other values."""
    import pyarrow
    from pyarrow import types

    of = scalar.type
    if types.is_list(of) or types.is_large_list(of) or types.is_fixed_size_list(of):
        return [_value(item, name) for item in scalar.values]
    if types.is_map(of):
        return [[_value(part, name) for part in pair.values()] for pair in scalar.values]
    if types.is_struct(of):
        return {key: _value(item, f"{name}.{key}") for key, item in scalar.items()}
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
