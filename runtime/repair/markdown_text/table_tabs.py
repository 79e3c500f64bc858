"""Tables written with tabs. Empty cells at the ends of a row may be gone with the white space around its line."""

from __future__ import annotations

import re
from collections import Counter

from carrara.runtime.repair.markdown_text.lines import Fix

_FIGURE = re.compile(r"[-+±~<>$€£]?\d")


def tab_fixes(rows: list[str]) -> list[Fix]:
    """The rows drawn with pipes, if each line has as many tabs as the header, or fewer."""
    used = [n for n, row in enumerate(rows) if row.strip()]
    table = [[cell.strip() for cell in rows[n].split("\t")] for n in used]
    if len(table) < 2 or not _is_table(table):
        return []
    wide = len(table[0])
    kinds = _column_kinds([cells for cells in table[1:] if len(cells) == wide], wide)
    reason = "tables are drawn with |"
    fixes = []
    for n, cells in zip(used, table, strict=True):
        row = f"| {' | '.join(_filled(cells, kinds))} |"
        fixes.append(Fix(n, n + 1, (row,), "tabs_for_pipes", reason, "likely"))
    return fixes


def _is_table(table: list[list[str]]) -> bool:
    """Whether some row is as wide as the header, or all lack one cell, and what stands alone is no sentence."""
    wide = len(table[0])
    widths = [len(cells) for cells in table[1:]]
    if wide < 2 or max(widths) > wide or (wide not in widths and set(widths) != {wide - 1}):
        return False
    return all(len(cells) > 1 or len(cells[0].split()) == 1 for cells in table)


def _column_kinds(whole: list[list[str]], wide: int) -> list[str]:
    """For each column whether its cells are mostly figures or words; "" where no row says it."""
    kinds = []
    for at in range(wide):
        counted = Counter(kind for cells in whole if (kind := _kind(cells[at])))
        kinds.append(counted.most_common(1)[0][0] if counted else "")
    return kinds


def _kind(cell: str) -> str:
    return "" if not cell else "figure" if _FIGURE.match(cell) else "word"


def _filled(cells: list[str], kinds: list[str]) -> list[str]:
    """A short row with its empty cells at the end, or where its other cells then are of their columns' kinds."""
    missing = len(kinds) - len(cells)

    def fit(lead: int) -> tuple[int, int]:
        same = (_kind(cell) == kinds[lead + n] for n, cell in enumerate(cells) if cell)
        return sum(same), -lead

    lead = max(range(missing + 1), key=fit)
    return [""] * lead + cells + [""] * (missing - lead)


__all__ = ["tab_fixes"]
