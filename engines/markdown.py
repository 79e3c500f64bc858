"""Markdown tables and nested lists as values: strict readers and canonical writers, inverse to each other.

The structure is markdown-it-py's (CommonMark with GitHub tables); cell and item text is kept as written,
inline markup included. A reader takes exactly one table or list, a code fence around it allowed, and refuses
everything else with the reason: mending is `carrara.runtime.repair`'s business.

Escapes, undone on reading: a pipe in a cell is `\\|`, a line break in a cell is `<br>` (a literal `<br>` is
`\\<br>`), and an item that would start another block (`# x`, `1. x`, `---`) has a backslash before that mark.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from carrara.engines.cells import read_cell, write_cell
from carrara.engines.contract import Column, Outline, Table
from carrara.engines.errors import CarraraError, ContractError
from carrara.engines.json_schema import pointer

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})([^`]*)")
_PIPE = re.compile(r"(?<!\\)\|")
_MARK = re.compile(
    r"()(\\*)(?:[-+*](?=\s|$)|#{1,6}(?=\s|$)|>|`{3}|~{3}|<(?=[A-Za-z/!?])|\[(?=[^\]]*\]:)"
    r"|(?P<rule>[-_*])(?:\s*(?P=rule)){2,}\s*$|--\s*$)"  # with its bullet, "--" would be a rule, too
)
_ORDINAL = re.compile(r"(\d{1,9})(\\*)[.)](?:\s|$)")


def parse_table(text: str, contract: Table) -> list[dict[str, Any]]:
    """The rows of the one table in `text`, each a dict from column name to a value of the column's kind.

    Kinds: "integer" int, "number" int or float, "boolean" bool (true/false), "date" `datetime.date`
    (YYYY-MM-DD), "string" str. An empty cell is None.

    Raises:
        ContractError: no table, several, other text beside it, other columns, a row with another number of
            cells, a cell of the wrong kind, too few or too many rows. `path` is "/row/column".
    """
    lines = source_lines(unfenced(text))
    first, after = _only_block(block_tokens("\n".join(lines)), "table", text)
    _check_header(split_row(lines[first]), contract, text)
    rows = [
        _row(split_row(line), number, contract, text)
        for number, line in enumerate(lines[first + 2 : after])
    ]
    _check_count(len(rows), contract.min_rows, contract.max_rows, "rows", text)
    return rows


def render_table(rows: Iterable[Mapping[str, Any]], contract: Table) -> str:
    """The canonical text of `rows`: one space around each cell, no padding, no trailing newline.

    Cell text is stripped; an empty string and a missing key are written as the empty cell.

    Raises:
        CarraraError: a row with a key that is no column, or a number that is not finite.
    """
    names = [column.name for column in contract.columns]
    lines = [_line(_escape_pipes(_squeeze(n)) for n in names), _line("---" for _ in names)]
    for number, row in enumerate(rows):
        if unknown := set(row) - set(names):
            raise CarraraError(f"row {number}: no such column: {', '.join(sorted(unknown))}")
        lines.append(_line(_escape_pipes(write_cell(row.get(name))) for name in names))
    return "\n".join(lines)


def parse_outline(text: str, contract: Outline) -> list[dict[str, Any]]:
    """The items of the one bullet list in `text`, each `{"text": str, "items": [...]}`.

    An item's text is one paragraph, its lines joined and white space squeezed.

    Raises:
        ContractError: no list, several, a numbered one, other text beside it, nested deeper than
            `max_depth`, an item without text or with anything but text and one list, or too few or
            too many items at the top. `path` is as in "/0/items/2".
    """
    source = "\n".join(source_lines(unfenced(text)))
    tokens = block_tokens(source, 4 * contract.max_depth + 24)
    _only_block(tokens, "bullet_list", text)
    items, _ = _list(tokens, 0, (), contract, text)
    _check_count(len(items), contract.min_items, contract.max_items, "items", text)
    return items


def render_outline(items: Sequence[Mapping[str, Any]]) -> str:
    """The canonical text of `items`: `- ` bullets, two spaces a level, one line an item.

    White space in an item's text is squeezed.

    Raises:
        CarraraError: an item without text.
    """
    return "\n".join(_render_items(items, ""))


def block_tokens(text: str, nesting: int = 40) -> list[Token]:
    """Block tokens of `text` without inline parsing; `map` counts lines from 0.

    Raises:
        ContractError: nested too deep to be read.
    """
    try:
        return _parser(nesting).parse(text)
    except RecursionError as error:
        raise ContractError("nested too deep to be read", text=text) from error


def source_lines(text: str) -> list[str]:
    """The lines of `text` as Markdown counts them (NUL is replaced, every newline style is one)."""
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd").split("\n")


def split_row(line: str) -> list[str]:
    """The cells of a table row as GitHub splits them, stripped, with `\\|` undone."""
    cells = _PIPE.split(line.strip())
    if cells[0] == "":
        del cells[0]
    if cells and cells[-1] == "":
        del cells[-1]
    return [cell.replace("\\|", "|").strip() for cell in cells]


def unfenced(text: str) -> str:
    """The content of the code fence that is all of `text`; without such a fence, `text`."""
    if "```" not in text and "~~~" not in text:
        return text
    lines = source_lines(text.strip())
    match = _FENCE.fullmatch(lines[0])
    if match is None or len(lines) < 2:
        return text
    mark = match.group(1)
    closing = [n for n, line in enumerate(lines) if n and _closes(line, mark)]
    return "\n".join(lines[1:-1]) if closing == [len(lines) - 1] else text


def _closes(line: str, mark: str) -> bool:
    found = line.strip()
    return len(found) >= len(mark) and not found.strip(mark[0])


@lru_cache(maxsize=8)
def _parser(nesting: int) -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"maxNesting": nesting, "html": False})
    return parser.enable("table").disable(["inline", "reference"])


def _only_block(tokens: list[Token], name: str, text: str) -> tuple[int, int]:
    """First line and line after the last of the only top-level block, which must be a `name`."""
    blocks = [t for t in tokens if t.level == 0 and t.nesting >= 0]
    found = [t for t in blocks if t.type == f"{name}_open"]
    wanted = name.replace("_", " ")
    if not found:
        raise ContractError(f"no {wanted} in {_start(text)!r}", text=text)
    if len(found) > 1:
        raise ContractError(f"{len(found)} {wanted}s, one is asked for", text=text)
    for other in blocks:
        if other is not found[0]:
            line = other.map[0] + 1 if other.map else 1
            raise ContractError(f"line {line}: {_block(other)} beside the {wanted}", text=text)
    first, after = found[0].map or (0, 0)
    return first, after


def _check_header(header: list[str], contract: Table, text: str) -> None:
    found = [_squeeze(name) for name in header]
    wanted = [_squeeze(column.name) for column in contract.columns]
    if found == wanted:
        return
    missing = [name for name in wanted if name not in found]
    unknown = [name for name in found if name not in wanted]
    parts = [f"columns are {found}, asked for {wanted}"]
    parts += [f"missing {missing}"] if missing else []
    parts += [f"not asked for {unknown}"] if unknown else []
    raise ContractError("; ".join(parts), text=text)


def _row(cells: list[str], number: int, contract: Table, text: str) -> dict[str, Any]:
    columns = contract.columns
    if len(cells) != len(columns):
        raise ContractError(
            f"row {number + 1} has {len(cells)} cells, the table has {len(columns)} columns: {cells}",
            text=text,
            path=pointer((number,)),
        )
    return {c.name: _cell(cell, c, number, text) for c, cell in zip(columns, cells, strict=True)}


def _cell(cell: str, column: Column, number: int, text: str) -> Any:
    try:
        return read_cell(cell, column.kind)
    except ValueError:
        raise ContractError(
            f"row {number + 1}, column {column.name!r}: {cell[:80]!r} is no {column.kind}",
            text=text,
            path=pointer((number, column.name)),
            value=cell,
        ) from None


def _escape_pipes(cell: str) -> str:
    return cell.replace("|", "\\|")


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _list(
    tokens: list[Token], at: int, path: tuple[Any, ...], contract: Outline, text: str
) -> tuple[list[dict[str, Any]], int]:
    """The items of the list that opens at token `at`, and the index after its closing token."""
    depth = sum(1 for part in path if part == "items") + 1
    if depth > contract.max_depth:
        raise ContractError(
            f"{pointer(path[:-1])}: nested deeper than {contract.max_depth} levels",
            text=text,
            path=pointer(path[:-1]),
        )
    items: list[dict[str, Any]] = []
    at += 1
    while tokens[at].type == "list_item_open":
        item, at = _item(tokens, at + 1, (*path, len(items)), contract, text)
        items.append(item)
    return items, at + 1


def _item(
    tokens: list[Token], at: int, path: tuple[Any, ...], contract: Outline, text: str
) -> tuple[dict[str, Any], int]:
    """One item and the index after its closing token."""
    words, lists = "", 0
    items: list[dict[str, Any]] = []
    while (token := tokens[at]).type != "list_item_close":
        if token.type == "paragraph_open" and not words and not lists:
            words = _unescape_start(_squeeze(tokens[at + 1].content))
            at += 3
        elif token.type == "bullet_list_open" and not lists:
            items, at = _list(tokens, at, (*path, "items"), contract, text)
            lists = 1
        else:
            line = token.map[0] + 1 if token.map else 1
            raise ContractError(
                f"line {line}: {_block(token)} in item {pointer(path)}, "
                "an item holds one line of text and at most one bullet list",
                text=text,
                path=pointer(path),
            )
    if not words:
        raise ContractError(f"item {pointer(path)} has no text", text=text, path=pointer(path))
    return {"text": words, "items": items}, at + 1


def _render_items(items: Sequence[Mapping[str, Any]], indent: str) -> Iterable[str]:
    for item in items:
        words = _squeeze(str(item["text"]).replace("\0", "\ufffd"))
        if not words:
            raise CarraraError(f"an outline item has no text: {dict(item)!r}")
        yield f"{indent}- {_escape_start(words)}"
        yield from _render_items(item.get("items", ()), indent + "  ")


def _escape_start(words: str) -> str:
    match = _MARK.match(words) or _ORDINAL.match(words)
    return words[: match.end(1)] + "\\" + words[match.end(1) :] if match else words


def _unescape_start(words: str) -> str:
    match = _MARK.match(words) or _ORDINAL.match(words)
    if match is None or not match.group(2):
        return words
    return words[: match.end(1)] + words[match.end(1) + 1 :]


def _check_count(count: int, least: int, most: int | None, what: str, text: str) -> None:
    if count < least or (most is not None and count > most):
        asked = f"at least {least}" if count < least else f"at most {most}"
        raise ContractError(f"{count} {what}, asked for {asked}", text=text)


def _block(token: Token) -> str:
    name = token.type.removesuffix("_open").replace("_", " ")
    if name == "inline" or name == "paragraph":
        return "a further paragraph" if token.level else "text"
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _squeeze(words: str) -> str:
    return " ".join(words.split())


def _start(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


__all__ = [
    "block_tokens",
    "parse_outline",
    "parse_table",
    "render_outline",
    "render_table",
    "source_lines",
    "split_row",
    "unfenced",
]
