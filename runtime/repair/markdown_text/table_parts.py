"""A table under repair: its lines with what stands before them, its columns, its manner of writing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from carrara.runtime.repair.markdown_text import cells
from carrara.runtime.repair.markdown_text.lines import columns
from carrara.runtime.repair.masks import MASK


@dataclass(slots=True)
class Line:
    """A line of a table: its number, what stands before its text (indent, quotation marks), the text stripped, and
    whether a blank line stands before it."""

    number: int
    prefix: str
    text: str
    gap: bool = False

    @property
    def wide(self) -> int:
        return cells.count(self.text)

    @property
    def column(self) -> int:
        return columns(self.prefix.replace(">", " "))


@dataclass(slots=True)
class Shape:
    """`wide` columns; rows are written with a pipe at their start (`leading`) and at their end (`trailing`);
    `base` is the prefix of a line that is not indented by accident; `marks` the columns of the pipes where rows are
    padded to one width, empty where they are not; `usual` is the number of cells that most rows have."""

    wide: int
    leading: bool
    trailing: bool
    base: str
    marks: list[int] = field(default_factory=list)
    usual: int = 0

    def row(self, texts: list[str]) -> str:
        """Cells as a line in the table's manner."""
        body = " | ".join(texts)
        return f"{'| ' if self.leading else ''}{body}{' |' if self.trailing else ''}"

    def delimiter(self, kinds: list[str]) -> str:
        kinds = (kinds + ["---"] * self.wide)[: self.wide]
        if self.wide == 1 and not (self.leading or self.trailing):
            return f"| {kinds[0]} |"
        return self.row(kinds)


def vote(header: int, delimiter: int, body: list[int]) -> int:
    """The number of columns. Where header and delimiter row agree they are believed, unless all rows agree on more;
    else each row has a say, and the header more than the delimiter row."""
    if header == delimiter:
        wider = set(body)
        if (
            len(body) > 1
            and len(wider) == 1
            and (most := wider.pop()) > header
            and most not in (2 * header, 2 * header + 1)
        ):
            return most
        return header
    votes: Counter[int] = Counter()
    for number in body:
        votes[number] += 10
    votes[delimiter] += 12
    votes[header] += 15
    return max(votes, key=lambda number: (votes[number], number == header))


def base_prefix(lines: list[Line]) -> str:
    """The prefix of most lines, of as many the smallest; where some lie four columns apart, or across the column at
    which code begins, the smallest. An item's marker becomes blanks."""
    counted = Counter(line.column for line in lines)
    best = max(counted, key=lambda column: (counted[column], -column))
    if best > 3 and (min(counted) <= 3 or min(counted) < best - 3):
        best = min(counted)
    prefix = next(line.prefix for line in lines if line.column == best)
    return "".join(c if c in " \t>" else " " for c in prefix)


def padded_marks(lines: list[Line], wide: int) -> list[int]:
    """The columns of the pipes if at least two lines, and most of those with `wide` cells, have them at the same
    places."""
    counted: Counter[tuple[int, ...]] = Counter()
    whole = 0
    for line in lines[:200]:
        if line.wide == wide:
            whole += 1
            counted[tuple(_columns_of(line.text, cells.pipes(line.text)))] += 1
    if not counted:
        return []
    marks, times = counted.most_common(1)[0]
    return list(marks) if times >= 2 and 2 * times >= whole else []


def _columns_of(text: str, places: list[int]) -> list[int]:
    if text.isascii():
        return places
    found, at, column = [], 0, 0
    for place in places:
        column += cells.width(text[at:place])
        at = place
        found.append(column)
    return found


def unmasked(text: str) -> str:
    return MASK.sub(" ", text)


__all__ = ["Line", "Shape", "base_prefix", "padded_marks", "unmasked", "vote"]
