"""What all tables share: rows gather to batches, each batch is one transaction, a row replaces the one with its key."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from carrara.workflows.places import PlaceError
from carrara.workflows.sinks.shape import KEY
from carrara.workflows.sinks.sink import Fields, of_before
from carrara.workflows.sinks.typed_rows import Row, TypedRows

BATCH = 500
"""Records of a transaction at most."""

LONGEST_S = 5.0
"""Rows wait so long at most while others come."""


Prepared = tuple[str, list[Row]]
"""The key of a record and its rows."""


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
        lock: Path | None,
        flat: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.shown = shown
        self.failed: Path | None = failed
        self.lock = lock
        self._rows = rows
        self._flat = flat
        self._clock = clock
        self._held: list[Prepared] = []
        self._since = 0.0

    @abstractmethod
    def _open(self) -> None:
        """Connect; make the table or check that it fits. Raises PlaceError."""

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[None]:
        """Everything in it is written, or nothing. Foreign errors leave it as OutputError."""

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
        return str(fields[KEY]), self._rows(fields)

    def begin(self, done: Iterable[Fields], *, fresh: bool) -> None:
        if self.failed is not None:
            try:
                self.failed.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise PlaceError(f"cannot write {self.failed}: {error.strerror}") from error
        self._open()
        for fields in done:
            self.put(of_before(self, fields))

    def put(self, row: Prepared) -> None:
        if not self._held:
            self._since = self._clock()
        self._held.append(row)
        if len(self._held) >= BATCH or self._clock() - self._since >= LONGEST_S:
            self._write()

    def finish(self) -> None:
        self._write()

    def _write(self) -> None:
        held, self._held = self._held, []
        if not held:
            return
        with self._transaction():
            self._upsert(list({row[KEY]: row for _, rows in held for row in rows}.values()))
            if self._flat:
                self._delete_older(held)

    def _delete_older(self, held: Sequence[Prepared]) -> None:
        """Delete what an earlier version of a record had more: its list was longer, or is none any more."""
        counts = {key: 0 if rows[0][KEY] == key else len(rows) for key, rows in held}
        self._delete([key for key, count in counts.items() if count])
        while self._delete([f"{key}/{count}" for key, count in counts.items()]):
            counts = {key: count + 1 for key, count in counts.items()}


__all__ = ["BATCH", "LONGEST_S", "TableSink"]
