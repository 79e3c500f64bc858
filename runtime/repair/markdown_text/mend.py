"""Markdown repaired in passes: each finds the faults of one sort, and the next one reads what it left.

The passes go on until none finds a fault, so what comes out has none that they know; a text that keeps moving is
given back as it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from carrara.runtime.repair.edits import composed, replay
from carrara.runtime.repair.markdown_text.fences import fence_fixes, glued_opening_fixes
from carrara.runtime.repair.markdown_text.headings import heading_fixes, paragraph_fixes
from carrara.runtime.repair.markdown_text.left_over import fence_mask_fixes, mask_fixes
from carrara.runtime.repair.markdown_text.lines import Fix, Lines, edits_of
from carrara.runtime.repair.markdown_text.lists import list_fixes
from carrara.runtime.repair.markdown_text.regions import regions
from carrara.runtime.repair.markdown_text.tables import table_fixes
from carrara.runtime.repair.masks import MASK, has_masks
from carrara.runtime.repair.report import Edit

_PASSES = 40
_WORD = re.compile(r"[^\W\d_]{2,}")
_GAP = re.compile(r"\W+")


def edits_for_markdown(
    text: str, kind: str, refused: Collection[str] = (), first: list[Edit] | None = None
) -> tuple[str, tuple[Edit, ...]]:
    """The repaired text, and the edits that lead to it; `text` itself and none when nothing is at fault.

    Fixes whose certainty or rule is in `refused` are left out. `first` are the edits of the first pass, if known.
    """
    now: str = text
    edits: tuple[Edit, ...] = ()
    for number in range(_PASSES):
        found = first if number == 0 and first is not None else next_edits(now, kind, refused)
        if not found:
            return (text, ()) if edits and loses_words(text, now) else (now, edits)
        edits = composed(text, edits, found)
        now = replay(now, found)
    return text, ()


def loses_words(before: str, after: str) -> bool:
    """Whether a word of `before` is nowhere in `after`: the last guard, behind which no rule can do harm."""
    missing = set(_WORD.findall(MASK.sub(" ", before) if has_masks(before) else before)) - set(
        _WORD.findall(after)
    )
    if not missing:
        return False
    squeezed = _GAP.sub("", after)
    return any(word not in squeezed for word in missing)


def next_edits(text: str, kind: str, refused: Collection[str] = ()) -> list[Edit]:
    """The edits of the first sort of fault that is found."""
    lines = Lines.of(text)
    found = regions(lines.rows, text)
    kinds = found.kinds
    masked = has_masks(text)
    passes: tuple[Callable[[], list[Fix]], ...] = (
        lambda: fence_mask_fixes(lines) if masked and found.fences else [],
        lambda: glued_opening_fixes(lines, found),
        lambda: fence_fixes(lines, found),
        lambda: mask_fixes(lines, kinds, kind) if masked else [],
        lambda: heading_fixes(lines, kinds),
        lambda: paragraph_fixes(lines, kinds),
        lambda: list_fixes(lines, kinds, kind),
        lambda: table_fixes(lines, kinds, kind),
    )
    for find in passes:
        edits = edits_of(lines, _allowed(find(), refused))
        if edits:
            return edits
    return []


def _allowed(fixes: list[Fix], refused: Collection[str]) -> list[Fix]:
    if not refused:
        return fixes
    return [fix for fix in fixes if fix.certainty not in refused and fix.rule not in refused]


__all__ = ["edits_for_markdown", "next_edits"]
