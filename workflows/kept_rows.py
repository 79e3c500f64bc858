"""The finished rows of a job, and what they leave to be done. They are read page by page: a job may have millions."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain, islice
from types import TracebackType
from typing import Any, Self

from carrara.runtime.journal.reading import Reader
from carrara.runtime.journal.reading import Row as StoredRow
from carrara.runtime.journal.recording import Recorder
from carrara.runtime.journal.schema import ASIDE
from carrara.runtime.journal.step_owners import StepOwners
from carrara.runtime.journal.stored import NONE, Places
from carrara.workflows.batch import DONE, Done
from carrara.workflows.kept_row import KeptRow, kept_row, to_keep
from carrara.workflows.key_set import KeySet
from carrara.workflows.records import Record, SourceError, content_hash
from carrara.workflows.row_weight import AT_ONCE_BYTES, weight
from carrara.workflows.rows_aside import RowsAside
from carrara.workflows.stray_rows import StrayRows

_SAME = (
    "a job goes on with the input that it began with. --accept-changes runs again what has changed, "
    "and drops the rows of records that are gone"
)
_PAGE = 256
_NOBODY = -1


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
        other types as one of today's, or raises ValueError: `unfit` are the places of those that are none, and
        `misfit` says of the first why. `aside` takes the rows that a table holds, None where no table does.

        Raises:
            UnknownRun, JournalError: there is no such run, or it cannot be read.
        """
        self._run_id = run_id or ""
        self._definition = definition
        self._fitting = fitting
        self.unfit: list[int] = []
        self.misfit = ""
        self._done = NONE
        self._pages: tuple[dict[int, KeptRow], dict[int, KeptRow]] = ({}, {})
        self._failed = NONE
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
        self, journal: Recorder, records: Callable[[], Iterable[Record]], limit: int | None
    ) -> None:
        """Put each row to its record, which may stand elsewhere now: `moved` is their number. `dropped` are the places
        of the rows that are no record's any more, in the order of the source before. What stands behind the first
        `limit` records is not looked at, and kept. The run is open in the journal, which is told. `records` reads the
        source: again where something has changed.

        Raises:
            SourceError: the source cannot be read. JournalError: the journal cannot be written.
        """
        strays, stale, telling = StrayRows(), Places(()), Places(())
        for place in self._changed(records(), limit):
            row = self.row(place)
            strays.add(place, row.key, row.content)
            if self._is_stale(row):
                stale.add(place)
            if any("where" in line for line in row.beside.values()):
                telling.add(place)
            self._done.discard(place)
        if next(strays.left(), None) is None:
            return
        old, new = array("q"), array("q")
        rewritten, newcomers = Places(()), KeySet()
        for record in islice(records(), limit):
            if record.index in self or record.problem is not None:
                continue
            found = strays.claim(record.key, content_hash(record))
            if found is None:
                newcomers.add(record.key, record.index)
                continue
            old.append(found)
            new.append(record.index)
            if not strays.is_of(found, record.key):
                self._note_aside(journal, self._row(found).key)
                rewritten.add(record.index)
            elif found in telling:
                rewritten.add(record.index)
        self._heirs = array("q", range(self.beyond))
        for place in strays.left():
            heir = newcomers.first(self._row(place).key)
            self._heirs[place] = _NOBODY if heir is None else heir
            self.count -= 1
            self.stale -= place in stale
            self._drop(place)
        self.let_go(journal)
        journal.move_rows(self._run_id, old, new)
        self._moved(old, new)
        if next(iter(rewritten), None) is not None:
            again = (each for each in islice(records(), limit) if each.index in rewritten)
            self._rewrite(journal, again)

    def _note_aside(self, journal: Recorder, key: str) -> None:
        """A row loses this key, under which a table may hold it."""
        place = None if self._aside is None else self._aside.add(key)
        if place is not None:
            journal.put_row(self._run_id, place, key, ASIDE)

    def _moved(self, old: Sequence[int], new: Sequence[int]) -> None:
        for before, now in zip(old, new, strict=True):
            self._heirs[before] = now
            self._done.add(now)
            self._failed.discard(now)
        self._pages = ({}, {})
        follows = (self._heirs[place] for place in self.unfit)
        self.unfit = [place for place in follows if place != _NOBODY and place in self]
        self.moved = len(old)

    def _rewrite(self, journal: Recorder, records: Iterable[Record]) -> None:
        """Let the rows of these records tell of their places of now."""
        for count, record in enumerate(records, 1):
            row = to_keep(self.row(record.index).at(record))
            journal.put_row(self._run_id, record.index, record.key, "done", row, replaces=True)
            if not count % _PAGE:
                journal.flush()
        journal.flush()
        self._pages = ({}, {})

    def owner(self, step: int) -> int | None:
        """The place of the record that a step is for, as the record's row was made with it; None where it is for none.
        Of a row that was dropped it is that of the record with its key, if there is one."""
        place = self._owners.of(step)
        if place is None or place >= len(self._heirs):
            return place
        heir = self._heirs[place]
        return None if heir == _NOBODY else heir

    def steps(self, place: int) -> Sequence[int]:
        """Those with which the row in a place was made that was set aside; none of another."""
        if place not in self._outdated:
            return ()
        assert self._reader is not None
        (row,) = self._reader.rows_from(
            self._run_id, place, 1
        )  # it stays until another replaces it
        return kept_row(row).steps

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
        """Whether the row in this place has been set aside, and nothing has replaced it."""
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
        except ValueError as error:
            self.misfit = self.misfit or f"{row.key!r}: {error}"
            self.unfit.append(place)

    def _changed(self, records: Iterable[Record], limit: int | None) -> Iterator[int]:
        count = 0
        for record in islice(records, limit):
            count += 1
            if record.index in self and _change(record, self.row(record.index)):
                yield record.index
        if count == limit:
            return
        for place in range(count, self.beyond):
            if place in self:
                yield place

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

    def tried(self, place: int) -> None:
        """The record has been run again: what it was before does not count."""
        self._failed.discard(place)
        self._outdated.discard(place)

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
                yield row.payload or {"key": row.key, "where": "", "error": row.error}

    def _counted(self, failed: list[int]) -> Iterator[int]:
        """The places of the finished rows; those that failed go to `failed`."""
        assert self._reader is not None
        for row in self._reader.each_row(self._run_id):
            if row.state != "done":
                failed.append(row.place)
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


