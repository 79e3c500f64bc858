"""Repair with engines: tier 2 fills holes by one infill call, tier 3 asks an AR engine once for what is still broken.

No model is asked for a text that tier 1 mends, and none for a text that a length limit cut short: that one is to be
continued, not repaired.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from carrara.engines.contract import Contract, Json
from carrara.engines.errors import ContractError, EngineError
from carrara.engines.request import Limits, Message, Request
from carrara.runtime.repair.edits import composed, replay
from carrara.runtime.repair.form import kind_of, repair
from carrara.runtime.repair.policy import RepairPolicy
from carrara.runtime.repair.report import Edit, Problem, RepairFailed, RepairReport, rewrite

if TYPE_CHECKING:
    from carrara.engines.engine import Engine

ALL_TIERS = RepairPolicy(max_tier=3)
_MOST_SHOWN = 6000  # characters of a broken text that an AR engine is asked to write again


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

    `engine` fills holes (tier 2), `fallback` is asked once for a value that is still broken (tier 3); an engine that
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
            elif _is_json(text, kind):
                report = await _rewritten(text, kind, schema, report, fallback, gentle)
    if policy.on_fail == "raise" and not report.ok:
        raise RepairFailed(report)
    return replace(report, seconds=time.perf_counter() - began)


def _is_json(text: str, kind: str | Contract) -> bool:
    return isinstance(kind, Json) or kind == "json" or (kind == "auto" and kind_of(text) == "json")


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

    edits = report.edits or report.proposals
    if not all(policy.takes(edit.certainty, edit.rule) for edit in edits):
        return report
    mended = replay(text, edits)
    try:
        written, holes, usage, calls = await infill(
            mended, report.kind, report.holes, engine, policy.token_budget
        )
    except EngineError as error:
        problem = Problem(f"the holes were not filled: {error}")
        return replace(
            report, problems=(*report.problems, problem), model_calls=report.model_calls + 1
        )
    report = replace(
        report,
        holes=holes,
        model_calls=report.model_calls + calls,
        tokens=report.tokens + usage.completion_tokens,
    )
    if not written:
        return report
    return _judged(text, kind, schema, report, composed(text, edits, written), policy)


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


async def _rewritten(
    text: str,
    kind: str | Contract,
    schema: Mapping[str, Any] | None,
    report: RepairReport,
    engine: Engine,
    policy: RepairPolicy,
) -> RepairReport:
    """One call for a JSON value that could not be mended, with its faults numbered and the schema as the contract.
    An answer that loses words of the broken text is not taken."""
    from carrara.runtime.repair.content import json_loss

    if len(text) > _MOST_SHOWN:
        return report
    contract = kind if isinstance(kind, Json) else Json.of(schema or {})
    faults = "\n".join(
        f"{number}. {problem.reason}" for number, problem in enumerate(report.problems, 1)
    )
    ask = (
        f"This JSON is broken:\n{text}\n\nIts faults:\n{faults}\n\n"
        "Write it again with the faults mended and nothing else changed."
    )
    most = min(policy.token_budget, len(text))
    request = Request((Message("user", ask),), contract, Limits(max_tokens=most))
    try:
        completion = await engine.complete(request)
    except EngineError as error:
        problem = Problem(f"{engine.name} was asked to write it again: {error}")
        return replace(
            report, problems=(*report.problems, problem), model_calls=report.model_calls + 1
        )
    report = replace(
        report,
        model_calls=report.model_calls + 1,
        tokens=report.tokens + completion.usage.completion_tokens,
    )
    try:
        value = contract.parse(completion.text)
    except ContractError as error:
        problem = Problem(f"{engine.name} wrote it again, and {error}")
        return replace(report, problems=(*report.problems, problem))
    if (loss := json_loss(text, value, True)) is not None:
        problem = Problem(f"{engine.name} wrote it again, and {loss}")
        return replace(report, problems=(*report.problems, problem))
    reason = f"written again by {engine.name}; no word is lost"
    edit = replace(rewrite(0, text, completion.text, "rewritten", reason, "guess"), tier=3)
    return replace(
        report, text=completion.text, ok=True, value=value, edits=(edit,), problems=(), proposals=()
    )


__all__ = ["ALL_TIERS", "arepair"]
