"""Languages, automata and their spelling in bytes agree with Python's own readers."""

from __future__ import annotations

import json
import random
import re
from datetime import date, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from carrara.engines.diffusion.scaffold import chars, formats, numbers, regex
from carrara.engines.diffusion.scaffold.dfa import Dfa, automaton, intersection, json_escaped
from carrara.engines.diffusion.scaffold.language import ANY_TEXT
from carrara.engines.diffusion.scaffold.utf8 import byte_ranges, spelled_out
from carrara.engines.errors import CarraraError

unhurried = settings(deadline=None, max_examples=30)
PATTERNS = (
    r"\d{4}-\d{2}",
    r"[a-c]+@(x|yy)\.(com|org)?",
    r"\w+",
    r"[^\W\d]+x?",
    r"(?i)ab[c-f]*",
    r"a{2,4}|b|",
    r"\S\s\S",
    r"[^ab]{1,2}",
    r"(?:a|bb)*",
    r"(?s).b.",
    r"\D\W?",
)
ALPHABET = "ab cxyé0-9A@.\n東😀_"


def accepts_bytes(dfa: Dfa, text: str) -> bool:
    spelled, state = spelled_out(dfa), 0
    for byte in text.encode():
        state = int(spelled.target[state, byte])
    return state in spelled.accepts


@pytest.mark.parametrize("pattern", PATTERNS)
@unhurried
@given(text=st.text(ALPHABET, max_size=6))
def test_a_pattern_matches_what_python_matches(pattern: str, text: str) -> None:
    dfa = automaton(regex.full(pattern))
    assert dfa.matches(text) == bool(re.fullmatch(pattern, text))
    assert accepts_bytes(dfa, text) == dfa.matches(text)


@pytest.mark.parametrize("pattern", ["b", "^a", "b$", "^(a|bb)$", "^a|b$", "a.b", "^$"])
@unhurried
@given(text=st.text("ab\n", max_size=5))
def test_an_unanchored_pattern_is_searched_for(pattern: str, text: str) -> None:
    dfa = automaton(regex.found(pattern))
    if text.endswith("\n"):  # where Python's $ is laxer than needed
        assert not dfa.matches(text) or re.search(pattern, text)
    else:
        assert dfa.matches(text) == bool(re.search(pattern, text))


@pytest.mark.parametrize(
    "pattern", [r"(a)\1", r"a(?=b)", r"a\bb", "a^b", "(?>a)", "a*+", "(?i)[^k]", "(?m)^a"]
)
def test_what_is_not_regular_is_refused(pattern: str) -> None:
    with pytest.raises(CarraraError, match="cannot be held"):
        regex.full(pattern)


def test_a_pattern_that_explodes_is_refused() -> None:
    with pytest.raises(CarraraError, match="too large"):
        automaton(regex.full("(a|b)*a(a|b){14}"))


@unhurried
@given(texts=st.lists(st.text("ab", max_size=4), max_size=8))
def test_an_intersection_holds_what_both_hold(texts: list[str]) -> None:
    left, right = automaton(regex.full("a*b?a*")), automaton(regex.full("(aa|b)*"))
    both = intersection(left, right)
    for text in texts:
        assert both.matches(text) == (left.matches(text) and right.matches(text))


@unhurried
@given(text=st.text(max_size=12))
def test_json_escapes_are_those_of_json_dumps(text: str) -> None:
    inside = json_escaped(automaton(ANY_TEXT))
    written = json.dumps(text, ensure_ascii=False)[1:-1]
    assert inside.matches(written)
    assert accepts_bytes(inside, written)


@unhurried
@given(text=st.text('a"\\nu0/\n', max_size=6))
def test_nothing_breaks_out_of_its_quotes(text: str) -> None:
    if json_escaped(automaton(ANY_TEXT)).matches(text):
        assert json.loads(f'"{text}"') is not None


@unhurried
@given(st.integers(0, 0x10FFFF), st.integers(0, 0x10FFFF))
def test_byte_ranges_cover_every_character_once(a: int, b: int) -> None:
    ranges = chars.intersection(((min(a, b), max(a, b)),), chars.ANY)
    total = 0
    for low, high in ranges:
        for pieces in byte_ranges(low, high):
            size = 1
            for first, last in pieces:
                size *= last - first + 1
            total += size
    assert total == sum(high - low + 1 for low, high in ranges)


bounds = st.none() | st.integers(-3000, 3000).map(lambda n: Decimal(n) / 10)


