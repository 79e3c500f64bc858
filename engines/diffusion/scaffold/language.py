"""Regular languages over characters, as small trees. `dfa` turns them into automata.

Everything that may stand in a slot is described with these: literal words, numbers, dates, the inside of
a JSON string, a user's regular expression.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from carrara.engines.diffusion.scaffold import chars
from carrara.engines.diffusion.scaffold.chars import CharSet

if TYPE_CHECKING:
    from carrara.engines.diffusion.scaffold.dfa import Dfa


@dataclass(frozen=True, slots=True)
class Chars:
    """One character of a set."""

    ranges: CharSet


@dataclass(frozen=True, slots=True)
class Seq:
    """One after the other; no parts: the empty text."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Alt:
    """Any one of them; no options: nothing at all."""

    options: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """`part` at least `least` and at most `most` times (None: no upper bound)."""

    part: Node
    least: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Embedded:
    """What an automaton made before accepts (intersections and escapes are made on automata)."""

    dfa: Dfa


Node = Chars | Seq | Alt | Repeat | Embedded

COUNTED_UP_TO = 2048
"""Characters: an automaton that counts further is too slow and too large."""

EMPTY = Seq(())
NOTHING = Alt(())
DIGIT = Chars(chars.DIGITS)
ANY_TEXT = Repeat(Chars(chars.ANY))


@dataclass(frozen=True, slots=True)
class Language:
    """What may stand in a slot: texts of `node` with `least` to `most` counted characters.

    Characters inside JSON strings with a length limit count one (`dfa.json_escaped`). What may stand instead of such
    a string counts as long enough (`dfa.beginning_with`).
    """

    node: Node
    least: int = 0
    most: int | None = None


def literal(text: str) -> Node:
    return Seq(tuple(Chars(chars.of(char)) for char in text))


def seq(*parts: Node | str) -> Node:
    """One after the other; a str is a literal."""
    return Seq(tuple(literal(part) if isinstance(part, str) else part for part in parts))


def alt(*options: Node | str) -> Node:
    """Any of them; a str is a literal."""
    return Alt(tuple(literal(option) if isinstance(option, str) else option for option in options))


def maybe(part: Node | str) -> Node:
    return alt(part, EMPTY)


def digits(least: int, most: int | None = None) -> Node:
    """`least` to `most` decimal digits; `most` None: exactly `least`."""
    return Repeat(DIGIT, least, least if most is None else most)


def one_of(text: str) -> Node:
    """One of these characters; a dash between two makes a range, as in `a-f0-9`."""
    ranges, rest = [], list(text)
    while rest:
        low = rest.pop(0)
        if len(rest) > 1 and rest[0] == "-":
            ranges.append((ord(low), ord(rest[1])))
            del rest[:2]
        else:
            ranges.append((ord(low), ord(low)))
    return Chars(chars.merged(ranges))
