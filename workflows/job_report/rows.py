"""The rows of a job as its journal keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from carrara.runtime.journal.reading import Row as StoredRow
from carrara.workflows.job_report.facts import JobRow
from carrara.workflows.kept_row import kept_row


def stored_rows(stored: Iterable[StoredRow]) -> Iterator[JobRow]:
    """Each stored row as the report takes it."""
    for row in stored:
        done = row.state == "done"
        yield JobRow(row.place, row.key, done, kept_row(row).fields if done else {}, row.error)


__all__ = ["stored_rows"]