@unhurried
@given(
    bounds, bounds, st.booleans(), st.booleans(), st.lists(st.integers(-40000, 40000), min_size=20)
)
def test_numbers_stay_within_their_bounds(
    a: Decimal | None, b: Decimal | None, above: bool, below: bool, tries: list[int]
) -> None:
    if a is not None and b is not None and a > b:
        a, b = b, a
    dfa = automaton(numbers.decimals(numbers.Bounds(a, b, above, below)))
    for value in (Decimal(n) / 100 for n in tries):
        fits = (a is None or (value > a if above else value >= a)) and (
            b is None or (value < b if below else value <= b)
        )
        assert dfa.matches(format(value, "f") if value else "0") == fits


@unhurried
@given(
    st.none() | st.integers(-9000, 9000),
    st.none() | st.integers(-9000, 9000),
    st.sampled_from((10, 20, 70, 250, 1000, 3000)),
)
def test_multiples_with_noughts_are_all_of_them_and_no_others(
    low: int | None, high: int | None, factor: int
) -> None:
    span = numbers.Bounds(
        None if low is None else Decimal(low), None if high is None else Decimal(high)
    )
    dfa = automaton(numbers.integers(span, factor))
    for value in range(-12000, 12001, 10):
        is_in = (low is None or value >= low) and (high is None or value <= high)
        assert dfa.matches(str(value)) == (is_in and value % factor == 0)
    assert not dfa.matches("-0")
    assert not dfa.matches("00")


def test_every_small_step_is_held_and_a_large_one_is_told() -> None:
    for factor in range(2, numbers.SURE_STEP + 1, 3):
        assert automaton(numbers.integers(multiple_of=factor)).matches(str(-7 * factor))
    with pytest.raises(CarraraError, match="steps of 365 need too many states"):
        numbers.integers(multiple_of=365)
    close = numbers.Bounds(Decimal(0), Decimal(4000))
    assert automaton(numbers.integers(close, 365)).matches("3650")


@unhurried
@given(st.integers(-99, 99), st.integers(0, 150), st.sampled_from((1, 2, 7)))
def test_integers_are_multiples_within_bounds(low: int, width: int, factor: int) -> None:
    span = numbers.Bounds(Decimal(low), Decimal(low + width))
    dfa = automaton(numbers.integers(span, factor))
    for value in range(-110, 260):
        assert dfa.matches(str(value)) == (low <= value <= low + width and value % factor == 0)


def test_strict_bounds_survive_rounding_to_a_float() -> None:
    dfa = automaton(numbers.decimals(numbers.Bounds(None, Decimal("1e12"), below=True)))
    for digits in range(1, 20):
        text = "999999999999." + "9" * digits
        assert not dfa.matches(text) or float(text) < 1e12


@pytest.mark.parametrize("year", [1, 4, 100, 400, 1900, 2000, 2023, 2024, 9999])
def test_dates_are_those_of_the_calendar(year: int) -> None:
    dfa = automaton(formats.date())
    for month in range(14):
        for day in range(33):
            text = f"{year:04}-{month:02}-{day:02}"
            try:
                date.fromisoformat(text)
                real = True
            except ValueError:
                real = False
            assert dfa.matches(text) == real


NAMES = (
    "date",
    "time",
    "date-time",
    "duration",
    "uuid",
    "email",
    "hostname",
    "uri",
    "ipv4",
    "ipv6",
    "regex",
)


@pytest.mark.parametrize("name", NAMES)
def test_texts_of_a_format_pass_its_check(name: str) -> None:
    node = formats.language(name)
    assert node is not None
    chance = random.Random(name)
    for _ in range(50):
        text = drawn(automaton(node), chance)
        assert Draft202012Validator.FORMAT_CHECKER.conforms(text, name), text
        if name == "date-time":
            assert datetime.fromisoformat(text)


@pytest.mark.parametrize(("name", "day"), [("time", ""), ("date-time", "2026-02-28T")])
def test_a_time_has_its_offset_as_the_standard_asks(name: str, day: str) -> None:
    node = formats.language(name)
    assert node is not None
    dfa = automaton(node)
    assert not dfa.matches(f"{day}16:46:46")
    assert not dfa.matches(f"{day}16:46:46.5")
    assert all(dfa.matches(f"{day}16:46:46{offset}") for offset in ("Z", "+05:30", "-00:00"))


def drawn(dfa: Dfa, chance: random.Random) -> str:
    """A random walk that stops at an accepting state, sooner or later."""
    state, found = 0, []
    while not (state in dfa.accepts and (chance.random() < 0.2 or not dfa.moves[state])):
        move = chance.choice(dfa.moves[state])
        found.append(chr(chance.randint(move.low, move.high)))
        state = move.target
    return "".join(found)
