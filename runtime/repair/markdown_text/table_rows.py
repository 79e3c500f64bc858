"""One row that has more or fewer cells than its table has columns: the causes, tried from the surest on."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple

from carrara.runtime.repair.markdown_text import cells
from carrara.runtime.repair.markdown_text.table_parts import Shape
from carrara.runtime.repair.report import Certainty

_SENTENCE = re.compile(r"\|[^|]*\w \w[^|]* [^|]*[.!?:]$")


class Mended(NamedTuple):
    """The rows that a line is made into, why, and `below`: text that stood behind the row."""

    rows: tuple[str, ...]
    rule: str
    reason: str
    certainty: Certainty = "certain"
    below: str = ""


def too_wide(text: str, shape: Shape) -> Mended | None:
    """Rows for a line with more cells than columns, None where nothing explains them."""
    wide, places = shape.wide, cells.pipes(text)
    extra = cells.count(text) - wide
    coded = cells.within(text, places, cells.code_spans(text))
    if len(coded) == extra:
        return Mended(
            (cells.escaped(text, coded),),
            "pipe_unescaped_code",
            "a pipe in code does not end the cell",
        )
    found = _merged(text, shape)
    if found is not None:
        return found
    if shape.trailing and _SENTENCE.search(text):
        found = _text_behind(text, places, extra, shape)
        if found is not None:
            return found
    found = _off_the_marks(text, places, extra, shape)
    if found is not None:
        return found
    found = _doubled(text, places, extra, shape)
    if found is not None:
        return found
    if coded and len(coded) < extra and (rest := too_wide(cells.escaped(text, coded), shape)):
        return rest._replace(rule=f"pipe_unescaped_code+{rest.rule}")
    if shape.trailing and (found := _text_behind(text, places, extra, shape)):
        return found
    found = _repeated(text, extra) if wide + extra != shape.usual else None
    if found is not None:
        return found
    grouped = cells.within(text, places, cells.groups(text))
    if len(grouped) == extra:
        reason = "a pipe in brackets or quotes does not end the cell"
        return Mended((cells.escaped(text, grouped),), "pipe_unescaped", reason, "likely")
    return _text_behind(text, places, extra, shape)


def _text_behind(text: str, places: list[int], extra: int, shape: Shape) -> Mended | None:
    """Text behind the last pipe of a row that has all its cells."""
    if not shape.leading or text.endswith("|") or extra != 1 or len(places) < 2:
        return None
    row, below = text[: places[-1] + 1], text[places[-1] + 1 :].strip()
    reason = "the text behind the row's last pipe begins a paragraph"
    return Mended((row,), "text_glued", reason, "likely", below)


def _repeated(text: str, extra: int) -> Mended | None:
    """One cell that stands twice in a row, the first perhaps cut within a word: a decoder began it anew."""
    spans = cells.spans(text)
    texts = [text[a:b].strip() for a, b in spans]
    twice = [n for n in range(1, len(texts)) if texts[n] and texts[n] == texts[n - 1]]
    if not twice and extra == 1:
        cut = [n for n in range(1, len(texts)) if _is_cut(texts[n - 1], texts[n])]
        if len(cut) == 1:
            start, end = spans[cut[0] - 1]
            reason = "the cell begins anew in the next one"
            return Mended((text[:start] + text[end + 1 :],), "cell_repeated", reason, "likely")
    if extra != 1 or len(twice) != 1:
        return None
    start, end = spans[twice[0]]
    return Mended(
        (text[:start] + text[end + 1 :],), "cell_repeated", "the cell stands twice", "likely"
    )


def _is_cut(fragment: str, whole: str) -> bool:
    more = whole[len(fragment) :]
    return (
        len(fragment) > 2
        and whole.startswith(fragment)
        and fragment[-1].isalnum()
        and (more[:1].isalnum() or more[:1] in (".", ",", "*", "`", "_", ")", "]"))
    )


def _merged(text: str, shape: Shape) -> Mended | None:
    """Rows without the newline between them: n cells, an empty one, n cells; or twice n."""
    parts = segments(text, shape.wide)
    if parts is None:
        return None
    rows = tuple(_cut(text, first, last, shape) for first, last in parts)
    return Mended(rows, "rows_merged", "the newline between these rows is lost")


def segments(text: str, wide: int) -> list[tuple[int, int]] | None:
    """Spans of the rows in a line that holds several, None if it does not divide into rows."""
    found = cells.spans(text)
    number = len(found)
    empty = [not text[a:b].strip() for a, b in found]
    if number >= 2 * wide + 1 and (number + 1) % (wide + 1) == 0:
        starts = range(0, number, wide + 1)
        if all(empty[at - 1] for at in starts if at):
            return [(found[at][0], found[at + wide - 1][1]) for at in starts]
    if wide > 1 and number >= 2 * wide and number % wide == 0 and not any(empty):
        return [(found[at][0], found[at + wide - 1][1]) for at in range(0, number, wide)]
    return None


def _cut(text: str, first: int, last: int, shape: Shape) -> str:
    body = text[first:last]
    if not (shape.leading or shape.trailing):
        return body.strip()
    return f"{'|' if shape.leading else ''}{body}{'|' if shape.trailing or shape.leading else ''}"


def _off_the_marks(text: str, places: list[int], extra: int, shape: Shape) -> Mended | None:
    """A pipe too much in a padded row is the one that stands under no other."""
    if not shape.marks or extra > 3:
        return None
    seen: list[int] = []
    column, at = 0, 0
    for place in places:
        column += cells.width(text[at:place])
        at = place
        seen.append(column)
    moved = 0
    strange = []
    marks = set(shape.marks)
    for place, column in zip(places, seen, strict=True):
        if column - moved in marks:
            continue
        strange.append(place)
        if text[place - 1 : place] == "|" or text[place + 1 : place + 2] == "|":
            moved += 1
    if len(strange) != extra or strange[-1] == places[-1]:
        return None
    if all(text[p - 1 : p] == "|" or text[p + 1 : p + 2] == "|" for p in strange):
        return Mended((_without(text, strange),), "pipe_doubled", "the pipe stands twice")
    return Mended(
        (cells.escaped(text, strange),), "pipe_unescaped", "it stands under no other pipe", "likely"
    )


def _doubled(text: str, places: list[int], extra: int, shape: Shape) -> Mended | None:
    """Empty cells that are no cells: one pipe written twice."""
    close = [b for a, b in pairwise(places) if b == a + 1]
    apart = [b for a, b in pairwise(places) if not text[a + 1 : b].strip()]
    for doubled in (close, apart):
        if len(doubled) == extra:
            certainty: Certainty = "certain" if len(apart) == extra else "likely"
            return Mended(
                (_without(text, doubled),), "pipe_doubled", "the pipe stands twice", certainty
            )
    return None


def _without(text: str, places: list[int]) -> str:
    parts, at = [], 0
    for place in places:
        start = place
        while start > at and text[start - 1] in " \t" and text[start - 2 : start - 1] != "":
            start -= 1
        if text[start - 1 : start] != "|":
            start = place
        parts.append(text[at:start])
        at = place + 1
    return "".join(parts) + text[at:]


def on_the_marks(text: str, shape: Shape) -> Mended | None:
    """A padded row with a pipe missing: blanks stand where the other rows have it."""
    if not shape.marks:
        return None
    mended = text
    missing = 0
    for mark in shape.marks:
        at = _offset(mended, mark)
        if at is None:
            return None
        c = mended[at]
        if c == "|":
            continue
        beside = mended[at - 1 : at] + mended[at + 1 : at + 2]
        if c != " " or beside.strip(" "):
            return None
        mended = mended[:at] + "|" + mended[at + 1 :]
        missing += 1
    if not missing or cells.count(mended) != shape.wide:
        return None
    return Mended((mended,), "pipe_dropped", "every other row has a pipe in this column")


def _offset(text: str, column: int) -> int | None:
    """The offset of the character that begins at a column, None if none does."""
    if text.isascii():
        return column if column < len(text) else None
    seen = 0
    for at, c in enumerate(text):
        if seen == column:
            return at
        if seen > column:
            return None
        seen += cells.width(c)
    return None


def is_fragment(text: str, following: str) -> bool:
    """Whether the cells of `text` begin those of the row behind it, the last one perhaps cut."""
    mine, whole = cells.split(text), cells.split(following)
    if not mine or len(mine) > len(whole) or not any(mine):
        return False
    if mine[:-1] != whole[: len(mine) - 1]:
        return False
    if mine == whole:
        return False
    return mine[-1] == whole[len(mine) - 1] or (
        not text.endswith("|") and whole[len(mine) - 1].startswith(mine[-1])
    )


def joined(text: str, following: list[str], wide: int) -> int:
    """How many of the lines behind `text` make one row of `wide` cells with it, 0 if none do."""
    whole = text
    for number, line in enumerate(following[:8], 1):
        whole = f"{whole} {line}"
        found = cells.count(whole)
        if found == wide:
            return number
        if found > wide:
            return 0
    return 0


__all__ = ["Mended", "is_fragment", "joined", "on_the_marks", "segments", "too_wide"]
