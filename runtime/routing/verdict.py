"""Judging an answer: its form by the contract, mended if that is allowed, its content by the step's own
check, its confidence by the policy. Pure: no engine, no clock, no events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast

from carrara.engines.contract import Json, Text
from carrara.engines.errors import ContractError
from carrara.engines.json_schema import pointer
from carrara.engines.request import Completion
from carrara.runtime.repair import RepairPolicy, RepairReport, repair
from carrara.runtime.repair.edits import replay
from carrara.runtime.routing.accept import Accept
from carrara.runtime.routing.call import LlmCall
from carrara.runtime.routing.router import Cause, Rejection

_REPEATING = (
    0.35  # share of distinct word triples under which a text is looping; prose has over 0.8
)


_SURE = RepairPolicy(min_certainty="certain")  # free text may be code or data of any sort


@dataclass(frozen=True, slots=True)
class Verdict:
    """`value` of a valid answer, and the `rejection` of one that is not taken. `text` is the answer's, mended where it
    was; `report` the repair if there was one, `faults` the reasons one by one, for the next prompt. `completion` is
    what was judged, once the verdict is settled; `unjudged` says why its judge said nothing, `doubt` why an answer that
    is taken would not be if the engines behind could be asked."""

    text: str
    value: Any = None
    rejection: Rejection | None = None
    report: RepairReport | None = None
    faults: tuple[str, ...] = ()
    completion: Completion | None = None
    unjudged: str = ""
    doubt: str = ""


def judge(
    call: LlmCall,
    completion: Completion,
    accept: Accept | None,
    kept: Mapping[str, Accept] = MappingProxyType({}),
) -> Verdict:
    """Whether the answer is taken. With `accept` None (no other engine is left) confidence does not count;
    a text that breaks its contract is never taken. `kept` fields are those that another engine gave before, with what
    its answers need."""
    form = _form(call, completion)
    if form.rejection is not None:
        return form
    try:
        value = call.validate(form.value)
    except (ValueError, ContractError) as error:
        return _content_refused(error, form, completion)
    found = doubt_of(call, completion, accept, kept) if accept is not None else None
    if found is not None:
        return Verdict(form.text, value, found, form.report, (found.reason,))
    return Verdict(form.text, value, report=form.report)


def _form(call: LlmCall, completion: Completion) -> Verdict:
    text, engine = completion.text, completion.engine
    try:
        value = call.output.parse(text)
    except ContractError as error:
        if call.repair == "off":
            fields = (error.path,) if error.path else ()
            reason = _cut_off(call, completion) + str(error)
            cause = Rejection(engine, "form", reason, fields)
            return Verdict(text, rejection=cause, faults=(reason,))
        return _mended(call, completion)
    if value == "" and isinstance(call.output, Text):
        reason = "the answer is empty"
        return Verdict(text, rejection=Rejection(engine, "form", reason), faults=(reason,))
    if isinstance(call.output, Text) and call.repair != "off" and not _cut_off(call, completion):
        return _text_mended(call, completion)
    return Verdict(text, value)


def _text_mended(call: LlmCall, completion: Completion) -> Verdict:
    """Free text whose tables, lists and fences are mended where no other reading is left; not if a limit cut it."""
    report = repair(completion.text, call.output, policy=_SURE)
    return Verdict(report.text, report.value, report=report if report.changed else None)


def _with_holes(text: str, report: RepairReport, engine: str, cause: Cause) -> Verdict:
    """Values are lost in an answer whose structure was mended: they alone are to be written anew."""
    fields = tuple(hole.path for hole in report.holes)
    rejection = Rejection(engine, cause, report.reason, fields)
    return Verdict(replay(text, report.proposals), rejection=rejection, faults=(report.reason,))


def _mended(call: LlmCall, completion: Completion) -> Verdict:
    """The repaired form. Of an answer that a limit cut short only certain repairs are taken."""
    report = repair(completion.text, call.output)
    cut = _cut_off(call, completion)
    if report.holes and report.proposals and not cut:
        return _with_holes(completion.text, report, completion.engine, "form")
    if report.ok and (not cut or report.certainty == 1.0):
        return Verdict(report.text, report.value, report=report)
    reason = cut + (report.reason or "a repair would have to guess the rest")
    fields = tuple(problem.path for problem in report.problems if problem.path)
    longer = completion.stop == "length" and not _repeats(completion.text)
    rejection = Rejection(
        completion.engine, "cut" if cut else "form", reason, fields, longer=longer
    )
    faults = tuple(problem.reason for problem in report.problems)
    return Verdict(completion.text, rejection=rejection, faults=faults or (reason,))


def _cut_off(call: LlmCall, completion: Completion) -> str:
    match completion.stop:
        case "length":
            return f"cut off after {call.limits.max_tokens} tokens (max_tokens): "
        case "steps":
            return "cut off by its limit of denoising steps (max_steps): "
        case _:
            return ""


def _content_refused(error: Exception, form: Verdict, completion: Completion) -> Verdict:
    fields, faults = _failing(error)
    whole = _is_whole(fields, completion.confidence.fields)
    reason = "; ".join(faults)
    partial = _can_stay(form, completion)
    rejection = Rejection(completion.engine, "content", reason, fields, whole, partial)
    return Verdict(form.text, rejection=rejection, report=form.report, faults=faults)


def _failing(error: Exception) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Pointers of the failing fields, and the faults one by one."""
    details: Any = getattr(error, "errors", None)
    if callable(details):  # pydantic's ValidationError
        parts = cast("list[dict[str, Any]]", details())
        found = [(pointer(part["loc"]), str(part["msg"])) for part in parts]
        faults = tuple(f"{path}: {reason}" if path else reason for path, reason in found)
        return tuple(dict.fromkeys(path for path, _ in found if path)), faults
    paths = getattr(error, "paths", None) or (getattr(error, "path", ""),)
    return tuple(path for path in paths if path), (str(error) or type(error).__name__,)


