"""The rows that say which runs there are and who runs them. Each function is called within a transaction."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import dataclass
from functools import cache
from time import time
from typing import Literal

from carrara.runtime.codec import CodecError, encode
from carrara.runtime.errors import JournalError
from carrara.runtime.journal.api import RunRecord
from carrara.runtime.journal.lease import Holder, this_process
from carrara.runtime.journal.schema import RUN_SPAN
from carrara.runtime.journal.store import Sql


@dataclass(frozen=True, slots=True)
class Lease:
    """A run that this process runs now. `token` counts its openings: whoever opens it later has a higher one, and
    with that the lease. `is_new`: this is the first."""

    number: int
    token: int
    is_new: bool


def begin(connection: Sql, run: RunRecord, now: float) -> Lease:
    """Write the row of a run that this process runs now; `now` is unix seconds on the journal's clock.

    Raises:
        JournalError: the id is that of a run of another workflow, or of one that another process runs.
    """
    text, error = _inputs(run)
    me = this_process()
    made = connection.execute(
        "INSERT INTO runs (run_id, workflow, source, inputs, inputs_error, status, error, started_at, openings,"
        " versions, host, pid, born, beat_at) VALUES (?,?,?,?,?,'running','',?,1,?,?,?,?,?)"
        " ON CONFLICT (run_id) DO NOTHING RETURNING run",
        (
            run.run_id,
            run.workflow,
            run.source,
            text,
            error,
            run.started_at,
            _versions(),
            me.host,
            me.pid,
            me.born,
            now,
        ),
    ).fetchall()
    return Lease(int(made[0][0]), 1, True) if made else _reopen(connection, run, now)


def _reopen(connection: Sql, run: RunRecord, now: float) -> Lease:
    number, workflow, openings, beat_at, *held = connection.execute(
        "SELECT run, workflow, openings, beat_at, host, pid, born FROM runs WHERE run_id=?",
        (run.run_id,),
    ).fetchone()
    if workflow != run.workflow:
        raise JournalError(
            f"run {run.run_id} is one of workflow {workflow!r}, not of {run.workflow!r}",
            run=run.run_id,
        )
    holder, me = Holder(*held), this_process()
    if holder.host and holder != me and holder.is_alive(beat_at=beat_at, now=now):
        where = "" if holder.host == me.host else f" on {holder.host}"
        raise JournalError(
            f"run {run.run_id} is running in process {holder.pid}{where}; wait until it ends, or end it "
            f"(kill {holder.pid}) and resume",
            run=run.run_id,
        )
    taken = connection.execute(
        "UPDATE runs SET status='running', error='', ended_at=NULL, seconds=NULL, openings=openings+1,"
        " versions=?, host=?, pid=?, born=?, beat_at=? WHERE run=? AND openings=?",
        (_versions(), me.host, me.pid, me.born, now, number, openings),
    ).rowcount
    if not taken:  # on a server two may have read the row before either wrote it
        raise JournalError(
            f"run {run.run_id} has just been taken up by another process; wait until it ends",
            run=run.run_id,
        )
    return Lease(int(number), int(openings) + 1, False)


def beat(connection: Sql, lease: Lease, now: float) -> bool:
    """Write the heartbeat of a run; False if another process has taken it up since."""
    done = connection.execute(
        "UPDATE runs SET beat_at=? WHERE run=? AND openings=?", (now, lease.number, lease.token)
    )
    return bool(done.rowcount)


def note_source(connection: Sql, number: int, source: str) -> None:
    """Write down where a run comes from, in place of what stood there."""
    connection.execute("UPDATE runs SET source=? WHERE run=?", (source, number))


def next_place(connection: Sql, number: int) -> int:
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


Status = Literal["done", "failed", "interrupted"]
"""How a run ended."""


def end(connection: Sql, number: int, status: Status, error: str, seconds: float) -> None:
    """Write down how a run ended, and give its lease back."""
    connection.execute(
        "UPDATE runs SET status=?, error=?, ended_at=?, seconds=?, host='' WHERE run=?",
        (status, error, time(), seconds, number),
    )


def _inputs(run: RunRecord) -> tuple[str | None, str]:
    """The arguments as text, or None and why they cannot be stored."""
    try:
        return encode([list(run.args), dict(run.kwargs or {})]), ""
    except CodecError as error:
        return None, f"its arguments could not be stored: {error}"


@cache
def _versions() -> str:
    own = getattr(sys.modules.get("carrara"), "__version__", "")
    return json.dumps({"carrara": own, "python": platform.python_version()})
