"""Two tables of rows in a temporary database, so that memory does not grow with their number: SQLite keeps it in a file
of its own and removes it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, Self

from carrara.runtime.codec import decode, encode
from carrara.workflows.comparing.number_keys import is_number, number_mark
from carrara.workflows.comparing.rows import Output
from carrara.workflows.places import OutputError

Side = Literal["before", "after"]
_BATCH = 500
_MEMORY_KIB = 32 * 1024


class Shelf:
    """Holds the rows of both outputs by key. Used in `with`."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute(f"PRAGMA cache_size = -{_MEMORY_KIB}")
        self._database.execute("PRAGMA journal_mode = OFF")
        for side in ("before", "after"):
            self._database.execute(
                f"CREATE TABLE {side} (place INTEGER PRIMARY KEY, key TEXT UNIQUE, fields TEXT,"
                " number TEXT, typed INTEGER)"
            )
        self._numbers = False  # some key is a number

    def put(self, side: Side, output: Output) -> dict[str, bool]:
        """Take all rows of an output. The names of their fields, and whether any row holds something there.

        Raises:
            SourceError: the output cannot be read. OutputError: the disk is full.
        """
        names: dict[str, bool] = {}

        def made() -> Iterator[tuple[str, str, str | None, bool]]:
            for record in output.rows:
                for name, value in record.fields.items():
                    names[name] = value is not None or names.get(name, False)
                key = record.fields.get(output.key)
                typed = is_number(key)
                self._numbers |= typed
                yield record.key, encode(dict(record.fields)), number_mark(key), typed

        with _full():
            self._database.execute("BEGIN")
            self._database.executemany(
                f"INSERT INTO {side} (key, fields, number, typed) VALUES (?, ?, ?, ?)", made()
            )
            self._database.execute("COMMIT")
        return names

    def match_numbers(self) -> None:
        """After both have been put: rows whose keys are written differently, and are the same number, become pairs,
        with the key of `before`. Between two texts there is no such pair: they may be names.

        Raises:
            OutputError: the disk is full.
        """
        if not self._numbers:
            return
        with _full():
            for typed, other_typed in ((False, True), (True, False), (True, True)):
                one = _without_pair("before", "after", typed)
                other = _without_pair("after", "before", other_typed)
                self._database.execute(
                    f"UPDATE after SET key = found.key FROM (SELECT one.key, other.place FROM ({one}) one"
                    f" JOIN ({other}) other USING (number)) found WHERE after.place = found.place"
                )

    def count(self, side: Side) -> int:
        return int(self._database.execute(f"SELECT count(*) FROM {side}").fetchone()[0])

    def only(self, side: Side, limit: int) -> tuple[int, list[str]]:
        """How many rows only one output has, and the first keys of them."""
        other = "after" if side == "before" else "before"
        where = f"FROM {side} WHERE key NOT IN (SELECT key FROM {other})"
        with _full():
            (count,) = self._database.execute(f"SELECT count(*) {where}").fetchone()
            asked = self._database.execute(f"SELECT key {where} ORDER BY place LIMIT ?", (limit,))
            return count, [key for (key,) in asked]

    def pairs(self, *, changed_only: bool) -> Iterator[tuple[str, Any, Any]]:
        """The key and the fields before and after of each row that both have, in the order of the first; where asked,
        without those whose texts are equal."""
        where = "WHERE one.fields <> other.fields" if changed_only else ""
        asked = self._database.execute(
            "SELECT key, one.fields, other.fields FROM before one JOIN after other USING (key)"
            f" {where} ORDER BY one.place"
        )
        with _full():
            for key, before, after in asked:
                yield key, decode(before), decode(after)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()


def _without_pair(side: Side, other: Side, typed: bool) -> str:
    """The first row of each number among those whose key the other output does not have: of keys that are numbers
    (`typed`), or of texts that are one."""
    return (
        f"SELECT min(place) AS place, key, number FROM {side} WHERE number IS NOT NULL AND typed = {int(typed)}"
        f" AND key NOT IN (SELECT key FROM {other}) GROUP BY number"
    )


@contextmanager
def _full() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise OutputError(
            f"the rows cannot be compared: {error}. They are laid into a temporary file; "
            "SQLITE_TMPDIR names a folder with more room"
        ) from error


__all__ = ["Shelf", "Side"]
