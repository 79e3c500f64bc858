"""Rows of before that count no more while a table of the job may still hold them.

The record of such a row, or the workflow, has changed: the record gets a new row, or fails and has none any more. Until
the table has the new row, or is without the old one, the journal keeps the old one's key aside, so that a job that was
killed meanwhile finds what it has left. A job that was given several tables may come back to each of them: what counts
no more is kept aside for all of them. Files are made anew and leave nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from carrara.runtime.journal.recording import Recorder
from carrara.runtime.journal.schema import ASIDE
from carrara.workflows.key_set import KeySet
from carrara.workflows.sinks.sink import Refused, Taken
from carrara.workflows.sinks.tables import Prepared, TableSink

_SPAN = 1 << 32
"""More than one table has rows aside."""


class RowsAside:
    """Those of one run, by key. They are told by their places in the journal, which are below 0: each table has a span
    of them, by its number among the outputs of the job. `table` is the one that the rows go to now, and `number` its
    own; None where they go to a file, or to a table that holds no row of before. `others` are the numbers of the tables
    that the job may come back to."""

    def __init__(
        self,
        journal: Recorder,
        run_id: str,
        table: TableSink | None,
        number: int | None,
        others: Sequence[int],
    ) -> None:
        """Raises JournalError where they cannot be read."""
        self._journal, self._run_id, self._table = journal, run_id, table
        self._spans = {each: _Span(each) for each in others}
        self._own = None if number is None else _Span(number)
        if self._own is not None:
            self._spans[self._own.number] = self._own
        self._replaced = KeySet()
        for place, key in journal.rows_aside(run_id):
            span = self._spans.get((-place - 1) // _SPAN)
            if span is not None:
                span.read(key, place)

    def add(self, key: str) -> int | None:
        """A row with this key counts no more: the place for it, as far as the table of now is concerned; None where
        that holds none, or one with this key is aside already. For the other tables it is noted; the run is open in the
        journal."""
        self.note_elsewhere(key)
        return None if self._own is None else self._own.add(key)

    def note_elsewhere(self, key: str) -> None:
        """Let the other tables, which may hold a row with this key, be without it when the job comes back to them."""
        for span in self._spans.values():
            place = None if span is self._own else span.add(key)
            if place is not None:
                self._journal.put_row(self._run_id, place, key, ASIDE)

    def of(self, key: str) -> int | None:
        """That of the row which is to go if the record with this key fails; None where there is none, or a new row has
        its key."""
        place = None if self._own is None else self._own.of(key)
        return None if place is None or self._replaced.first(key) is not None else place

    def replace(self, key: str) -> None:
        """The journal has a new row with this key: a record that has the key, too, and fails takes nothing away."""
        if self._own is not None and self._own.of(key) is not None:
            self._replaced.add(key, 0)

    def put(self, row: Prepared, refused: Refused | None, place: int) -> None:
        """Put a new row into the table; the one aside in this place is forgotten when it is there."""
        assert self._table is not None
        self._table.put(row, refused, self.forgetting(place))

    def remove(self, key: str, place: int) -> None:
        """Take the old row with this key from the table; the one aside in this place is forgotten when it is gone."""
        assert self._table is not None
        self._table.remove(key, self.forgetting(place))

    def forgetting(self, place: int) -> Taken:
        return partial(self._journal.forget_row, self._run_id, place)


class _Span:
    """The keys of the rows that are aside for one table."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._first = number * _SPAN
        self._numbers = KeySet()
        self._next = 1

    def read(self, key: str, place: int) -> None:
        """Places come in descending order."""
        number = -place - self._first
        self._numbers.add(key, number)
        self._next = number + 1

    def add(self, key: str) -> int | None:
        if self._numbers.add(key, self._next) is not None:
            return None
        self._next += 1
        return -(self._first + self._next - 1)

    def of(self, key: str) -> int | None:
        number = self._numbers.first(key)
        return None if number is None else -(self._first + number)


__all__ = ["RowsAside"]
