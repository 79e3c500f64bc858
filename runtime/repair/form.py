"""Repair by contract or by kind: the one door to the scanners beside this file. No model is asked here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carrara.engines.contract import Choice, Contract, Json, Outline, Regex, Table, Text
from carrara.engines.errors import CarraraError
from carrara.runtime.repair.report import Problem, RepairReport

KINDS = ("json", "table", "list", "outline", "mixed", "text")


def repair(
    text: str, kind: str | Contract, schema: Mapping[str, Any] | None = None
) -> RepairReport:
    """Mend the form of `text` without a model. Sound text comes back as the same object, unedited.

    `kind` is a contract, or one of KINDS for text without one: then JSON is mended (and checked against
    `schema` if given), tables and lists are accepted or refused as they are. A text that cannot be mended
    comes back unchanged with `ok` False and the problems.

    Raises:
        CarraraError: unknown kind, or a wrong schema.
    """
    match _contract(kind, schema):
        case Json() as contract:
            from carrara.runtime.repair.json_form import repair_json

            return repair_json(text, contract)
        case Table() as contract:
            from carrara.runtime.repair.markdown_form import repair_table

            return repair_table(text, contract)
        case Outline() as contract:
            from carrara.runtime.repair.markdown_form import repair_outline

            return repair_outline(text, contract)
        case Choice() as contract:
            from carrara.runtime.repair.phrase_form import repair_choice

            return repair_choice(text, contract)
        case Regex() as contract:
            from carrara.runtime.repair.phrase_form import repair_regex

            return repair_regex(text, contract)
        case Text():
            return RepairReport(text, "text", True, text.strip())
        case str() as plain:
            from carrara.runtime.repair.markdown_form import check_structure

            return check_structure(text, plain)


def check(
    text: str, kind: str | Contract, schema: Mapping[str, Any] | None = None
) -> tuple[Problem, ...]:
    """What is wrong with `text`, changing nothing; empty for a sound one. For JSON every violation is named.

    Raises:
        CarraraError: unknown kind, or a wrong schema.
    """
    from carrara.engines.errors import ContractError

    contract = _contract(kind, schema)
    if isinstance(contract, str):
        return repair(text, contract).problems
    if isinstance(contract, Json):
        from carrara.runtime.repair.json_form import json_problems

        return json_problems(text, contract)
    try:
        contract.parse(text)
    except ContractError as error:
        return (Problem(str(error), error.path),)
    return ()


def repair_text(text: str, kind: str) -> str:
    """The text alone, mended where that is possible."""
    return repair(text, kind).text


def _contract(kind: str | Contract, schema: Mapping[str, Any] | None) -> str | Contract:
    if not isinstance(kind, str):
        return kind
    if kind not in KINDS:
        raise CarraraError(f"unknown kind {kind!r} of text, use one of {', '.join(KINDS)}")
    return Json.of(schema or {}) if kind == "json" else kind


__all__ = ["KINDS", "check", "repair", "repair_text"]
