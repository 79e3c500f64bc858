"""Which records of a source a job takes: a condition, a shard, a sample.

Each is decided by the record alone (a sample by all keys), so that a job that goes on takes the same ones.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

from carrara.workflows.errors import InputError, RenderError
from carrara.workflows.number_texts import with_number_texts
from carrara.workflows.sources.record import Record, broken
from carrara.workflows.template import environment

_AS_NUMBER = (
    ". A text is a number beside one only where it is written like one (-10.50) and nothing is computed with it; "
    "`FIELD | float` makes a number of any"
)


@dataclass(frozen=True, slots=True)
class Selection:
    """Taken in this order: those for which the expression `where` is true, `shard` "i/n" of them, `sample` of these,
    drawn by `seed`. None or "" takes all.

    A broken record is taken whatever `where` says: it is to be told of.
    """

    where: str = ""
    shard: str = ""
    sample: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises InputError for an expression, a shard or a seed that cannot be."""
        if self.where:
            _compiled(self.where)
        if self.shard:
            _shard(self.shard)
        if not -(2**63) <= self.seed < 2**63:
            raise InputError(f"--seed: {self.seed} is too large, give one from -2^63 to 2^63 - 1")

    def of(self, records: Iterable[Record]) -> Iterator[Record]:
        """The selected ones, in order, counted anew from 0."""
        found: Iterable[Record] = records
        if self.where:
            found = _where(found, self.where)
        if self.shard:
            found = _of_shard(found, *_shard(self.shard))
        if self.sample is not None:
            found = sampled(found, self.sample, self.seed)
        return (
            record if record.index == index else replace(record, index=index)
            for index, record in enumerate(found)
        )


def sampled(records: Iterable[Record], count: int, seed: int) -> list[Record]:
    """`count` records in their order; those whose keys have the lowest hashes with `seed`: every set of so many is as
    likely as another. Reads all, keeps `count` of them in memory."""
    salt = seed.to_bytes(8, "big", signed=True)
    # The largest hash is on top, to give way to a smaller one.
    kept: list[tuple[int, int, Record]] = []
    for place, record in enumerate(records):
        entry = (-_hash(record.key, salt), -place, record)
        if len(kept) < count:
            heapq.heappush(kept, entry)
        elif kept and entry[:2] > kept[0][:2]:
            heapq.heapreplace(kept, entry)
    return [record for _, _, record in sorted(kept, key=lambda entry: -entry[1])]


def _of_shard(records: Iterable[Record], number: int, count: int) -> Iterator[Record]:
    return (record for record in records if _hash(record.key, b"shard") % count == number - 1)


def _hash(key: str, salt: bytes) -> int:
    raw = key.encode(errors="backslashreplace")
    return int.from_bytes(blake2b(raw, digest_size=8, salt=salt).digest())


def _shard(written: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", written)
    number, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= count:
        raise InputError(f"--shard: {written!r} is not one of 1/n to n/n, as in 2/4")
    return number, count


def _where(records: Iterable[Record], text: str) -> Iterator[Record]:
    condition = _compiled(text)
    for record in records:
        if record.problem is not None:
            yield record
            continue
        try:
            if _holds(condition, record):
                yield record
        except RenderError as error:
            yield broken(record, f"--where: {error}")


def _compiled(text: str) -> Any:
    from jinja2 import TemplateSyntaxError

    try:
        return environment().compile_expression(text, undefined_to_none=False)
    except TemplateSyntaxError as error:
        hint = "; it is written without {{ }}" if "{{" in text else ""
        raise InputError(f"--where: {text!r} is no expression: {error.message}{hint}") from error


def _holds(condition: Any, record: Record) -> bool:
    """Raises RenderError: a field that is not there or of no use, an error in the expression."""
    undefined = environment().undefined
    lacking = {name: undefined(reason, name=name) for name, reason in record.unused.items()}
    fields = {**with_number_texts(dict(record.fields)), **lacking}
    try:
        return bool(condition({"record": fields, **fields}))
    except Exception as error:  # expressions call methods of values: anything may come out
        advice = _AS_NUMBER if isinstance(error, TypeError) and "'str'" in str(error) else ""
        raise RenderError(f"{type(error).__name__}: {error}{advice}") from error


__all__ = ["Selection", "sampled"]