def doubt_of(
    call: LlmCall, completion: Completion, accept: Accept, kept: Mapping[str, Accept]
) -> Rejection | None:
    """Why a valid answer is not sure enough; `kept` as in `judge`."""

    def needed(path: str) -> float:
        return kept.get(path, accept).needed(path)

    confidence = completion.confidence
    engine = completion.engine
    sure = confidence.overall
    weak = tuple(path for path, found in confidence.fields.items() if found < needed(path))
    doubtful = weak
    if sure is not None and sure < accept.overall:
        doubtful = tuple(
            path
            for path, found in confidence.fields.items()
            if path not in kept and found < accept.overall
        )
        weak = weak or doubtful
        reason = f"confidence {_below(sure, accept.overall)} for {call.output.kind}"
    elif weak:
        named = ", ".join(
            f"{path or 'answer'} {_below(confidence.fields[path], needed(path))}"
            for path in weak[:5]
        )
        reason = f"confidence of {named}"
    elif isinstance(call.output, Text) and _repeats(completion.text):
        reason = "the text repeats itself"
    else:
        return None
    # Where most parts are in doubt the rest is no ground to refine from.
    whole = _is_whole(weak, confidence.fields) or 2 * len(doubtful) > len(confidence.fields)
    partial = bool(weak) and not whole and isinstance(call.output, Json)
    return Rejection(engine, "confidence", reason, weak, whole, partial)


def _below(found: float, needed: float) -> str:
    """Both in as many decimals as tell them apart, two at least."""
    for decimals in range(2, 17):
        shown, least = f"{found:.{decimals}f}", f"{needed:.{decimals}f}"
        if shown != least:
            break
    return f"{shown} is below {least}"


def _can_stay(form: Verdict, completion: Completion) -> bool:
    """Whether the parts that a validator did not name are worth keeping: where the engine names its parts."""
    return bool(completion.confidence.fields) and isinstance(form.value, Mapping)


def _is_whole(fields: tuple[str, ...], known: Mapping[str, float]) -> bool:
    """Whether these are all the parts that the answer has, or its one and only."""
    return "" in fields or (bool(known) and set(known) <= set(fields))


def _repeats(text: str) -> bool:
    words = text.lower().split()
    triples = list(zip(words, words[1:], words[2:], strict=False))
    return len(triples) >= 20 and len(set(triples)) < _REPEATING * len(triples)


__all__ = ["Verdict", "doubt_of", "judge"]
