"""Siblings that should agree: one bullet, one delimiter, numbers that count on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from carrara.runtime.repair.markdown_text.lines import Fix
from carrara.runtime.repair.markdown_text.list_items import Item, Row, items, rows_from
from carrara.runtime.repair.report import Certainty


def sibling_fixes(block: list[Row]) -> list[Fix]:
    """Repairs of markers that differ from those beside them, then of numbers."""
    found = items(block)
    rows = {row.line: row for row in block}
    fixes: list[Fix] = []
    for level in _levels(found):
        fixes += _marks(level, rows)
    if fixes:
        return _sorted(fixes)
    for numbered in _lists(found):
        fixes += _numbers(numbered, rows, block)
    return _sorted(fixes)


def _sorted(fixes: list[Fix]) -> list[Fix]:
    return sorted(fixes, key=lambda fix: fix.first)


def _levels(found: list[Item]) -> Iterator[list[Item]]:
    """Items with the same parent, in order. At the top a paragraph between lists divides them too."""
    by_parent: dict[int, list[Item]] = {}
    for item in found:
        by_parent.setdefault(item.parent, []).append(item)
    yield from by_parent.values()


def _lists(found: list[Item]) -> Iterator[list[Item]]:
    by_list: dict[int, list[Item]] = {}
    for item in found:
        by_list.setdefault(item.list, []).append(item)
    yield from (level for level in by_list.values() if level[0].ordered)


def _marks(level: list[Item], rows: dict[int, Row]) -> list[Fix]:
    """Bullets or delimiters of another kind among siblings, and a bullet in the place of a number."""
    if len(level) < 2:
        return []
    fixes: list[Fix] = []
    for run in _runs(level):
        marks = Counter(item.mark for item in run)
        if len(marks) < 2:
            continue
        best = marks.most_common(1)[0][1]
        mark = next(item.mark for item in run if marks[item.mark] == best)
        ordered = run[0].ordered
        rule = "delim_mix" if ordered else "marker_mix"
        reason = f"the items beside it have {mark!r}"
        for item in run:
            if item.mark != mark:
                row = rows[item.line]
                digits = row.body.index(item.mark) if ordered else 0
                body = row.body[:digits] + mark + row.body[digits + 1 :]
                fixes.append(_fix(row, body, rule, reason))
    return fixes or _lost_numbers(level, rows)


def _runs(level: list[Item]) -> Iterator[list[Item]]:
    """Neighbours of one kind that belong together: no blank line where the mark changes, or it changes back."""
    run: list[Item] = []
    for at, item in enumerate(level):
        if run and not _belongs(level, at, run):
            yield run
            run = []
        run.append(item)
    if run:
        yield run


def _belongs(level: list[Item], at: int, run: list[Item]) -> bool:
    item, before = level[at], level[at - 1]
    if item.ordered != before.ordered:
        return False
    if item.mark == before.mark:
        return True
    if item.ordered:
        return item.number == before.number + 1 or (not item.gap and item.number != 1)
    if not item.gap:
        return True
    if len(run) > 1 and run[-1].mark != run[-2].mark and run[-2].mark == item.mark:
        return True
    return (
        at + 1 < len(level)
        and level[at + 1].mark == before.mark
        and not level[at + 1].ordered
        and len(run) > 0
    )


def _lost_numbers(level: list[Item], rows: dict[int, Row]) -> list[Fix]:
    """A bullet between the numbers k and k+2."""
    fixes = []
    for before, item, after in zip(level, level[1:], level[2:], strict=False):
        if (
            item.ordered
            or not (before.ordered and after.ordered)
            or after.number != before.number + 2
        ):
            continue
        if before.mark != after.mark or item.gap or after.gap:
            continue
        row = rows[item.line]
        body = f"{before.number + 1}{before.mark}{row.body[1:]}"
        fixes.append(_fix(row, body, "marker_mix", "a number is missing among those beside it"))
    return fixes


def _numbers(level: list[Item], rows: dict[int, Row], block: list[Row]) -> list[Fix]:
    """Numbers that do not count on."""
    given = [item.number for item in level]
    wanted = _counted(given)
    if wanted is None:
        return []
    certainty: Certainty = "certain" if len(given) > 2 else "likely"
    fixes = []
    for item, number in zip(level, wanted, strict=True):
        if item.number == number:
            continue
        row = rows[item.line]
        old = len(row.body) - len(row.body.lstrip("0123456789"))
        body = f"{number}{row.body[old:]}"
        grown = len(str(number)) - old
        if grown < 0:
            body = f"{number}{row.body[old:].replace(item.mark, item.mark + ' ' * -grown, 1)}"
        elif grown > 0:
            fixes += _pushed(item, block, grown)
        fixes.append(_fix(row, body, "numbering", "numbers count on", certainty))
    return fixes


def _pushed(item: Item, block: list[Row], by: int) -> list[Fix]:
    """The lines of an item whose text moves to the right."""
    fixes = []
    at = item.line - block[0].line
    for row in rows_from(block, at + 1):
        if row.body and row.column < item.content:
            break
        if row.body:
            text = f"{row.quote}{' ' * (row.column + by)}{row.body}"
            fixes.append(
                Fix(row.line, row.line + 1, (text,), "numbering", "the item's number is longer")
            )
    return fixes


def _counted(given: list[int]) -> list[int] | None:
    """The numbers as they should be, None if they are in order: counting on, all the same, or of a meaning of their
    own (years, steps of ten, a countdown)."""
    if len(given) < 2 or len(set(given)) == 1:
        return None
    steps = {b - a for a, b in pairwise(given)}
    if len(steps) == 1 and (steps != {-1} or len(given) > 2) and 0 not in steps:
        return None if len(given) > 2 or steps == {1} else _from(given)
    if max(given) > 1000 or (max(given) > 3 * len(given) + 20 and given[0] != 1):
        return None
    return _from(given)


def _from(given: list[int]) -> list[int]:
    start = given[0]
    if given[1] == start - 1:
        start = given[1]  # the first two are swapped
    elif given[:2] == [2, 2] and given[1:] == list(range(2, len(given) + 1)) and len(given) > 2:
        start = 1  # the others count on from the second
    return list(range(start, start + len(given)))


def _fix(row: Row, body: str, rule: str, reason: str, certainty: Certainty = "certain") -> Fix:
    return Fix(
        row.line, row.line + 1, (f"{row.quote}{' ' * row.column}{body}",), rule, reason, certainty
    )


__all__ = ["sibling_fixes"]
