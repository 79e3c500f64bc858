"""Mending one table: its header and delimiter row first, then its rows from top to bottom.

What cannot be explained ends the table; the next pass over the text goes on with what was mended in this one.
"""

from __future__ import annotations

import re
from collections import Counter

from carrara.runtime.repair.markdown_text import cells
from carrara.runtime.repair.markdown_text.lines import Fix
from carrara.runtime.repair.markdown_text.table_delimiter import (
    delimiter_first,
    delimiter_line,
    glued_delimiter,
    missing_delimiter,
)
from carrara.runtime.repair.markdown_text.table_parts import (
    Line,
    Shape,
    base_prefix,
    padded_marks,
    unmasked,
    vote,
)
from carrara.runtime.repair.markdown_text.table_rows import (
    Mended,
    is_fragment,
    joined,
    on_the_marks,
    too_wide,
)
from carrara.runtime.repair.masks import MASK
from carrara.runtime.repair.report import Certainty


def mend(lines: list[Line], kind: str) -> tuple[list[Fix], int]:
    """Fixes for the table in these lines, and how many of the lines it takes: 0 if there is no table."""
    first = next((n for n, line in enumerate(lines) if "|" in line.text), len(lines))
    at = delimiter_line(lines, first)
    if at is None:
        fix = glued_delimiter(lines, first)
        if fix is not None:
            return [fix], len(lines)
        return missing_delimiter(lines, first, kind)
    if at == first and at + 1 < len(lines) and not lines[at + 1].gap:
        return delimiter_first(lines, at)
    if at == 0 or at == first:
        return [], 0
    return _Mending(lines, at).run()


