"""Lists in a text: each block is mended in the order markers, nesting, siblings; the first that finds a fault wins,
and the next pass over the text goes on from there."""

from __future__ import annotations

import re

from carrara.runtime.repair.markdown_text.lines import Fix, Lines
from carrara.runtime.repair.markdown_text.list_items import GLYPHS, blocks
from carrara.runtime.repair.markdown_text.list_kinds import sibling_fixes
from carrara.runtime.repair.markdown_text.list_marks import mark_fixes
from carrara.runtime.repair.markdown_text.list_nesting import (
    drifted_fixes,
    flat_fixes,
    nesting_fixes,
)
from carrara.runtime.repair.markdown_text.list_plain import is_plain

_ANY = re.compile(rf"(?m)^[ \t>]*(?:[-*+\[–—·{GLYPHS}]|\d{{1,9}}[.)．、）]|[０-９])")


def list_fixes(lines: Lines, kinds: bytearray, kind: str) -> list[Fix]:
    """Repairs of all lists."""
    if not _ANY.search(lines.text):
        return []
    fixes: list[Fix] = []
    for block in blocks(lines.rows, kinds):
        if is_plain(block):
            continue
        fixes += (
            mark_fixes(block, kind)
            or (drifted_fixes(block) if kind == "list" else [])
            or nesting_fixes(block, kind)
            or flat_fixes(block)
            or sibling_fixes(block)
        )
    return fixes


__all__ = ["list_fixes"]
