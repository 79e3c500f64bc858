"""Why a schema, or a part of it, has no scaffold, and where in the schema the reason lies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Self

from carrara.engines.errors import CarraraError
from carrara.engines.json_schema import pointer

Place = tuple[str | int, ...]
"""Keywords, names and numbers from a schema down to a part of it. What a `$ref` points at lies where the `$ref` is."""


class CannotHold(CarraraError):
    """A schema, or a branch of it, that has no scaffold. A union goes on without such a branch.

    `causes` are the reasons, each with its place below the schema that is asked about.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.causes: tuple[tuple[Place, str], ...] = (((), reason),)

    def again(self) -> Self:
        """The same, to be raised at a further place that has the same schema."""
        found = type(self)(str(self.args[0]))
        found.causes = self.causes
        return found

    def __str__(self) -> str:
        told = (f"at {pointer(place)}: {why}" if place else why for place, why in self.causes)
        return "; ".join(dict.fromkeys(told))


class NothingFits(CannotHold):
    """A schema that no value fits, or none that ever ends: what has it and need not be there is left out."""


def together(errors: Iterable[CannotHold]) -> CannotHold:
    """One error for all branches of a union: nothing fits it where nothing fits any of them."""
    found = list(errors)
    kind = NothingFits if all(isinstance(error, NothingFits) for error in found) else CannotHold
    joined = kind("a schema that nothing fits")
    if found:
        joined.causes = tuple(cause for error in found for cause in error.causes)
    return joined


@contextmanager
def below(*steps: str | int) -> Iterator[None]:
    """Refusals inside lie below these steps of the schema."""
    try:
        yield
    except CannotHold as error:
        error.causes = tuple(((*steps, *place), why) for place, why in error.causes)
        raise


__all__ = ["CannotHold", "NothingFits", "Place", "below", "together"]
