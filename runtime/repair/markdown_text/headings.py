"""Headings that lost the newline before them or the blank behind their marks, or that stand twice in a row."""

from __future__ import annotations

import re

from carrara.runtime.repair.markdown_text import cells
from carrara.runtime.repair.markdown_text.lines import Fix, Lines
from carrara.runtime.repair.markdown_text.regions import PLAIN

_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(\S.*)$")
_TWICE = re.compile(r" {0,3}(#{1,6})[ \t]+(?=\1[ \t]+[^\s#])")
_TIGHT = re.compile(r" {0,3}(#{1,6})(?=[^\s#\d!:;,.)\]])")
_WIDE = re.compile(r" {0,3}([#＃]{1,6})(?<!#)[ \t　]*(?=\S)|[ ]{0,3}(＃[#＃]{0,5})[ \t　]*(?=\S)")
_GLUED = re.compile(
    r"(?<=[^\s#\\&(\[/=])[ \t]*(?<![\w/&=])(#{2,6})[ \t]+(?=\S)|(?<=[.!?:。！？])[ \t]*(#{1,6})[ \t]+(?=[^\W\d_])"
)


def heading_fixes(lines: Lines, kinds: bytearray) -> list[Fix]:
    """Repairs of headings in lines that are no code."""
    if "#" not in lines.text and "＃" not in lines.text:
        return []
    fixes: list[Fix] = []
    before: tuple[int, str] | None = None
    several = len(re.findall(r"(?m)^ {0,3}#{1,6} ", lines.text[:200_000])) > 0
    for number, row in enumerate(lines.rows):
        if not row or kinds[number] != PLAIN:
            if kinds[number] != PLAIN:
                before = None
            continue
        if "#" not in row and "＃" not in row:
            if not row.isspace():
                before = None
            continue
        body = row.strip()
        if body[:1] in "#＃":
            heading = _HEADING.match(row)
            if heading is None:
                fixes += _spaced(lines.rows, number, row, several)
                before = None
                continue
            if m := _TWICE.match(row):
                reason = "the marks of the heading stand twice"
                text = row[m.end() :]
                fixes.append(Fix(number, number + 1, (text,), "heading_mark", reason, "likely"))
                before = None
                continue
            if before is not None and _is_cut(before[1], body):
                reason = "the heading begins anew right below"
                fixes.append(Fix(before[0], number, (), "heading_fragment_dup", reason, "likely"))
            elif before is not None and before[1] == body:
                reason = "the same heading stands right above"
                fixes.append(Fix(before[0] + 1, number + 1, (), "heading_duplicated", reason))
                continue
            before = number, body
            continue
        before = None
        fixes += _glued(row, number)
    return fixes


def _is_cut(fragment: str, whole: str) -> bool:
    """Whether a line is the beginning of another one, cut within a word."""
    more = whole[len(fragment) :]
    return (
        len(fragment) > 5
        and bool(more)
        and whole.startswith(fragment)
        and fragment[-1:].isalpha()
        and more[0].isalpha()
    )


def paragraph_fixes(lines: Lines, kinds: bytearray) -> list[Fix]:
    """A paragraph of one line that begins the next one, cut short: a decoder began it anew."""
    fixes = []
    last: tuple[int, str] | None = None
    blank = True
    for number, row in enumerate(lines.rows):
        if not row or row.isspace():
            blank = True
            continue
        if kinds[number] != PLAIN or not row[0].isalpha():
            last = None
        elif blank:
            if last is not None and row[:16] == last[1][:16] and _begins_anew(last[1], row):
                reason = "the paragraph begins anew below"
                fixes.append(Fix(last[0], number, (), "paragraph_fragment_dup", reason, "likely"))
            last = number, row.rstrip()
        else:
            last = None
        blank = False
    return fixes


_MANY = 6  # words that two paragraphs do not share by chance


def _begins_anew(fragment: str, whole: str) -> bool:
    """Whether a paragraph is the beginning of another, cut within a word, or long and without its end."""
    words = fragment.count(" ")
    if words > 2 and _is_cut(fragment, whole):
        return True
    unfinished = fragment[-1].isalnum() and len(whole) > len(fragment)
    return words >= _MANY and unfinished and whole.startswith(fragment)


def _spaced(rows: list[str], number: int, row: str, several: bool) -> list[Fix]:
    """Marks without a blank behind them. A single one may be a tag: it needs headings in the text, and a line alone."""
    m = _TIGHT.match(row)
    if m is None:
        wide = _WIDE.match(row)
        if wide is None or not _alone(rows, number):
            return []
        marks = wide.group(1) or wide.group(2)
        text = f"{'#' * len(marks)} {row[wide.end() :]}"
        return [Fix(number, number + 1, (text,), "heading_mark", "headings begin with #", "likely")]
    text = f"{row[: m.end()]} {row[m.end() :]}"
    if len(m.group(1)) == 1 and not (
        several and _alone(rows, number) and _is_title(rows, number, row)
    ):
        return []
    return [
        Fix(
            number,
            number + 1,
            (text,),
            "heading_no_space",
            "a blank belongs behind the marks of a heading",
        )
    ]


def _is_title(rows: list[str], number: int, row: str) -> bool:
    """No second tag, and nothing but blank lines above."""
    return row.count("#") == 1 and not any(line.strip() for line in rows[:number])


def _alone(rows: list[str], number: int) -> bool:
    before = number == 0 or not rows[number - 1].strip()
    return before and (number + 1 >= len(rows) or not rows[number + 1].strip())


def _glued(row: str, number: int) -> list[Fix]:
    """A heading behind the text of a paragraph."""
    if "# " not in row or row.lstrip()[:1] in "|>":
        return []
    coded = cells.code_spans(row)
    for m in _GLUED.finditer(row):
        place = m.start(1) if m.group(1) else m.start(2)
        if cells.within(row, [place], coded):
            continue
        text, heading = row[: m.start()].rstrip(), row[place:]
        if not text.strip():
            continue
        reason = "the newline before the heading is lost"
        return [Fix(number, number + 1, (text, "", heading), "heading_glued", reason, "likely")]
    return []


__all__ = ["heading_fixes", "paragraph_fixes"]
