"""The validators of a workflow's steps, asked again of rows that a person has edited."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carrara.engines.contract import Json, from_data
from carrara.workflows.calls import Definition
from carrara.workflows.decimal_texts import with_numbers
from carrara.workflows.definition_hash import definitions_in
from carrara.workflows.inputs import InputReader
from carrara.workflows.review.rows import ReviewRow, value_at
from carrara.workflows.steps import Llm


class Validators:
    """Those of one workflow, by the name of the step."""

    def __init__(self, workflow: Definition[..., Any]) -> None:
        self._steps = validated_steps(workflow)
        self._reader = InputReader(workflow)
        # Only in a pipeline is an input of a step that is called like one of the whole the same value.
        self._knows_inputs = getattr(workflow, "pipeline", None) is not None

    def fault(self, reviewed: ReviewRow, row: Mapping[str, Any]) -> str:
        """Why a validator refuses the row, "" where none does. One that asks for inputs which a row does not tell is
        not asked."""
        lesson = reviewed.lesson
        step = None if lesson is None else self._steps.get(lesson.validated_by or "")
        if lesson is None or step is None:
            return ""
        contract, value = from_data(lesson.contract), value_at(row, lesson.at)
        if isinstance(contract, Json):
            value = with_numbers(value, contract.schema)
        inputs = self._reader.read_some(reviewed.inputs) if self._knows_inputs else {}
        try:
            step.answering.accept(step.answer.to_python(value), inputs, partial=True)
        except Exception as error:  # a user's function may fail in any way
            return f"step {step.name!r} refuses it: {error}"
        return ""


def validated_steps(workflow: Definition[..., Any]) -> dict[str, Llm[..., Any]]:
    """The LLM steps with validators that a workflow may call, by name; of several of one name none."""
    found: dict[str, Llm[..., Any]] = {}
    several: set[str] = set()
    for step in definitions_in(workflow):
        if isinstance(step, Llm):
            several |= {step.name} & found.keys()
            found[step.name] = step
    return {
        name: step
        for name, step in found.items()
        if step.answering.validators and name not in several
    }


__all__ = ["Validators", "validated_steps"]
