"""What all tables share: rows gather to batches, each batch is one transaction, a row replaces the one with its key.

A batch that is refused for its values is halved until those records stand alone that are at fault."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from carrara.workflows.places import OutputError, PlaceError
from carrara.workflows.row_weight import AT_ONCE_BYTES, weight
from carrara.workflows.sinks.exact import Form
from carrara.workflows.sinks.held import Lock
from carrara.workflows.sinks.shape import KEY
from carrara.workflows.sinks.sink import Before, Fields, Refused, Taken, of_before
from carrara.workflows.sinks.typed_rows import Row, TypedRows

BATCH = 500
"""Records of a transaction at most, fewer where they are large."""

LONGEST_S = 5.0
"""Rows wait so long at most while others come."""


Prepared = tuple[str, list[Row]]
"""The key of a record and its rows."""


class _Held(NamedTuple):
    """What is to be written. No `rows`: those that are there with this key are to go."""

    key: str
    rows: list[Row]
    refused: Refused | None = None
    taken: Taken | None = None


class RefusedValues(Exception):
    """The database does not take a value; says which and why, as far as it does."""


class TableSink(ABC):
    """A table with a column for each field and the record's key as its primary key.

    A table that is not there is made. One that is there keeps its other rows and columns.
    """

    output: Path | None = None
    ordered = False

    def __init__(
        self,
        shown: str,
        failed: Path,
        rows: TypedRows,
        *,
        lock: Lock | None,
        flat: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.shown = shown
        self.failed: Path | None = failed
        self.lock = lock
        self._rows = rows
        self._flat = flat
        self._clock = clock
        self._forms: Mapping[str, Form] = {}
        self._held: list[_Held] = []
        self._held_bytes = 0
        self._since = 0.0
        self._is_open = False

    @abstractmethod
    def _open(self) -> None:
        """Connect; make the table or check that it fits, and set `_forms` for columns that need their own. Raises
        PlaceError."""

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[None]:
        """Everything in it is written, or nothing. Foreign errors leave it as RefusedValues where the fault is with
        what is written, else as OutputError."""

    @abstractmethod
    def _upsert(self, rows: Sequence[Row]) -> None:
        """Insert rows, or replace those with their keys. No key comes twice."""

    @abstractmethod
    def _delete(self, keys: Sequence[str]) -> int:
        """Delete the rows with these keys; how many there were."""

    @abstractmethod
    def close(self) -> None:
        """Free the connection. Idempotent."""

    def prepare(self, fields: Fields) -> Prepared:
        rows = self._rows(fields)
        for row in rows:
            for name, form in self._forms.items():
                if row[name] is not None:
                    row[name] = form(row[name], name)
        return str(fields[KEY]), rows

    def open(self) -> None:
        if self._is_open:
            return
        if self.failed is not None:
            try:
                self.failed.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise PlaceError(f"cannot write {self.failed}: {error.strerror}") from error
        self._open()
        self._is_open = True

    def begin(self, done: Iterable[Before], *, fresh: bool) -> None:
        self.open()
        for before in done:
            self.put(of_before(self, before.fields), before.refused, before.taken)

    def put(
        self, row: Prepared, refused: Refused | None = None, taken: Taken | None = None
    ) -> None:
        """As of every sink; `taken` is told when the row is in the table."""
        self._take(_Held(*row, refused, taken))

    def remove(self, key: str, taken: Taken | None = None) -> None:
        """Delete what an earlier row of the job with this key has left, and tell `taken` when it is gone.

        Raises:
            OutputError: it cannot be deleted.
        """
        self._take(_Held(key, [], taken=taken))

    def _take(self, held: _Held) -> None:
        if not self._held:
            self._since = self._clock()
        self._held.append(held)
        self._held_bytes += weight(held.rows)
        is_full = len(self._held) >= BATCH or self._held_bytes >= AT_ONCE_BYTES
        if is_full or self._clock() - self._since >= LONGEST_S:
            self._write()

    def finish(self) -> None:
        while self._held:  # what is refused may have left a row to remove
            self._write()

    def _write(self) -> None:
        held, self._held, self._held_bytes = self._held, [], 0
        if held:
            self._write_whole(held)

    def _write_whole(self, held: Sequence[_Held]) -> None:
        """Write all of these records but those that are refused."""
        latest = {each.key: each.rows for each in held}
        try:
            with self._transaction():
                found = {row[KEY]: row for rows in latest.values() for row in rows}
                if found:
                    self._upsert(list(found.values()))
                self._delete([key for key, rows in latest.items() if not rows])
                if self._flat:
                    self._delete_older(latest)
        except RefusedValues as error:
            if len(held) > 1:
                middle = len(held) // 2
                self._write_whole(held[:middle])
                self._write_whole(held[middle:])
                return
            ((key, rows, refused, _),) = held
            if not rows:
                raise OutputError(
                    f"{self.shown} keeps the row {key!r} of a record that failed: {error}"
                ) from error
            if refused is None:
                raise OutputError(f"{self.shown} does not take the row {key!r}: {error}") from error
            refused(f"{self.shown} does not take the row: {error}")
            return
        for each in held:
            if each.taken is not None:
                each.taken()

    def _delete_older(self, latest: Mapping[str, list[Row]]) -> None:
        """Delete what an earlier version of a record had more: its list was longer, or is none any more."""
        counts = {
            key: 0 if not rows or rows[0][KEY] == key else len(rows) for key, rows in latest.items()
        }
        self._delete([key for key, count in counts.items() if count])
        while self._delete([f"{key}/{count}" for key, count in counts.items()]):
            counts = {key: count + 1 for key, count in counts.items()}


__all__ = ["BATCH", "LONGEST_S", "Prepared", "RefusedValues", "TableSink"]