def checked(
    records: Iterable[Record],
    again: Callable[[], Iterable[Record]],
    limit: int | None,
    kept: EarlierRows,
    source: str,
) -> Iterator[Record | Done]:
    """As `still_open`, but what it refuses is refused now, before anything has come of it: `records` are read as far as
    there are rows that are done. What is open in between is held meanwhile; where that is more than AT_ONCE_BYTES, the
    source is read `again`.

    Raises:
        SourceError: see `still_open`.
    """
    opened = still_open(records, limit, kept, source, limit)
    held: list[Record] = []
    count = heavy = 0
    for found in islice(opened, kept.beyond):
        count += 1
        if isinstance(found, Record):
            heavy += weight((found.fields,))
            if heavy <= AT_ONCE_BYTES:
                held.append(found)
    if heavy > AT_ONCE_BYTES:
        return still_open(again(), limit, kept, source, limit)
    return chain(_in_places(held, count), opened)


def _in_places(held: list[Record], count: int) -> Iterator[Record | Done]:
    """The first `count` places: the open records, and DONE in the other ones."""
    open_ones = iter(held)
    following = next(open_ones, None)
    for place in range(count):
        if following is not None and following.index == place:
            yield following
            following = next(open_ones, None)
        else:
            yield DONE


def still_open(
    records: Iterable[Record],
    limit: int | None,
    kept: EarlierRows,
    source: str,
    unchecked: int | None = None,
) -> Iterator[Record | Done]:
    """The first `limit` of `records` that have no finished row, DONE in the place of each that has one. From the place
    `unchecked` on nobody has held the finished rows against the source: one of them may be that of an open record
    which has moved.

    Raises:
        SourceError: the source cannot be read; or a record that is done is another one now, has other content, or
            has gone; or the row of an open one is there already.
    """
    count = 0
    elsewhere = None if unchecked is None else kept.keys_from(unchecked)
    for record in islice(records, limit):
        count += 1
        if record.index not in kept:
            if elsewhere is not None and elsewhere.first(record.key) is not None:
                raise SourceError(
                    f"{record.where}: the record {record.key!r} stood elsewhere when the job began, and has its row; "
                    f"{_SAME}{' (without --limit)' if unchecked else ''}"
                )
            yield record
            continue
        change = _change(record, kept.row(record.index))
        if change:
            raise SourceError(f"{record.where}: this record {change}; {_SAME}")
        yield DONE
    gone = next((place for place in range(count, kept.beyond) if place in kept), None)
    if count == limit:
        return
    kept.forget_failed(count)
    if gone is not None:
        key = kept.row(gone).key
        raise SourceError(
            f"{source}: the record {key!r} was there when the job began and is gone now; {_SAME}"
        )


def _change(record: Record, row: KeptRow) -> str:
    """How the record differs from the one that the row was made of, "" where it does not. One that cannot be used, as
    its key has come before, say, has never made a row."""
    if record.problem is not None:
        return f"had its row when the job began and cannot be used now: {record.problem}"
    if row.key != record.key:
        return f"was {row.key!r} when the job began and is {record.key!r} now"
    content = content_hash(record)
    if row.content and content and row.content != content:
        return "has other content now than when the job began"
    return ""
