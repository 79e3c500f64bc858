"""Tables and outlines as forms, in the spelling of `carrara.engines.markdown`'s writers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

from carrara.engines.cells import read_cell, write_cell
from carrara.engines.contract import Column, Outline, Table
from carrara.engines.diffusion.scaffold import chars, formats, numbers
from carrara.engines.diffusion.scaffold.forms import (
    MISSING,
    NOTHING,
    At,
    Form,
    Gate,
    Items,
    Literal,
    Option,
    Program,
    Slot,
    join,
)
from carrara.engines.diffusion.scaffold.language import (
    EMPTY,
    Chars,
    Language,
    Node,
    Repeat,
    alt,
    digits,
    maybe,
    one_of,
    seq,
)
from carrara.engines.errors import CarraraError
from carrara.engines.markdown import render_outline, render_table

_BLANK = chars.merged([*chars.SPACES, *chars.CONTROLS])
_INK = chars.complement(_BLANK)
_LINE = chars.merged([*_INK, (0x20, 0x20)])
_MARKS = chars.of("-+*#>`~<[]_=|\\")
_ROW = "\n|"


def table_program(table: Table) -> Program:
    """Header, delimiter row and pipes are pinned; a gate says whether another row follows."""
    row = join(*(_cell(column) for column in table.columns))
    header = Literal(render_table([], table))
    if table.max_rows == 0:
        return Program(header)
    ends = Gate((Option(_ROW, NOTHING, _always), Option("", NOTHING, _always)), "end", expect=0)
    rows = Items(row, row, max(table.min_rows, 1), table.max_rows, lambda option: ends, _rows)
    if table.min_rows > 0:
        return Program(join(header, _ROW, rows))
    some = Option(_ROW, rows, lambda value: _rows(value) is not None)
    return Program(join(header, Gate((some, Option("", NOTHING, _always)), "end", expect=0)))


def outline_program(outline: Outline) -> Program:
    """Bullets and indentation are pinned; a gate after each line chooses the next one's depth, or the end."""
    gates = [_depth_gate(depth, outline.max_depth) for depth in range(outline.max_depth)]
    line = Slot(Language(seq(" ", _item_text())), "string", _write_item)
    lines = Items(
        first=line,
        later=line,
        least=max(outline.min_items, 1),
        most=outline.max_items,
        gate=gates.__getitem__,
        split=_lines,
        nested=True,
    )
    if outline.max_items == 0:
        raise CarraraError("an outline without items cannot be written")
    return Program(join("-", lines))


def _cell(column: Column) -> Form:
    match column.kind:
        case "boolean":
            options = tuple(
                Option(f" {write_cell(value)}" if value is not None else " ", NOTHING, _is(value))
                for value in (True, False, None)
            )
            return join(At(column.name, Gate(options, "choice")), " |")
        case "integer":
            node = numbers.integers()
        case "number":
            node = numbers.decimals()
        case "date":
            node = formats.date()
        case _:
            node = _cell_text()
    slot = Slot(Language(seq(" ", maybe(node))), column.kind, _cell_writer(column))
    return join(At(column.name, slot), " |")


def _cell_text() -> Node:
    """One line without bare pipes; a pipe stands behind a backslash."""
    bare = chars.difference(_LINE, chars.of("|"))
    first = alt(Chars(chars.difference(bare, chars.of(" "))), "\\|")
    return seq(first, Repeat(alt(Chars(bare), "\\|")))


def _item_text() -> Node:
    """One line that starts no other block: no mark at its start, unless behind a backslash or such as in `#1`, `-5`
    and `+1`, and no ordinal."""
    rest = Repeat(Chars(_LINE))
    plain = Chars(chars.difference(_INK, chars.merged([*_MARKS, *chars.DIGITS])))
    marked = seq("\\", Chars(chars.of("-+*#>`~<[_")))
    signed = seq(one_of("#+-"), Chars(chars.difference(_INK, _MARKS)))
    after_digits = alt(
        EMPTY,
        seq(Chars(chars.difference(_LINE, chars.merged([*chars.of(".)"), *chars.DIGITS]))), rest),
        seq(one_of(".)"), Chars(_INK), rest),
    )
    return alt(
        seq(plain, rest), seq(marked, rest), seq(signed, rest), seq(digits(1, 18), after_digits)
    )


def _depth_gate(depth: int, max_depth: int) -> Gate:
    deepest = min(depth + 1, max_depth - 1)
    leads = [f"\n{'  ' * level}-" for level in range(deepest + 1)]
    options = [Option(lead, NOTHING, _always) for lead in leads]
    return Gate((*options, Option("", NOTHING, _always)), "end", expect=depth)


def _cell_writer(column: Column) -> Callable[[Any], str | None]:
    def write(value: Any) -> str | None:
        if value is MISSING:
            return None
        try:
            spelled = write_cell(value)
            read_cell(spelled, column.kind)
        except (CarraraError, ValueError):
            return None
        if column.kind == "date" and not isinstance(value, (date, str, type(None))):
            return None
        return " " + spelled.replace("|", "\\|")

    return write


def _write_item(value: Any) -> str | None:
    if not isinstance(value, str) or not value.split():
        return None
    return render_outline([{"text": value}]).removeprefix("-")


def _rows(value: Any) -> list[tuple[int, Any]] | None:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        return None
    return [(0, row) for row in value]


def _lines(value: Any) -> list[tuple[int, Any]] | None:
    if not isinstance(value, list) or not value:
        return None
    return list(_flat(value, 0))


def _flat(items: Sequence[Mapping[str, Any]], depth: int) -> list[tuple[int, Any]]:
    found: list[tuple[int, Any]] = []
    for item in items:
        found.append((depth, item.get("text", MISSING)))
        found += _flat(item.get("items", ()), depth + 1)
    return found


def _is(expected: Any) -> Callable[[Any], bool]:
    return lambda value: value is expected


def _always(value: Any) -> bool:
    return True
