"""A table line as pipes and cells. All scans are linear, also on a line of a million backticks."""

from __future__ import annotations

import re
import unicodedata

_PIPE = re.compile(r"\\.|\|", re.DOTALL)
_TICKS = re.compile(r"\\`|`+")
_GROUPS = re.compile(r"\([^()]*\)|\{[^{}]*\}|\[[^\[\]]*\]|(?<![\w$])\$[^$]+\$(?!\w)|\"[^\"]*\"")
DELIMITER = re.compile(r"\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$")
STRICT_CELL = re.compile(r":?-{2,}:?|:-:|:-|-:")
# What delimiter rows become when a stroke is drawn otherwise.
_STROKES = "-=_:—–―─━═‐‑‒−~+*.·"
_LOOSE = re.compile(rf"[{re.escape(_STROKES)}\s|｜│]*")
_STROKE = re.compile(r"[-=_—–―─━═‐‑‒−~]")


def pipes(line: str) -> list[int]:
    """Offsets of the pipes that split cells: those without a backslash before them."""
    if "\\" not in line:
        found, at = [], line.find("|")
        while at >= 0:
            found.append(at)
            at = line.find("|", at + 1)
        return found
    return [m.start() for m in _PIPE.finditer(line) if m.group() == "|"]


def count(line: str) -> int:
    """The number of cells of a stripped line, the way GitHub counts them."""
    if "\\" in line:
        places = pipes(line)
        return _cells(line, places)
    number = line.count("|") + 1
    if line[:1] == "|":
        number -= 1
    if number > 1 and line[-1:] == "|" and len(line) > 1:
        number -= 1
    return number


def _cells(line: str, places: list[int]) -> int:
    number = len(places) + 1
    if places and places[0] == 0:
        number -= 1
    if places and number > 1 and places[-1] == len(line) - 1 and len(line) > 1:
        number -= 1
    return number


def split(line: str) -> list[str]:
    """The cells of a stripped line as written, inner white space stripped."""
    return [line[a:b].strip() for a, b in spans(line)]


def spans(line: str) -> list[tuple[int, int]]:
    """Start and end of each cell of a stripped line, between its pipes."""
    places = pipes(line)
    bounds = [-1, *places, len(line)]
    found = [(bounds[i] + 1, bounds[i + 1]) for i in range(len(bounds) - 1)]
    if places and places[0] == 0:
        del found[0]
    if len(found) > 1 and places and places[-1] == len(line) - 1:
        del found[-1]
    return found


def code_spans(line: str) -> list[tuple[int, int]]:
    """Start and end of the code spans of a line, backticks included."""
    if "`" not in line:
        return []
    runs = [(m.start(), m.end()) for m in _TICKS.finditer(line) if line[m.start()] == "`"]
    following: dict[int, int] = {}
    partner = [-1] * len(runs)
    for number in range(len(runs) - 1, -1, -1):
        size = runs[number][1] - runs[number][0]
        partner[number] = following.get(size, -1)
        following[size] = number
    found, number = [], 0
    while number < len(runs):
        end = partner[number]
        if end < 0:
            number += 1
            continue
        found.append((runs[number][0], runs[end][1]))
        number = end + 1
    return found


def within(line: str, places: list[int], parts: list[tuple[int, int]]) -> list[int]:
    """The pipes that lie inside of one of `parts`; both in order."""
    found, number = [], 0
    for place in places:
        while number < len(parts) and parts[number][1] <= place:
            number += 1
        if number < len(parts) and parts[number][0] < place:
            found.append(place)
    return found


def groups(line: str) -> list[tuple[int, int]]:
    """Spans in brackets, in quotes or between dollars, in which a pipe hardly ends a cell."""
    if len(line) > 5000:
        return []
    return [m.span() for m in _GROUPS.finditer(line)]


def escaped(line: str, places: list[int]) -> str:
    """The line with a backslash before the pipes at `places`."""
    parts, at = [], 0
    for place in places:
        parts += [line[at:place], "\\"]
        at = place
    return "".join(parts) + line[at:]


def is_delimiter(line: str) -> bool:
    """Whether a stripped line is a delimiter row as it should be: dashes, and a pipe or a colon."""
    return "-" in line and ("|" in line or ":" in line) and DELIMITER.match(line) is not None


def looks_like_delimiter(line: str, masked: str) -> bool:
    """Whether a line under a header is a delimiter row, however written. `masked`: the line without masks."""
    if not masked.strip() and line.strip():
        return True
    if "|" not in masked and "+" not in masked and len(set(masked.replace(" ", ""))) > 2:
        return False
    return (
        _LOOSE.fullmatch(masked) is not None
        and ("|" in masked or "+" in masked or " " in masked.strip())
        and (_STROKE.search(masked) is not None or ":" in masked)
    )


def width(text: str) -> int:
    """Columns that `text` takes on a terminal."""
    if text.isascii():
        return len(text)
    total = 0
    for c in text:
        if unicodedata.combining(c) or c in "\u200b\u200d\ufe0f":
            continue
        total += 2 if unicodedata.east_asian_width(c) in "WF" else 1
    return total


__all__ = [
    "STRICT_CELL",
    "code_spans",
    "count",
    "escaped",
    "groups",
    "is_delimiter",
    "looks_like_delimiter",
    "pipes",
    "spans",
    "split",
    "width",
    "within",
]
