"""Languages of JSON numbers between bounds, without exponents: their digits decide, so bounds are exact.

A float that reads digits rounds them; for strict bounds the number of digits is limited so far that no number
beside the bound can round onto it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from carrara.engines.diffusion.scaffold.dfa import Dfa, automaton, intersection
from carrara.engines.diffusion.scaffold.language import (
    EMPTY,
    NOTHING,
    Alt,
    Embedded,
    Node,
    Repeat,
    alt,
    digits,
    literal,
    maybe,
    one_of,
    seq,
)
from carrara.engines.diffusion.scaffold.nfa import Move
from carrara.engines.errors import CarraraError

WHOLE_DIGITS = 15
FRACTION_DIGITS = 12
_EXACT_DIGITS = 15  # decimal digits that survive a float
_MOST_REMAINDERS = 1000
SURE_STEP = 125  # larger steps may need more states than an automaton should have


@dataclass(frozen=True, slots=True)
class Bounds:
    """`least` and `most`, None where open; the flags make them strict."""

    least: Decimal | None = None
    most: Decimal | None = None
    above: bool = False
    below: bool = False

    @property
    def mirrored(self) -> Bounds:
        """The bounds of the negated numbers."""
        low, high = self.most, self.least
        return Bounds(
            None if low is None else -low, None if high is None else -high, self.below, self.above
        )


def integers(bounds: Bounds = Bounds(), multiple_of: int = 1) -> Node:
    """Whole numbers within bounds, multiples of `multiple_of`, of at most 15 digits where a side is open.

    Raises:
        CarraraError: more remainders than an automaton should hold.
    """
    low, high = _whole_bounds(bounds)
    zeros = len(str(multiple_of)) - len(str(multiple_of).rstrip("0"))
    if not zeros:
        return _within(low, high, WHOLE_DIGITS, multiple_of)
    # Powers of ten are written behind: what is before the noughts is a multiple of the rest.
    scale = 10**zeros
    low = None if low is None else -(-low // scale)
    high = None if high is None else high // scale
    digits_left, rest = max(1, WHOLE_DIGITS - zeros), multiple_of // scale
    parts: list[Node] = []
    if (low is None or low <= 0) and (high is None or high >= 0):
        parts.append(literal("0"))
    sides = ((max(low or 1, 1), high), (low, min(high if high is not None else -1, -1)))
    parts.extend(
        seq(_within(least, most, digits_left, rest), "0" * zeros)
        for least, most in sides
        if least is None or most is None or least <= most
    )
    return Alt(tuple(parts))


def _within(low: int | None, high: int | None, most_digits: int, multiple_of: int) -> Node:
    """Whole numbers from `low` to `high` that are multiples, of at most `most_digits` where a side is open."""
    parts: list[Node] = []
    if high is None or high >= 0:
        parts.append(_naturals(max(low or 0, 0), high, most_digits))
    if low is None or low < 0:
        nearest = 1 if high is None or high >= 0 else -high
        parts.append(seq("-", _naturals(nearest, None if low is None else -low, most_digits)))
    found: Node = Alt(tuple(parts))
    if multiple_of == 1:
        return found
    numbers = automaton(found)
    try:
        return Embedded(intersection(numbers, _multiples(multiple_of)))
    except CarraraError as error:
        raise CarraraError(
            f"steps of {multiple_of} need too many states. Steps up to {SURE_STEP}, and these times powers of ten, "
            "can be held; larger ones between close bounds alone"
        ) from error


def decimals(bounds: Bounds = Bounds()) -> Node:
    """Numbers within bounds, with or without a fraction."""
    parts: list[Node] = []
    if bounds.most is None or bounds.most >= 0:
        parts.append(_positive(bounds))
    if bounds.least is None or bounds.least < 0:
        mirrored = bounds.mirrored
        if mirrored.least is None or mirrored.least <= 0:  # zero itself has no sign
            mirrored = Bounds(Decimal(0), mirrored.most, True, mirrored.below)
        parts.append(seq("-", _positive(mirrored)))
    return Alt(tuple(parts))


def steps(bounds: Bounds, step: Decimal) -> Node:
    """Multiples of a step with decimals (0.01, 0.25) within bounds, of at most 15 digits: with more, the float that
    reads them would be no multiple.

    Raises:
        CarraraError: more decimals or remainders than an automaton should hold.
    """
    places = -int(step.normalize().as_tuple().exponent)
    factor = int(step.scaleb(places))
    if places > FRACTION_DIGITS:
        raise CarraraError(f"steps of {step} have more than {FRACTION_DIGITS} decimals")
    shape = seq(maybe("-"), digits(1, _EXACT_DIGITS - places), maybe(seq(".", digits(1, places))))
    found = intersection(automaton(decimals(bounds)), automaton(shape))
    try:
        return Embedded(intersection(found, _multiples(factor, places)))
    except CarraraError as error:
        raise CarraraError(
            f"steps of {step} need too many states: its digits, {factor}, are too large a number"
        ) from error


def _whole_bounds(bounds: Bounds) -> tuple[int | None, int | None]:
    low = high = None
    if bounds.least is not None:
        low = int(bounds.least.to_integral_value(ROUND_CEILING))
        low += bounds.above and low == bounds.least
    if bounds.most is not None:
        high = int(bounds.most.to_integral_value(ROUND_FLOOR))
        high -= bounds.below and high == bounds.most
    return low, high


def _naturals(low: int, high: int | None, most_digits: int = WHOLE_DIGITS) -> Node:
    """Naturals from `low` to `high`, without leading zeros."""
    if high is None:
        high = 10 ** max(most_digits, len(str(low)) + 1) - 1
    parts = []
    for length in range(len(str(low)), len(str(high)) + 1):
        least = max(low, 10 ** (length - 1) if length > 1 else 0)
        most = min(high, 10**length - 1)
        if least <= most:
            parts.append(_same_length(str(least), str(most)))
    return Alt(tuple(parts))


def _same_length(low: str, high: str) -> Node:
    """Digit strings of one length between two of that length."""
    rest = len(low) - 1
    if not low.strip("0") and not high.strip("9"):
        return digits(len(low))
    if low[0] == high[0]:
        return seq(low[0], _same_length(low[1:], high[1:]))
    parts: list[Node] = [
        seq(low[0], _same_length(low[1:], "9" * rest)),
        seq(high[0], _same_length("0" * rest, high[1:])),
    ]
    if int(high[0]) - int(low[0]) > 1:
        between = f"{int(low[0]) + 1}-{int(high[0]) - 1}"
        parts.append(seq(one_of(between), digits(rest)))
    return Alt(tuple(parts))


def _multiples(factor: int, places: int = 0) -> Dfa:
    """Signed digit strings, with up to `places` digits behind a point, whose value is a multiple of `factor` in the
    last of these places.

    State 0 reads a sign or the first digit, the others know a remainder and how far behind the point it was read.
    """
    if factor > _MOST_REMAINDERS:
        raise CarraraError(f"{factor} remainders are too many (at most {_MOST_REMAINDERS})")
    zero = ord("0")
    at_point = places + 1

    def state(place: int, remainder: int) -> int:
        return 1 + place * factor + remainder

    def moves(place: int, remainder: int) -> Iterable[Move]:
        if 0 < place == places:
            return
        target = 1 if place == at_point else place + bool(place)
        if place == 0 and places:
            yield Move(ord("."), ord("."), state(at_point, remainder))
        for digit in range(10):
            after = (remainder * 10 + digit) % factor
            yield Move(zero + digit, zero + digit, state(target, after))

    rows = [
        tuple(moves(place, remainder))
        for place in range(places + 2 if places else 1)
        for remainder in range(factor)
    ]
    start = (Move(ord("-"), ord("-"), state(0, 0)), *(m for m in rows[0] if m.low != ord(".")))
    ends = {
        state(place, remainder)
        for place in range(places + 1)
        for remainder in range(factor)
        if remainder * 10 ** (places - place) % factor == 0
    }
    return Dfa((start, *rows), frozenset(ends))


def _positive(bounds: Bounds) -> Node:
    """Numbers that are not negative; a negative lower bound counts as none."""
    low = bounds.least if bounds.least is not None and bounds.least >= 0 else Decimal(0)
    above = bounds.above and low == bounds.least
    whole, fraction = _split(low)
    room = _fraction_digits(bounds)
    least = _fraction_at_least(fraction, above, room)
    if bounds.most is None:
        return alt(
            seq(_naturals(whole, whole), least),
            seq(_naturals(whole + 1, None), _any_fraction(room)),
        )
    top, top_fraction = _split(bounds.most)
    most = _fraction_at_most(top_fraction, bounds.below, room)
    if top < whole:
        return NOTHING
    if top == whole:
        between = intersection(automaton(least), automaton(most))
        return seq(str(whole), Embedded(between))
    parts = [seq(str(whole), least), seq(str(top), most)]
    if top - whole > 1:
        parts.append(seq(_naturals(whole + 1, top - 1), _any_fraction(room)))
    return Alt(tuple(parts))


def _split(value: Decimal) -> tuple[int, str]:
    """The whole part and the digits of the fraction, without trailing zeros."""
    whole, _, fraction = format(value, "f").partition(".")
    return int(whole), fraction.rstrip("0")


def _fraction_digits(bounds: Bounds) -> int:
    if not (bounds.above or bounds.below):
        return FRACTION_DIGITS
    given = [abs(bound) for bound in (bounds.least, bounds.most) if bound is not None]
    largest = max((len(str(_split(bound)[0])) for bound in given), default=1)
    return max(0, min(FRACTION_DIGITS, _EXACT_DIGITS - largest - 1))


def _any_fraction(room: int) -> Node:
    return maybe(seq(".", digits(1, room))) if room else EMPTY


def _fraction_at_least(bound: str, strict: bool, room: int) -> Node:
    """Fractions (with their point) not below 0.bound."""
    more = seq(Repeat(one_of("0"), 0, room), one_of("1-9"), digits(0, room))
    if not bound:
        if not strict:
            return _any_fraction(room)
        return seq(".", more) if room else NOTHING
    parts = [
        seq(".", bound[:i], one_of(f"{int(digit) + 1}-9"), digits(0, room))
        for i, digit in enumerate(bound)
        if digit != "9"
    ]
    parts.append(seq(".", bound, more if strict else digits(0, room)))
    return Alt(tuple(parts))


def _fraction_at_most(bound: str, strict: bool, room: int) -> Node:
    """Fractions (with their point) not above 0.bound."""
    zeros = Repeat(one_of("0"), 0, room)
    if not bound:
        return NOTHING if strict else maybe(seq(".0", zeros))
    parts = [EMPTY, *(seq(".", bound[:i]) for i in range(1, len(bound)))]
    parts += [
        seq(".", bound[:i], one_of(f"0-{int(digit) - 1}"), digits(0, room))
        for i, digit in enumerate(bound)
        if digit != "0"
    ]
    if not strict:
        parts.append(seq(".", bound, zeros))
    return Alt(tuple(parts))
