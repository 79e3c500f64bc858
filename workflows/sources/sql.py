"""Rows of SQL databases, by SQLAlchemy: `sqlite:///rows.db#table` or `postgresql://host/name#SELECT …`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from carrara.engines.errors import CarraraError
from carrara.runtime.database_url import INSTALL, driver_url, said, shown_url
from carrara.workflows.sources.record import (
    EmptySource,
    Kept,
    Record,
    SourceError,
    from_columns,
    key_of,
    key_text,
)

SCHEMES = ("sqlite", "postgresql", "postgres")
_URL = re.compile(r"^(sqlite|postgres(?:ql)?)(\+\w+)?:/")
QUERY = re.compile(r"^\s*(?:select|with|values|table)\b", re.IGNORECASE)
"""What stands behind `#` of a URL is a query where this matches, else a table."""
_BATCH = 1000


def is_database(source: str) -> bool:
    return bool(_URL.match(source))


def read_sql(source: str, folder: str = "", keep: Kept = ()) -> Iterator[Record]:
    """A record for each row; the file of an SQLite database is looked for from `folder`. Dates and decimals become
    text, but for the types to `keep`.

    Behind `#` stands a table, read in the order of its primary key, or a query. The key is the column `id` or `key`,
    else the table's primary key, else the number of the row: a query without ORDER BY may give the rows in another
    order when a job goes on, which it notices and refuses.

    Raises:
        SourceError: the database, the table or the query cannot be used; says what the database said.
        CarraraError: a package for it is not installed.
    """
    try:
        import sqlalchemy
    except ImportError as error:
        raise CarraraError(f"SQL databases need the package SQLAlchemy: {INSTALL}") from error
    url, mark, what = source.partition("#")
    shown = shown_url(url)
    if not mark or not what.strip():
        raise SourceError(f"{shown}: name a table or a query behind '#', as in '{shown}#documents'")
    try:
        engine = sqlalchemy.create_engine(driver_url(in_folder(url, folder)))
    except ImportError as error:
        raise CarraraError(f"{shown} needs the package {error.name!r}: {INSTALL}") from error
    except sqlalchemy.exc.ArgumentError as error:
        raise SourceError(f"{shown}: not a database URL: {said(error, url)}") from error
    try:
        _refuse_missing_file(engine, shown)
        with engine.connect() as connection:
            query, keys = _statement(sqlalchemy, connection, what.strip(), shown)
            found = connection.execution_options(stream_results=True, yield_per=_BATCH).execute(
                query
            )
            index = -1
            for index, row in enumerate(found.mappings()):
                named = {
                    str(name): value for name, value in row.items()
                }  # names are of a kind of str
                yield _record(shown, index, named, keys, keep)
            if index < 0:
                raise EmptySource(f"{shown}: there is no row in {what.strip()!r}")
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise SourceError(f"{shown}: {said(error, url)}") from error
    finally:
        engine.dispose()


def in_folder(url: str, folder: str) -> str:
    """The URL with the file of an SQLite or DuckDB database as seen from `folder`."""
    head, slashes, name = url.partition(":///")
    if not folder or not url.startswith(("sqlite", "duckdb")) or name in ("", ":memory:"):
        return url
    return f"{head}{slashes}{os.path.join(folder, name)}"


def _refuse_missing_file(engine: Any, shown: str) -> None:
    """SQLite would make an empty database."""
    name = engine.url.database
    in_file = engine.dialect.name == "sqlite" and name not in (None, "", ":memory:")
    if in_file and not Path(name).is_file():
        raise SourceError(f"{shown}: there is no file {name}")


def _statement(
    sqlalchemy: Any, connection: Any, what: str, shown: str
) -> tuple[Any, tuple[str, ...]]:
    """The query, and the columns that make the key of a row."""
    if QUERY.match(what):
        return sqlalchemy.text(what), ()
    schema, _, name = what.rpartition(".")
    inspector = sqlalchemy.inspect(connection)
    names = [*inspector.get_table_names(schema or None), *inspector.get_view_names(schema or None)]
    if name not in names:
        known = ", ".join(sorted(names)[:10]) or "none"
        raise SourceError(f"{shown}: no table {what!r}; there are: {known}")
    table = sqlalchemy.Table(
        name, sqlalchemy.MetaData(), schema=schema or None, autoload_with=connection
    )
    keys = tuple(column.name for column in table.primary_key.columns)
    order = [table.c[key] for key in keys] or list(table.columns)
    return sqlalchemy.select(table).order_by(*order), keys


def _record(
    shown: str, index: int, row: dict[str, Any], keys: tuple[str, ...], keep: Kept
) -> Record:
    usual = ":".join(key_text(row[key]) for key in keys) or f"row:{index + 1}"
    empty = Record(index, key_of(row, usual), f"{shown}:row {index + 1}")
    return from_columns(empty, row, keep)


__all__ = ["QUERY", "SCHEMES", "in_folder", "is_database", "read_sql"]
