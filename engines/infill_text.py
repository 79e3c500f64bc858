"""The text of an `Infill`: shown with blanks, read back, written with values.

A hole ends where what follows it begins. For text that is the first such place, so that a text reads back as
it was written; typed holes may hold what follows them too (a number before a full stop), so all places are tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from carrara.engines.contract import Contract, Hole, Infill, Text
from carrara.engines.errors import ContractError

SIGN = 24  # characters of pinned text by which the end of a hole is known


def with_blanks(contract: Infill) -> str:
    """The text with ____(1), ____(2) and so on in the places of its holes."""
    shown, number = "", 0
    for part in contract.parts:
        if isinstance(part, str):
            shown += part
        else:
            number += 1
            shown += f"____({number})"
    return shown


def end_sign(contract: Infill, at: int) -> str:
    """What ends the hole that is part `at`: the beginning of the text behind it. "" for the last hole, which goes on
    to the end, or to the text that ends all."""
    behind = contract.parts[at + 1 :]
    return behind[0][:SIGN] if len(behind) > 1 and isinstance(behind[0], str) else ""


def hole_texts(text: str, contract: Infill) -> list[str]:
    """What stands in the holes of a text.

    Raises:
        ContractError: see `Infill.parse`.
    """
    reader = _Reader(text, contract)
    found = reader.read(0, 0)
    if found is None:
        reader.fail()
    assert found is not None
    return found


def values_in(text: str, contract: Infill) -> list[Any]:
    """What the holes hold, each read by its contract; text is kept as it is."""
    return [
        found if isinstance(hole.contract, Text) else hole.contract.parse(found)
        for hole, found in zip(contract.holes, hole_texts(text, contract), strict=True)
    ]


class _Reader:
    """Searches the places of the holes from left to right. `furthest` is how far it came, for the error."""

    def __init__(self, text: str, contract: Infill) -> None:
        self.text, self.contract = text, contract
        self.furthest = (0, 0)
        self._dead: set[tuple[int, int]] = set()

    def read(self, part: int, at: int) -> list[str] | None:
        """The texts of the holes from part `part` on, which begins at `at`; None if it cannot be read so."""
        parts = self.contract.parts
        if part == len(parts):
            return [] if at == len(self.text) else None
        self.furthest = max(self.furthest, (part, at))
        if (part, at) in self._dead:
            return None
        found: list[str] | None = None
        here = parts[part]
        if isinstance(here, str):
            if self.text.startswith(here, at):
                found = self.read(part + 1, at + len(here))
        else:
            for end in self._ends(part, here, at):
                rest = self.read(part + 1, end)
                if rest is not None:
                    found = [self.text[at:end], *rest]
                    break
        if found is None:
            self._dead.add((part, at))
        return found

    def fail(self) -> None:
        part, at = self.furthest
        here = self.contract.parts[part]
        number = sum(isinstance(one, Hole) for one in self.contract.parts[:part])
        if isinstance(here, str):
            reason = f"the pinned text {here[:40]!r} is not at character {at}"
            raise ContractError(reason, text=self.text)
        reason = f"hole {number + 1}: {self.text[at : at + 40]!r} does not fit it"
        raise ContractError(reason, text=self.text, path=f"/{number}")

    def _ends(self, part: int, hole: Hole, at: int) -> Iterator[int]:
        sign = end_sign(self.contract, part)
        if not sign:
            places: Iterator[int] = iter(_last(self.text, self.contract.parts[part + 1 :], at))
        else:
            places = _places(self.text, sign, at)
        if isinstance(hole.contract, Text):
            first = next(places, None)
            if first is not None:
                yield first
            return
        for end in places:
            if _fits(hole, self.text[at:end]):
                yield end


def _last(text: str, behind: tuple[str | Hole, ...], at: int) -> list[int]:
    """Where the last hole ends."""
    end = len(text) - sum(len(one) for one in behind if isinstance(one, str))
    return [end] if end >= at else []


def _places(text: str, sign: str, at: int) -> Iterator[int]:
    while (at := text.find(sign, at)) >= 0:
        yield at
        at += 1


def _fits(hole: Hole, text: str) -> bool:
    if text != text.strip():
        return False
    try:
        hole.contract.parse(text)
    except ContractError:
        return False
    return True


def no_holes(engine: str, contract: Contract) -> str | None:
    """The refusal of an engine that fills no holes in a text; it asks for any other form in words if need be."""
    if isinstance(contract, Infill):
        return f"engine {engine!r} writes from the beginning and fills no holes in a text"
    return None


__all__ = ["SIGN", "end_sign", "hole_texts", "no_holes", "values_in", "with_blanks"]
