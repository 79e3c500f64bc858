"""The rows of a job as its journal keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from carrara.runtime.journal.reading import Row as StoredRow
from carrara.workflows.job_report.facts import JobRow
from carrara.workflows.kept_rows import kept_rows


def stored_rows(stored: Iterable[StoredRow]) -> Iterator[JobRow]:
    """Each stored row as the report takes it."""
    rows = list(stored)
    done = kept_rows(rows)
    for row in rows:
        kept = done.get(row.place)
        fields = {} if kept is None else kept.fields
        yield JobRow(row.place, row.key, kept is not None, fields, row.error)


__all__ = ["stored_rows"]
