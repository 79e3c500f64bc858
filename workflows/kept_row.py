"""A finished row of a job as the journal keeps it.

Beside its fields a row is kept with the hash of its record, so that a job goes on with no other input than it began
with, that of the workflow, so that rows of an earlier definition can be told, and the steps that it was made with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import Any

from carrara.runtime.journal.reading import Row as StoredRow
from carrara.workflows.records import Record, content_hash


@dataclass(frozen=True, slots=True)
class KeptRow:
    """`content` is the hash of the record, `definition` that of the workflow with that of the types of its rows behind
    a colon; "" where it is not known, as in rows of older journals. `beside` are the row's lines for files beside the
    output, by the file's kind. `steps` are the places in the journal of the steps that it was made with, ascending;
    none in rows of older journals."""

    key: str
    fields: dict[str, Any]
    content: str = ""
    definition: str = ""
    beside: Mapping[str, Any] = field(default_factory=dict)
    steps: Sequence[int] = ()

    def change(self, record: Record) -> str:
        """How the record differs from the one that the row was made of, "" where it does not. One that cannot be used,
        as its key has come before, say, has never made a row."""
        if record.problem is not None:
            return f"had its row when the job began and cannot be used now: {record.problem}"
        if self.key != record.key:
            return f"was {self.key!r} when the job began and is {record.key!r} now"
        content = content_hash(record)
        if self.content and content and self.content != content:
            return "has other content now than when the job began"
        return ""

    def tells_other_place(self, record: Record) -> bool:
        """Whether a line beside the row says that its record stands elsewhere than it does."""
        return any(line.get("where", record.where) != record.where for line in self.beside.values())

    def at(self, record: Record) -> KeptRow:
        """The row with what it tells of its record's place, which stands elsewhere now."""
        told = {"key": record.key, "where": record.where}
        beside = {
            kind: {name: told.get(name, part) for name, part in line.items()}
            for kind, line in self.beside.items()
        }
        fields = {**self.fields, "key": record.key}
        return replace(self, key=record.key, fields=fields, beside=beside)


def to_keep(row: KeptRow) -> dict[str, Any]:
    """The payload of a row whose state is "done"."""
    kept: dict[str, Any] = {
        "row": row.fields,
        "content": row.content,
        "definition": row.definition,
    }
    if row.beside:
        kept["beside"] = dict(row.beside)
    if row.steps:  # each as its distance from the one before it
        kept["steps"] = [after - before for before, after in pairwise((0, *row.steps))]
    return kept


def kept_row(stored: StoredRow) -> KeptRow:
    """The inverse of `to_keep`, for a row whose state is "done". Older journals hold the fields alone, in which
    there always is a `key`."""
    payload = stored.payload
    if "key" in payload:
        return KeptRow(stored.key, payload)
    return KeptRow(
        stored.key,
        payload["row"],
        payload["content"],
        payload["definition"],
        payload.get("beside", {}),
        list(accumulate(payload.get("steps", ()))),
    )


__all__ = ["KeptRow", "kept_row", "to_keep"]
