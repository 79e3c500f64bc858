"""Rows of SQL databases, by SQLAlchemy: `sqlite:///rows.db#table` or `postgresql://host/name#SELECT …`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from carrara.engines.errors import CarraraError
from carrara.runtime.database_url import INSTALL, driver_url, said, shown_url
from carrara.workflows.row_weight import fetched
from carrara.workflows.sources.postgres_values import load_what_fits
from carrara.workflows.sources.record import (
    EmptySource,
    Kept,
    Record,
    SourceError,
    differing,
    from_columns,
    key_of,
    key_text,
)
from carrara.workflows.sources.sqlite_values import Reading, read_rows, readings, text_or_bytes

SCHEMES = ("sqlite", "postgresql", "postgres")
_URL = re.compile(r"^(sqlite|postgres(?:ql)?)(\+\w+)?:/")
QUERY = re.compile(r"^\s*(?:select|with|values|table)\b", re.IGNORECASE)
"""What stands behind `#` of a URL is a query where this matches, else a table."""


def is_database(source: str) -> bool:
    return bool(_URL.match(source))


def read_sql(source: str, folder: str = "", keep: Kept = ()) -> Iterator[Record]:
    """A record for each row; the file of an SQLite database is looked for from `folder`. Dates and decimals become
    text, but for the types to `keep`. Nothing is written: what would, fails.

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
            _only_read(connection)
            asked = _asked(sqlalchemy, connection, what.strip(), shown)
            with _begun(connection, asked.query) as found:
                differing(
                    found.keys(), shown, "name them apart, as in 'SELECT a.id, b.id AS other'"
                )
                rows = (row._mapping for row in fetched(found.fetchmany))
                index = -1
                for index, row in enumerate(read_rows(rows, asked.readings)):
                    yield _record(shown, index, row, asked.keys, keep)
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


def _only_read(connection: Any) -> None:
    """Let nothing be written, and take values that Python has no room for."""
    driver = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        driver.text_factory = text_or_bytes
        driver.execute("PRAGMA query_only = ON")
        return
    connection.execution_options(postgresql_readonly=True)
    if connection.dialect.driver == "psycopg":
        load_what_fits(driver)


def _begun(connection: Any, query: Any) -> Any:
    """The result of a query, row by row. One that the user wrote goes to the database as it stands: neither ':word' nor
    '%' is a parameter in it."""
    running = connection.execution_options(stream_results=True, no_parameters=True)
    return running.exec_driver_sql(query) if isinstance(query, str) else running.execute(query)


def _refuse_missing_file(engine: Any, shown: str) -> None:
    """SQLite would make an empty database."""
    name = engine.url.database
    in_file = engine.dialect.name == "sqlite" and name not in (None, "", ":memory:")
    if in_file and not Path(name).is_file():
        raise SourceError(f"{shown}: there is no file {name}")


class _Asked(NamedTuple):
    """The query (text where a user wrote it), the columns that make the key of a row, how values of SQLite are read."""

    query: Any
    keys: tuple[str, ...] = ()
    readings: Mapping[str, Reading] = {}


def _asked(sqlalchemy: Any, connection: Any, what: str, shown: str) -> _Asked:
    if QUERY.match(what):
        return _Asked(what)
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
    if connection.dialect.name != "sqlite":
        return _Asked(sqlalchemy.select(table).order_by(*order), keys)
    as_they_are = [sqlalchemy.type_coerce(c, sqlalchemy.types.NullType()) for c in table.columns]
    named = [raw.label(c.name) for raw, c in zip(as_they_are, table.columns, strict=True)]
    query = sqlalchemy.select(*named).order_by(*order)
    return _Asked(query, keys, readings(table, connection.dialect))


def _record(
    shown: str, index: int, row: dict[str, Any], keys: tuple[str, ...], keep: Kept
) -> Record:
    usual = ":".join(key_text(row[key]) for key in keys) or f"row:{index + 1}"
    empty = Record(index, key_of(row, usual), f"{shown}:row {index + 1}")
    return from_columns(empty, row, keep)


__all__ = ["QUERY", "SCHEMES", "in_folder", "is_database", "read_sql"]
