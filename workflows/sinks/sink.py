"""What a sink is: a place that takes whole rows and shows nothing else.

A row is committed to the journal before a sink sees it. A sink that is begun again is given everything that was done
before, so that whatever a killed process has left behind is put right: files are made anew, tables are completed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from carrara.workflows.places import OutputError, PlaceError

Fields = Mapping[str, Any]


class Sink(Protocol):
    """`shown` is the place as messages name it, `output` the file that is made anew, None where rows are put to what is
    there (a table, a pipe); `failed` the file of failed records beside it, None where none can be. `lock` is the file
    that a job holds while it writes there (see `held`), None where nothing is shared (a pipe) or a server sees to it.
    Where `ordered` is False the order of rows does not matter to it."""

    shown: str
    failed: Path | None
    lock: Path | None
    ordered: bool

    @property
    def output(self) -> Path | None: ...

    def prepare(self, fields: Fields) -> Any:
        """A row as `put` takes it. Called before the row counts as done.

        Raises:
            ValueError, TypeError: the row cannot stand here; says which field and why.
        """
        ...

    def begin(self, done: Iterable[Fields], *, fresh: bool) -> None:
        """Open the place and make it hold the rows that are `done`. A `fresh` job has none. Whether a file that
        is there may be replaced is checked before (see `apart`).

        Raises:
            PlaceError: it cannot be written, or has other columns.
            OutputError: it could be opened, and then failed.
        """
        ...

    def put(self, row: Any) -> None:
        """Take a prepared row. It is written whole, now or with those after it.

        Raises:
            OutputError: it cannot be written.
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


__all__ = ["KEPT", "Fields", "Sink", "of_before"]