class _Mending:
    """One table with a delimiter row at `at`."""

    def __init__(self, lines: list[Line], at: int) -> None:
        self.lines = lines
        self.at = at
        self.fixes: list[Fix] = []
        self.header = at - 1
        body = [line.wide for line in lines[at + 1 :]]
        delimiter = lines[at].text
        head = lines[self.header].text
        leading = delimiter.startswith("|") or (head.startswith("|"))
        counted = (
            cells.count(self._from_first_pipe(head))
            if self._is_prefixed(head, leading)
            else cells.count(head)
        )
        wide = vote(counted, self._delimiter_count(delimiter, counted), body)
        trailing = head.endswith("|") or delimiter.endswith("|")
        self.shape = Shape(wide, leading, trailing, base_prefix(lines[self.header :]))
        usual, times = Counter(body).most_common(1)[0] if body else (wide, 0)
        self.shape.usual = usual if times > 1 and 2 * times > len(body) else wide
        self.shape.marks = padded_marks([lines[self.header], *lines[at + 1 :]], wide)

    def run(self) -> tuple[list[Fix], int]:
        self._header()
        self._delimiter()
        used = self._rows(self.at + 1)
        return self.fixes, used

    def _is_prefixed(self, head: str, leading: bool) -> bool:
        return (
            leading and not head.startswith("|") and head.endswith("|") and self._delimiter_leads()
        )

    def _delimiter_leads(self) -> bool:
        rest = self.lines[self.at :]
        return sum(line.text.startswith("|") for line in rest) * 3 >= len(rest) * 2

    @staticmethod
    def _from_first_pipe(head: str) -> str:
        places = cells.pipes(head)
        return head[places[0] :] if places else head

    def _delimiter_count(self, text: str, header: int) -> int:
        if cells.is_delimiter(text):
            return cells.count(text)
        return header

    def _fix(
        self,
        first: Line,
        last: Line,
        rows: tuple[str, ...],
        rule: str,
        reason: str,
        certainty: Certainty = "certain",
    ) -> None:
        self.fixes.append(Fix(first.number, last.number + 1, rows, rule, reason, certainty))

    # The header

    def _header(self) -> None:
        lines, shape = self.lines, self.shape
        head = lines[self.header]
        if lines[self.at].gap:
            self._drop_gap(self.header, self.at)
        if self._is_prefixed(head.text, shape.leading):
            rest = self._from_first_pipe(head.text)
            lead = head.text[: len(head.text) - len(rest)].rstrip()
            if cells.count(rest) == shape.wide and lead:
                reason = "the text before the header is a paragraph of its own"
                rows = (head.prefix + lead, head.prefix.rstrip(), head.prefix + rest)
                self._fix(head, head, rows, "prefix_glued", reason)
                return
        if head.wide == shape.wide:
            self._above(head)
            self._indent(head)
            return
        if head.wide < shape.wide:
            for back in range(1, min(4, self.header) + 1):
                first = lines[self.header - back]
                texts = [line.text for line in lines[self.header - back + 1 : self.header + 1]]
                if first.gap is False and joined(first.text, texts, shape.wide) == len(texts):
                    whole = " ".join([first.text, *texts])
                    self._fix(
                        first, head, (first.prefix + whole,), "row_split", "a newline in the header"
                    )
                    return
            mended: Mended | None = on_the_marks(head.text, shape) or self._padded(head.text)
        else:
            mended = too_wide(head.text, shape)
        if mended is not None and len(mended.rows) == 1 and not mended.below:
            self._fix(head, head, (head.prefix + mended.rows[0],), *mended[1:4])

    def _above(self, head: Line) -> None:
        """A line above the header that begins it, or the delimiter row far below it."""
        if self.header == 0 or self.lines[self.header].gap:
            return
        above = self.lines[self.header - 1]
        if "|" not in above.text:
            return
        if cells.split(above.text) == cells.split(head.text):
            self._fix(above, above, (), "header_repeated", "the header stands twice")
        elif is_fragment(above.text, head.text):
            self._fix(
                above, above, (), "row_fragment_dup", "the header begins anew on the next line"
            )
        elif (
            above.wide == self.shape.wide
            and self.header == 1
            and above.text.startswith("|") == self.shape.leading
        ):
            delimiter = self.lines[self.at]
            if delimiter.gap or head.gap:
                return
            rows = (
                above.prefix + above.text,
                delimiter.prefix + delimiter.text,
                head.prefix + head.text,
            )
            self._fix(
                above,
                delimiter,
                rows,
                "delim_misplaced",
                "the delimiter row belongs under the first row",
                "likely",
            )

    def _delimiter(self) -> None:
        line, shape = self.lines[self.at], self.shape
        sound = cells.is_delimiter(line.text) and line.wide == shape.wide
        if sound:
            self._indent(line)
            return
        if cells.is_delimiter(line.text):
            kinds = cells.split(line.text)
            if self.at + 1 < len(self.lines) and not self.lines[self.at + 1].gap:
                following = self.lines[self.at + 1]
                if cells.is_delimiter(following.text) and joined(
                    line.text, [following.text], shape.wide
                ):
                    whole = f"{line.text} {following.text}"
                    self._fix(
                        line,
                        following,
                        (shape.base + whole,),
                        "row_split",
                        "a newline in the delimiter row",
                    )
                    self.at += 1
                    return
            rule = "delim_short" if len(kinds) < shape.wide else "delim_long"
            text = self._resized(line.text, kinds)
            reason = f"{len(kinds)} cells for {shape.wide} columns"
        else:
            kinds = _stroke_cells(line.text, shape.wide)
            rule, text, reason = (
                "delim_garbled",
                shape.delimiter(kinds),
                "a delimiter row is dashes, pipes and colons",
            )
        self._fix(line, line, (shape.base + text,), rule, reason)

    def _resized(self, text: str, kinds: list[str]) -> str:
        """The delimiter row with cells taken from its end or added there, as written otherwise."""
        wide = self.shape.wide
        spans = cells.spans(text)
        if len(kinds) > wide:
            closing = "|" if text.endswith("|") else ""
            return text[: spans[wide - 1][1]] + closing
        sample = text[spans[-1][0] : spans[-1][1]].replace(":", "-") if spans else "---"
        body = text if text.endswith("|") else text + "|"
        more = "|".join([sample] * (wide - len(kinds)))
        return body + more + ("|" if text.endswith("|") else "")

    # The rows

    def _rows(self, at: int) -> int:
        """Mend rows until the table ends; the number of lines that belong to it."""
        lines = self.lines
        while at < len(lines):
            line = lines[at]
            taken = self._row(at)
            if taken == 0:
                return at
            if line.gap:
                self._drop_gap(at - 1, at)
            at += taken
        return at

    def _row(self, at: int) -> int:
        """Mend the row at `at`: how many lines it takes, 0 where the table ended before it."""
        line, shape, lines = self.lines[at], self.shape, self.lines
        text = line.text
        if "|" not in text and shape.wide > 1:
            return 0 if line.gap else self._text_below(at)
        if line.gap and not self._continues(line):
            return 0
        if cells.is_delimiter(text) and all(
            cells.STRICT_CELL.fullmatch(c) for c in cells.split(text)
        ):
            self._fix(line, line, (), "delim_repeated", "the table has its delimiter row")
            return 1
        head = lines[self.header].text
        if at + 1 < len(lines) and cells.is_delimiter(lines[at + 1].text) and not lines[at + 1].gap:
            if cells.split(text) == cells.split(head) and not line.gap:
                self._fix(line, lines[at + 1], (), "header_repeated", "the table has its header")
                return 2
            if line.gap:
                return 0
        wide = line.wide
        if wide == shape.wide:
            if self._is_cut(line, at) or self._lost_its_pipe(line, at):
                whole = f"{text} {lines[at + 1].text}"
                self._fix(
                    line, lines[at + 1], (line.prefix + whole,), "row_split", "a newline in the row"
                )
                return 2
            self._indent(line)
            return 1
        if wide > shape.wide:
            return self._wide_row(line)
        return self._narrow_row(at)

    def _is_cut(self, line: Line, at: int) -> bool:
        """Whether a row with all its cells goes on in the next line: a newline in its last cell."""
        if (
            not (self.shape.leading and self.shape.trailing)
            or line.text.endswith("|")
            or at + 1 >= len(self.lines)
        ):
            return False
        following = self.lines[at + 1]
        if following.gap or following.text.startswith("|") or not following.text.endswith("|"):
            return False
        return cells.count(f"{line.text} {following.text}") == self.shape.wide

    def _lost_its_pipe(self, line: Line, at: int) -> bool:
        """Whether the row's last pipe stands alone on the next line."""
        following = self.lines[at + 1] if at + 1 < len(self.lines) else None
        return (
            following is not None
            and following.text == "|"
            and not following.gap
            and self.shape.trailing
            and not line.text.endswith("|")
        )

    def _continues(self, line: Line) -> bool:
        """Whether a line behind a blank one goes on with the table."""
        if line.text.startswith("|") != self.lines[self.at].text.startswith("|"):
            return False
        return line.wide == self.shape.wide or (line.text.startswith("|") and line.wide > 1)

    def _text_below(self, at: int) -> int:
        line = self.lines[at]
        reason = "without a blank line the text below would be a row"
        blank = self.shape.base.rstrip() if ">" in self.shape.base else ""
        self.fixes.append(Fix(line.number, line.number, (blank,), "text_below", reason, "likely"))
        return 0

    def _wide_row(self, line: Line) -> int:
        mended = too_wide(line.text, self.shape)
        if mended is None:
            return 1
        rows = tuple(line.prefix + row for row in mended.rows)
        if mended.below:
            rows += (line.prefix.rstrip(), line.prefix + mended.below)
        self._fix(line, line, rows, *mended[1:4])
        return 1

    def _narrow_row(self, at: int) -> int:
        line, lines, shape = self.lines[at], self.lines, self.shape
        following: list[str] = []
        for later in lines[at + 1 : at + 9]:
            if later.gap:
                break
            following.append(later.text)
        if (
            following
            and cells.count(following[0]) == shape.wide
            and is_fragment(line.text, following[0])
        ):
            self._fix(line, line, (), "row_fragment_dup", "the row begins anew on the next line")
            return 1
        number = joined(line.text, following, shape.wide)
        if number:
            whole = " ".join([line.text, *following[:number]])
            self._fix(
                line,
                lines[at + number],
                (line.prefix + whole,),
                "row_split",
                "a newline in the row",
            )
            return number + 1
        mended = on_the_marks(line.text, shape) or self._bounded(line) or self._padded(line.text)
        self._fix(line, line, (line.prefix + mended.rows[0],), *mended[1:4])
        return 1

    def _bounded(self, line: Line) -> Mended | None:
        """A pipe at the start or the end of a row, where few rows have one, bounds an empty cell."""
        text, others = line.text, [x.text for x in self.lines[self.at + 1 :] if x is not line]
        if line.wide != self.shape.wide - 1 or len(others) < 2:
            return None
        first = text.startswith("|") and 3 * sum(x.startswith("|") for x in others) <= len(others)
        last = text.endswith("|") and 3 * sum(x.endswith("|") for x in others) <= len(others)
        if first == last:
            return None
        row = f"| {text}" if first else f"{text} |"
        return Mended((row,), "outer_pipe", "the rows beside it have no pipe there", "likely")

    def _padded(self, text: str) -> Mended:
        """The row with empty cells at its end: what they held is lost."""
        missing = self.shape.wide - cells.count(text)
        body = text if text.endswith("|") else text.rstrip() + " |"
        if not text.endswith("|") and not self.shape.leading and not self.shape.trailing:
            body = text + " |"
        whole = body + "  |" * missing
        if cells.count(whole) > self.shape.wide:
            whole = body + "  |" * (missing - 1)
        return Mended((whole,), "cells_missing", f"{missing} cells are missing", "likely")

    def _indent(self, line: Line) -> None:
        base = self.shape.base
        usual = Line(0, base, "").column
        drifted = line.column > usual + 3 or (line.column > 3 >= usual)
        if not drifted or (
            line.number == self.lines[self.header].number
            and base != line.prefix
            and line.prefix.strip(" \t>")
        ):
            return
        self._fix(
            line,
            line,
            (base + line.text,),
            "indent_drift",
            "indented so far the row would be code or text",
        )

    def _drop_gap(self, before: int, after: int) -> None:
        first, last = self.lines[before].number + 1, self.lines[after].number
        reason = "a blank line ends a table, and this one goes on"
        self.fixes.append(Fix(first, last, (), "blank_inside", reason))


def _stroke_cells(text: str, wide: int) -> list[str]:
    """The alignments of a garbled delimiter row, as far as they can be read."""
    body = unmasked(text) if MASK.search(text) else text
    parts = cells.split(body) if "|" in body else []
    if len(parts) != wide:
        parts = re.split(r"\s*[|+]\s*", body.strip().strip("|+"))
    if len(parts) != wide:
        parts = body.replace("|", " ").split()
    if len(parts) != wide:
        return []
    return [_stroke(part) for part in parts]


def _stroke(part: str) -> str:
    plain = part.strip()
    if len(plain) < 2:
        return "---"
    left, right = plain[0] == ":", plain[-1] == ":"
    return f"{':' if left else '-'}-{':' if right else '-'}"


__all__ = ["mend"]
