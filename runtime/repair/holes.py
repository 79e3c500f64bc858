"""Where content is lost in a mended text: values, cells and items that nothing in the text can give back."""

from __future__ import annotations

import json
from collections.abc import Iterator

from carrara.engines.json_schema import pointer
from carrara.runtime.repair.hole_types import type_at
from carrara.runtime.repair.json_text.mend import JsonRepair
from carrara.runtime.repair.json_text.spans import value_spans
from carrara.runtime.repair.markdown_text import cells
from carrara.runtime.repair.markdown_text.left_over import PLACE
from carrara.runtime.repair.markdown_text.lines import Lines
from carrara.runtime.repair.report import Edit, Hole

_LOST = frozenset({"value_missing", "mask_left"})
_EMPTIED = frozenset({"mask_left", "cells_missing"})


def json_holes(found: JsonRepair, schema_text: str | None) -> tuple[Hole, ...]:
    """The values of a repaired JSON text that were not in the broken one."""
    places = _lost_places(found.edits)
    if not places:
        return ()
    schema = json.loads(schema_text) if schema_text else {}
    holes = []
    for start, end, path in value_spans(found.text):
        if found.text[start] not in "{[" and any(start <= place <= end for place in places):
            kind, options = type_at(schema, found.value, path)
            if found.text[start] == '"' and kind not in ("integer", "number", "boolean"):
                kind = "string"  # its quotes are left, and nothing says that they are wrong
            room = 8 if kind in ("integer", "number", "boolean") else 16
            items = type_at(schema, found.value, (*path, 0))[0] if kind == "array" else ""
            holes.append(Hole(start, end, pointer(path), kind, room, items, options))
    return tuple(holes)


def _lost_places(edits: tuple[Edit, ...]) -> list[int]:
    """Offsets in the output of edits that stand for something lost."""
    places, moved = [], 0
    for edit in edits:
        rules = edit.rule.split("+")
        if _LOST.intersection(rules) and (edit.after or "mask_left" in rules):
            places.append(edit.start + moved + (1 if edit.after.startswith(" ") else 0))
        moved += len(edit.after) - len(edit.before)
    return places


def markdown_holes(text: str, edits: tuple[Edit, ...]) -> tuple[Hole, ...]:
    """The cells and places of items that were emptied of masks or added to fill a row."""
    places, moved = [], 0
    for edit in edits:
        if _EMPTIED.intersection(edit.rule.split("+")):
            start = edit.start + moved
            places.append((start, start + len(edit.after)))
        moved += len(edit.after) - len(edit.before)
    if not places:
        return ()
    lines = Lines.of(text)
    holes: list[Hole] = []
    number = 0
    for start, end in places:
        while number + 1 < len(lines.rows) and lines.start(number + 1) <= start:
            number += 1
        for hole in _holes_in(lines, number, start, end):
            if not holes or hole.start > holes[-1].start:
                holes.append(hole)
    return tuple(holes)


def _holes_in(lines: Lines, number: int, start: int, end: int) -> Iterator[Hole]:
    row, first = lines.rows[number], lines.start(number)
    if "|" in row:
        body = row.rstrip()
        lead = len(body) - len(body.lstrip(" \t>"))
        for at, (a, b) in enumerate(cells.spans(body[lead:])):
            a, b = first + lead + a, first + lead + b
            if not row[a - first : b - first].strip() and a <= end and start <= b:
                yield Hole(a, b, f"/{number}/{at}")
        return
    if row[start - first : start - first + 1] == PLACE:
        yield Hole(start, start + 1, f"/{number}/0")
        return
    place = row.find(PLACE, max(0, start - first - 1), end - first + 1)
    at = first + place if place >= 0 else min(end, lines.end(number))
    yield Hole(at, at + (1 if place >= 0 else 0), f"/{number}/0")


__all__ = ["json_holes", "markdown_holes"]
