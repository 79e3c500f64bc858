"""Repair by contract or by kind: the one door to the scanners beside this file. No model is asked here."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from carrara.engines.contract import Choice, Contract, Infill, Json, Outline, Regex, Table, Text
from carrara.engines.errors import CarraraError
from carrara.runtime.repair.json_form import (
    json_problems,
    repair_json,
    repair_plain_json,
    sound_value,
)
from carrara.runtime.repair.markdown_text.mend import edits_for_markdown
from carrara.runtime.repair.masks import MASK
from carrara.runtime.repair.policy import DEFAULT, RepairPolicy
from carrara.runtime.repair.report import Problem, RepairFailed, RepairReport

KINDS = ("auto", "json", "table", "list", "outline", "mixed", "text")
_JSON_FIRST = re.compile(
    rf"(?:\s|{MASK.pattern})*+(?:```(?:json|json5|jsonc)?[ \t]*\n\s*)?[{{\[](?!MASK\]|[ xX]\]|[^\]\n]*\]\()"
)


def repair(
    text: str,
    kind: str | Contract = "auto",
    schema: Mapping[str, Any] | None = None,
    policy: RepairPolicy = DEFAULT,
) -> RepairReport:
    """Mend the form of `text` without a model. Sound text comes back as the same object, unedited.

    `kind` is a contract, or one of KINDS for text without one. For a contract, and for JSON with an edit that the
    policy does not allow, a text that cannot be mended in full comes back unchanged with `ok` False and the problems;
    in Markdown each fault is mended for itself. "text" is Markdown too; "auto" is JSON where the text begins like it.

    Raises:
        CarraraError: unknown kind, or a wrong schema. RepairFailed: if the policy asks for it.
    """
    began = time.perf_counter()
    report = _repair(text, _contract(kind, schema, text), schema, policy)
    if policy.on_fail == "raise" and not report.ok:
        raise RepairFailed(report)
    return replace(report, seconds=time.perf_counter() - began)


def _repair(
    text: str,
    kind: str | Contract,
    schema: Mapping[str, Any] | None,
    policy: RepairPolicy,
) -> RepairReport:
    match kind:
        case "json":
            return repair_plain_json(text, json.dumps(schema) if schema else None, policy)
        case str() as plain:
            from carrara.runtime.repair.markdown_form import repair_markdown

            return repair_markdown(text, plain, policy)
        case Json() as contract:
            return repair_json(text, contract, policy)
        case Table() as contract:
            from carrara.runtime.repair.markdown_form import repair_table

            return repair_table(text, contract, policy)
        case Outline() as contract:
            from carrara.runtime.repair.markdown_form import repair_outline

            return repair_outline(text, contract, policy)
        case Choice() as contract:
            from carrara.runtime.repair.phrase_form import repair_choice

            return repair_choice(text, contract)
        case Regex() as contract:
            from carrara.runtime.repair.phrase_form import repair_regex

            return repair_regex(text, contract)
        case Infill() as contract:
            from carrara.runtime.repair.phrase_form import repair_infill

            return repair_infill(text, contract)
        case Text():
            from carrara.runtime.repair.markdown_form import repair_markdown

            report = repair_markdown(text, "text", policy)
            return replace(report, value=report.text.strip(), ok=True, problems=())


def check(
    text: str, kind: str | Contract = "auto", schema: Mapping[str, Any] | None = None
) -> tuple[Problem, ...]:
    """What is wrong with `text`, changing nothing; empty for a sound one. For JSON every violation is named.

    Raises:
        CarraraError: unknown kind, or a wrong schema.
    """
    from carrara.engines.errors import ContractError

    contract = _contract(kind, schema, text)
    if contract == "json":
        return _repair(text, contract, schema, DEFAULT).problems_before
    if isinstance(contract, str):
        from carrara.runtime.repair.markdown_form import markdown_problems

        return markdown_problems(text, contract)
    if isinstance(contract, Json):
        return json_problems(text, contract)
    try:
        contract.parse(text)
    except ContractError as error:
        return (Problem(str(error), error.path),)
    return ()


def repair_text(text: str, kind: str = "auto") -> str:
    """The text alone, mended where that is possible; `repair` without its report."""
    if kind == "auto":
        kind = kind_of(text)
    if kind == "json":
        return text if sound_value(text)[0] else repair_plain_json(text, None, DEFAULT).text
    if kind in KINDS:
        return edits_for_markdown(text, kind, DEFAULT.refused)[0]
    return repair(text, kind).text


def kind_of(text: str) -> str:
    """What "auto" takes a text for: "json" where it begins like a value, alone or in a fence, else "mixed"."""
    return "json" if _JSON_FIRST.match(text) else "mixed"


def _contract(kind: str | Contract, schema: Mapping[str, Any] | None, text: str) -> str | Contract:
    if not isinstance(kind, str):
        return kind
    if kind not in KINDS:
        raise CarraraError(f"unknown kind {kind!r} of text, use one of {', '.join(KINDS)}")
    if kind == "auto":
        kind = "json" if schema else kind_of(text)
    return kind


__all__ = ["KINDS", "check", "kind_of", "repair", "repair_text"]
