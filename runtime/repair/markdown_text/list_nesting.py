"""Items and their further paragraphs that are indented too little or too far for the place they were meant for."""

from __future__ import annotations

from itertools import pairwise

from carrara.runtime.repair.markdown_text.lines import Fix
from carrara.runtime.repair.markdown_text.list_items import (
    Item,
    Row,
    item_of,
    marker_of,
    rows_from,
)
from carrara.runtime.repair.markdown_text.regions import FENCED, PLAIN
from carrara.runtime.repair.report import Certainty


def nesting_fixes(block: list[Row], kind: str) -> list[Fix]:
    """Repairs of the indentation in one block: each place at fault with what belongs to it."""
    shallow = kind == "list" and _has_shallow_children(block)
    fixes: list[Fix] = []
    stack: list[Item] = []
    gap = text_before = loose = False
    done = 0
    for at, row in enumerate(block):
        if not row.body:
            gap, text_before = True, False
            continue
        if at < done:
            gap = False
            continue
        found = marker_of(row.body) if row.kind == PLAIN else None
        if found is None:
            moved = _paragraph(block, at, stack, gap)
            if moved:
                fixes += moved
                done = moved[-1].after - block[0].line
            elif not text_before:
                while stack and row.column < stack[-1].content:
                    stack.pop()
            text_before = row.kind == PLAIN and not moved
            gap = False
            continue
        item = item_of(row, found, gap)
        inside = [open_ for open_ in stack if row.column >= open_.content]
        base = inside[-1].content if inside else 0
        moved = []
        if inside and row.column - base >= 4 and (text_before or loose):
            reason = "so far the item would be text or code"
            moved = _shifted(block, at, base - row.column, row.column, "over_indent", reason)
        loose = loose or (gap and bool(stack))
        if not moved and len(stack) > len(inside):
            moved = _under(block, at, item, stack[len(inside)], shallow)
            inside = stack[: len(inside) + 1] if moved else inside
        if moved:
            fixes += moved
            done = moved[-1].after - block[0].line
            stack, text_before = inside, False
        elif row.column - base < 4:
            stack = [*inside, item]
            text_before = bool(item.text)
        else:
            text_before = True
        gap = False
    return fixes


def _has_shallow_children(block: list[Row]) -> bool:
    """Whether bullets one column in stand below bullets at the margin, and again and again something deeper does:
    children, by their number."""
    columns = [row.column for row in _bullets(block)]
    if not columns or columns[0] != min(columns):
        return False
    margin = columns[0]
    steps = [b - a for a, b in pairwise(columns) if a == margin and b != margin]
    return len(steps) > 1 and margin + 1 in columns


def _bullets(block: list[Row]) -> list[Row]:
    return [
        row
        for row in block
        if row.body and row.kind == PLAIN and row.body[0] in "-*+" and marker_of(row.body)
    ]


def drifted_fixes(block: list[Row]) -> list[Fix]:
    """Children whose columns waver by less than a level, some of them too shallow: one level, under their parents."""
    if not _has_shallow_children(block):
        return []
    margin = block[0].column
    rows = [row for row in block if row.body]
    if len(_bullets(block)) < len(rows) or _is_stepwise([row.column for row in rows]):
        return []
    if any(row.column > margin + 4 or row.body[1:3] in ("  ", " \t", "\t") for row in rows):
        return []
    reason = "its siblings stand under the text of their parents"
    return [
        _moved(row, margin + 2 - row.column, "child_underindent", reason, "likely")
        for row in rows
        if row.column not in (margin, margin + 2)
    ]


def _is_stepwise(columns: list[int]) -> bool:
    """Whether what stands further left than the line before stands where a line above it does."""
    steps: list[int] = []
    for column in columns:
        back = bool(steps) and column < steps[-1]
        while steps and steps[-1] > column:
            steps.pop()
        if back and (not steps or steps[-1] != column):
            return False
        if not steps or steps[-1] < column:
            steps.append(column)
    return True


