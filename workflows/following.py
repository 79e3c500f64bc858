"""Where the rows of a job belong when its source has changed: each follows its record.

Nothing is written here. A job with a limit has its rows behind it left alone, and no row is dropped whose record only
stands behind it: it goes there, and where it cannot, the job is refused.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from itertools import islice

from carrara.runtime.journal.stored import Places
from carrara.workflows.kept_row import KeptRow
from carrara.workflows.kept_rows import NOBODY, EarlierRows, Moves
from carrara.workflows.key_set import KeySet
from carrara.workflows.records import Record, SourceError, content_hash
from carrara.workflows.still_open import SAME, stood_elsewhere
from carrara.workflows.stray_rows import StrayRows


def moves_of(
    rows: EarlierRows, records: Callable[[], Iterable[Record]], limit: int | None
) -> Moves:
    """How the rows are to follow their records, of which the first `limit` are to run. `records` reads the source: once
    where nothing has changed, else twice, and behind the limit only as long as the record of a row is missing.

    Raises:
        SourceError: the source cannot be read; or a record has its row on the other side of the limit, where it cannot
            be fetched from or go to.
    """
    following = _Following(rows, limit)
    if following.look(records()):
        following.settle(records())
    return following.moves


class _Following:
    """`look` finds the rows that are not those of the records in their places, `settle` their records."""

    def __init__(self, rows: EarlierRows, limit: int | None) -> None:
        self.moves = Moves()
        self._rows, self._limit = rows, limit
        self._strays = StrayRows()
        self._stray, self._telling = Places(()), Places(())
        self._failures = Places(rows.failed)
        self._homeless = Places(rows.failed)
        self._left = 0  # strays and homeless: what the source is read for behind the limit
        self._newcomers = KeySet()

    def look(self, records: Iterable[Record]) -> bool:
        """Whether there are any; or failed ones, which follow their records, too."""
        behind: KeySet | None = None
        refusal, count, has_failed_elsewhere = "", 0, False
        for record in islice(records, self._limit):
            count += 1
            place = record.index
            if self._has_failed_here(record):
                self._homeless.discard(place)
            row = self._rows.row(place) if place in self._rows else None
            if row is not None and not row.change(record):
                if row.tells_other_place(record):
                    self.moves.rewritten.add(place)
                continue
            has_failed_elsewhere |= self._rows.failed_at(record.key) not in (None, place)
            if self._limit is not None and not refusal:
                behind = behind or self._rows.keys_from(self._limit)
                if behind.first(record.key) is not None:
                    refusal = stood_elsewhere(record, behind_limit=True)
            if row is not None:
                self._add(place, row)
        end = self._limit if count == self._limit else None
        if refusal and end is not None:
            raise SourceError(refusal)
        if end is None:
            for place in self._rows.places():
                if place >= count:
                    self._add(place, self._rows.row(place))
        else:
            for place in range(end, self._homeless.end):
                self._homeless.discard(place)
        self._left += sum(1 for _ in self._homeless)
        return bool(self._left or has_failed_elsewhere)

    def _has_failed_here(self, record: Record) -> bool:
        """One that cannot be used may have the key of another one."""
        if record.index not in self._failures:
            return False
        return record.problem is not None or self._rows.failed_at(record.key) == record.index

    def _add(self, place: int, row: KeptRow) -> None:
        self._strays.add(place, row.key, row.content)
        self._stray.add(place)
        self._left += 1
        if any("where" in line for line in row.beside.values()):
            self._telling.add(place)

    def settle(self, records: Iterable[Record]) -> None:
        self.moves.heirs = array("q", range(self._rows.beyond))
        for record in records:
            if self._limit is None or record.index < self._limit:
                self._within(record)
            elif self._left:
                self._behind(record)
            else:
                break
        for place in self._strays.left():
            heir = self._newcomers.first(self._rows.row(place).key)
            self.moves.heirs[place] = NOBODY if heir is None else heir
            self.moves.dropped.add(place)

    def _within(self, record: Record) -> None:
        place = record.index
        if record.problem is not None or (place in self._rows and place not in self._stray):
            return
        failure = self._failure_of(record)
        found = self._strays.claim(record.key, content_hash(record))
        if found is not None:
            self._move(found, record)
            if failure is not None:
                self.moves.failures_over.append(failure)
                self._end_failure(failure)
            return
        self._newcomers.add(record.key, place)
        if failure is not None and failure != place:
            self._move_failure(failure, record)

    def _behind(self, record: Record) -> None:
        place = record.index
        taken = place in self._rows
        if record.problem is not None or (taken and not self._rows.row(place).change(record)):
            return
        found = self._strays.claim(record.key, content_hash(record))
        if (taken and found is not None) or self._strays.of(record.key) is not None:
            raise SourceError(
                f"{record.where}: the record {record.key!r} stood within --limit {self._limit} when the job began; its "
                f"row can neither stay nor go there; {SAME} (without --limit)"
            )
        if found is not None:
            self._move(found, record)
            return
        failure = self._failure_of(record)
        if failure is not None and not taken and place not in self._failures:
            self._move_failure(failure, record)

    def _move(self, found: int, record: Record) -> None:
        moves, place = self.moves, record.index
        self._left -= 1
        moves.old.append(found)
        moves.new.append(place)
        moves.heirs[found] = place
        if not self._strays.is_of(found, record.key):
            moves.renamed.append(found)
            moves.rewritten.add(place)
        elif found in self._telling:
            moves.rewritten.add(place)

    def _failure_of(self, record: Record) -> int | None:
        """The failed row of a record. A record that had a row in its place has none: another one has its key, too."""
        place = self._rows.failed_at(record.key)
        if place is None or place not in self._failures:
            return None
        had_row = record.index in self._stray and self._strays.is_of(record.index, record.key)
        return None if had_row else place

    def _move_failure(self, failure: int, record: Record) -> None:
        self.moves.failures_old.append(failure)
        self.moves.failures_new.append(record.index)
        self.moves.rewritten.add(record.index)
        self._end_failure(failure)

    def _end_failure(self, failure: int) -> None:
        self._failures.discard(failure)
        if failure in self._homeless:
            self._homeless.discard(failure)
            self._left -= 1


__all__ = ["moves_of"]
