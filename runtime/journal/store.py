"""What the SQL of a journal runs on: a database that takes `?` for values. SQLite's connections are one as they are."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import time
from typing import Any, Protocol

from carrara.runtime.errors import JournalError
from carrara.runtime.journal.schema import connect_to_read, failure


class Sql(Protocol):
    """Runs statements. `execute` gives a cursor: an iterator of rows with `fetchone`, `fetchall` and `rowcount`."""

    def execute(self, sql: str, values: Sequence[Any] = ..., /) -> Any: ...

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> Any: ...


class Store(Sql, Protocol):
    """One connection to a journal. `shown` names the place in messages, `errors` are what it raises."""

    shown: str
    errors: tuple[type[Exception], ...]

    def now(self) -> float:
        """Unix seconds on the clock that all who use this journal share."""
        ...

    def failure(self, error: BaseException, run: str = "") -> JournalError:
        """The error to raise for a foreign one."""
        ...

    def another(self) -> Store:
        """One more connection, to read. Raises JournalError."""
        ...

    def close(self) -> None: ...


class SqliteStore:
    """A file."""

    errors: tuple[type[Exception], ...] = (sqlite3.Error,)

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.shown = str(path)
        self._path = path
        self._connection = connection
        self.execute = connection.execute
        self.executemany = connection.executemany

    def now(self) -> float:
        return time()

    def failure(self, error: BaseException, run: str = "") -> JournalError:
        return failure(self._path, error, run=run)

    def another(self) -> SqliteStore:
        return SqliteStore(self._path, connect_to_read(self._path))

    def close(self) -> None:
        self._connection.close()


@contextmanager
def ending(sql: Sql) -> Iterator[None]:
    """Commit the transaction that has begun, or take it back if the block raises."""
    try:
        yield
        sql.execute("COMMIT")
    except BaseException:
        # A full disk has rolled back by itself, and so has a server that is gone.
        with suppress(Exception):
            sql.execute("ROLLBACK")
        raise


__all__ = ["Sql", "SqliteStore", "Store", "ending"]
