"""Labelled rows: records with `gold`, the first ones of a file or a sample that the same seed draws again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice

from carrara.workflows.records import Record, SourceError, read_records

GOLD = "gold"


def labelled(source: str, limit: int | None = None, seed: int | None = None) -> Iterator[Record]:
    """The rows of `source`; at most `limit`. With a `seed` they are drawn at random, and come in the order drawn,
    so that any first part of them is a fair sample.

    Raises:
        SourceError: the file cannot be read, or a row is broken or has no gold.
    """
    if seed is None:
        yield from map(_checked, islice(read_records(source), limit))
        return
    rows = list(map(_checked, read_records(source)))
    count = len(rows) if limit is None else min(limit, len(rows))
    yield from random.Random(seed).sample(rows, count)


def _checked(record: Record) -> Record:
    if record.problem is not None:
        raise SourceError(f"{record.where}: {record.problem}")
    if GOLD not in record.fields:
        raise SourceError(f"{record.where}: a labelled row needs {GOLD!r}, the right answer")
    return record
