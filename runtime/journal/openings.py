"""The rows that say which runs there are and who runs them. Each function is called within a transaction."""

from __future__ import annotations

import json
import platform
import sqlite3
import sys
from time import time

from carrara.runtime.codec import CodecError, encode
from carrara.runtime.errors import JournalError
from carrara.runtime.journal.api import RunRecord
from carrara.runtime.journal.lease import Holder, this_process
from carrara.runtime.journal.schema import RUN_SPAN


def begin(connection: sqlite3.Connection, run: RunRecord) -> int:
    """Write the row of a run, new or known. Returns its number.

    Raises:
        JournalError: the id is that of a run of another workflow.
    """
    versions = json.dumps(_versions())
    known = connection.execute(
        "SELECT run, workflow FROM runs WHERE run_id=?", (run.run_id,)
    ).fetchone()
    if known is None:
        text, error = _inputs(run)
        made = connection.execute(
            "INSERT INTO runs VALUES (NULL,?,?,?,?,?,'running','',?,NULL,NULL,1,?)",
            (run.run_id, run.workflow, run.source, text, error, run.started_at, versions),
        )
        return int(made.lastrowid or 0)
    number, workflow = known
    if workflow != run.workflow:
        raise JournalError(
            f"run {run.run_id} is one of workflow {workflow!r}, not of {run.workflow!r}",
            run=run.run_id,
        )
    connection.execute(
        "UPDATE runs SET status='running', error='', ended_at=NULL, seconds=NULL,"
        " openings=openings+1, versions=? WHERE run=?",
        (versions, number),
    )
    return int(number)


def take_lease(connection: sqlite3.Connection, run_id: str, number: int) -> None:
    """Make this process the one that runs the run; a holder that is dead loses it.

    Raises:
        JournalError: another process runs it; the message names the process.
    """
    held = connection.execute(
        "SELECT host, pid, born, beat_at FROM leases WHERE run=?", (number,)
    ).fetchone()
    me = this_process()
    now = time()
    if held is not None:
        holder = Holder(*held[:3])
        if holder != me and holder.is_alive(beat_at=held[3], now=now):
            where = "" if holder.host == me.host else f" on {holder.host}"
            raise JournalError(
                f"run {run_id} is running in process {holder.pid}{where}; wait until it ends, or end it "
                f"(kill {holder.pid}) and resume",
                run=run_id,
            )
    connection.execute(
        "INSERT OR REPLACE INTO leases VALUES (?,?,?,?,?)", (number, me.host, me.pid, me.born, now)
    )


def next_place(connection: sqlite3.Connection, number: int) -> int:
    """The first free id of a run, over steps and events."""
    low, high = number * RUN_SPAN, (number + 1) * RUN_SPAN
    last = low - 1
    for table in ("steps", "events"):
        found = connection.execute(
            f"SELECT max(id) FROM {table} WHERE id>=? AND id<?", (low, high)
        ).fetchone()[0]
        if found is not None:
            last = max(last, found)
    return last + 1


def end(connection: sqlite3.Connection, number: int, ok: bool, error: str, seconds: float) -> None:
    """Write down how a run ended, and give its lease back."""
    connection.execute(
        "UPDATE runs SET status=?, error=?, ended_at=?, seconds=? WHERE run=?",
        ("done" if ok else "failed", error, time(), seconds, number),
    )
    connection.execute("DELETE FROM leases WHERE run=?", (number,))


def _inputs(run: RunRecord) -> tuple[str | None, str]:
    """The arguments as text, or None and why they cannot be stored."""
    try:
        return encode((run.args, dict(run.kwargs or {}))), ""
    except CodecError as error:
        return None, f"its arguments could not be stored: {error}"


def _versions() -> dict[str, str]:
    own = getattr(sys.modules.get("carrara"), "__version__", "")
    return {"carrara": own, "python": platform.python_version()}
