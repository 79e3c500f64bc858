"""Which stretch of the source each answer is about: the one that its question shows."""

from __future__ import annotations

import re
from collections.abc import Sequence

from carrara.workflows.trust.answers import Answer

Region = tuple[int, int]
"""The first character, and that behind the last."""

_BLOCK = 24
"""Characters that are looked for together: a stretch of twice as many is always found."""
_ALIKE = 32
"""Places of one block that are looked at, in a text that repeats itself."""
_INDEX = re.compile(r"\[(\d+)\]")


def kind_of(answer: Answer) -> str:
    """What the answers about the items of one fan-out share: the path of their step without the numbers."""
    return _INDEX.sub("[]", answer.step)


def in_order(answers: Sequence[Answer]) -> list[Answer]:
    """The answers as they came, but those of one fan-out in the order of its items."""
    kinds: dict[str, list[Answer]] = {}
    for answer in answers:
        kinds.setdefault(kind_of(answer), []).append(answer)
    ordered = {kind: iter(sorted(found, key=_place)) for kind, found in kinds.items()}
    return [next(ordered[kind_of(answer)]) for answer in answers]


def regions_of(answers: Sequence[Answer], text: str) -> list[Region | None]:
    """The stretch of `text` that the question of each answer shows; None where that is all of it, nothing, or not
    known: an answer that was taken from the journal comes without its question. Answers of one fan-out are `in_order`.
    """
    if len(answers) < 2:
        return [None] * len(answers)
    blocks = _blocks(text)
    behind: dict[str, int] = {}
    found: list[Region | None] = []
    for answer in answers:
        kind = kind_of(answer)
        shown = (
            "" if answer.call is None else "\n".join(each.content for each in answer.call.messages)
        )
        region = _longest(shown, text, blocks, behind.get(kind, 0))
        if region is not None:
            behind[kind] = region[0] + 1
        found.append(None if region == (0, len(text)) else region)
    return found


def _place(answer: Answer) -> tuple[int, ...]:
    return tuple(map(int, _INDEX.findall(answer.step)))


def _blocks(text: str) -> dict[str, list[int]]:
    """Where each stretch of 24 characters begins, of those behind each other."""
    found: dict[str, list[int]] = {}
    for start in range(0, len(text) - _BLOCK + 1, _BLOCK):
        places = found.setdefault(text[start : start + _BLOCK], [])
        if len(places) < _ALIKE:
            places.append(start)
    return found


def _longest(shown: str, text: str, blocks: dict[str, list[int]], behind: int) -> Region | None:
    """The longest stretch of the text that is shown; where it stands several times, at or behind a place."""
    start = length = at = 0
    while at + _BLOCK <= len(shown):
        ends = [at + 1]
        for place in blocks.get(shown[at : at + _BLOCK], ()):
            before = _alike(shown[:at][::-1], text[max(0, place - at) : place][::-1])
            after = _alike(shown[at:], text[place : place + len(shown) - at])
            ends.append(at + after)
            if before + after > length:
                start, length = place - before, before + after
        at = max(ends)
    if not length:
        return None
    again = text.find(text[start : start + length], behind)
    start = again if again >= 0 else start
    return start, start + length


def _alike(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    most = min(len(one), len(other))
    if one[:most] == other[:most]:
        return most
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle)
    return low


__all__ = ["Region", "in_order", "kind_of", "regions_of"]
