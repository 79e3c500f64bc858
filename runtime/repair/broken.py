"""The part of a text that is broken still when tier 1 has done what it can: no more than that is written anew."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from carrara.engines.contract import Contract, Json, Outline, Table, Text
from carrara.engines.errors import ContractError
from carrara.engines.json_schema import pointer, strict_loads, violations
from carrara.runtime.repair.content import json_loss
from carrara.runtime.repair.hole_types import Place, schema_at
from carrara.runtime.repair.json_text.spans import value_spans
from carrara.runtime.repair.markdown_blocks import LISTS, blocks_of, line_spans
from carrara.runtime.repair.report import Problem, RepairReport

_BRACKETS = re.compile(r'"(?:[^"\\\n]|\\.)*+"|[{}\[\]]')
_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"(?m)^[ \t>]*(?:[-*+]|\d{1,9}[.)])(?=[ \t]|$)")
_MOST_TRIED = 12  # brackets around a fault
_MOST_BRACKETS = 20_000


@dataclass(frozen=True, slots=True)
class Broken:
    """`start` to `end` of a text are to be written anew, as `contract` says, for these `faults`; `what` names it.
    With `rows`, only the last so many lines of the answer stand for it."""

    start: int
    end: int
    contract: Contract
    what: str
    faults: tuple[str, ...]
    rows: int = 0

    def written(self, answer: str) -> str:
        """What an answer puts in the place of the part."""
        return "\n".join(answer.strip().split("\n")[-self.rows :]) if self.rows else answer.strip()

    def loss(self, before: str, after: str) -> str | None:
        """Why an answer says something else than the part that it stands for, None if it does not."""
        if isinstance(self.contract, Json):
            return json_loss(before, json.loads(after), True)
        old, new = (Counter(_WORD.findall(_NUMBER.sub(" ", text))) for text in (before, after))
        if old == new:
            return None
        some = list((old - new) or (new - old))[:5]
        return f"it would {'lose' if old - new else 'invent'} {', '.join(map(repr, some))}"


def broken_part(
    text: str, kind: str | Contract, schema: Mapping[str, Any] | None, report: RepairReport
) -> Broken | None:
    """What of `text`, which tier 1 has left like this, is still broken; None where nothing is found."""
    if isinstance(kind, Json):
        return _json_part(text, kind.schema)
    if isinstance(kind, str) and report.kind == "json":
        return _json_part(text, schema or {})
    if isinstance(kind, Table):
        return _table_part(text, kind)
    if isinstance(kind, Outline):
        return _outline_part(text, kind)
    return _plain_part(text, report.problems) if isinstance(kind, str) else None


def _json_part(text: str, schema: Mapping[str, Any]) -> Broken | None:
    """The value that breaks the schema, or the brackets around what cannot be read; all where neither is clear."""
    try:
        value = strict_loads(text)
    except (ValueError, RecursionError) as error:
        start, end, path = _unreadable(text, getattr(error, "pos", 0))
        faults: tuple[str, ...] = (f"not JSON: {_why(text[start:end])}",)
    else:
        found = violations(json.dumps(schema), value)
        if not found:
            return None
        paths = {pointer(path): (start, end, path) for start, end, path in value_spans(text)}
        shared = _shared([paths[at][2] for at, _ in found if at in paths])
        start, end, path = paths[pointer(shared)]
        faults = tuple(f"{at or 'value'}: {why}" for at, why in found)
    part = schema_at(schema, path) if path else schema
    where = f"the value at {pointer(path)} of a JSON text" if path else "a JSON value"
    return Broken(start, end, Json.of(dict(part)), where, faults)


def _why(text: str) -> str:
    try:
        strict_loads(text)
    except (ValueError, RecursionError) as error:
        return str(error) or type(error).__name__
    return "a number, a mask or a repeated key that JSON does not know"


def _shared(paths: list[Place]) -> Place:
    """The path of the innermost value that holds all of these."""
    shared: list[str | int] = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return tuple(shared)


def _unreadable(text: str, at: int) -> tuple[int, int, Place]:
    """The innermost brackets around `at` without which the rest is JSON; else all of the text."""
    opened: list[int] = []
    pairs: list[tuple[int, int]] = []
    for number, match in enumerate(_BRACKETS.finditer(text)):
        if number > _MOST_BRACKETS:
            break
        if match.group() in "{[":
            opened.append(match.start())
        elif match.group() in "}]" and opened:
            pairs.append((opened.pop(), match.end()))
    around = sorted((pair for pair in pairs if pair[0] < at <= pair[1]), key=lambda p: p[0] - p[1])
    for start, end in around[::-1][:_MOST_TRIED]:
        rest = f"{text[:start]}null{text[end:]}"
        try:
            strict_loads(rest)
        except (ValueError, RecursionError):
            continue
        path = next((path for first, _, path in value_spans(rest) if first == start), ())
        return start, end, path
    return 0, len(text), ()


def _table_part(text: str, contract: Table) -> Broken | None:
    """The rows of the one table that break the contract, or all of it."""
    spans = blocks_of(text, ("table_open",))
    if len(spans) != 1:
        return None
    start, end = spans[0]
    lines = line_spans(text[start:end])
    wrong: dict[int, str] = {}
    for number, (a, b) in enumerate(lines[2:]):
        alone = "\n".join([text[start : start + lines[1][1]], text[start + a : start + b]])
        try:
            Table(contract.columns).parse(alone)
        except ContractError as error:
            wrong[number] = str(error)
    if wrong and not _breaks(text[start : start + lines[1][1]], Table(contract.columns)):
        first, last = min(wrong), max(wrong)
        span = start + lines[first + 2][0], start + lines[last + 2][1]
        count = last - first + 1
        faults = tuple(wrong.values())
        names = " | ".join(column.name for column in contract.columns)
        what = f"rows of a table with the columns | {names} |"
        return Broken(*span, Table(contract.columns, count, count), what, faults, count)
    fault = _breaks(text[start:end], contract)
    return Broken(start, end, contract, "a table", (fault,)) if fault else None


def _breaks(text: str, contract: Table | Outline) -> str:
    try:
        contract.parse(text)
    except ContractError as error:
        return str(error)
    return ""


def _outline_part(text: str, contract: Outline) -> Broken | None:
    """The item at the top that breaks the contract, or all lists of the text."""
    spans = blocks_of(text, LISTS)
    if not spans:
        return None
    start, end = spans[0][0], spans[-1][1]
    fault = _breaks(text[start:end], contract)
    if not fault:
        return None
    lines = line_spans(text[start:end])
    tops = [a for a, b in lines if text[start + a : start + a + 2] == "- "]
    one = Outline(contract.max_depth)
    items = [(a, b) for a, b in zip(tops, [*tops[1:], end - start], strict=True)]
    wrong = [(a, b) for a, b in items if _breaks(text[start + a : start + b].rstrip(), one)]
    if len(spans) == 1 and len(wrong) == 1 and len(items) > 1 and items[0][0] == 0:
        a, b = wrong[0]
        body = text[start + a : start + b].rstrip()
        what, fault = "an item of a list, with what belongs to it", _breaks(body, one)
        return Broken(
            start + a, start + a + len(body), Outline(contract.max_depth, 1, 1), what, (fault,)
        )
    return Broken(start, end, contract, "a list", (fault,))


def _plain_part(text: str, problems: tuple[Problem, ...]) -> Broken | None:
    """The lines without a blank one between them in which faults are left that have a line."""
    found = [problem for problem in problems if (m := _LINE.match(problem.reason)) and m]
    numbers = [int(m.group(1)) - 1 for p in found if (m := _LINE.match(p.reason))]
    lines = line_spans(text)
    if not numbers or max(numbers) >= len(lines):
        return None
    first, last = min(numbers), max(numbers)
    while first > 0 and text[slice(*lines[first - 1])].strip():
        first -= 1
    while last + 1 < len(lines) and text[slice(*lines[last + 1])].strip():
        last += 1
    faults = tuple(_LINE.sub("", problem.reason) for problem in found)
    return Broken(lines[first][0], lines[last][1], Text(), "a part of a Markdown text", faults)


_LINE = re.compile(r"line (\d+): ")

__all__ = ["Broken", "broken_part"]
