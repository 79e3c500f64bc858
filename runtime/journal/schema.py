"""The journal's tables, and its file, how a connection to it is opened, and what its errors mean.

Rows of `steps`, `events` are numbered run * 2**40 + n with n counting up over both tables, so that the rows
of one run lie together in the file without an index (a second index costs a second page written a step),
and a writer that has lost its lease runs into a row that exists.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path

from carrara.runtime.errors import JournalError, UnknownRun

VERSION = 1
APPLICATION = 0x43525241  # "CRRA" in the header: not some other program's database
RUN_SPAN = 1 << 40

TABLES = """
CREATE TABLE runs (
    run {number} PRIMARY KEY,
    run_id TEXT NOT NULL UNIQUE,
    workflow TEXT NOT NULL,
    source TEXT NOT NULL,
    inputs TEXT,               -- JSON of [args, kwargs]; NULL where they cannot be stored
    inputs_error TEXT NOT NULL,
    status TEXT NOT NULL,      -- running, done, failed, interrupted
    error TEXT NOT NULL,
    started_at {real} NOT NULL,
    ended_at {real},
    seconds {real},            -- of the last opening
    openings {integer} NOT NULL, -- 1, and 1 more for each resume
    versions TEXT NOT NULL,    -- JSON: what wrote the last opening
    host TEXT NOT NULL,        -- the lease: who runs it, '' for nobody
    pid {integer} NOT NULL,
    born TEXT NOT NULL,        -- start time of the process, so that a reused pid is not taken for it
    beat_at {real} NOT NULL
);
CREATE TABLE steps (
    id {integer} PRIMARY KEY,
    path TEXT NOT NULL,
    identity TEXT NOT NULL,
    occurrence {integer} NOT NULL,
    fingerprint TEXT NOT NULL,
    status {integer} NOT NULL,   -- see STATUSES
    payload {payload},         -- text: JSON. Bytes: hash of the JSON in `blobs`. NULL: no value
    error TEXT,                -- why it failed, or why it can never be reused
    node {integer} NOT NULL,
    ordinal {integer} NOT NULL,
    attempt {integer} NOT NULL,
    pid {integer} NOT NULL,
    ready_at {real} NOT NULL,
    started_at {real} NOT NULL,
    seconds {real} NOT NULL
);
CREATE TABLE blobs (
    hash {bytes} PRIMARY KEY,  -- blake2b-128 of the JSON text in UTF-8
    packed {bytes} NOT NULL    -- the text, zlib
){narrow};
CREATE TABLE events (
    id {integer} PRIMARY KEY,
    data TEXT NOT NULL
);
CREATE TABLE rows (
    run {integer} NOT NULL,
    place {integer} NOT NULL,  -- of the record, counted from 0; below 0: see ASIDE
    key TEXT NOT NULL,
    state TEXT NOT NULL,
    payload {payload},         -- as in steps
    error TEXT NOT NULL,
    PRIMARY KEY (run, place)
){narrow};
CREATE TABLE durations (
    workflow TEXT PRIMARY KEY,
    seconds TEXT NOT NULL      -- JSON object: by node and by step name
){narrow};
"""

SQLITE = {
    "number": "INTEGER",
    "integer": "INTEGER",
    "real": "REAL",
    "bytes": "BLOB",
    "payload": "",
    "narrow": " WITHOUT ROWID",
}


def statements(types: Mapping[str, str]) -> list[str]:
    """What makes the tables in a database with these types."""
    return [each for each in TABLES.format(**types).split(";\n") if each.strip()]


REUSABLE, FAILED, UNKEPT, UNKEYED = 0, 1, 2, 3
"""steps.status: done and reusable; failed; done, value not kept; done, but its inputs have no hash."""

ASIDE = "aside"
"""rows.state of a row, in a place below 0, that counts no more: its key is kept until the job's table is without it."""


_MAKING_S = 10.0
"""How long another process may take to make a journal that this one wants to make, too."""


