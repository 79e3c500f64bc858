"""The rows of a job on their way to its sink: in input order or as completed, those that failed into a file beside it.

The rows that are done lie in the journal first; what the sink holds is made from them, so that a killed job's output
is rebuilt exactly when it goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from carrara.workflows.row_format import json_line
from carrara.workflows.rows_aside import RowsAside
from carrara.workflows.sinks.lines import LineFile
from carrara.workflows.sinks.sink import Before, Sink, of_before

Order = Literal["input", "completed"]

MOST_WAITING = 4096
"""A row may be so far ahead of the first one that is missing: no record further on is begun."""


@dataclass(slots=True)
class Row:
    """What a record became: its outputs, or why it failed (then `fields` say so). `made` is the row as the sink takes
    it, `where` the record's place in the source, "" where it is not known. `aside` is the place in the journal of an
    earlier row of the record that the sink may hold (see RowsAside), None where there is none: it is to go if this one
    failed."""

    index: int
    ok: bool
    fields: dict[str, Any]
    made: Any = field(default=None, repr=False)
    where: str = ""
    aside: int | None = None


Refused = Callable[[Sequence[Row]], None]
"""Told of failed rows in places whose rows counted as done until the sink refused them."""


class Earlier(Protocol):
    """The rows that were done before, by place."""

    def __contains__(self, place: int, /) -> bool: ...

    def fields(self, place: int) -> Mapping[str, Any]: ...

    def places(self) -> Iterable[int]:
        """In ascending order."""
        ...


class Rows:
    """Puts rows into `sink`, and failed ones into its file of failed records: JSON lines, made when the first one
    fails. Beside a device or pipe there is no such file, and rows that failed are not written.

    With order "input" a row waits in memory for the rows before it, as far as the order of rows matters to the sink.
    `refused` is told of rows that the sink does not take after all, before they stand among the failed ones. `aside`
    are earlier rows that a table may still hold, None where there can be none.
    """

    def __init__(
        self,
        sink: Sink,
        earlier: Earlier,
        order: Order = "input",
        refused: Refused | None = None,
        aside: RowsAside | None = None,
    ) -> None:
        self.sink = sink
        self._aside = aside
        self._earlier = earlier
        self._in_order = order == "input" and sink.ordered
        self._waiting: dict[int, Row] = {}
        self._next = 0
        self._failed = LineFile(sink.failed) if sink.failed is not None else None
        self._tell = refused
        self._refused: list[Row] = []
        self._refused_before: list[Row] = []

    def begin(self, *, fresh: bool) -> None:
        """Make the sink hold what an earlier process had done; call it before `with`.

        With order "input" the rows after the first gap wait for the records in it. The failed file goes: those
        records run again. A `fresh` job has written none.

        Raises:
            PlaceError: the sink cannot be written, or has other columns.
        """
        try:
            self.sink.begin(self._ready(), fresh=fresh)
        except BaseException:
            self.sink.close()
            raise
        if not fresh and self.sink.failed is not None:
            self.sink.failed.unlink(missing_ok=True)

    def _ready(self) -> Iterator[Before]:
        for place in self._earlier.places():
            if self._in_order:
                if place != self._next:
                    return
                self._next += 1
            fields, aside, taken = self._earlier.fields(place), None, None
            if self._aside is not None:
                key = fields["key"]
                if (aside := self._aside.of(key)) is not None:
                    self._aside.replace(key)
                    taken = self._aside.forgetting(aside)
            yield Before(fields, self._refusal(place, fields, aside=aside), taken)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write out what still waits (rows behind one that never came) and close the sink."""
        try:
            if self._in_order:
                self._write_rest()
            if error is None:
                self.sink.finish()
                self._tell_refused(self._refused)
                self._tell_refused(self._refused_before)  # now: they are read up to the end
        finally:
            self._waiting.clear()
            self.sink.close()
            if self._failed is not None:
                self._failed.close()

    def _write_rest(self) -> None:
        waiting = sorted(self._waiting)
        for place in self._earlier.places():
            if place >= self._next:
                while waiting and waiting[0] < place:
                    self._write(self._waiting[waiting.pop(0)])
                self.sink.put(of_before(self.sink, self._earlier.fields(place)))
        for place in waiting:
            self._write(self._waiting[place])

    def has_room(self, index: int) -> bool:
        """Whether the record in this place may begin: there is a bound to the rows that wait for one before them."""
        return not self._in_order or index - self._next < MOST_WAITING

    def put(self, row: Row) -> None:
        """Take a row; it is written now, or once the rows before it are there."""
        if not self._in_order:
            self._write(row)
            self._tell_refused(self._refused)
            return
        self._waiting[row.index] = row
        while True:
            ready = self._waiting.pop(self._next, None)
            if ready is not None:
                self._write(ready)
            elif self._next in self._earlier:
                self.sink.put(of_before(self.sink, self._earlier.fields(self._next)))
            else:
                return
            self._next += 1

    def _write(self, row: Row) -> None:
        if row.ok:
            refusal = self._refusal(row.index, row.fields, row.where, row.aside)
            if self._aside is None or row.aside is None:
                self.sink.put(row.made, refusal)
            else:
                self._aside.put(row.made, refusal, row.aside)
        else:
            self._remove(row.fields, row.aside)
            self.put_failed(row.fields)

    def _remove(self, fields: Mapping[str, Any], aside: int | None) -> None:
        """A record has no row any more."""
        if self._aside is not None and aside is not None:
            self._aside.remove(fields["key"], aside)

    def _refusal(
        self, index: int, fields: Mapping[str, Any], where: str = "", aside: int | None = None
    ) -> Callable[[str], None] | None:
        """Whom the sink is to tell where it does not take a row."""
        return None if self._tell is None else partial(self._refuse, index, fields, where, aside)

    def _refuse(
        self, index: int, fields: Mapping[str, Any], where: str, aside: int | None, reason: str
    ) -> None:
        self._remove(fields, aside)
        refused = self._refused_before if index in self._earlier else self._refused
        told = {"key": fields["key"], "where": where, "error": reason}
        refused.append(Row(index, False, told))

    def _tell_refused(self, refused: list[Row]) -> None:
        if refused and self._tell is not None:
            self._tell(refused)
            for row in refused:
                self.put_failed(row.fields)
            refused.clear()

    def put_failed(self, fields: Mapping[str, Any]) -> None:
        """Write a failed row now, whatever waits."""
        if self._failed is not None:
            self._failed.write(json_line(fields))


__all__ = ["MOST_WAITING", "Earlier", "Order", "Refused", "Row", "Rows"]
