"""Finished steps of earlier openings, as the executor finds them again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from carrara.runtime.codec import decode
from carrara.runtime.journal.api import Key, StoredStep
from carrara.runtime.journal.batch import read_payload
from carrara.runtime.journal.schema import REUSABLE
from carrara.runtime.journal.store import Sql

_RECORD = re.compile(r"/record\[(\d+)\]/")

_SMALL = 256

SMALL_PAYLOAD = f"CASE WHEN length(payload) <= {_SMALL} THEN payload END"
"""Payloads up to that length are loaded with their step, longer ones when their value is asked for."""


def record_of(path: str) -> int | None:
    """The place of the record that a step with this path is in, None where it is in none."""
    inside = _RECORD.search(path)
    return None if inside is None else int(inside[1])


def within_record(path: str) -> str:
    """The part of a path below its record; all of it where there is none."""
    inside = _RECORD.search(path)
    return path if inside is None else path[inside.end() :]


class StoredPayload:
    """A finished step. `payload` is None where it is still in the file, in the row `place`."""

    __slots__ = ("_connection", "_payload", "fingerprint", "place", "seconds")

    def __init__(
        self,
        connection: Sql,
        fingerprint: str,
        seconds: float,
        payload: str | bytes | None,
        place: int,
    ) -> None:
        self._connection = connection
        self.fingerprint = fingerprint
        self.seconds = seconds
        self._payload = payload
        self.place = place

    def value(self, returns: Any) -> Any:
        """The result; `returns` finds the classes that have no name of their own.

        Raises:
            ValueError: it cannot be read any more: a class has changed or gone, the file is damaged.
        """
        payload = self._payload
        if payload is None:
            found = self._connection.execute(
                "SELECT payload FROM steps WHERE id=?", (self.place,)
            ).fetchone()
            payload = found[0]
        return decode(read_payload(self._connection, payload), returns)


class Places:
    """A set of small numbers, a byte for each number up to the largest."""

    __slots__ = ("_marks",)

    def __init__(self, ascending: Iterable[int]) -> None:
        self._marks = bytearray()
        for place in ascending:
            self._marks.extend(bytes(place - len(self._marks)))
            self._marks.append(1)

    def __contains__(self, place: object, /) -> bool:
        return isinstance(place, int) and place < len(self._marks) and self._marks[place] == 1

    def __iter__(self) -> Iterator[int]:
        return (place for place, mark in enumerate(self._marks) if mark)

    def add(self, place: int) -> None:
        if place >= len(self._marks):
            self._marks.extend(bytes(place + 1 - len(self._marks)))
        self._marks[place] = 1

    def discard(self, place: int) -> None:
        if place in self:
            self._marks[place] = 0

    @property
    def end(self) -> int:
        """One more than the largest, 0 where there is none."""
        return len(self._marks)


NONE = Places(())


class Finished(Mapping[Key, StoredStep]):
    """The reusable steps with ids in [low, high), loaded at once, without their larger payloads. The steps inside
    `record[i]`, where `i` is in `settled`, are left out: nobody will ask for them."""

    def __init__(self, connection: Sql, low: int, high: int, settled: Places = NONE) -> None:
        self._steps: dict[Key, StoredStep] = {}
        rows = connection.execute(
            "SELECT path, identity, occurrence, fingerprint, seconds,"
            f" {SMALL_PAYLOAD}, id"
            f" FROM steps WHERE id>=? AND id<? AND status={REUSABLE}",
            (low, high),
        )
        intern: dict[str, str] = {}
        for path, identity, occurrence, fingerprint, seconds, payload, place in rows:
            if settled.end and record_of(path) in settled:
                continue
            shared = intern.setdefault(fingerprint, fingerprint)
            self._steps[Key(path, identity, occurrence)] = StoredPayload(
                connection, shared, seconds, payload, place
            )

    def __getitem__(self, key: Key) -> StoredStep:
        return self._steps[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._steps)

    def __len__(self) -> int:
        return len(self._steps)
