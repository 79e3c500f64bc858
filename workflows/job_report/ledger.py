"""What a report must know of every record, in a temporary database: memory does not grow with their number."""

from __future__ import annotations

import sqlite3
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Self

from carrara.runtime.alike import kind_of, shown_as

MOST_OPEN = 4096
"""So many records lie in memory: those that something happened to last."""


@dataclass(slots=True)
class RecordFacts:
    """What happened to one record: seconds since the job's start when it began and ended, and how. `key` and `failed`
    come from its row; one that has none is still open, and not among those that ended."""

    place: int
    key: str = ""
    began: float = 0.0
    ended: float | None = None
    failed: bool = False
    escalations: int = 0
    repairs: int = 0
    engines: dict[str, None] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return 0.0 if self.ended is None else self.ended - self.began


class Ledger:
    """Records by place, groups of equal rows, and reasons of failures. Used in `with`; SQLite keeps its rows in a file
    of its own and removes it."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._open: OrderedDict[int, RecordFacts] = OrderedDict()
        self._highest = -1  # of the places that lie in the database
        for statement in (
            "PRAGMA journal_mode = OFF",
            "PRAGMA cache_size = -8192",
            "CREATE TABLE records (place INTEGER PRIMARY KEY, began REAL, ended REAL, escalations INTEGER,"
            " repairs INTEGER, engines TEXT)",
            "CREATE TABLE rows (place INTEGER PRIMARY KEY, key TEXT, failed INTEGER, hash INTEGER)",
            "CREATE VIEW ended_records AS SELECT place, key, began, ended, failed, escalations, repairs, engines"
            " FROM records JOIN rows USING (place) WHERE ended IS NOT NULL",
            "CREATE TABLE reasons (kind TEXT PRIMARY KEY, reason TEXT, count INTEGER, varied INTEGER)"
            " WITHOUT ROWID",
            "BEGIN",
        ):
            self._database.execute(statement)

    def record(self, place: int, at: float) -> RecordFacts:
        """The facts of a record, to be changed; one that is new began `at`."""
        found = self._open.get(place)
        if found is None:
            stored = self._stored(place) if place <= self._highest else None
            found = self._open[place] = stored or RecordFacts(place, began=at)
            if len(self._open) > MOST_OPEN:
                self._put_away(self._open.popitem(last=False)[1])
        else:
            self._open.move_to_end(place)
        return found

    def count_reason(self, reason: str) -> None:
        self._database.execute(
            "INSERT INTO reasons VALUES (?, ?, 1, 0) ON CONFLICT DO UPDATE SET count = count + 1,"
            " varied = varied OR reason <> excluded.reason",
            (kind_of(reason), reason),
        )

    def reasons(self, limit: int) -> Counter[str]:
        """The most frequent kinds, each by its first reason, with a mark where the others differ from it."""
        asked = self._database.execute(
            "SELECT reason, count, varied FROM reasons ORDER BY count DESC, reason LIMIT ?",
            (limit,),
        )
        return Counter(
            {shown_as(reason, varied=bool(varied)): count for reason, count, varied in asked}
        )

    def add_row(self, place: int, key: str, *, failed: bool, values: int | None = None) -> None:
        """The row of a record; `values` is the hash of its values, equal for rows that say the same."""
        self._database.execute("INSERT INTO rows VALUES (?, ?, ?, ?)", (place, key, failed, values))

    def alike(self, groups: int, keys: int) -> list[tuple[int, list[str]]]:
        """How many rows have the same values, and the first keys of them: the largest groups first."""
        self._database.execute("CREATE INDEX IF NOT EXISTS by_hash ON rows (hash)")
        found = self._database.execute(
            "SELECT hash, count(*), min(place) AS first FROM rows WHERE hash IS NOT NULL GROUP BY hash"
            " HAVING count(*) > 1 ORDER BY 2 DESC, first LIMIT ?",
            (groups,),
        ).fetchall()
        asked = "SELECT key FROM rows WHERE hash = ? ORDER BY place LIMIT ?"
        return [
            (count, [key for (key,) in self._database.execute(asked, (values, keys))])
            for values, count, _ in found
        ]

    def totals(self) -> tuple[int, int, int]:
        """How many records ended, and of these were escalated, were repaired."""
        self._put_all_away()
        found = self._database.execute(
            "SELECT count(*), coalesce(sum(escalations > 0), 0), coalesce(sum(repairs > 0), 0) FROM ended_records"
        ).fetchone()
        return tuple(found)

    def throughput(self, seconds: float, buckets: int) -> list[int]:
        """The records that ended in each of equal times."""
        self._put_all_away()
        counts = [0] * buckets
        if seconds > 0:
            asked = self._database.execute(
                "SELECT min(?, cast(ended / ? * ? AS INTEGER)), count(*) FROM ended_records GROUP BY 1",
                (buckets - 1, seconds, buckets),
            )
            for bucket, count in asked:
                counts[bucket] = count
        return counts

    def slowest(self, limit: int) -> list[RecordFacts]:
        return self._some("ORDER BY ended - began DESC, place LIMIT ?", limit)

    def most_escalated(self, limit: int) -> list[RecordFacts]:
        return self._some("WHERE escalations > 0 ORDER BY escalations DESC, place LIMIT ?", limit)

    def spread(self, step: int) -> list[RecordFacts]:
        """Every `step`th of the records that ended, in the order in which they began."""
        self._put_all_away()
        asked = self._database.execute(
            "SELECT place, key, began, ended, failed, escalations, repairs, engines FROM"
            " (SELECT *, row_number() OVER (ORDER BY began, place) AS number FROM ended_records)"
            " WHERE (number - 1) % ? = 0 ORDER BY number",
            (step,),
        )
        return [_record(row) for row in asked]

    def _some(self, which: str, limit: int) -> list[RecordFacts]:
        self._put_all_away()
        asked = self._database.execute(f"SELECT * FROM ended_records {which}", (limit,))
        return [_record(row) for row in asked]

    def _stored(self, place: int) -> RecordFacts | None:
        row = self._database.execute(
            "SELECT place, '', began, ended, 0, escalations, repairs, engines FROM records WHERE place = ?",
            (place,),
        ).fetchone()
        return None if row is None else _record(row)

    def _put_all_away(self) -> None:
        while self._open:
            self._put_away(self._open.popitem(last=False)[1])

    def _put_away(self, record: RecordFacts) -> None:
        self._highest = max(self._highest, record.place)
        self._database.execute(
            "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?)",
            (
                record.place, record.began, record.ended, record.escalations, record.repairs,
                "\n".join(record.engines),
            ),
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()


def _record(row: tuple[int, str, float, float | None, int, int, int, str]) -> RecordFacts:
    place, key, began, ended, failed, escalations, repairs, engines = row
    return RecordFacts(
        place,
        key,
        began=began,
        ended=ended,
        failed=bool(failed),
        escalations=escalations,
        repairs=repairs,
        engines=dict.fromkeys(engines.split("\n") if engines else ()),
    )


__all__ = ["MOST_OPEN", "Ledger", "RecordFacts"]
