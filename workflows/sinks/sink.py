"""What a sink is: a place that takes whole rows and shows nothing else.

A row is committed to the journal before a sink sees it. A sink that is begun again is given everything that was done
before, so that whatever a killed process has left behind is put right: files are made anew, tables are completed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from carrara.workflows.places import OutputError, PlaceError
from carrara.workflows.sinks.held import Lock

Fields = Mapping[str, Any]
Refused = Callable[[str], None]
"""Told why the place does not take a row after all, which counted as done: a table may find out only when it writes."""

Taken = Callable[[], None]
"""Told when the place has what it was given, for good: a table takes many rows at a time."""


class Before(NamedTuple):
    """A row that was done before, and whom to tell what becomes of it."""

    fields: Fields
    refused: Refused | None = None
    taken: Taken | None = None


class Sink(Protocol):
    """`shown` is the place as messages name it, `output` the file that is made anew, None where rows are put to what is
    there (a table, a pipe); `failed` the file of failed records beside it, None where none can be. `lock` is what
    a job holds while it writes there (see `held`), None where nothing is shared (a pipe) or a server sees to it.
    Where `ordered` is False the order of rows does not matter to it."""

    shown: str
    failed: Path | None
    lock: Lock | None
    ordered: bool

    @property
    def output(self) -> Path | None: ...

    def prepare(self, fields: Fields) -> Any:
        """A row as `put` takes it. Called before the row counts as done.

        Raises:
            ValueError, TypeError: the row cannot stand here; says which field and why.
        """
        ...

    def open(self) -> None:
        """Open a place that may not fit, before `begin`, which does it else; of files nothing is to be known before
        they are made anew.

        Raises:
            PlaceError: as `begin`.
        """
        ...

    def begin(self, done: Iterable[Before], *, fresh: bool) -> None:
        """Open the place and make it hold the rows that are `done`. A `fresh` job has none. Whether a file that
        is there may be replaced is checked before (see `apart`).

        Raises:
            PlaceError: it cannot be written, or has other columns.
            OutputError: it could be opened, and then failed.
        """
        ...

    def put(self, row: Any, refused: Refused | None = None) -> None:
        """Take a prepared row. It is written whole, now or with those after it. `refused` is told, once, where a table
        does not take its values; the rows beside it are written.

        Raises:
            OutputError: it cannot be written, or is refused and there is nobody to tell.
        """
        ...

    def finish(self) -> None:
        """Every row is there: write what is still held.

        Raises:
            OutputError: it cannot be written.
        """
        ...

    def close(self) -> None:
        """Free everything; what has not been finished may be thrown away. Idempotent."""
        ...


def of_before(sink: Sink, fields: Fields) -> Any:
    """A row that was done before, as the sink takes it.

    Raises:
        PlaceError: it cannot stand there; it could where the job wrote it first.
    """
    try:
        return sink.prepare(fields)
    except (TypeError, ValueError, OutputError) as error:
        raise PlaceError(
            f"{sink.shown}: the row {fields['key']!r}, which is done, cannot stand there: {error}. "
            "`carrara resume last --output OTHER` writes the rows to a place that takes it."
        ) from error


KEPT = (
    "What had finished is in the journal: run the same command with --resume once it can be written, "
    "or `carrara resume last --output OTHER`."
)


__all__ = ["KEPT", "Before", "Fields", "Refused", "Sink", "Taken", "of_before"]
