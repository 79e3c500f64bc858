"""Rows of before that count no more while the job's table may still hold them.

The record of such a row, or the workflow, has changed: the record gets a new row, or fails and has none any more. Until
the table has the new row, or is without the old one, the journal keeps the old one's key aside, so that a job that was
killed meanwhile finds what it has left. Files are made anew and leave nothing.
"""

from __future__ import annotations

from functools import partial

from carrara.runtime.journal.recording import Recorder
from carrara.workflows.key_set import KeySet
from carrara.workflows.sinks.sink import Refused, Taken
from carrara.workflows.sinks.tables import Prepared, TableSink


class RowsAside:
    """Those of one run and its `table`, by key. They are told by their places in the journal, which are below 0."""

    def __init__(self, journal: Recorder, run_id: str, table: TableSink) -> None:
        """Raises JournalError where they cannot be read."""
        self._journal, self._run_id, self._table = journal, run_id, table
        self._numbers = KeySet()
        self._replaced = KeySet()
        self._next = 1
        for place, key in journal.rows_aside(run_id):
            self._numbers.add(key, -place)
            self._next = 1 - place

    def add(self, key: str) -> int | None:
        """The place for one more; None where one with this key is there already."""
        if self._numbers.add(key, self._next) is not None:
            return None
        self._next += 1
        return -(self._next - 1)

    def of(self, key: str) -> int | None:
        """That of the row which is to go if the record with this key fails; None where there is none, or a new row has
        its key."""
        number = self._numbers.first(key)
        return None if number is None or self._replaced.first(key) is not None else -number

    def replace(self, key: str) -> None:
        """The journal has a new row with this key: a record that has the key, too, and fails takes nothing away."""
        if self._numbers.first(key) is not None:
            self._replaced.add(key, 0)

    def put(self, row: Prepared, refused: Refused | None, place: int) -> None:
        """Put a new row into the table; the one aside in this place is forgotten when it is there."""
        self._table.put(row, refused, self.forgetting(place))

    def remove(self, key: str, place: int) -> None:
        """Take the old row with this key from the table; the one aside in this place is forgotten when it is gone."""
        self._table.remove(key, self.forgetting(place))

    def forgetting(self, place: int) -> Taken:
        return partial(self._journal.forget_row, self._run_id, place)


__all__ = ["RowsAside"]
