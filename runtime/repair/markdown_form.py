"""Tables and lists, first version: cut them out of the text around them, spell headers and bullets as asked.

The structure is read by markdown-it-py and accepted or refused with the reason; rows, cells and nesting are
never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from carrara.engines.contract import Outline, Table
from carrara.engines.errors import ContractError
from carrara.engines.markdown import block_tokens, source_lines, split_row
from carrara.runtime.repair.report import Edit, Problem, RepairReport, cut, replay, rewrite

if TYPE_CHECKING:
    from markdown_it.token import Token

_NEWLINE = re.compile(r"\r\n|\r|\n")
_MARKER = re.compile(r"[ \t]*(\d{1,9}[.)]|[-+*])(?=[ \t]|$)")
_LISTS = ("bullet_list_open", "ordered_list_open")
Span = tuple[int, int]


def repair_table(text: str, contract: Table) -> RepairReport:
    """The one table in `text` without the text around it, its header in the contract's spelling."""
    try:
        return RepairReport(text, "table", True, contract.parse(text))
    except ContractError as error:
        first = error
    spans = _blocks(text, ("table_open",))
    if len(spans) != 1:
        return _refused(text, "table", first, len(spans))
    start, end = _with_pipes(text, spans[0])
    edits = list(cut(text, start, end, "text_around", "text around the table"))
    edits += _header_edits(text, start, end, contract)
    return _checked(text, edits, contract)


def repair_outline(text: str, contract: Outline) -> RepairReport:
    """The one list in `text` without the text around it, every marker a hyphen."""
    try:
        return RepairReport(text, "outline", True, contract.parse(text))
    except ContractError as error:
        first = error
    spans = _blocks(text, _LISTS)
    if len(spans) != 1:
        return _refused(text, "outline", first, len(spans))
    start, end = spans[0]
    edits = list(cut(text, start, end, "text_around", "text around the list"))
    edits += _marker_edits(text, start, end)
    return _checked(text, edits, contract)


def check_structure(text: str, kind: str) -> RepairReport:
    """For a plain kind without a contract: is there such a block, and is every table rectangular?

    Never edits. "table" and "list" must be there; any other kind only may.
    """
    wanted = {"table": ("table_open",), "list": _LISTS, "outline": _LISTS}.get(kind)
    try:
        tokens = block_tokens(text)
    except ContractError as error:
        return RepairReport(text, kind, False, problems=(Problem(str(error)),))
    problems = _ragged(text, tokens)
    if wanted and not any(token.type in wanted for token in tokens):
        problems.insert(0, Problem(f"there is no {kind} in it"))
    return RepairReport(text, kind, not problems, problems=tuple(problems))


def _checked(text: str, edits: list[Edit], contract: Table | Outline) -> RepairReport:
    """The edited text if it holds to the contract, else the refusal of what was left after the edits."""
    ordered = tuple(sorted(edits, key=lambda edit: edit.start))
    mended = replay(text, ordered)
    try:
        value: Any = contract.parse(mended)
    except ContractError as error:
        return RepairReport(text, contract.kind, False, problems=(Problem(str(error), error.path),))
    return RepairReport(mended, contract.kind, True, value, ordered)


def _refused(text: str, kind: str, first: ContractError, count: int) -> RepairReport:
    reason = f"{count} {'tables' if kind == 'table' else 'lists'}, one is asked for"
    problem = Problem(reason) if count > 1 else Problem(str(first), first.path)
    return RepairReport(text, kind, False, problems=(problem,))


def _blocks(text: str, kinds: Sequence[str]) -> list[Span]:
    """Spans of the top-level blocks of these kinds; if there are none, of those inside the code fences.

    Neighbouring lists that differ only by their markers count as one.
    """
    spans: list[Span] = []
    fences: list[Span] = []
    lines = _line_spans(text)
    for token in _tokens(text):
        if token.level == 0 and token.map and token.type in kinds:
            span = (lines[token.map[0]][0], lines[token.map[1] - 1][1])
            if spans and token.type in _LISTS and not text[spans[-1][1] : span[0]].strip():
                span = (spans.pop()[0], span[1])
            spans.append(span)
        elif token.type == "fence" and token.map:
            fences.append((lines[token.map[0]][1], lines[token.map[1] - 1][0]))
    if spans:
        return [_stripped(text, span) for span in spans]
    return [
        (start + a, start + b) for start, end in fences for a, b in _blocks(text[start:end], kinds)
    ]


def _tokens(text: str) -> list[Token]:
    try:
        return block_tokens(text)
    except ContractError:
        return []


def _line_spans(text: str) -> list[Span]:
    """Start and end of each line, as Markdown counts lines; the end is before the newline."""
    spans: list[Span] = []
    at = 0
    for match in _NEWLINE.finditer(text):
        spans.append((at, match.start()))
        at = match.end()
    return [*spans, (at, len(text))]


def _stripped(text: str, span: Span) -> Span:
    start, end = span
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _with_pipes(text: str, span: Span) -> Span:
    """The span without closing lines that hold no pipe: a sentence right below a table joins it."""
    start, end = span
    body = text[start:end]
    lines = _line_spans(body)
    if "|" not in body[slice(*lines[0])].strip().strip("|"):
        return span
    while len(lines) > 2 and "|" not in body[slice(*lines[-1])]:
        lines.pop()
    return start, start + lines[-1][1]


def _header_edits(text: str, start: int, end: int, contract: Table) -> list[Edit]:
    first, last = _line_spans(text[start:end])[0]
    line = text[start + first : start + last]
    found = split_row(line)
    names = [column.name for column in contract.columns]
    if found == names or [_plain(name) for name in found] != [_plain(name) for name in names]:
        return []
    after = "| " + " | ".join(names) + " |"
    reason = "column names in the contract's spelling"
    return [rewrite(start + first, line, after, "header_spelling", reason, "certain")]


def _marker_edits(text: str, start: int, end: int) -> list[Edit]:
    """Hyphens of the same width in place of other markers of the list between `start` and `end`."""
    body = text[start:end]
    lines = _line_spans(body)
    edits = []
    for token in _tokens(body):
        if token.type != "list_item_open" or not token.map:
            continue
        first, last = lines[token.map[0]]
        match = _MARKER.match(body[first:last])
        if match is None or match.group(1) == "-":
            continue
        at = start + first + match.start(1)
        before = match.group(1)
        after = "-".ljust(len(before))
        reason = "bullets are asked for"
        edits.append(Edit(at, at + len(before), before, after, "list_marker", reason))
    return edits


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").strip("*` ").split())


def _ragged(text: str, tokens: list[Token]) -> list[Problem]:
    lines = source_lines(text)
    problems = []
    for token in tokens:
        if token.type != "table_open" or not token.map:
            continue
        first, after = token.map
        width = len(split_row(lines[first]))
        for number in range(first + 2, after):
            cells = len(split_row(lines[number]))
            if cells != width:
                reason = f"line {number + 1} has {cells} cells, its table {width} columns"
                problems.append(Problem(reason))
    return problems


__all__ = ["check_structure", "repair_outline", "repair_table"]
