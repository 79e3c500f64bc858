"""Keys of records whose lists become rows: `KEY/0`, `KEY/1` and so on must be keys of nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from carrara.workflows.key_set import KeySet, Spots
from carrara.workflows.sources.record import Record

_ITEM = re.compile(r"(.+)/(?:0|[1-9][0-9]*)", re.DOTALL)


def apart_from_items(records: Iterable[Record]) -> Iterator[Record]:
    """The same records; one is broken where its key is that of an item of another one, the later of the two.

    It depends on the keys alone, not on how long the lists are: so it is the same each time, and in every part of the
    source. A key takes up to 96 bytes.
    """
    keys, parents, spots = KeySet(), KeySet(), Spots()
    for record in records:
        if record.problem is not None:  # it makes no row
            yield record
            continue
        spot = spots.number(record)
        found = _ITEM.fullmatch(record.key)
        of_parent = keys.first(found[1]) if found else None
        of_item = parents.first(record.key)
        if of_parent is not None:
            problem = f"its key {record.key!r} is that of an item of the record at {spots.name(of_parent)}"
        elif of_item is not None:
            problem = f"an item of it may have the key of the record at {spots.name(of_item)}"
        else:
            keys.add(record.key, spot)
            if found:
                parents.add(found[1], spot)
            yield record
            continue
        yield replace(record, problem=f"{problem}, so that --flatten cannot tell their rows apart")


__all__ = ["apart_from_items"]
