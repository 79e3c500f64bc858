"""The finished rows of a job, and what they leave to be done. They are read page by page: a job may have millions."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from types import TracebackType
from typing import Any, Self

from carrara.runtime.journal.reading import Reader
from carrara.runtime.journal.reading import Row as StoredRow
from carrara.runtime.journal.recording import Recorder
from carrara.runtime.journal.schema import ASIDE
from carrara.runtime.journal.step_owners import StepOwners
from carrara.runtime.journal.stored import NONE, Places
from carrara.workflows.kept_row import KeptRow, kept_row, to_keep
from carrara.workflows.key_set import KeySet
from carrara.workflows.records import Record
from carrara.workflows.rows_aside import RowsAside

_PAGE = 256
NOBODY = -1


@dataclass(slots=True)
class Moves:
    """Where the rows of a job belong. The finished ones go from the `old` places to the `new` ones. `heirs` tells for
    each place that has a row where it goes, and for a dropped one which record has its key, NOBODY where none has.
    `renamed` are those of the old places whose rows get another key. Failed rows go from `failures_old` to
    `failures_new`; those in `failures_over` are of records that have a row. What stands in the `rewritten` places then
    tells of other places of its records than they have now. No heirs: nothing goes anywhere."""

    old: array[int] = field(default_factory=lambda: array("q"))
    new: array[int] = field(default_factory=lambda: array("q"))
    heirs: array[int] = field(default_factory=lambda: array("q"))
    dropped: Places = field(default_factory=lambda: Places(()))
    renamed: array[int] = field(default_factory=lambda: array("q"))
    failures_old: array[int] = field(default_factory=lambda: array("q"))
    failures_new: array[int] = field(default_factory=lambda: array("q"))
    failures_over: array[int] = field(default_factory=lambda: array("q"))
    rewritten: Places = field(default_factory=lambda: Places(()))

    def heir(self, place: int) -> int:
        return self.heirs[place] if place < len(self.heirs) else place


class EarlierRows:
    """The finished rows of the earlier openings of a run, as of now; None of a run that is new.

    A byte for each place lies in memory, four for each step, and two pages of rows: the source is read ahead of what
    is written.
    """

    def __init__(
        self,
        journal: Recorder,
        run_id: str | None,
        definition: str = "",
        fitting: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
        aside: RowsAside | None = None,
    ) -> None:
        """`definition` is today's hash of the workflow: `stale` counts the rows of others. `fitting` gives a row of
        other types as one of today's, or raises ValueError: `unfit` are the places of those that are none. `aside`
        takes the rows that a table holds, None where no table does.

        Raises:
            UnknownRun, JournalError: there is no such run, or it cannot be read.
        """
        self._run_id = run_id or ""
        self._definition = definition
        self._fitting = fitting
        self.unfit: list[int] = []
        self._done = NONE
        self._pages: tuple[dict[int, KeptRow], dict[int, KeptRow]] = ({}, {})
        self._failed = NONE
        self._failed_keys = KeySet()
        self._reader: Reader | None = None
        self.count = self.stale = 0
        self.dropped = array("q")
        self.moved = 0
        self._aside = aside
        self._dropped_to = array("q")
        self._let_go = 0
        self._owners = StepOwners()
        self._heirs = array("q")
        self._outdated = NONE
        if run_id is None:
            return
        journal.flush()
        self._reader = journal.another()
        try:
            failed: list[int] = []
            self._done = Places(self._counted(failed))
            self._failed = Places(failed)
        except BaseException:
            self.close()
            raise

    def __contains__(self, place: object, /) -> bool:
        return place in self._done

    def places(self) -> Iterator[int]:
        return iter(self._done)

    def fields(self, place: int) -> dict[str, Any]:
        return self.row(place).fields

    def row(self, place: int) -> KeptRow:
        """Raises KeyError where none is kept. Cheap if places are asked for in ascending order."""
        if place not in self:
            raise KeyError(place)
        return self._row(place)

    def _row(self, place: int) -> KeptRow:
        for page in self._pages:
            if place in page:
                return page[place]
        assert self._reader is not None
        found = self._reader.rows_from(self._run_id, place, _PAGE)
        page = {row.place: self._kept(row) for row in found if row.state == "done"}
        self._pages = (page, self._pages[0])
        return page[place]

    @property
    def beyond(self) -> int:
        """The first place after all of them."""
        return self._done.end

    def keys_from(self, first: int) -> KeySet:
        """The keys of the rows in the place `first` and after it."""
        found = KeySet()
        for place in self.places():
            if place >= first:
                found.add(self.row(place).key, place)
        return found

    def follow(
        self, journal: Recorder, moves: Moves, records: Callable[[], Iterable[Record]]
    ) -> None:
        """Let the rows follow their records: `moved` is the number of the finished ones. `dropped` are the places of
        those that are no record's any more, in the order of the source before. The run is open in the journal, which
        is told. `records` reads the source once more where a row tells of its record's place.

        Raises:
            SourceError: the source cannot be read. JournalError: the journal cannot be written.
        """
        self._heirs = moves.heirs
        for place in moves.renamed:
            self._note_aside(journal, self._row(place).key)
        for place in moves.dropped:
            self.count -= 1
            self.stale -= self._is_stale(self._row(place))
            self._done.discard(place)
            self._drop(place)
        self.let_go(journal)
        journal.forget_rows(self._run_id, moves.failures_over)
        journal.move_rows(
            self._run_id, moves.old + moves.failures_old, moves.new + moves.failures_new
        )
        self._moved(moves)
        self._rewrite(journal, records, moves.rewritten)

    def _note_aside(self, journal: Recorder, key: str) -> None:
        """A row loses this key, under which a table may hold it."""
        place = None if self._aside is None else self._aside.add(key)
        if place is not None:
            journal.put_row(self._run_id, place, key, ASIDE)

    def _moved(self, moves: Moves) -> None:
        for place in moves.old:
            self._done.discard(place)
        for place in chain(moves.failures_old, moves.failures_over, moves.new):
            self._failed.discard(place)
        for place in moves.new:
            self._done.add(place)
        for place in moves.failures_new:
            self._failed.add(place)
        self._failed_keys = KeySet()  # each stands where its record does
        self._pages = ({}, {})
        self.unfit = sorted(moves.heir(place) for place in self.unfit if place not in moves.dropped)
        self.moved = len(moves.old)

    def _rewrite(
        self, journal: Recorder, records: Callable[[], Iterable[Record]], rewritten: Places
    ) -> None:
        """Let the rows in these places tell of their records' places of now."""
        if next(iter(rewritten), None) is None:
            return
        some = (each for each in islice(records(), rewritten.end) if each.index in rewritten)
        for count, record in enumerate(some, 1):
            place, key = record.index, record.key
            if place in self:
                row = to_keep(self.row(place).at(record))
                journal.put_row(self._run_id, place, key, "done", row, replaces=True)
            else:
                failed = self._stored(place)
                told = {**_told(failed), "key": key, "where": record.where}
                journal.put_row(self._run_id, place, key, "failed", told, error=failed.error)
            if not count % _PAGE:
                journal.flush()
        journal.flush()
        self._pages = ({}, {})

    def _stored(self, place: int) -> StoredRow:
        assert self._reader is not None
        (row,) = self._reader.rows_from(self._run_id, place, 1)
        return row

    def owner(self, step: int) -> int | None:
        """The place of the record that a step is for, as the record's row was made with it; None where it is for none.
        Of a row that was dropped it is that of the record with its key, if there is one."""
        place = self._owners.of(step)
        if place is None or place >= len(self._heirs):
            return place
        heir = self._heirs[place]
        return None if heir == NOBODY else heir

    def steps(self, place: int) -> Sequence[int]:
        """Those with which the row in a place was made that was set aside; none of another."""
        if place not in self._outdated:
            return ()
        return kept_row(self._stored(place)).steps  # it stays until another replaces it

    def why_unfit(self, place: int) -> str:
        """Whose row does not fit, and why; of one of the `unfit`."""
        row = self.row(place)
        try:
            self._fitting(row.fields)
        except ValueError as error:
            return f"{row.key!r}: {error}"
        raise AssertionError(place)

    def drop_unfit(self) -> None:
        """Count as not done what does not fit the types of today's rows."""
        for place in self.unfit:
            row = self.row(place)
            self.count -= 1
            self.stale -= self._is_stale(row)
            self._done.discard(place)
            self._drop(place)
        self.unfit = []

    def set_outdated_aside(self, limit: int | None) -> None:
        """Count as not done what another definition of the workflow has made of the first `limit` records. The journal
        keeps each of these rows until the one that replaces it is there."""
        self._outdated = Places(
            place
            for place in self.places()
            if (limit is None or place < limit) and self._is_stale(self.row(place))
        )
        for place in self._outdated:
            self._done.discard(place)
            self.count -= 1
            self.stale -= 1

    def is_outdated(self, place: int) -> bool:
        """Whether the row of before in this place was set aside, for a new one to replace it."""
        return place in self._outdated

    def _kept(self, stored: StoredRow) -> KeptRow:
        """The row in today's form: in older journals the fields of an open result stood beside the key."""
        row = kept_row(stored)
        if ":" not in row.definition:
            with suppress(ValueError):  # one that does not fit is dropped
                return replace(row, fields=dict(self._fitting(row.fields)))
        return row

    def _check(self, row: KeptRow, place: int) -> None:
        if row.definition.partition(":")[2] == self._definition.partition(":")[2]:
            return  # it was held to these types when it was made
        try:
            self._fitting(row.fields)
        except ValueError:
            self.unfit.append(place)

    def _drop(self, place: int) -> None:
        self.dropped.append(place)
        aside = None if self._aside is None else self._aside.add(self._row(place).key)
        self._dropped_to.append(aside or 0)

    def let_go(self, journal: Recorder) -> None:
        """Let the journal, where the run is open, forget the rows that were dropped, or set them aside.

        Raises:
            JournalError: the store cannot be written.
        """
        dropped, places = self.dropped[self._let_go :], self._dropped_to[self._let_go :]
        if dropped:
            moves = zip(dropped, places, strict=True)
            journal.set_rows_aside(self._run_id, (move for move in moves if move[1]))
            journal.forget_rows(self._run_id, dropped)
            self._let_go = len(self.dropped)

    def _is_stale(self, row: KeptRow) -> bool:
        known = self._definition if ":" in row.definition else self._definition.partition(":")[0]
        return row.definition not in ("", known)

    @property
    def failed(self) -> Places:
        """The places of the records that had failed, and have not been tried again."""
        return self._failed

    def failed_at(self, key: str) -> int | None:
        """Where the record with this key had failed, None where it had not, or has been tried again."""
        place = self._failed_keys.first(key)
        return place if place in self._failed else None

    def try_again(self, record: Record) -> int | None:
        """The record is about to be written down anew: how it had failed before does not count. The place of a failed
        row of it that is to be forgotten, as the record stands elsewhere now; None where there is none."""
        self._failed.discard(record.index)
        elsewhere = self.failed_at(record.key)
        if elsewhere is not None:
            self._failed.discard(elsewhere)
        return elsewhere

    def forget_failed(self, first: int) -> None:
        """The source has no record in the place `first` any more, nor after it."""
        for place in range(first, self._failed.end):
            self._failed.discard(place)

    def still_failed(self) -> Iterator[dict[str, Any]]:
        """The failed rows of before whose records have not been tried again, as they stand beside the output."""
        if self._reader is None or next(iter(self._failed), None) is None:
            return
        for row in self._reader.each_row(self._run_id):
            if row.state == "failed" and row.place in self._failed:
                yield _told(row)

    def _counted(self, failed: list[int]) -> Iterator[int]:
        """The places of the finished rows; those that failed go to `failed`."""
        assert self._reader is not None
        for row in self._reader.each_row(self._run_id):
            if row.state != "done":
                failed.append(row.place)
                self._failed_keys.add(row.key, row.place)
                continue
            kept = kept_row(row)
            self._owners.add(row.place, kept.steps)
            self.count += 1
            self.stale += self._is_stale(kept)
            self._check(kept, row.place)
            yield row.place

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _told(failed: StoredRow) -> dict[str, Any]:
    """A failed row as it stands beside the output."""
    return failed.payload or {"key": failed.key, "where": "", "error": failed.error}


__all__ = ["EarlierRows", "Moves"]
