"""The commit rules that a request, an adapter or an engine can choose by name, and their parameters.

Nothing heavy is imported here, so that settings can be checked before an engine is opened; `rules` makes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from carrara.engines.request import Rule


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number from `least` to `most`, both allowed; `whole` numbers only.

    `most` lies beyond all that makes a difference, and below what a calculation with it could not hold.
    """

    default: float
    least: float
    most: float
    whole: bool = False

    @property
    def json_schema(self) -> dict[str, Any]:
        bounds = {"minimum": self.least, "maximum": self.most}
        return {"type": "integer" if self.whole else "number", **bounds, "default": self.default}


_SURE = Parameter(0.9, 1e-6, 1.0)
_STEPS = Parameter(8, 1, 65_536, whole=True)  # more than a block has positions


def _gap(default: float) -> Parameter:
    """Of the best two logits; what is read of a gap is held below 21."""
    return Parameter(default, 0.0, 100.0)


RULES: Mapping[str, Mapping[str, Parameter]] = {
    "threshold": {"threshold": _SURE, "gates": Parameter(0.0, 0.0, 1.0)},
    "fixed_steps": {"steps": _STEPS},
    "factor": {"factor": Parameter(1.0, 0.0, 1000.0)},
    "entropy_bounded": {"bound": Parameter(0.1, 0.0, 1000.0)},
    "klass": {
        "threshold": _SURE,
        "drift": Parameter(0.01, 0.0, 1000.0),
        "history": Parameter(2, 1, 16, whole=True),
    },
    "credit": {
        "threshold": _SURE,
        "strength": Parameter(0.7, 0.0, 100.0),
        "decay": Parameter(0.65, 0.0, 1.0),
        "power": Parameter(0.5, 0.0, 1.0),
    },
    "edit": {
        "threshold": _SURE,
        "edit_threshold": Parameter(0.9, 1e-6, 1.0),
        "most_more": Parameter(16, 0, 1024, whole=True),
    },
    "prophet": {
        "steps": _STEPS,
        "early": _gap(7.5),
        "middle": _gap(5.0),
        "late": _gap(2.5),
    },
}
"""By name: what each parameter may be. `rules` says what they mean and where each rule comes from."""


def parameters(rule: Rule) -> dict[str, float]:
    """All parameters of a rule, with the defaults of those it does not name.

    Raises:
        ValueError: no such rule or parameter, or a value out of range; says what there is.
    """
    if rule.name == "verified":
        raise ValueError(
            "the rule 'verified' is an engine of its own: choose the engine 'verified', which drafts by the rule "
            "named here (threshold, unless another one is) and lets a causal pass accept"
        )
    if rule.name not in RULES:
        raise ValueError(f"unknown commit rule {rule.name!r}. {_hint(rule.name, RULES)}")
    table = RULES[rule.name]
    for name, value in rule.parameters.items():
        where = f"commit rule {rule.name!r}"
        if name not in table:
            raise ValueError(f"{where}: unknown parameter {name!r}. {_hint(name, table)}")
        if (wrong := _wrong(table[name], value)) is not None:
            raise ValueError(f"{where}: {name} is {wrong}, not {value!r}")
    defaults = {name: parameter.default for name, parameter in table.items()}
    return defaults | {name: float(value) for name, value in rule.parameters.items()}


def check_drafting(rule: Rule) -> None:
    """Look at the rule of a request to the engine "verified", which may say "verified" and then nothing more.

    Raises:
        ValueError: no such rule or parameter, or a value out of range; says what there is.
    """
    if rule.name != "verified":
        parameters(rule)
    elif rule.parameters:
        raise ValueError(
            f"commit rule 'verified': unknown parameter {next(iter(rule.parameters))!r}. It has none. To choose how "
            f"answers are drafted, name the rule of the drafts: {', '.join(RULES)}."
        )


def parsed(found: Any) -> Rule:
    """A rule as JSON says it: its name, or an object with `name` and its parameters beside it.

    Raises:
        ValueError: anything else, or as `parameters`.
    """
    if isinstance(found, str):
        found = {"name": found}
    if not isinstance(found, Mapping) or not isinstance(found.get("name"), str):
        raise ValueError(f"a rule is a name or an object with one, not {found!r}")
    rule = Rule(found["name"], {key: value for key, value in found.items() if key != "name"})
    parameters(rule)
    return rule


def written(rule: Rule) -> dict[str, Any]:
    """What `parsed` reads."""
    return {"name": rule.name, **rule.parameters}


def _wrong(parameter: Parameter, value: Any) -> str | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = is_number and parameter.least <= value <= parameter.most
    if fits and math.isfinite(value) and (not parameter.whole or float(value).is_integer()):
        return None
    kind = "a whole number" if parameter.whole else "a number"
    return f"{kind} from {parameter.least:g} to {parameter.most:,g}"


def _hint(name: str, table: Mapping[str, Any]) -> str:
    close = get_close_matches(name, table, n=1)
    return (f"Did you mean {close[0]!r}? " if close else "") + f"Known are {', '.join(table)}."
