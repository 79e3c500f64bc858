"""What may stand in a JSON string, from the keywords of its schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from carrara.engines.diffusion.scaffold import formats, regex
from carrara.engines.diffusion.scaffold.dfa import Dfa, automaton, intersection, json_escaped
from carrara.engines.diffusion.scaffold.language import ANY_TEXT, COUNTED_UP_TO, Embedded, Node
from carrara.engines.diffusion.scaffold.refused import NothingFits
from carrara.engines.errors import CarraraError


@dataclass(frozen=True, slots=True)
class StringSpace:
    """The escaped text between the quotes, and how many characters it may have before escaping."""

    inside: Node
    least: int
    most: int | None
    kind: str

    @property
    def is_counted(self) -> bool:
        return self.least > 0 or self.most is not None


def string_space(schema: Mapping[str, Any]) -> StringSpace:
    """The strings of a schema: its format, patterns and lengths together.

    Raises:
        NothingFits: no string fits.
        CarraraError: a pattern cannot be held, or more characters are asked for than can be counted.
    """
    least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
    most = None if most is None else int(most)
    if most is not None and least > most:
        raise NothingFits(f"no string has at least {least} and at most {most} characters")
    if least > COUNTED_UP_TO:
        raise CarraraError(
            f"{least:,} characters, a string is held to at most {COUNTED_UP_TO:,} required ones"
        )
    patterns = schema.get("pattern", ())
    patterns = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    name = schema.get("format", "")
    inside = _inside(name, patterns, counted=least > 0 or most is not None)
    shortest, longest = _lengths(inside)
    fits = (most is None or shortest <= most) and (longest is None or least <= longest)
    if inside.is_empty or not fits:
        raise NothingFits(
            f"no string of {least} to {'any number of' if most is None else most} characters has format "
            f"{name!r} and the patterns {list(patterns)}"
        )
    kind = name if formats.language(name) else "string"
    return StringSpace(Embedded(inside), least, most, kind)


@lru_cache(maxsize=256)
def _lengths(dfa: Dfa) -> tuple[int, int | None]:
    """The fewest and the most counted characters of the texts of an automaton (None: there is no bound)."""
    shortest = longest = None
    states: frozenset[tuple[int, int]] = frozenset(((0, 0),))  # with the characters read so far
    for _ in range(2 * len(dfa.moves) + 1):
        for state, count in states:
            if state in dfa.accepts:
                shortest = count if shortest is None else min(shortest, count)
                longest = count if longest is None else max(longest, count)
        best: dict[int, tuple[int, int]] = {}
        for state, count in states:
            for move in dfa.moves[state]:
                low, high = best.get(move.target, (count + move.count, count + move.count))
                best[move.target] = (min(low, count + move.count), max(high, count + move.count))
        states = frozenset((s, c) for s, both in best.items() for c in both)
        if not states:
            return shortest or 0, longest
    return shortest or 0, None


@lru_cache(maxsize=256)
def _inside(name: str, patterns: tuple[str, ...], counted: bool) -> Dfa:
    dfa = automaton(formats.language(name) or ANY_TEXT)
    for pattern in patterns:
        dfa = intersection(dfa, automaton(regex.found(pattern)))
    return json_escaped(dfa, counted)
