"""Numbers and switches from outside, checked for what they must be: fields of a checkpoint's JSON files by `Fields`,
single values by `Range`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from carrara.engines.errors import LoadingError

D = TypeVar("D", int, int | None)
F = TypeVar("F", float, float | None)

_NO_END = float("inf")
_FLOAT_MOST = sys.float_info.max


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `least` (`is_open`: above it) to `most`: `whole` ones, or any that a float holds.

    True and False are no numbers, nor is text. `in` asks whether a value is in it, `str` describes it.
    """

    least: float = -_NO_END
    most: float = _NO_END
    whole: bool = False
    is_open: bool = False

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        if not self.whole and not -_FLOAT_MOST <= value <= _FLOAT_MOST:  # NaN is not, either
            return False
        return self.least <= value <= self.most and not (self.is_open and value == self.least)

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        if self.least == -_NO_END:
            if self.most == _NO_END:
                return "a whole number" if self.whole else "a finite number"
            return f"{kind} of at most {_shown(self.most)}"
        if self.is_open:
            end = "" if self.most == _NO_END else f" and at most {_shown(self.most)}"
            return f"{kind} above {_shown(self.least)}{end}"
        if self.most == _NO_END:
            return f"{kind} of at least {_shown(self.least)}"
        return f"{kind} from {_shown(self.least)} to {_shown(self.most)}"


SIZE = Range(1, whole=True)
COUNT = Range(0, whole=True)
WHOLE = Range(whole=True)
POSITIVE = Range(0, is_open=True)
NOT_NEGATIVE = Range(0)
SHARE = Range(0, 1)
PART = Range(0, 1, is_open=True)
"""A share that is not nothing."""


@dataclass(frozen=True, slots=True)
class Fields:
    """An object of a JSON file, read field by field. A null is a field that is not there.

    `where` names the file in errors; `prefix` stands before the names of an object inside another one. All readers
    raise LoadingError, with file and field, where a value is something else than asked for.
    """

    found: Mapping[str, Any]
    where: str
    prefix: str = ""

    def need(self, *names: str) -> None:
        """Raise LoadingError unless all of these are there."""
        if missing := [self.prefix + name for name in names if self.found.get(name) is None]:
            raise LoadingError(f"{self.where}: lacks {', '.join(missing)}")

    def size(self, name: str) -> int:
        """A whole number of at least 1 that must be there."""
        self.need(name)
        return int(self._in(name, SIZE))

    def needed(self, name: str, allowed: Range = POSITIVE) -> float:
        """A number that must be there."""
        self.need(name)
        return float(self._in(name, allowed))

    def whole(self, name: str, default: D, allowed: Range = SIZE) -> int | D:
        """A whole number; `default` where there is none."""
        return default if self.found.get(name) is None else int(self._in(name, allowed))

    def number(self, name: str, default: F, allowed: Range = POSITIVE) -> float | F:
        """A number; `default` where there is none."""
        return default if self.found.get(name) is None else float(self._in(name, allowed))

    def token(self, name: str, vocab_size: int | None) -> int | None:
        """The id of a token of the vocabulary, None where none is named."""
        return self.whole(name, None, ids_of(vocab_size))

    def tokens(self, name: str, vocab_size: int | None) -> tuple[int, ...]:
        """The ids of one token or of a list of tokens."""
        value = self.found.get(name)
        listed = value if isinstance(value, list) else [] if value is None else [value]
        if any(one not in ids_of(vocab_size) for one in listed):
            raise self.fault(name, f"{ids_of(vocab_size)}, or a list of such")
        return tuple(listed)

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        value = self.found.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.fault(name, "true or false")
        return default if value is None else value

    def part(self, name: str) -> Fields:
        """An object inside this one; empty where there is none."""
        value = self.found.get(name)
        if value is not None and not isinstance(value, Mapping):
            raise self.fault(name, "an object")
        return Fields(value or {}, self.where, f"{self.prefix}{name}.")

    def fault(self, name: str, wanted: object) -> LoadingError:
        """That a field is not what it must be."""
        value = shortened(self.found.get(name))
        return LoadingError(f"{self.where}: {self.prefix}{name} is {value}, it must be {wanted}")

    def _in(self, name: str, allowed: Range) -> Any:
        if self.found[name] not in allowed:
            raise self.fault(name, allowed)
        return self.found[name]


def ids_of(vocab_size: int | None) -> Range:
    """The ids of a vocabulary, or of one whose size is not known."""
    return COUNT if vocab_size is None else Range(0, vocab_size - 1, whole=True)


def shortened(value: object) -> str:
    """A value as an error shows it."""
    found = repr(value)
    return found if len(found) <= 100 else f"{found[:60]} ... {found[-30:]}"


def _shown(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"
