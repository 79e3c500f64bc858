"""The stored steps that a step may take its result from: those with the same definition and inputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from carrara.runtime.journal.api import Key
from carrara.runtime.journal.schema import REUSABLE, RUN_SPAN
from carrara.runtime.journal.store import Sql
from carrara.runtime.journal.stored import SMALL_PAYLOAD, StoredPayload, within_record

MOST = 64
"""Of more equal steps the newest are looked at, and those at the path that is asked for: a step whose inputs are the
same in a million records costs each of them no more."""

BY_SAMENESS = (
    "CREATE INDEX IF NOT EXISTS steps_by_sameness ON steps (identity, occurrence)"
    f" WHERE status={REUSABLE}"
)
BY_PATH = (
    "CREATE INDEX IF NOT EXISTS steps_by_path ON steps (identity, occurrence, substr(path, 1, 200))"
    f" WHERE status={REUSABLE}"
)
"""A server holds no longer entries than 2,700 bytes in an index: a path may be longer."""

_STEPS = f"SELECT path, fingerprint, seconds, {SMALL_PAYLOAD}, id"
_EQUAL = f"{_STEPS} FROM steps WHERE identity=? AND occurrence=? AND status={REUSABLE}"
_MOST_VALUES = 500
"""Of a statement: a database has a limit."""
_LATEST = f"ORDER BY id DESC LIMIT {MOST}"


@dataclass(frozen=True, slots=True)
class Opening:
    """The opening of run number `run` whose first step or event has the place `first`."""

    run: int
    first: int

    @property
    def low(self) -> int:
        return self.run * RUN_SPAN

    @property
    def high(self) -> int:
        return (self.run + 1) * RUN_SPAN


@dataclass(frozen=True, slots=True)
class EqualStep:
    """A step that is equal to the one asked for, and where it stands; `is_own`: in the run that asks."""

    path: str
    is_own: bool
    stored: StoredPayload


def newest(sql: Sql, key: Key, opening: Opening) -> list[EqualStep]:
    """The newest of before the opening and of other runs, at most MOST of either."""
    found = sql.execute(
        f"SELECT * FROM ({_EQUAL} AND id<? {_LATEST}) AS before"
        f" UNION ALL SELECT * FROM ({_EQUAL} AND id>=? {_LATEST}) AS after",
        (key.identity, key.occurrence, opening.first, key.identity, key.occurrence, opening.high),
    )
    return _steps(sql, found.fetchall(), opening)


def at_path(sql: Sql, key: Key, opening: Opening) -> list[EqualStep]:
    """Those at the path of `key`: few, as many as runs have done the same there. Fast with the index BY_PATH."""
    found = sql.execute(
        f"{_EQUAL} AND substr(path, 1, 200)=? AND (id<? OR id>=?)",
        (key.identity, key.occurrence, key.path[:200], opening.first, opening.high),
    )
    return _steps(sql, (row for row in found.fetchall() if row[0] == key.path), opening)


def in_places(
    sql: Sql, places: Sequence[int], opening: Opening
) -> dict[tuple[str, int], list[EqualStep]]:
    """The steps in these places, by identity and occurrence."""
    found: dict[tuple[str, int], list[EqualStep]] = {}
    for start in range(0, len(places), _MOST_VALUES):
        some = places[start : start + _MOST_VALUES]
        rows = sql.execute(
            f"{_STEPS}, identity, occurrence FROM steps WHERE status={REUSABLE}"
            f" AND id IN ({','.join('?' * len(some))})",
            some,
        ).fetchall()
        for *row, identity, occurrence in rows:
            found.setdefault((identity, occurrence), []).extend(_steps(sql, [row], opening))
    return found


def ranked(key: Key, steps: Iterable[EqualStep]) -> list[EqualStep]:
    """Each of them once, the most fitting first; see `Journal.equal_steps`."""
    within = within_record(key.path)

    def fits(step: EqualStep) -> tuple[bool, bool, bool, int]:
        same_path = step.path == key.path
        same_place = same_path or within_record(step.path) == within
        return step.is_own, same_path, same_place, step.stored.place

    once = {step.stored.place: step for step in steps}
    return sorted(once.values(), key=fits, reverse=True)


def _steps(sql: Sql, rows: Iterable[Any], opening: Opening) -> list[EqualStep]:
    found = []
    for path, fingerprint, seconds, payload, place in rows:
        stored = StoredPayload(sql, fingerprint, seconds, payload, place)
        found.append(EqualStep(path, opening.low <= place < opening.high, stored))
    return found


__all__ = [
    "BY_PATH",
    "BY_SAMENESS",
    "MOST",
    "EqualStep",
    "Opening",
    "at_path",
    "in_places",
    "newest",
    "ranked",
]
