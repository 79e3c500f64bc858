"""JSON: the cheapest repair of its text, checked; json-repair only where no reading was found, and then for loss.

For a contract the value must hold to the schema, and nothing may be missing in it; for the plain kind "json" the text
must be JSON and nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from carrara.engines.contract import Json
from carrara.engines.errors import ContractError
from carrara.engines.json_schema import strict_loads, violations
from carrara.runtime.repair.content import json_loss
from carrara.runtime.repair.edits import replay
from carrara.runtime.repair.holes import json_holes
from carrara.runtime.repair.json_text.mend import JsonRepair, edits_for_json, is_part_of_value
from carrara.runtime.repair.json_text.repeats import named_keys, without_repeats
from carrara.runtime.repair.masks import has_masks
from carrara.runtime.repair.policy import RepairPolicy
from carrara.runtime.repair.report import Edit, Hole, Problem, RepairReport, cut, rewrite

_LONGEST_FOR_JSON_REPAIR = 2_000  # characters; its time grows faster than its input
_MOST_BRACKETS = 100
_BRACKET = re.compile(r"[{\[]")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_SCAN: Callable[[str, int], tuple[Any, int]] = cast(
    Any, json.JSONDecoder(parse_constant=_no_constant)
).scan_once


def sound_value(text: str) -> tuple[bool, Any]:
    """Whether `text` is JSON and nothing else, without left-over masks; and its value."""
    try:
        first = 0 if text[:1] in ("{", "[") else len(text) - len(text.lstrip(" \t\r\n"))
        value, end = _SCAN(text, first)
    except (ValueError, RecursionError, StopIteration):
        return False, None
    if end != len(text) and text[end:].strip(" \t\r\n"):
        return False, None
    return not has_masks(text), value


def repair_plain_json(text: str, schema_text: str | None, policy: RepairPolicy) -> RepairReport:
    """The kind "json". A value that breaks the schema is a problem, not a reason to leave the text broken."""
    sound, value = sound_value(text)
    if sound:
        left = _violated(schema_text, value)
        return RepairReport(text, "json", not left, value, problems=left, problems_before=left)
    before = (Problem(_fault(text)),)
    found = _found(text)
    if found is None:
        return RepairReport(text, "json", False, problems=before, problems_before=before)
    if not all(policy.takes(edit.certainty, edit.rule) for edit in found.edits):
        return RepairReport(
            text, "json", False, problems=before, proposals=found.edits, problems_before=before
        )
    holes = json_holes(found, schema_text)
    left = _violated(schema_text, found.value) + tuple(_hole_problem(hole) for hole in holes)
    return RepairReport(
        found.text, "json", not left, found.value, found.edits, left, (), holes, before
    )


def repair_json(text: str, contract: Json, policy: RepairPolicy) -> RepairReport:
    """Tier 1 for a contract. Sound text comes back as the same object; refused text too."""
    try:
        return RepairReport(text, "json", True, contract.parse(text))
    except ContractError as error:
        first = error
    before = json_problems(text, contract) or (Problem(str(first), first.path),)
    if first.value is not None:
        return RepairReport(text, "json", False, problems=before, problems_before=before)
    found = _found(text)
    if found is not None:
        found = _with_distinct_keys(text, found, contract)
    reason = (
        "nothing in it can be read as JSON" if found is None else _objection(text, found, contract)
    )
    proposals = found.edits if found is not None else ()
    if reason is None and found is not None:
        if all(policy.takes(edit.certainty, edit.rule) for edit in found.edits):
            value = contract.parse(found.text)
            return RepairReport(
                found.text, "json", True, value, found.edits, problems_before=before
            )
        reason = f"its repair is less than {policy.min_certainty}"
    problem = Problem(f"{first}; not repaired: {reason}")
    holes = json_holes(found, contract.schema_text) if found is not None else ()
    return RepairReport(
        text,
        "json",
        False,
        problems=(problem,),
        proposals=proposals,
        holes=holes,
        problems_before=before,
    )


def json_problems(text: str, contract: Json) -> tuple[Problem, ...]:
    """All violations of the schema, or why the text is not JSON; empty for sound text."""
    try:
        contract.parse(text)
    except ContractError as error:
        if error.value is None:
            return (Problem(str(error), error.path),)
        return _violated(contract.schema_text, error.value)
    return ()


def _violated(schema_text: str | None, value: Any) -> tuple[Problem, ...]:
    if schema_text is None:
        return ()
    return tuple(
        Problem(f"{path or 'value'}: {why}", path) for path, why in violations(schema_text, value)
    )


def _fault(text: str) -> str:
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    return (
        "not JSON: left-over masks"
        if has_masks(text)
        else "not JSON: a number that JSON does not know"
    )


def _hole_problem(hole: Hole) -> Problem:
    return Problem(f"{hole.path or 'value'}: its value is lost", hole.path)


def _objection(text: str, found: JsonRepair, contract: Json) -> str | None:
    """Why a repaired value may not stand for the answer to a contract."""
    if not found.edits:
        return "no repair of its text helps"
    body = text[: found.edits[-1].start] if found.edits[-1].rule == "text_around" else text
    closed = any(edit.rule == "unclosed_end" for edit in found.edits)
    if closed and body.rstrip()[-1:] not in ("}", "]", '"', "'", ","):
        return "it ends inside a value, as if cut off"
    if holes := json_holes(found, contract.schema_text):
        return f"{holes[0].path or 'value'}: a value is missing"
    try:
        value = strict_loads(found.text)
    except (ValueError, RecursionError) as error:
        return str(error)
    broken = violations(contract.schema_text, value)
    return f"{broken[0][0] or 'value'}: {broken[0][1]}" if broken else None


def _with_distinct_keys(text: str, found: JsonRepair, contract: Json) -> JsonRepair:
    """`found` without repeated keys; as it is where it ends or misses something, since that is to be told first."""
    try:
        strict_loads(found.text)
    except (ValueError, RecursionError):
        lost = any(edit.rule == "unclosed_end" for edit in found.edits)
        if lost or json_holes(found, contract.schema_text):
            return found
        with suppress(RecursionError):
            return without_repeats(text, found, named_keys(contract.schema))
    return found


def _found(text: str) -> JsonRepair | None:
    """The repair of our own search, else the one of json-repair if it loses and invents nothing."""
    return edits_for_json(text) or _by_json_repair(text)


def _by_json_repair(text: str) -> JsonRepair | None:
    opening = _BRACKET.search(text)
    if opening is None or len(text) > _LONGEST_FOR_JSON_REPAIR:
        return None
    start, end = opening.start(), len(text.rstrip())
    if is_part_of_value(text, 0, start) or text.count("{") + text.count("[") > _MOST_BRACKETS:
        return None
    body = text[start:end]
    value = _mended(body)
    if value is None:
        return None
    try:
        if json_loss(body, value, False) is not None:
            return None
        mended = json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return None
    reason = "quotes, commas or brackets by json-repair; no word is lost"
    middle = rewrite(start, body, mended, "json_punctuation", reason, "likely")
    around = cut(text, start, end, "text_around", "text around the JSON value")
    edits: list[Edit] = [edit for edit in around if edit.end <= start] + [middle]
    edits += [edit for edit in around if edit.end > start]
    return JsonRepair(tuple(edits), replay(text, edits), value)


def _mended(body: str) -> Any:
    """What json-repair makes of `body`, None if it makes nothing of the same shape."""
    from json_repair import repair_json as mend

    try:
        value = mend(body, return_objects=True, skip_json_loads=True)
    except Exception:  # a fault in it is a refusal of ours, told by the caller
        return None
    wanted = dict if body.lstrip()[:1] == "{" else list
    return value if isinstance(value, wanted) else None


__all__ = ["json_problems", "repair_json", "repair_plain_json", "sound_value"]
