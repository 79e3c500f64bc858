"""The finished rows of a job as the journal keeps them, and what they leave to be done.

Beside its fields a row is kept with the hash of its record, so that a job goes on with no other input than it began
with, and that of the workflow, so that rows of an earlier definition can be told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from carrara.runtime.journal.reading import Row as StoredRow
from carrara.workflows.batch import DONE, Done
from carrara.workflows.records import Record, SourceError, content_hash, read_records

_SAME = "a job goes on with the input that it began with"


@dataclass(frozen=True, slots=True)
class KeptRow:
    """`content` is the hash of the record, `definition` that of the workflow; "" where it is not known, as
    in rows of older journals. `beside` are the row's lines for files beside the output, by the file's kind."""

    key: str
    fields: dict[str, Any]
    content: str = ""
    definition: str = ""
    beside: Mapping[str, Any] = field(default_factory=dict)


def to_keep(
    fields: dict[str, Any], content: str, definition: str, beside: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The payload of a row whose state is "done"."""
    kept = {"row": fields, "content": content, "definition": definition}
    return {**kept, "beside": dict(beside)} if beside else kept


def kept_rows(stored: Iterable[StoredRow]) -> dict[int, KeptRow]:
    """Those that are done, by place, in the order of `stored`."""
    return {row.place: _kept(row) for row in stored if row.state == "done"}


def _kept(stored: StoredRow) -> KeptRow:
    """The inverse of `to_keep`. Older journals hold the fields alone, in which there always is a `key`."""
    payload = stored.payload
    if "key" in payload:
        return KeptRow(stored.key, payload)
    return KeptRow(
        stored.key,
        payload["row"],
        payload["content"],
        payload["definition"],
        payload.get("beside", {}),
    )


def still_open(
    source: str, limit: int | None, kept: Mapping[int, KeptRow], folder: str = ""
) -> Iterator[Record | Done]:
    """The first `limit` records of `source` that have no finished row, DONE in the place of each that has one.

    Raises:
        SourceError: the source cannot be read; or a record that is done is another one now, has other content, or
            has gone.
    """
    count = 0
    for record in islice(read_records(source, folder), limit):
        count += 1
        row = kept.get(record.index)
        if row is None:
            yield record
            continue
        if row.key != record.key:
            raise _other(record, f"was {row.key!r} when the job began and is {record.key!r} now")
        content = content_hash(record)
        if row.content and content and row.content != content:
            raise _other(record, "has other content now than when the job began")
        yield DONE
    gone = [row.key for place, row in kept.items() if place >= count]
    if gone and count != limit:
        raise SourceError(
            f"{source}: the record {gone[0]!r} was there when the job began and is gone now; {_SAME}"
        )


def _other(record: Record, what: str) -> SourceError:
    return SourceError(f"{record.where}: this record {what}; {_SAME}")
