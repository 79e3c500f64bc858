"""Which sink an output is: a file by its suffix, a table by its URL."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from carrara.runtime.database_url import shown_url
from carrara.workflows.calls import Definition
from carrara.workflows.places import PlaceError, is_stream
from carrara.workflows.row_format import CSV, JSON_LINES, csv_of, declared_fields, job_format
from carrara.workflows.sinks.flat import Flat, flat_of
from carrara.workflows.sinks.held import lock_of
from carrara.workflows.sinks.shape import KEY, Columns, row_columns
from carrara.workflows.sinks.sink import Sink
from carrara.workflows.sources.sql import QUERY, in_folder

PARQUET = ".parquet"
_TABLE = re.compile(r"^(duckdb|sqlite|postgres(?:ql)?)(\+\w+)?:/")


def is_table(output: str) -> bool:
    return bool(_TABLE.match(output))


def check_output(output: str) -> None:
    """Raises PlaceError where rows cannot go there: another suffix, a URL without a table."""
    if is_table(output):
        _table_name(output)
        return
    place = Path(output)
    suffix = place.suffix.lower()
    if suffix in (*JSON_LINES, CSV, PARQUET) or (not suffix and is_stream(place)):
        return
    why = f"not '{place.suffix}'" if suffix else "and this name does not say which"
    raise PlaceError(
        f"{output}: rows are JSON lines (.jsonl, .ndjson), CSV (.csv), Parquet (.parquet) or a table "
        f"(duckdb:///file.duckdb#table, sqlite:///file.db#table, postgresql://…#table), {why}"
    )


def placed(output: str, folder: str) -> str:
    """The output as it is found from the working folder, where it is meant from `folder`."""
    if folder in ("", os.getcwd()):
        return output
    return in_folder(output, folder) if is_table(output) else os.path.join(folder, output)


def shown(output: str) -> str:
    """The output for messages: without a password."""
    return shown_url(output) if is_table(output) else output


def sink_of(
    output: str, workflow: Definition[..., Any], flatten: str | None = None, shard: str = ""
) -> Sink:
    """The sink for the rows of `workflow`. Opens nothing yet. `flatten` names a list whose items become rows. Jobs with
    another `shard` "i/n" each may write the same table meanwhile.

    Raises:
        PlaceError: rows cannot go there.
        InputError: `flatten` names no list.
        CarraraError: a package for it is not installed.
    """
    check_output(output)
    columns = row_columns(workflow)
    flat = flat_of(flatten, columns)
    suffix = Path(output).suffix.lower()
    if not is_table(output) and suffix != PARQUET:
        return _lines(Path(output), workflow, flat)
    from carrara.workflows.sinks.typed_rows import TypedRows

    rows = TypedRows(columns, flat)
    if not is_table(output):
        from carrara.workflows.sinks.parquet import ParquetSink

        return ParquetSink(Path(output), rows)
    url, name = output.partition("#")[0], _table_name(output)
    file = _database_file(url)
    if file is not None:
        _refuse_alike(shown(output), rows.columns, nested=url.startswith("duckdb"))
    stem = name if file is None else f"{file.name}.{name}"
    part = "-of-".join(str(int(number)) for number in shard.split("/")) if shard else ""
    beside = f"{stem}.{part}.failed.jsonl" if part else f"{stem}.failed.jsonl"
    failed = (file.parent if file else Path()) / beside
    if url.startswith("duckdb"):
        from carrara.workflows.sinks.duck import DuckTable

        assert file is not None
        return DuckTable(
            file, name, failed, rows, lock=lock_of(file, name, part), flat=flat is not None
        )
    from carrara.workflows.sinks.sql import SqlTable

    lock = None if file is None else lock_of(file, name, part)
    return SqlTable(url, name, failed, rows, lock=lock, flat=flat is not None, shard=part)


def _lines(output: Path, workflow: Definition[..., Any], flat: Flat | None) -> Sink:
    from carrara.workflows.sinks.lines import LineSink

    if flat is None or output.suffix.lower() != CSV:
        return LineSink(output, job_format(output, workflow), flat)
    if declared_fields(workflow) is None:
        raise PlaceError(
            f"{output}: the workflow does not declare the fields of its rows, so that flat ones have no columns; "
            "write JSON lines"
        )
    return LineSink(output, csv_of((KEY, *flat.columns(row_columns(workflow)))), flat)


def _database_file(url: str) -> Path | None:
    """The file of a DuckDB or SQLite database, None for a server."""
    if url.startswith("postgres"):
        return None
    _, slashes, name = url.partition(":///")
    if not slashes or name in ("", ":memory:"):
        raise PlaceError(f"{url}: name the file, as in '{url.partition(':')[0]}:///rows.db#table'")
    return Path(name.partition("?")[0])


def _refuse_alike(place: str, columns: Columns, *, nested: bool, where: str = "") -> None:
    """Raises PlaceError where two columns have one name for a database that makes no difference between A and a; in
    DuckDB also two fields of an object."""
    names: dict[bytes, str] = {}
    for name, shape in columns.items():
        other = names.setdefault(name.encode().lower(), name)  # of ASCII letters only, as they do
        if other != name:
            raise PlaceError(
                f"{place}: {where}{other!r} and {name!r} are one name for this database; call one of these fields "
                "otherwise, or write JSON lines, CSV or Parquet"
            )
        while nested and shape.kind == "list" and shape.item is not None:
            shape = shape.item
        if nested:
            _refuse_alike(place, shape.by_name, nested=True, where=f"{where}{name}/")


def _table_name(output: str) -> str:
    url, _, name = output.partition("#")
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)?", name):
        what = f"not {name!r}" if name else "there is none"
        raise PlaceError(
            f"{shown_url(url)}: name a table behind '#', as in '{shown_url(url)}#rows'; {what}"
        )
    if QUERY.match(name):
        raise PlaceError(
            f"{shown_url(output)}: {name!r} behind '#' would be read as a query; give the table another name"
        )
    return name


__all__ = ["PARQUET", "check_output", "is_table", "placed", "shown", "sink_of"]
