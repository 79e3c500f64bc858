"""Rows of DuckDB files: `duckdb:///rows.duckdb#table`, or a query behind the `#`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from carrara.engines.errors import CarraraError
from carrara.workflows.row_weight import fetched
from carrara.workflows.sources.parquet import INSTALL
from carrara.workflows.sources.record import (
    EmptySource,
    Kept,
    Record,
    SourceError,
    differing,
    from_columns,
    key_of,
)
from carrara.workflows.sources.sql import QUERY, in_folder

_URL = re.compile(r"^duckdb:///(?P<file>[^#?]+)(?:\?[^#]*)?(?:#(?P<what>.*))?$", re.DOTALL)
_SQLITE = b"SQLite format 3\0"


def is_duckdb(source: str) -> bool:
    return source.startswith("duckdb:")


def read_duckdb(source: str, folder: str = "", keep: Kept = ()) -> Iterator[Record]:
    """A record for each row; the file is looked for from `folder`. Dates and decimals become text, but for the types to
    `keep`.

    Behind `#` stands a table, read in the order of its primary key or else of its rows, or a query. The key is the
    column `id` or `key`, else the number of the row.

    Raises:
        SourceError: the file, the table or the query cannot be used; says what DuckDB said.
        CarraraError: the package for it is not installed.
    """
    try:
        import duckdb
    except ImportError as error:
        raise CarraraError(f"DuckDB tables need the package duckdb: {INSTALL}") from error
    found = _URL.match(source)
    what = (found["what"] or "").strip() if found else ""
    if found is None or not what:
        shown = source.partition("#")[0]
        raise SourceError(
            f"{shown}: name the file, and a table or a query behind '#', as in 'duckdb:///rows.duckdb#rows'"
        )
    shown = f"duckdb:///{found['file']}"
    path = Path(in_folder(shown, folder).removeprefix("duckdb:///"))
    if not path.is_file():  # DuckDB would say so at length
        raise SourceError(f"{shown}: there is no file {path}")
    if is_sqlite(path):
        raise SourceError(sqlite_meant(path, what))
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            asked = connection.execute(
                _only_one(connection, what, shown)
                if QUERY.match(what)
                else _query(connection, what, shown)
            )
            names = [column[0] for column in asked.description]
            differing(names, shown, "name them apart, as in 'SELECT a.id, b.id AS other'")
            index = -1
            for index, row in enumerate(fetched(asked.fetchmany)):
                yield _record(shown, index, dict(zip(names, row, strict=True)), keep)
            if index < 0:
                raise EmptySource(f"{shown}: there is no row in {what!r}")
    except duckdb.Error as error:
        raise SourceError(f"{shown}: {said(error)}") from error


def _only_one(connection: Any, query: str, shown: str) -> str:
    """The query, which is one statement: of several DuckDB would run all, and those behind it may write files."""
    count = len(connection.extract_statements(query))
    if count > 1:
        raise SourceError(
            f"{shown}: one query is read, and behind '#' stand {count} statements; nothing of it was run. "
            "Leave out what stands behind the first ';'"
        )
    return query


def _query(connection: Any, table: str, shown: str) -> str:
    """A table in the order of its primary key, where it has one."""
    schema, _, name = table.rpartition(".")
    tables = connection.execute(
        "SELECT table_schema, table_name FROM information_schema.tables ORDER BY 1, 2"
    ).fetchall()
    if (schema or "main", name) not in tables:
        known = ", ".join(n if s == "main" else f"{s}.{n}" for s, n in tables[:10]) or "none"
        raise SourceError(f"{shown}: no table {table!r}; there are: {known}")
    keys = connection.execute(
        "SELECT constraint_column_names FROM duckdb_constraints() WHERE table_name = ? AND schema_name = ?"
        " AND constraint_type = 'PRIMARY KEY'",
        [name, schema or "main"],
    ).fetchone()
    order = f" ORDER BY {', '.join(map(quoted, keys[0]))}" if keys else ""
    return f"SELECT * FROM {'.'.join(quoted(part) for part in (schema, name) if part)}{order}"


def is_sqlite(path: Path) -> bool:
    """Whether it is a SQLite file, which DuckDB would fetch an extension for. Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def sqlite_meant(path: Path, what: str) -> str:
    return f"{path} is a SQLite file; write 'sqlite:///{path}#{what}'"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def said(error: Exception) -> str:
    """What DuckDB said, in one line."""
    return re.sub(r"\s+", " ", str(error))[:300]


def _record(shown: str, index: int, row: dict[str, Any], keep: Kept) -> Record:
    empty = Record(index, key_of(row, f"row:{index + 1}"), f"{shown}:row {index + 1}")
    return from_columns(empty, row, keep)


__all__ = ["is_duckdb", "is_sqlite", "quoted", "read_duckdb", "said", "sqlite_meant"]
