"""Languages of the string formats of JSON Schema (`format`), narrower than the standards allow, never wider."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from carrara.engines.diffusion.scaffold.language import (
    Alt,
    Node,
    Repeat,
    alt,
    digits,
    maybe,
    one_of,
    seq,
)

_SMALL = "a-z0-9"
_HEX = "0-9a-f"


@lru_cache(maxsize=32)
def language(name: str) -> Node | None:
    """The language of a format, None for names that only annotate (as unknown ones do)."""
    make = _FORMATS.get(name)
    return make() if make else None


@lru_cache(maxsize=1)
def date() -> Node:
    """Days of the Gregorian calendar from year 1 on, YYYY-MM-DD; 29 February only where there is one."""
    year = Alt(
        tuple(
            seq(one_of("0") if i else "", Repeat(one_of("0"), max(i - 1, 0), max(i - 1, 0)),
                one_of("1-9"), digits(3 - i))
            for i in range(4)
        )
    )  # fmt: skip
    short = alt(seq("0", one_of("1-9")), seq(one_of("12"), one_of("0-9")))  # 01 to 29
    to_28 = alt(seq("0", one_of("1-9")), seq("1", one_of("0-9")), seq("2", one_of("0-8")))
    not_february = alt(seq("0", one_of("13456789")), seq("1", one_of("0-2")))
    long = alt("01", "03", "05", "07", "08", "10", "12")
    usual = alt(seq(not_february, "-", alt(short, "30")), seq(long, "-31"), seq("02-", to_28))
    even = alt(
        seq("0", one_of("48")),
        seq(one_of("2468"), one_of("048")),
        seq(one_of("13579"), one_of("26")),
    )
    leap = alt(seq(digits(2), even), seq(even, "00"))
    return alt(seq(year, "-", usual), seq(leap, "-02-29"))


def time_of_day() -> Node:
    """HH:MM:SS with at most six digits of fraction and the offset from UTC, as RFC 3339 has it."""
    return seq(_clock(), _offset())


def moment() -> Node:
    """A date and a time of day, joined by T."""
    return seq(date(), "T", time_of_day())


def duration() -> Node:
    """ISO 8601: P with weeks, or days and a time of hours, minutes, seconds, something of it given."""
    seconds = seq(digits(1, 5), maybe(seq(".", digits(1, 6))), "S")
    minutes, hours = seq(digits(1, 4), "M"), seq(digits(1, 4), "H")
    time = seq(
        "T",
        alt(
            seq(hours, maybe(seq(minutes, maybe(seconds)))),
            seq(minutes, maybe(seconds)),
            seconds,
        ),
    )
    return seq("P", alt(seq(digits(1, 5), "D", maybe(time)), time))


def uuid() -> Node:
    def part(length: int) -> Node:
        return Repeat(one_of(_HEX), length, length)

    return seq(part(8), "-", part(4), "-", part(4), "-", part(4), "-", part(12))


def host() -> Node:
    label = seq(one_of("a-z"), Repeat(seq(maybe("-"), one_of(_SMALL)), 0, 24))
    return seq(label, Repeat(seq(".", label), 1, 3))


def email() -> Node:
    return seq(_local_part(), "@", host())


def url() -> Node:
    path = Repeat(one_of("A-Za-z0-9._~/?=&%+,:@#-"))
    return seq("http", maybe("s"), "://", host(), maybe(seq("/", path)))


def ipv4() -> Node:
    octet = alt(
        one_of("0-9"),
        seq(one_of("1-9"), one_of("0-9")),
        seq("1", digits(2)),
        seq("2", one_of("0-4"), one_of("0-9")),
        seq("25", one_of("0-5")),
    )
    return seq(octet, Repeat(seq(".", octet), 3, 3))


def ipv6() -> Node:
    group = Repeat(one_of(_HEX), 1, 4)
    return seq(group, Repeat(seq(":", group), 7, 7))


def json_pointer() -> Node:
    return Repeat(seq("/", Repeat(one_of("A-Za-z0-9_.-"))))


def plain_regex() -> Node:
    """A regular expression without operators."""
    return Repeat(one_of("A-Za-z0-9 "))


def _clock() -> Node:
    hour = alt(seq(one_of("01"), one_of("0-9")), seq("2", one_of("0-3")))
    sixty = seq(one_of("0-5"), one_of("0-9"))
    return seq(hour, ":", sixty, ":", sixty, maybe(seq(".", digits(1, 6))))


def _offset() -> Node:
    hour = alt(seq("0", one_of("0-9")), seq("1", one_of("0-3")))
    return alt("Z", seq(one_of("+"), hour, ":", one_of("0-5"), one_of("0-9")),
               seq("-", hour, ":", one_of("0-5"), one_of("0-9")))  # fmt: skip


def _local_part() -> Node:
    word = Repeat(one_of("A-Za-z0-9_%+-"), 1, 16)
    return seq(word, Repeat(seq(".", word), 0, 2))


_FORMATS: dict[str, Callable[[], Node]] = {
    "date": date,
    "time": time_of_day,
    "date-time": moment,
    "duration": duration,
    "uuid": uuid,
    "email": email,
    "idn-email": email,
    "hostname": host,
    "idn-hostname": host,
    "ipv4": ipv4,
    "ipv6": ipv6,
    "uri": url,
    "iri": url,
    "uri-reference": url,
    "iri-reference": url,
    "json-pointer": json_pointer,
    "regex": plain_regex,
}
