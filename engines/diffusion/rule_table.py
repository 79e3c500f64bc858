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
    """A number from `least` to `most`, both allowed; `whole` numbers only."""

    default: float
    least: float = 0.0
    most: float = math.inf
    whole: bool = False

    @property
    def json_schema(self) -> dict[str, Any]:
        bounds = {"minimum": self.least, **({"maximum": self.most} if self.most < math.inf else {})}
        return {"type": "integer" if self.whole else "number", **bounds, "default": self.default}


_SURE = Parameter(0.9, 1e-6, 1.0)
_STEPS = Parameter(8, 1, whole=True)

RULES: Mapping[str, Mapping[str, Parameter]] = {
    "threshold": {"threshold": _SURE, "gates": Parameter(0.0, 0.0, 1.0)},
    "fixed_steps": {"steps": _STEPS},
    "factor": {"factor": Parameter(1.0)},
    "entropy_bounded": {"bound": Parameter(0.1)},
    "klass": {
        "threshold": _SURE,
        "drift": Parameter(0.01),
        "history": Parameter(2, 1, 16, whole=True),
    },
    "credit": {
        "threshold": _SURE,
        "strength": Parameter(0.7),
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
        "early": Parameter(7.5),
        "middle": Parameter(5.0),
        "late": Parameter(2.5),
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
    end = "" if parameter.most == math.inf else f" to {parameter.most:g}"
    return f"{kind} from {parameter.least:g}{end}"


def _hint(name: str, table: Mapping[str, Any]) -> str:
    close = get_close_matches(name, table, n=1)
    return (f"Did you mean {close[0]!r}? " if close else "") + f"Known are {', '.join(table)}."