def connect(path: Path, *, durability: str = "normal", create: bool = True) -> sqlite3.Connection:
    """A connection that writes. The file and its folder are made if need be.

    Raises:
        JournalError: the file cannot be made or written, is no journal, is damaged or too new.
    """
    try:
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=10
        )
    except (OSError, sqlite3.Error) as error:
        raise failure(path, error) from error
    try:
        _prepare(connection, path)
        connection.execute(f"PRAGMA synchronous={durability}")
        connection.execute("PRAGMA wal_autocheckpoint=0")
    except sqlite3.Error as error:
        connection.close()
        raise failure(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection that only reads, also in a folder that cannot be written. A file in which nobody has made the
    tables yet, or who did was killed, is read as a journal without runs.

    Raises:
        JournalError: there is no such file, or it is no journal, damaged or too new.
    """
    if not path.is_file():
        raise UnknownRun(f"there is no journal at {path}; runs write one when they are given it")
    where = path.absolute().as_uri()
    # A WAL file needs a shared-memory file beside it; without either the file can be read as it stands.
    settled = not path.with_name(path.name + "-wal").exists()
    try:
        try:
            connection = _open_uri(f"{where}?mode=ro")
        except sqlite3.OperationalError:
            if not settled:
                raise
            connection = _open_uri(f"{where}?mode=ro&immutable=1")
    except sqlite3.Error as error:
        raise failure(path, error) from error
    try:
        if check(connection, path):
            return connection
    except BaseException:
        connection.close()
        raise
    connection.close()
    return _without_runs()


def _without_runs() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for statement in statements(SQLITE):
        connection.execute(statement)
    return connection


def _open_uri(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10)
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    if check(connection, path):
        return
    # Small pages: a commit writes whole pages, and the step of a chain is a commit of one row.
    connection.execute("PRAGMA page_size=1024")
    _use_wal(connection)
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not check(connection, path):  # nobody else was faster
            for statement in statements(SQLITE):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id={APPLICATION}")
            connection.execute(f"PRAGMA user_version={VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch a fresh file to WAL. SQLite does not wait for locks in doing so, whatever the timeout: another process
    that makes the same journal at this moment is waited for here."""
    deadline = time.monotonic() + _MAKING_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() >= deadline:
                raise
        time.sleep(0.01)


def check(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the file holds a journal; False if it is empty.

    Raises:
        JournalError: it holds something else, or a newer journal.
    """
    try:
        application, version, tables = _marks(connection)
    except sqlite3.Error as error:
        raise failure(path, error) from error
    if not tables:
        return False
    if application != APPLICATION:
        raise JournalError(
            f"{path} is another program's database; name another file for the journal"
        )
    if version > VERSION:
        raise JournalError(
            f"journal {path} was written by a newer Carrara (layout {version}, this one reads up to "
            f"{VERSION}); upgrade carrara, or name another file for the journal"
        )
    return True


def _marks(connection: sqlite3.Connection) -> list[int]:
    """Application, layout and number of tables, all as of one moment: another process may be making the file."""
    own = not connection.in_transaction
    if own:
        connection.execute("BEGIN")
    try:
        asked = (
            "PRAGMA application_id",
            "PRAGMA user_version",
            "SELECT count(*) FROM sqlite_schema",
        )
        # The count comes first: it begins the view that the others are read from.
        tables, version, application = (
            connection.execute(q).fetchone()[0] for q in reversed(asked)
        )
        return [application, version, tables]
    finally:
        if own:
            connection.execute("COMMIT")


_ADVICE = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space and resume the run",
    sqlite3.SQLITE_READONLY: "it cannot be written; check the permissions, or name another file",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check that the folder exists and can be written",
    sqlite3.SQLITE_IOERR: "the disk reports an error; check it, then resume the run",
    sqlite3.SQLITE_CORRUPT: "it is damaged; move it away, `sqlite3 FILE .recover` may save what is left",
    sqlite3.SQLITE_NOTADB: "it is no journal, or damaged; name another file, or move it away",
    sqlite3.SQLITE_BUSY: "another process has kept it locked; end that process or wait for it",
    sqlite3.SQLITE_CONSTRAINT: "another process has written this run; two may not run it at once",
}


def code_of(error: BaseException) -> int:
    """The primary result code of an sqlite3 error, 0 of another."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_busy(error: BaseException) -> bool:
    return code_of(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def failure(path: Path, error: BaseException, *, run: str = "") -> JournalError:
    """The error to raise for a foreign one: the file, what to do about it, and the reason."""
    advice = _ADVICE.get(code_of(error))
    if advice is None and isinstance(error, OSError):
        advice = "it cannot be made; check the folder, or name another file"
    return JournalError(f"journal {path}: {advice or 'it failed'} ({error})", run=run)
