"""Which records of a job are still open: those without a finished row, as far as the rows that are there are theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice

from carrara.workflows.batch import DONE, Done
from carrara.workflows.kept_rows import EarlierRows
from carrara.workflows.records import Record, SourceError
from carrara.workflows.row_weight import AT_ONCE_BYTES, weight

SAME = (
    "a job goes on with the input that it began with. --accept-changes runs again what has changed, "
    "and drops the rows of records that are gone"
)


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
                raise SourceError(stood_elsewhere(record, behind_limit=bool(unchecked)))
            yield record
            continue
        change = kept.row(record.index).change(record)
        if change:
            raise SourceError(f"{record.where}: this record {change}; {SAME}")
        yield DONE
    gone = next((place for place in range(count, kept.beyond) if place in kept), None)
    if count == limit:
        return
    kept.forget_failed(count)
    if gone is not None:
        key = kept.row(gone).key
        raise SourceError(
            f"{source}: the record {key!r} was there when the job began and is gone now; {SAME}"
        )


def stood_elsewhere(record: Record, *, behind_limit: bool) -> str:
    """Why an open record cannot run: its row is there, in another place."""
    return (
        f"{record.where}: the record {record.key!r} stood elsewhere when the job began, and has its row; "
        f"{SAME}{' (without --limit)' if behind_limit else ''}"
    )


__all__ = ["SAME", "checked", "still_open", "stood_elsewhere"]
