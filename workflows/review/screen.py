"""What a reviewer sees: the document with its spans, the fields beside it, the keys below. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.align import Align
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from carrara.workflows.review.desk import Desk, Editing
from carrara.workflows.review.rows import value_at

MIN_WIDTH, MIN_HEIGHT = 60, 16

_INK = "grey85"
_QUIET = "grey58"
_LINE = "grey35"
_ACCENT = "rgb(125,180,255)"
_SURE = "rgb(130,200,150)"
_DOUBT = "rgb(240,190,90)"
_LOST = "rgb(240,120,110)"
_CHOSEN = f"bold black on {_ACCENT}"
_MARK_DOUBT = "black on rgb(205,160,75)"
_MARK_SURE = f"{_SURE} underline"
_KEYS = (
    ("a", "accept"),
    ("e", "edit"),
    ("r", "reject"),
    ("s", "skip"),
    ("b", "back"),
    ("q", "quit"),
)
_EDIT_KEYS = (("enter", "take"), ("esc", "leave as it was"), ("ctrl-u", "clear"))
_FOUND = {
    "exact": "as written",
    "case": "but for case or spaces",
    "number": "as another form of the number",
    "date": "as another form of the date",
    "fuzzy": "roughly",
    "nowhere": "stands nowhere in the text",
}


def screen(desk: Desk, name: str, width: int, height: int) -> RenderableType:
    """The review of file `name` on a terminal of this size."""
    if width < MIN_WIDTH or height < MIN_HEIGHT:
        return Align.center(
            Text(f"at least {MIN_WIDTH} columns and {MIN_HEIGHT} lines are needed", style=_DOUBT),
            vertical="middle",
            height=height,
        )
    room = height - 6
    if width >= 96:
        right = max(44, width * 45 // 100)
        grid = Table.grid(padding=0)
        grid.add_column(width=width - right)
        grid.add_column(width=right)
        grid.add_row(_document(desk, width - right, room), _fields(desk, right, room))
        body: RenderableType = grid
    else:
        below = min(len(desk.fields) + 5, room // 2)
        body = Group(_document(desk, width, room - below), _fields(desk, width, below))
    return Group(_head(desk, name, width), body, _foot(desk, width))


def _head(desk: Desk, name: str, width: int) -> RenderableType:
    kinds = [d.kind for row in desk.rows if (d := desk.decisions[row.key]) is not None]
    done, count = len(kinds), len(desk.rows)
    left = Text.assemble((" ◆ ", _ACCENT), ("review ", f"bold {_INK}"), (name, _QUIET))
    right = Text.assemble(
        (f"{kinds.count('accepted')} accepted  ", _SURE),
        (f"{kinds.count('edited')} edited  ", _ACCENT),
        (f"{kinds.count('rejected')} rejected  ", _LOST),
    )
    right.append_text(_bar(done / count, 12, _ACCENT))
    right.append(f" {done}/{count} ", style=_QUIET)
    grid = Table.grid(expand=True)
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(justify="right", no_wrap=True)
    grid.add_row(left, right)
    return Padding(grid, (0, 0, 1, 0))


def _document(desk: Desk, width: int, height: int) -> Panel:
    """The text with the spans marked, scrolled so that the chosen one is seen."""
    row = desk.current
    text = Text(_clean(row.text) or "(this record has no text)", style=_INK)
    focus = 0
    for at, facts in row.fields.items():
        if facts["span"] is not None and at != desk.chosen:
            text.stylize(_MARK_DOUBT if at in row.doubtful else _MARK_SURE, *facts["span"])
    chosen = row.fields.get(desk.chosen)
    if chosen is not None and chosen["span"] is not None:
        text.stylize(_CHOSEN, *chosen["span"])
        focus = chosen["span"][0]
    lines = text.wrap(Console(width=width), width - 4, overflow="fold")
    room = height - 2
    line, seen = 0, 0
    for number, each in enumerate(lines):
        if seen <= focus:
            line = number
        seen += len(each.plain) + 1
    first = max(0, min(line - room // 2, len(lines) - room))
    shown = Text("\n", no_wrap=True).join(lines[first : first + room])
    more = len(lines) - first - room
    scrolled = f"lines {first + 1} to {min(len(lines), first + room)} of {len(lines)}"
    return Panel(
        shown,
        title=Text(row.key, style=f"bold {_INK}"),
        title_align="left",
        subtitle=Text(scrolled if first or more > 0 else row.where, style=_QUIET),
        subtitle_align="right",
        border_style=_LINE,
        height=height,
        padding=(0, 1),
    )


def _fields(desk: Desk, width: int, height: int) -> Panel:
    row, room = desk.current, height - (5 if height > 7 else 2)
    fields = desk.fields
    first = max(0, min(desk.choice - room // 2, len(fields) - room))
    names = [_short(at, fields) for at in fields]
    name_width = min(max((len(name) for name in names), default=1), width // 3)
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(width=2)
    grid.add_column(width=name_width, no_wrap=True, overflow="ellipsis")
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(width=10, no_wrap=True, justify="right")
    for number, at in enumerate(fields[first : first + room], first):
        grid.add_row(*_field(desk, at, _cut(names[number], name_width), number == desk.choice))
    sure = row.confidence
    whole = "confidence not known" if sure is None else f"whole row {sure:.2f}"
    decided = desk.decisions[row.key]
    state = decided.kind if decided is not None else whole
    return Panel(
        Group(grid, Text(""), _told_of(desk)) if height > 7 else grid,
        title=Text(f"fields · row {desk.place + 1} of {len(desk.rows)}", style=f"bold {_INK}"),
        title_align="left",
        subtitle=Text(state, style=_DOUBT if decided is None and "" in row.doubtful else _QUIET),
        subtitle_align="right",
        border_style=_LINE,
        height=height,
        padding=(0, 1),
    )


def _field(desk: Desk, at: str, name: str, chosen: bool) -> tuple[Text, Text, Text, Text]:
    row = desk.current
    facts: Mapping[str, Any] = row.fields.get(at, {})
    value = value_at(desk.row, at)
    edited = at not in row.fields or value != value_at(row.row, at)
    doubt = at in row.doubtful
    lost = facts.get("found") == "nowhere"
    colour = _ACCENT if edited else _LOST if lost else _DOUBT if doubt else _SURE
    mark = "✎" if edited else "✗" if lost else "?" if doubt else "·"
    pointer = Text("▸" if chosen else " ", style=_ACCENT)
    pointer.append(mark, style=colour)
    label = Text(name, style=f"bold {_ACCENT}" if chosen else _QUIET)
    shown = _shown(value)
    shown.stylize("bold" if chosen else "")
    sure = facts.get("confidence")
    if edited:
        level = Text("edited", style=_ACCENT)
    elif sure is None:
        level = Text("unknown", style=_QUIET)
    else:
        level = _bar(sure, 5, _DOUBT if doubt else _SURE)
        level.append(f" {sure:.2f}", style=_DOUBT if doubt else _QUIET)
    return pointer, label, shown, level


def _told_of(desk: Desk) -> Text:
    """Two lines about the chosen field: where it stands, who wrote it, what mended it."""
    facts = desk.current.fields.get(desk.chosen, {})
    found = facts.get("found")
    parts: list[tuple[str, str]] = []
    if facts.get("engine"):
        parts.append((f"by {facts['engine']}", _QUIET))
    if facts.get("repaired"):
        parts.append((f"repaired: {', '.join(facts['repaired'])}", _DOUBT))
    told = Text("  ", no_wrap=True, overflow="ellipsis")
    if found in _FOUND:
        told.append(_FOUND[found], style=_LOST if found == "nowhere" else _SURE)
    else:
        told.append("not looked for in the text", style=_QUIET)
    told.append("\n  ")
    for number, (part, style) in enumerate(parts):
        told.append(" · " if number else "", style=_LINE).append(part, style=style)
    return told


def _foot(desk: Desk, width: int) -> RenderableType:
    if desk.editing is not None:
        line = _typed(desk.editing, _short(desk.chosen, desk.fields), width - 2)
    elif desk.said:
        line = Text(f"   {desk.said}", style=_LOST if desk.wrong else _SURE)
    else:
        line = Text("   ↑ ↓ choose a field   u take edits back", style=_QUIET)
    line.no_wrap, line.overflow = True, "ellipsis"
    keys = Text("  ", no_wrap=True, overflow="ellipsis")
    for key, what in _KEYS if desk.editing is None else _EDIT_KEYS:
        keys.append(f" {key} ", style=f"bold {_INK} on grey27").append(f" {what}   ", style=_QUIET)
    wrong = Text(f"   {desk.said}" if desk.editing and desk.wrong else "", style=_LOST)
    wrong.no_wrap, wrong.overflow = True, "ellipsis"
    return Group(line, wrong, keys)


def _typed(editing: Editing, name: str, width: int) -> Text:
    """The value being typed, with the cursor, cut so that the cursor is seen."""
    line = Text(f"   {name} ", style=f"bold {_ACCENT}")
    room = max(8, width - len(line.plain) - 2)
    first = max(0, editing.at - room + 1)
    before, behind = editing.text[first : editing.at], editing.text[editing.at :] + " "
    line.append(_clean(before), style=_INK)
    line.append(_clean(behind[0]), style=_CHOSEN)
    return line.append(_clean(behind[1 : room - len(before)]), style=_INK)


def _bar(share: float, cells: int, colour: str) -> Text:
    full = round(share * cells)
    return Text.assemble(("━" * full, colour), ("━" * (cells - full), "grey27"))


def _shown(value: Any) -> Text:
    if isinstance(value, str) and value:
        return Text(_clean(value).replace("\n", " ⏎ "), style=_INK)
    quiet = value in (None, "")
    text = "(none)" if quiet else json.dumps(value, ensure_ascii=False)
    return Text(text, style=f"italic {_QUIET}" if quiet else _INK)


def _short(at: str, fields: list[str]) -> str:
    """A pointer as a reader likes it: /bill/items/0/price -> items.0.price where all fields lie in the bill."""
    outer = {each.split("/")[1] for each in fields}
    parts = [part.replace("~1", "/").replace("~0", "~") for part in at.split("/")[1:]]
    return _clean(".".join(parts[1:] if len(outer) == 1 and len(parts) > 1 else parts))


def _cut(name: str, width: int) -> str:
    """The name's end, which tells fields apart."""
    return name if len(name) <= width else f"…{name[len(name) - width + 1 :]}"


def _clean(text: str) -> str:
    """The text with the same number of characters, none of which moves the cursor or changes the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else " " if c.isspace() else "·" for c in text)


__all__ = ["MIN_HEIGHT", "MIN_WIDTH", "screen"]
