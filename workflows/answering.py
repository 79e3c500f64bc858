"""How an answer is asked for and when it is accepted: limits, sampling, repair, validators."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from carrara.engines.request import Limits, Rule, Sampling
from carrara.workflows.errors import DefinitionError, Refusal, did_you_mean

Repair = Literal["off", "structural", "infill", "escalate"]
REPAIRS: tuple[Repair, ...] = ("off", "structural", "infill", "escalate")


@dataclass(frozen=True, slots=True)
class Answering:
    """`validators` are called with the typed answer, and with the inputs that they name as parameters. `rule` is
    the commit rule of an engine that denoises, None leaves it to the engine."""

    max_tokens: int = 512
    max_steps: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    repair: Repair = "escalate"
    validators: tuple[Callable[..., Any], ...] = ()
    rule: Rule | None = None

    @property
    def limits(self) -> Limits:
        return Limits(self.max_tokens, self.max_steps)

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.temperature, self.top_p, self.seed)

    def check(self, names: Collection[str]) -> None:
        """Raise DefinitionError for a setting out of range, or a validator of something else than `names`."""
        for label, value, holds in (
            ("max_tokens", self.max_tokens, self.max_tokens >= 1),
            ("max_steps", self.max_steps, self.max_steps is None or self.max_steps >= 1),
            ("temperature", self.temperature, self.temperature >= 0),
            ("top_p", self.top_p, 0 < self.top_p <= 1),
        ):
            if not holds:
                raise DefinitionError(f"{label}={value!r} is out of range")
        if self.repair not in REPAIRS:
            hint = did_you_mean(str(self.repair), REPAIRS)
            raise DefinitionError(f"repair={self.repair!r} is none of {REPAIRS}", hint=hint)
        if self.rule is not None:
            rule_of(self.rule)
        for validator in self.validators:
            for name in _wanted_inputs(validator):
                if name not in names:
                    raise DefinitionError(
                        f"validator {_name(validator)!r} asks for {name!r}, which is no input",
                        hint=did_you_mean(name, names),
                    )

    def accept(self, value: Any, inputs: Mapping[str, Any], *, partial: bool = False) -> Any:
        """The answer, if every validator lets it pass. With `partial` those that ask for an input that is not there are
        not asked.

        Raises:
            ValueError: a validator raised it, or returned False.
        """
        for validator in self.validators:
            names = _wanted_inputs(validator)
            if partial and not inputs.keys() >= set(names):
                continue
            wanted = {name: inputs[name] for name in names}
            if validator(value, **wanted) is False:
                raise Refusal(f"refused by {_name(validator)!r}")
        return value


def rule_of(found: Rule | Mapping[str, Any] | str) -> Rule:
    """A commit rule by its name, or a mapping of `name` and the parameters that differ from the defaults.

    Raises:
        DefinitionError: no such rule or parameter, or a value out of range; says what there is.
    """
    from carrara.engines.diffusion.rule_table import parsed, written

    try:
        return parsed(written(found) if isinstance(found, Rule) else found)
    except ValueError as error:
        raise DefinitionError(str(error)) from error


def _wanted_inputs(validator: Callable[..., Any]) -> tuple[str, ...]:
    """The parameters after the first, except those with defaults."""
    found = list(inspect.signature(validator).parameters.values())[1:]
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return tuple(p.name for p in found if p.default is p.empty and p.kind not in several)


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", type(function).__name__))
