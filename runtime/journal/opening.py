"""Which journal a place is: a file of SQLite, or the URL of a PostgreSQL server."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from carrara.engines.errors import CarraraError
from carrara.runtime.database_url import INSTALL, is_server, shown_url
from carrara.runtime.journal.recording import Recorder
from carrara.runtime.journal.store import Store


def journal_at(place: Path | str) -> Recorder:
    """The journal there, made if need be.

    Raises:
        JournalError: it cannot be made or written, is no journal, is damaged, or too new.
        CarraraError: the packages for PostgreSQL are not installed.
    """
    if isinstance(place, str) and is_server(place):
        made: Recorder = _postgres(place).PostgresJournal(place)
        return made
    from carrara.runtime.journal.sqlite import SqliteJournal

    return SqliteJournal(place)


def server_to_read(place: str) -> Store:
    """A connection to read the journal on a server. Raises as `journal_at`, and UnknownRun where there is none."""
    found: Store = _postgres(place).reading_store(place)
    return found


def _postgres(place: str) -> Any:
    try:
        return importlib.import_module("carrara.runtime.journal.postgres")
    except ImportError as error:
        if (error.name or "").startswith("carrara"):
            raise
        raise CarraraError(
            f"journal {shown_url(place)} needs the package {error.name!r}: {INSTALL}"
        ) from error


__all__ = ["journal_at", "server_to_read"]
