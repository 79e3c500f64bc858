"""Checking raw data against a document model, with every mistake at its place.

A mistake does not hide the others: what is wrong is noted, cut out, and the rest is read.
"""

from __future__ import annotations

import copy
import re
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from carrara.workflows.yaml.document import (
    EngineDoc,
    ExampleDoc,
    OutlineDoc,
    RepeatDoc,
    ScoreDoc,
    SplitDoc,
    StepDoc,
)
from carrara.workflows.yaml.document_base import Doc
from carrara.workflows.yaml.mistakes import did_you_mean
from carrara.workflows.yaml.notes import Notes
from carrara.workflows.yaml.policy_document import POLICY_PARTS, AcceptDoc, PolicyDoc, RuleDoc
from carrara.workflows.yaml.source import Location

D = TypeVar("D", bound=Doc)

_NOUNS = {"str": "text", "bool": "true or false", "list": "a list", "dict": "a mapping"}
_BOUNDS = {
    "greater_than_equal": "at least",
    "greater_than": "above",
    "less_than_equal": "at most",
    "less_than": "below",
}
_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


def read_shape(model: type[D], raw: object, where: Location, notes: Notes) -> D | None:
    """`raw`, found at `where`, as a `model`; what is wrong in it is noted and left out.

    None if nothing is left: no mapping at all, or a key that must be there is missing.
    """
    rest = copy.deepcopy(raw)
    whole = True
    while True:
        try:
            return model.model_validate(rest)
        except ValidationError as error:
            cuts = set()
            for found in error.errors():
                loc = _existing(rest, tuple(part for part in found["loc"] if part != "[key]"))
                if whole:  # what is wrong after a cut is wrong because of it
                    _note(found, model, loc, (*where, *loc), notes)
                cuts.add(_mapping_key(loc))
            whole = False
            for cut in sorted(cuts, key=len, reverse=True):
                if not cut or not isinstance(rest, dict):
                    return None
                _cut(rest, cut)


def context(where: Location) -> str:
    """Where in the pipeline a location is, for a sentence: "step 'totals'"."""
    match where:
        case ("steps", str(name), *_):
            return f"step '{name}'"
        case ("policy", *_):
            return "the policy"
        case ("score", *_):
            return "the score"
        case ("types" | "inputs" | "engines" | "outputs" as part, str(name), *_):
            return f"{part[:-1]} '{name}'"
        case _:
            return "the pipeline"


def noun(value: object) -> str:
    """What a value is, in a word: "text", "a number", "nothing"."""
    if value is None:
        return "nothing"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"the number {value}"
    return _NOUNS.get(type(value).__name__, type(value).__name__)


def _mapping_key(loc: Location) -> Location:
    """The place to cut: items of a list go with their whole list, whose order would change."""
    while loc and isinstance(loc[-1], int):
        loc = loc[:-1]
    return loc


def _note(
    error: ErrorDetails, model: type[Doc], loc: Location, spot: Location, notes: Notes
) -> None:
    kind, place = error["type"], _place(spot, model)
    subject = _subject(spot, model)
    key = str(spot[-1]) if spot else ""
    match kind:
        case "extra_forbidden":
            hint = did_you_mean(key, _keys_of(model, loc[:-1]))
            notes.at_key(spot, f"unknown key '{key}' in {place}{hint}")
        case "missing":
            notes.at_key(spot, f"{subject} needs the key '{error['loc'][-1]}'")
        case _ if kind in _WANTED:
            found = noun(error["input"])
            notes.at_value(spot, f"{subject} must be {_WANTED[kind]}, not {found}")
        case "literal_error":
            hint = did_you_mean(
                str(error["input"]), re.findall(r"'(.*?)'", error["ctx"]["expected"])
            )
            notes.at_value(spot, f"{subject} cannot be {error['input']!r}{hint}")
        case "value_error":
            notes.at_value(spot, f"{subject}: {error['ctx']['error']}")
        case "no_value":
            notes.at_key(spot, f"{subject} is empty: give it a value, or leave the key out")
        case "too_short":
            notes.at_value(spot, f"{subject} must not be empty")
        case "greater_than_equal" | "greater_than" | "less_than_equal" | "less_than":
            (bound,) = error["ctx"].values()
            notes.at_value(
                spot, f"{subject} must be {_BOUNDS[kind]} {bound:g}, not {error['input']:g}"
            )
        case "string_pattern_mismatch":
            notes.at_value(
                spot,
                f"{subject} must be a name of letters, digits and _, not {error['input']!r}",
            )
        case _:
            notes.at_value(spot, f"{subject}: {_lower(error['msg'])}")


def _place(spot: Location, model: type[Doc]) -> str:
    place = context(spot)
    return model.called if place == "the pipeline" else place


def _subject(spot: Location, model: type[Doc]) -> str:
    place = _place(spot, model)
    inside = {model.called: 0, "the policy": 1, "the score": 1}.get(place, 2)
    words = [str(part) for part in spot[inside:]]
    if not words:
        return place
    return f"'{'.'.join(words)}' of {place}"


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]


def _existing(raw: object, loc: Location) -> Location:
    """The longest beginning of `loc` that is there in `raw`: unions add words that are no keys."""
    at: Any = raw
    for depth, part in enumerate(loc):
        try:
            at = at[part]
        except (KeyError, IndexError, TypeError):
            return loc[:depth]
    return loc


def _cut(rest: dict[str, Any], loc: Location) -> None:
    at: Any = rest
    for part in loc[:-1]:
        if isinstance(at, dict) and part not in at:
            return
        at = at[part]
    if isinstance(at, dict):
        at.pop(loc[-1], None)


def _keys_of(model: type[Doc], loc: Location) -> list[str]:
    """The keys that are known at `loc` of a document of type `model`."""
    match loc:
        case ("steps", _, "repeat"):
            model = RepeatDoc
        case ("steps", _, "split"):
            model = SplitDoc
        case ("steps", _, "examples", _):
            model = ExampleDoc
        case ("steps", _):
            model = StepDoc
        case ("engines", _):
            model = EngineDoc
        case ("outline",):
            model = OutlineDoc
        case ("score",):
            model = ScoreDoc
        case ("policy",):
            model = PolicyDoc
        case ("policy", "rules", _):
            model = RuleDoc
        case ("policy", "accept" | "steps", _):
            model = AcceptDoc
        case ("policy", "accept" | "steps", _, str(part)) | ("policy", str(part)):
            model = POLICY_PARTS.get(part, model)
        case ("policy", "prices", _):
            model = POLICY_PARTS["prices"]
    return [field.alias or name for name, field in model.model_fields.items()]
