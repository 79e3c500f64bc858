"""Which rule a workflow's answers are scored by, if its file does not say: its output contract tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from carrara.engines.contract import Choice, Contract, Json, Outline, Table
from carrara.engines.errors import CarraraError, ContractError
from carrara.workflows.calls import Definition
from carrara.workflows.decimal_texts import with_numbers
from carrara.workflows.plain import plain
from carrara.workflows.scoring.options import no_option, strays
from carrara.workflows.scoring.places import Places
from carrara.workflows.scoring.score import Scoring, data_of, label
from carrara.workflows.types import value_type

_MOST_TOLD = 3  # values of one row


@dataclass(frozen=True, slots=True)
class Marker:
    """What is needed to score the answers of one workflow. `contract` None: it cannot be told; then `scoring`
    depends on the gold of each row unless it is given. `output` of a pipeline's outputs is the answer, "" for all
    of them, or for what another workflow gives."""

    contract: Contract | None
    scoring: Scoring | None
    places: Places
    output: str = ""

    def answer(self, value: Any) -> Any:
        """The answer as JSON data."""
        found = plain(value)
        return found[self.output] if self.output else found

    def scoring_for(self, gold: Any) -> Scoring:
        if self.scoring is not None:
            return self.scoring
        return Scoring("fields" if isinstance(gold, Mapping | list) else "label")

    def gold(self, gold: Any) -> Any:
        """Gold as JSON data, with numbers where rows have decimals; a table or nested list may be given as Markdown.

        Raises:
            ValueError: Markdown that is not of the contract's form, and gold that no answer can equal: an object where
                the answer is a text, a text where it is an object, none of the options of a choice or of an enum.
        """
        self._check_shape(gold)
        if isinstance(gold, str) and isinstance(self.contract, Table | Outline):
            try:
                return plain(self.contract.parse(gold))
            except ContractError as error:
                raise ValueError(f"gold does not fit the answer's type: {error}") from error
        if not isinstance(self.contract, Json):
            return gold
        gold = with_numbers(gold, self.contract.schema)
        self._check_options(gold, self.contract.schema)
        return gold

    def _check_options(self, gold: Any, schema: Mapping[str, Any]) -> None:
        """Where fields are compared one by one."""
        if self.scoring is None or self.scoring.rule != "fields":
            return
        found = list(strays(schema, data_of(gold)))
        if found:
            more = f" (and {len(found) - _MOST_TOLD} more)" if len(found) > _MOST_TOLD else ""
            raise ValueError("; ".join(one.told for one in found[:_MOST_TOLD]) + more)

    def _check_shape(self, gold: Any) -> None:
        is_object = isinstance(gold, Mapping)
        rule = self.scoring.rule if self.scoring is not None else ""
        if rule in ("label", "number", "answers") and is_object:
            raise ValueError(
                f"gold is an object with the keys {', '.join(gold) or '(none)'}, and the answer is scored as one "
                f"{rule}: give gold as the text alone"
            )
        options = self.contract.options if isinstance(self.contract, Choice) else ()
        known = {*map(label, options), label(None)}  # a step that was skipped gives null
        if rule == "label" and options and label(gold) not in known:
            raise ValueError(no_option("gold", gold, list(options)))
        of_object = isinstance(self.contract, Json) and self.contract.schema.get("type") == "object"
        if rule == "fields" and of_object and not is_object and gold is not None:
            raise ValueError(
                f"gold is {gold!r:.60}, and the answer is an object: give gold as an object, too"
            )


def marker_of(workflow: Definition[..., Any], given: Scoring | None = None) -> Marker:
    """How to score `workflow`: as `given`, as its pipeline says under `score`, or as its output contract tells.

    Of a pipeline with several outputs the one called `answer` is scored, else all of them together.
    """
    outputs = getattr(workflow, "outputs", {})
    output = "answer" if "answer" in outputs else next(iter(outputs)) if len(outputs) == 1 else ""
    contract = _contract(outputs[output] if output else workflow.returns)
    scoring = given or getattr(workflow, "scoring", None)
    if scoring is None and contract is not None:
        scoring = Scoring("fields" if isinstance(contract, Json | Table | Outline) else "label")
    schema = contract.schema if isinstance(contract, Json) else None
    return Marker(contract, scoring, Places(schema), output)


def _contract(annotation: Any) -> Contract | None:
    if annotation is None or annotation is Any:
        return None
    try:
        return value_type(annotation).contract
    except CarraraError:
        return None
