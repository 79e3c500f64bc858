"""JSON data as (path, text) pairs of its leaves, which is what answers and gold are compared by."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

Path = tuple[str | int | None, ...]
"""Keys and list positions from the outside in; None is an item of a list whose order means nothing."""

Pair = tuple[Path, str]


def squeeze(value: Any) -> str:
    """Lower case, runs of white space as one space, none at the ends; 2.0 as "2"."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return re.sub(r"\s+", " ", str(value)).strip().lower()


def flatten(
    value: Any, unordered: Collection[str] = (), *, path: Path = (), ordered: bool = True
) -> Iterator[Pair]:
    """The leaves of `value` with their paths; nulls and empty texts are dropped.

    Below a key in `unordered`, or everywhere if not `ordered`, the items of a list have no position.
    """
    if isinstance(value, Mapping):
        for key, part in value.items():
            inner = ordered and key not in unordered
            yield from flatten(part, unordered, path=(*path, key), ordered=inner)
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            place = (*path, number if ordered else None)
            yield from flatten(part, unordered, path=place, ordered=ordered)
    elif value is not None and squeeze(value):
        yield path, squeeze(value)
