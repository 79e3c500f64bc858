"""Repair with engines: tier 2 fills holes by one infill call, tier 3 asks an AR engine once for what is still broken.

No model is asked for a text that tier 1 mends, and none for a text that a length limit cut short: that one is to be
continued, not repaired.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from carrara.engines.contract import Contract
from carrara.engines.contract_text import describe
from carrara.engines.errors import ContractError, EngineError
from carrara.engines.request import Limits, Message, Request
from carrara.runtime.repair.broken import Broken, broken_part
from carrara.runtime.repair.edits import composed, replay
from carrara.runtime.repair.form import repair
from carrara.runtime.repair.policy import RepairPolicy
from carrara.runtime.repair.report import Edit, Problem, RepairFailed, RepairReport, rewrite

if TYPE_CHECKING:
    from carrara.engines.engine import Engine

ALL_TIERS = RepairPolicy(max_tier=3)
_MOST_SHOWN = 6000  # characters of a broken part that an AR engine is asked to write again
T = TypeVar("T")


async def arepair(
    text: str,
    kind: str | Contract = "auto",
    schema: Mapping[str, Any] | None = None,
    policy: RepairPolicy = ALL_TIERS,
    *,
    engine: Engine | None = None,
    fallback: Engine | None = None,
    cut_off: bool = False,
) -> RepairReport:
    """Mend the form of `text`, with models for what its own content cannot give back.

    `engine` fills holes (tier 2), `fallback` is asked once for the part that is still broken (tier 3); an engine that
    fails leaves the outcome of the tier before, with the reason among the problems. With `cut_off` no model is asked.

    Raises:
        CarraraError: unknown kind, or a wrong schema. RepairFailed: if the policy asks for it.
    """
    began = time.perf_counter()
    gentle = replace(policy, on_fail="keep")
    report = repair(text, kind, schema, gentle)
    if not cut_off:
        if report.holes and engine is not None and policy.max_tier >= 2:
            report = await _filled(text, kind, schema, report, engine, gentle)
        unfilled = [hole for hole in report.holes if not hole.filled_by]
        if not report.ok and fallback is not None and policy.max_tier >= 3:
            if unfilled:
                report = await _filled(text, kind, schema, report, fallback, gentle)
            else:
                report = await _rewritten(text, kind, schema, report, fallback, gentle)
    if policy.on_fail == "raise" and not report.ok:
        raise RepairFailed(report)
    return replace(report, seconds=time.perf_counter() - began)


async def _filled(
    text: str,
    kind: str | Contract,
    schema: Mapping[str, Any] | None,
    report: RepairReport,
    engine: Engine,
    policy: RepairPolicy,
) -> RepairReport:
    """The report with its holes filled, as far as their slots passed."""
    from carrara.runtime.repair.infill import infill

    edits = _taken(report, policy)
    if edits is None:
        return report
    mended = replay(text, edits)
    what = "the holes were not filled"
    filled = infill(mended, report.kind, report.holes, engine, policy.token_budget)
    answer, report = await _tried(filled, what, report)
    if answer is None:
        return report
    written, holes, usage, calls = answer
    report = _counted(replace(report, holes=holes), calls, usage.completion_tokens)
    if not written:
        return report
    return _judged(text, kind, schema, report, composed(text, edits, written), policy)


async def _rewritten(
    text: str,
    kind: str | Contract,
    schema: Mapping[str, Any] | None,
    report: RepairReport,
    engine: Engine,
    policy: RepairPolicy,
) -> RepairReport:
    """The report with the part that is still broken written anew by one call, its faults numbered. An answer that loses
    or invents words of that part is not taken."""
    edits = _taken(report, policy)
    edits = () if edits is None else edits
    mended = replay(text, edits)
    part = broken_part(mended, kind, schema, report)
    if part is None or part.end - part.start > _MOST_SHOWN:
        return report
    before = mended[part.start : part.end]
    what = f"{engine.name} was asked to write {part.what} again"
    completion, report = await _tried(
        engine.complete(_request(before, part, policy.token_budget)), what, report
    )
    if completion is None:
        return report
    report = _counted(report, 1, completion.usage.completion_tokens)
    try:
        part.contract.parse(completion.text)
        after = part.written(completion.text)
        fault = part.loss(before, after)
    except ContractError as error:
        fault = str(error)
    if fault is not None:
        problem = Problem(f"{engine.name} wrote {part.what} again, and {fault}")
        return replace(report, problems=(*report.problems, problem))
    reason = f"written again by {engine.name}; no word is lost"
    edit = replace(rewrite(part.start, before, after, "rewritten", reason, "guess"), tier=3)
    done = _judged(text, kind, schema, report, composed(text, edits, [edit]), policy)
    if not done.ok:
        problem = Problem(f"{engine.name} wrote {part.what} again, and it is still at fault")
        return replace(report, problems=(*report.problems, problem))
    return done


def _request(before: str, part: Broken, token_budget: int) -> Request:
    faults = "\n".join(f"{number}. {fault}" for number, fault in enumerate(part.faults, 1))
    ask = (
        f"This is {part.what}, and it is broken:\n{before}\n\nIts faults:\n{faults}\n\n"
        "Write it again with the faults mended and nothing else changed."
    )
    if form := describe(part.contract):
        ask = f"{ask} {form}"
    most = min(token_budget, 2 * len(before) + 32)
    return Request((Message("user", ask),), part.contract, Limits(max_tokens=most))


def _taken(report: RepairReport, policy: RepairPolicy) -> tuple[Edit, ...] | None:
    """The edits of tier 1 on which models build, None where the policy does not allow them."""
    edits = report.edits or report.proposals
    allowed = all(policy.takes(edit.certainty, edit.rule) for edit in edits)
    return edits if allowed else None


async def _tried(
    call: Awaitable[T], what: str, report: RepairReport
) -> tuple[T | None, RepairReport]:
    """What a call gives; where its engine fails, None and the report with the reason."""
    try:
        return await call, report
    except EngineError as error:
        problems = (*report.problems, Problem(f"{what}: {error}"))
        return None, _counted(replace(report, problems=problems), 1, 0)


def _counted(report: RepairReport, calls: int, tokens: int) -> RepairReport:
    return replace(report, model_calls=report.model_calls + calls, tokens=report.tokens + tokens)


def _judged(
    text: str,
    kind: str | Contract,
    schema: Mapping[str, Any] | None,
    report: RepairReport,
    edits: tuple[Edit, ...],
    policy: RepairPolicy,
) -> RepairReport:
    """The report for these edits: taken for a plain kind, for a contract only if the text holds to it."""
    new = replay(text, edits)
    again = repair(new, kind, schema, policy)
    unfilled = [hole for hole in report.holes if not hole.filled_by]
    if not again.ok and not isinstance(kind, str):
        return report
    edits = composed(text, edits, again.edits)
    left = tuple(problem for problem in again.problems)
    left += tuple(Problem(f"{hole.path}: what stood here is lost", hole.path) for hole in unfilled)
    return replace(
        report,
        text=again.text,
        ok=again.ok and not unfilled,
        value=again.value,
        edits=edits,
        problems=left,
        proposals=again.proposals,
    )


__all__ = ["ALL_TIERS", "arepair"]
