"""Markdown: all of a text mended, or for a contract the one table or list in it, cut out of the text around it.

For a contract the structure is read by markdown-it-py at last, and accepted or refused with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from carrara.engines.contract import Outline, Table
from carrara.engines.errors import ContractError
from carrara.engines.json_schema import pointer
from carrara.engines.markdown import split_row
from carrara.runtime.repair.edits import composed
from carrara.runtime.repair.holes import markdown_holes
from carrara.runtime.repair.markdown_blocks import LISTS, Span, blocks_of, line_spans, tokens_of
from carrara.runtime.repair.markdown_text.mend import edits_for_markdown, next_edits
from carrara.runtime.repair.policy import DEFAULT, RepairPolicy
from carrara.runtime.repair.report import Edit, Hole, Problem, RepairReport, cut, replay, rewrite

_MARKER = re.compile(r"[ \t]*(\d{1,9}[.)]|[-+*])(?=[ \t]|$)")
_WANTED = {
    "table": re.compile(r"\|"),
    "list": re.compile(r"(?m)^[ \t>]*(?:[-*+]|\d{1,9}[.)])(?:[ \t]|$)"),
    "outline": re.compile(r"(?m)^[ \t>]*(?:[-*+]|\d{1,9}[.)])(?:[ \t]|$)"),
}
_Cutter = Callable[[str, Any, ContractError], RepairReport]


def repair_table(text: str, contract: Table, policy: RepairPolicy = DEFAULT) -> RepairReport:
    """The one table in `text`, its structure mended, without the text around it, its header in the contract's
    spelling."""
    return _repaired(text, contract, policy, _cut_table)


def repair_outline(text: str, contract: Outline, policy: RepairPolicy = DEFAULT) -> RepairReport:
    """The one list in `text`, its structure mended, without the text around it, every marker a hyphen."""
    return _repaired(text, contract, policy, _cut_outline)


def repair_markdown(text: str, kind: str, policy: RepairPolicy = DEFAULT) -> RepairReport:
    """A text without a contract: all tables, lists, headings and fences in it are mended."""
    if not next_edits(text, kind):
        missing = _missing(text, kind)
        return RepairReport(text, kind, not missing, problems=missing, problems_before=missing)
    first = next_edits(text, kind, policy.refused)
    mended, edits = edits_for_markdown(text, kind, policy.refused, first) if first else (text, ())
    proposals = _proposals(mended, kind, policy)
    holes = markdown_holes(mended, edits) if edits else ()
    left = [_problem(mended, edit) for edit in proposals]
    left += [Problem("what stood here is lost", hole.path) for hole in holes]
    left[:0] = _missing(mended, kind)
    before = tuple(_problem(text, edit) for edit in first) if first else tuple(left)
    return RepairReport(mended, kind, not left, None, edits, tuple(left), proposals, holes, before)


def markdown_problems(text: str, kind: str) -> tuple[Problem, ...]:
    """The faults of the first sort that is found; those of other sorts show once they are mended."""
    found = tuple(_problem(text, edit) for edit in next_edits(text, kind))
    return found or _missing(text, kind)


def _missing(text: str, kind: str) -> tuple[Problem, ...]:
    """Whether there is no sign at all of what the text is said to hold."""
    if kind in _WANTED and not _WANTED[kind].search(text):
        return (Problem(f"there is no {kind} in it"),)
    return ()


def _proposals(text: str, kind: str, policy: RepairPolicy) -> tuple[Edit, ...]:
    """Edits that would be next if the policy allowed them."""
    return tuple(next_edits(text, kind)) if policy.refused else ()


def _problem(text: str, edit: Edit) -> Problem:
    line = text.count("\n", 0, edit.start) + 1
    return Problem(f"line {line}: {edit.reason} ({edit.rule})", "", line, edit.rule)


def _repaired(
    text: str, contract: Table | Outline, policy: RepairPolicy, cut_out: _Cutter
) -> RepairReport:
    """Cut the block out of the text; where that is not enough, out of the text with its structure mended."""
    try:
        return RepairReport(text, contract.kind, True, contract.parse(text))
    except ContractError as error:
        first = error
    before = (Problem(str(first), first.path),)
    plain = cut_out(text, contract, first)
    if plain.ok:
        return replace(plain, problems_before=before)
    kind = "table" if isinstance(contract, Table) else "list"
    mended, edits = edits_for_markdown(text, kind, policy.refused)
    if not edits:
        return replace(plain, problems_before=before)
    holes = _contract_holes(mended, markdown_holes(mended, edits), contract)
    if holes:
        return replace(plain, holes=holes, proposals=edits, problems_before=before)
    try:
        value = contract.parse(mended)
        return RepairReport(mended, contract.kind, True, value, edits, problems_before=before)
    except ContractError as error:
        then = cut_out(mended, contract, error)
    if not then.ok:
        return replace(then, text=text, edits=(), proposals=edits, problems_before=before)
    return replace(then, edits=composed(text, edits, then.edits), problems_before=before)


def _contract_holes(
    text: str, holes: tuple[Hole, ...], contract: Table | Outline
) -> tuple[Hole, ...]:
    """The holes with the paths that the contract has for them: "/row/column" in a table."""
    if not isinstance(contract, Table) or not holes:
        return holes
    lines = text.split("\n")
    header = next((n for n, line in enumerate(lines) if "|" in line), 0)
    found = []
    for hole in holes:
        line, cell = (int(part) for part in hole.path[1:].split("/"))
        row = line - header - 2
        if row >= 0 and cell < len(contract.columns):
            column = contract.columns[cell]
            path = pointer((row, column.name))
            kind = column.kind if column.kind in ("integer", "number", "boolean") else "string"
            found.append(replace(hole, path=path, type=kind))
    return tuple(found)


def _cut_table(text: str, contract: Any, first: ContractError) -> RepairReport:
    spans = blocks_of(text, ("table_open",))
    if len(spans) != 1:
        return _refused(text, "table", first, len(spans))
    start, end = _with_pipes(text, spans[0])
    edits = list(cut(text, start, end, "text_around", "text around the table"))
    edits += _header_edits(text, start, end, contract)
    return _checked(text, edits, contract)


def _cut_outline(text: str, contract: Any, first: ContractError) -> RepairReport:
    spans = blocks_of(text, LISTS)
    if len(spans) != 1:
        return _refused(text, "outline", first, len(spans))
    start, end = spans[0]
    edits = list(cut(text, start, end, "text_around", "text around the list"))
    edits += _marker_edits(text, start, end)
    return _checked(text, edits, contract)


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


def _with_pipes(text: str, span: Span) -> Span:
    """The span without closing lines that hold no pipe: a sentence right below a table joins it."""
    start, end = span
    body = text[start:end]
    lines = line_spans(body)
    if "|" not in body[slice(*lines[0])].strip().strip("|"):
        return span
    while len(lines) > 2 and "|" not in body[slice(*lines[-1])]:
        lines.pop()
    return start, start + lines[-1][1]


def _header_edits(text: str, start: int, end: int, contract: Table) -> list[Edit]:
    first, last = line_spans(text[start:end])[0]
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
    lines = line_spans(body)
    edits = []
    for token in tokens_of(body):
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


__all__ = ["markdown_problems", "repair_markdown", "repair_outline", "repair_table"]