def _under(block: list[Row], at: int, item: Item, before: Item, shallow: bool) -> list[Fix]:
    """An item that stands between its parent's marker and its parent's text."""
    alike = item.mark == before.mark and not item.ordered and not shallow
    if alike or not before.column < item.column < before.content:
        return []
    if item.ordered and before.ordered and not _restarts(block, at, item, before):
        return []
    return _shifted(
        block,
        at,
        before.content - item.column,
        item.column,
        "child_underindent",
        "an item's child begins under its text",
        "likely" if shallow and item.mark == before.mark else "certain",
    )


def _restarts(block: list[Row], at: int, item: Item, before: Item) -> bool:
    """Whether a number begins anew, and the outer list goes on behind."""
    if item.number != 1:
        return False
    for row in rows_from(block, at + 1):
        if row.body and row.column <= before.column and row.kind == PLAIN:
            found = marker_of(row.body)
            return (
                found is not None
                and found.group(2) is not None
                and int(found.group(2)) == before.number + 1
            )
    return False


def _paragraph(block: list[Row], at: int, stack: list[Item], gap: bool) -> list[Fix]:
    """A further paragraph or a fence of an item, indented more than its marker and less than its text."""
    row = block[at]
    if not stack or not (gap or row.kind == FENCED):
        return []
    owner = next((item for item in reversed(stack) if item.column < row.column), None)
    if owner is None or not owner.column < row.column < owner.content:
        return []
    delta = owner.content - row.column
    reason = "an item's paragraph begins under its text"
    fixes = []
    for later in rows_from(block, at):
        if later.kind != row.kind or (
            row.kind == PLAIN and (not later.body or marker_of(later.body))
        ):
            break
        if later.body:
            fixes.append(_moved(later, delta, "cont_underindent", reason, "likely"))
    return fixes


def _shifted(
    block: list[Row],
    at: int,
    delta: int,
    least: int,
    rule: str,
    reason: str,
    certainty: Certainty = "certain",
) -> list[Fix]:
    """Move a line, and the lines behind it that are indented as far at least, by `delta` columns."""
    fixes = []
    for row in rows_from(block, at):
        if not row.body:
            continue
        if row.column < least and row.kind == PLAIN:
            break
        fixes.append(_moved(row, delta, rule, reason, certainty))
    return fixes


def _moved(row: Row, delta: int, rule: str, reason: str, certainty: Certainty = "certain") -> Fix:
    column = max(0, row.column + delta)
    return Fix(
        row.line, row.line + 1, (f"{row.quote}{' ' * column}{row.body}",), rule, reason, certainty
    )


def flat_fixes(block: list[Row]) -> list[Fix]:
    """Bullets below numbered items without any indent, where the numbering goes on behind them."""
    runs = _flat_runs(block)
    if not any(sure for _, _, _, sure in runs):
        return []
    fixes: list[Fix] = []
    for first, after, delta, _ in runs:
        reason = "the numbering goes on behind these bullets"
        fixes += [_moved(row, delta, "flattened", reason) for row in block[first:after] if row.body]
    return fixes


def _flat_runs(block: list[Row]) -> list[tuple[int, int, int, bool]]:
    """Runs of bullets at the column of the number before them: first row, row after, shift, and whether the next
    number follows."""
    runs = []
    owner: Item | None = None
    first = -1
    gap = False
    for at, row in enumerate(block):
        if not row.body:
            gap = True
            continue
        found = marker_of(row.body) if row.kind == PLAIN else None
        if owner is not None and row.column > owner.column:
            gap = False
            continue
        if found is None:
            if first >= 0 and owner is not None and gap:
                runs.append((first, at, owner.content - owner.column, False))
            if gap:
                owner, first = None, -1
            gap = False
            continue
        item = item_of(row, found, gap)
        if item.ordered:
            if owner is not None and first >= 0 and item.column == owner.column:
                runs.append(
                    (first, at, owner.content - owner.column, item.number == owner.number + 1)
                )
            owner, first = item, -1
        elif owner is not None and item.column == owner.column:
            if first < 0:
                first = at if not gap else -1
                owner = owner if first >= 0 else None
        else:
            owner, first = None, -1
        gap = False
    if owner is not None and first >= 0:
        runs.append((first, len(block), owner.content - owner.column, False))
    return runs


__all__ = ["drifted_fixes", "flat_fixes", "nesting_fixes"]
