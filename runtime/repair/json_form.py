"""JSON: cut it out of the text around it, then let json-repair mend its punctuation, and check the result.

json-repair guesses; nothing it returns is believed before the words, the keys and the schema were compared.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from carrara.engines.contract import Json
from carrara.engines.errors import ContractError
from carrara.engines.json_schema import strict_loads, violations
from carrara.runtime.repair.content import json_loss
from carrara.runtime.repair.report import Edit, Problem, RepairReport, cut, replay, rewrite

_FENCED = re.compile(
    r"^ {0,3}(`{3,}|~{3,})[^\n`]*\n(.*?)\n? {0,3}\1[`~]*[ \t]*$", re.DOTALL | re.MULTILINE
)
_OPEN = re.compile(r"[{\[]")
# The value began before its first bracket; it goes on after its last one, stray closing brackets aside.
_TORN_START = re.compile(r"(?:[\"'\d\]}]|\b(?:true|false|null)),\s*$|[\"']\s*:\s*$")
_TORN_END = re.compile(r"[\s}\]]*[,:\"'\d]")


def repair_json(text: str, contract: Json) -> RepairReport:
    """Tier 1 for JSON. Sound text comes back as the same object."""
    try:
        return RepairReport(text, "json", True, contract.parse(text))
    except ContractError as error:
        first = error
    if first.value is not None or (start_end := _region(text)) is None:
        return _refused(text, contract, first)
    start, end = start_end
    around = cut(text, start, end, "text_around", "text around the JSON value")
    body = text[start:end]
    try:
        value, mended = strict_loads(body), body
    except (ValueError, RecursionError):
        value = _mended(body)
        mended = "" if value is None else json.dumps(value, ensure_ascii=False)
    reason = (
        "nothing in it can be read as JSON" if value is None else _objection(body, value, contract)
    )
    if reason is not None:
        return RepairReport(
            text, "json", False, problems=(Problem(f"{first}; not repaired: {reason}"),)
        )
    return _repaired(text, value, mended, around, start, body)


def json_problems(text: str, contract: Json) -> tuple[Problem, ...]:
    """All violations of the schema, or why the text is not JSON; empty for sound text."""
    try:
        contract.parse(text)
    except ContractError as error:
        if error.value is None:
            return (Problem(str(error), error.path),)
        found = violations(contract.schema_text, error.value)
        return tuple(Problem(f"{path or 'value'}: {why}", path) for path, why in found)
    return ()


def _region(text: str) -> tuple[int, int] | None:
    """Where the JSON value stands: in the only fence that opens with a bracket, else from the first bracket
    to the end of the value there, else to the end of the text. None without any bracket, and where the text
    before the first one looks like a part of the value."""
    fenced = [m for m in _FENCED.finditer(text) if _OPEN.match(m.group(2).lstrip())]
    if len(fenced) == 1:
        return fenced[0].span(2)
    opening = _OPEN.search(text)
    if opening is None or _TORN_START.search(text, 0, opening.start()):
        return None
    start = opening.start()
    try:
        _, end = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return start, len(text.rstrip())
    whole = _OPEN.search(text, end) or _TORN_END.match(text, end)
    return (start, len(text.rstrip()) if whole else end)


def _mended(body: str) -> Any:
    """What json-repair makes of `body`, None if it makes nothing of the same shape."""
    from json_repair import repair_json as mend

    try:
        value = mend(body, return_objects=True, skip_json_loads=True)
    except Exception:  # a fault in it is a refusal of ours, told by the caller
        return None
    wanted = dict if body.lstrip()[:1] == "{" else list
    return value if isinstance(value, wanted) else None


def _objection(body: str, value: Any, contract: Json) -> str | None:
    """Why `value` may not stand for `body`."""
    if body.rstrip()[-1:] not in ("}", "]", '"', "'", ","):
        return "it ends inside a value, as if cut off"
    try:
        loss = json_loss(body, value, _is_closed(contract))
    except RecursionError:
        return "nested too deep"
    if loss is not None:
        return loss
    strange = set(_keys(value)) - _known_keys(contract)
    if strange and _is_closed(contract):
        return f"the schema knows no {', '.join(map(repr, sorted(strange)[:5]))}"
    found = violations(contract.schema_text, value)
    return f"{found[0][0] or 'value'}: {found[0][1]}" if found else None


def _repaired(
    text: str, value: Any, mended: str, around: tuple[Edit, ...], start: int, body: str
) -> RepairReport:
    edits = list(around)
    if mended != body:
        reason = "quotes, commas or brackets by json-repair; words and schema checked"
        middle = rewrite(start, body, mended, "json_punctuation", reason, "likely")
        edits.insert(sum(edit.end <= start for edit in around), middle)
    return RepairReport(replay(text, edits), "json", True, value, tuple(edits))


def _refused(text: str, contract: Json, first: ContractError) -> RepairReport:
    problems = json_problems(text, contract) or (Problem(str(first), first.path),)
    return RepairReport(text, "json", False, problems=problems)


def _keys(value: Any) -> Iterator[str]:
    left = [value]
    while left:
        found = left.pop()
        if isinstance(found, dict):
            yield from found
            left += found.values()
        elif isinstance(found, list):
            left += found


def _schema_parts(contract: Json) -> Iterator[dict[str, Any]]:
    left: list[Any] = [contract.schema]
    while left:
        found = left.pop()
        if isinstance(found, dict):
            yield found
            left += found.values()
        elif isinstance(found, list):
            left += found


def _known_keys(contract: Json) -> set[str]:
    parts = (part.get("properties") for part in _schema_parts(contract))
    return {key for part in parts if isinstance(part, dict) for key in part}


def _is_closed(contract: Json) -> bool:
    """Whether every object of the schema names all its keys."""
    objects = [p for p in _schema_parts(contract) if p.get("type") == "object"]
    open_parts = ("additionalProperties", "patternProperties", "unevaluatedProperties")
    return bool(objects) and all(
        "properties" in part and not any(part.get(name) for name in open_parts) for part in objects
    )


__all__ = ["json_problems", "repair_json"]
