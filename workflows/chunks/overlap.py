"""Items that two neighbouring parts both tell of because they stand in the text that the parts share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

from carrara.workflows.chunks.split import Chunk
from carrara.workflows.spans.locate import leaves, occurrences
from carrara.workflows.spans.source_text import SourceText

_TELLING = 100
"""Smaller whole numbers stand in most texts by chance."""


def joined(lists: Sequence[tuple[int, list[Any]]], chunks: Sequence[Chunk]) -> list[Any]:
    """The items of lists, each about the part with its number, in order and behind each other.

    An item that equals one of the part before is left out as often as it stands in the text that both parts have: its
    texts and numbers stand there, but for those that the part holds nowhere. Without `chunks` all items are kept.
    """
    found: list[Any] = []
    last, before = -1, list[Any]()
    for number, items in lists:
        shared = _shared(chunks, number) if number and last == number - 1 else ""
        found += _new(items, before, shared, chunks[number].text) if shared else items
        last, before = number, items
    return found


def same(value: Any) -> Hashable:
    """Equal for values that are exactly the same: numbers by what they are, texts letter by letter."""
    match value:
        case Mapping():
            return "{}", frozenset((key, same(part)) for key, part in value.items())
        case list() | tuple():
            return "[]", tuple(map(same, value))
        case bool() | str():
            return type(value).__name__, value
        case Hashable():
            return value
        case _:
            return type(value).__name__, repr(value)


def _shared(chunks: Sequence[Chunk], number: int) -> str:
    """What stands at the beginning of a part and at the end of the one before."""
    if number >= len(chunks):
        return ""
    part = chunks[number]
    return part.text[: max(0, chunks[number - 1].end - part.start)]


def _new(items: list[Any], before: list[Any], shared: str, text: str) -> Iterator[Any]:
    both, rest = SourceText(shared), SourceText(text[len(shared) :])
    left = Counter(map(same, before))
    taken = Counter[Hashable]()
    for item in items:
        kind = same(item)
        if left[kind] > 0 and _times(item, both, rest) > taken[kind]:
            left[kind] -= 1
            taken[kind] += 1
        else:
            yield item


def _times(item: Any, shared: SourceText, rest: SourceText) -> int:
    """How often the item stands in the shared text; 0 where it stands behind it, or nobody knows where."""
    values = [value for _, value in leaves(item)]
    counts = []
    for value in [value for value in values if _tells(value)] or values:
        count = occurrences(value, shared)
        if count:
            counts.append(count)
        elif occurrences(value, rest):
            return 0
    return min(counts, default=0)


def _tells(value: str | float) -> bool:
    return not isinstance(value, int) or abs(value) >= _TELLING


__all__ = ["joined", "same"]
