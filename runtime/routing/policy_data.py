"""Policies as JSON or YAML data, there and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any, TypeVar

from carrara.engines.errors import CarraraError
from carrara.runtime.routing.accept import accept_data, accept_from
from carrara.runtime.routing.naming import known_keys, names_of
from carrara.runtime.routing.policy import AUTO, Budget, Hedge, Policy, Price, Rule

_SETS = ("kinds", "tags", "languages", "devices")

_SIGNS = {"after_s", "share", "passes"}
"""Of these a hedge may name some; then `times` is off unless it is named too."""

T = TypeVar("T")


def to_data(policy: Policy) -> dict[str, Any]:
    """The policy as JSON data; `from_data` is the inverse."""
    found = asdict(policy)
    found["rules"] = [_rule_data(rule) for rule in policy.rules]
    for name in ("accept", "steps"):
        accepts = getattr(policy, name)
        found[name] = {key: accept_data(accept) for key, accept in accepts.items()}
    return found


def from_data(found: Mapping[str, Any]) -> Policy:
    """Build a policy from YAML or JSON data; what is left out is as in AUTO.

    Raises:
        CarraraError: an unknown key, kind or type, named with what is known.
    """
    known_keys(found, [f.name for f in fields(Policy)], "key")
    known = dict(found)
    known["rules"] = tuple(_rule(r) for r in found["rules"]) if "rules" in found else AUTO.rules
    known["accept"] = {
        kind: accept_from(part) for kind, part in {**AUTO.accept, **found.get("accept", {})}.items()
    }
    known["steps"] = {step: accept_from(part) for step, part in found.get("steps", {}).items()}
    known["prices"] = {
        name: _made(Price, part, "price") for name, part in found.get("prices", {}).items()
    }
    if isinstance(hedge := known.get("hedge"), Mapping) and set(hedge) & _SIGNS:
        known["hedge"] = {"times": None, **hedge}
    for name, kind in (("hedge", Hedge), ("budget", Budget)):
        if isinstance(known.get(name), Mapping):
            known[name] = _made(kind, known[name], f"key of {name}")
    try:
        return Policy(**known)
    except TypeError as error:
        raise CarraraError(f"bad routing policy: {error}") from error


def _rule_data(rule: Rule) -> dict[str, Any]:
    found = asdict(rule)
    return {
        **found,
        "engines": list(rule.engines),
        **{name: sorted(found[name]) for name in _SETS},
    }


def _rule(found: Mapping[str, Any]) -> Rule:
    known_keys(found, [f.name for f in fields(Rule)], "key of a rule")
    known = {**found, "engines": names_of(found.get("engines", ()))}
    known |= {name: frozenset(names_of(found.get(name, ()))) for name in _SETS}
    return Rule(**known)


def _made(kind: Callable[..., T], found: Any, what: str) -> T:
    if not isinstance(found, Mapping):
        return kind(found) if isinstance(found, int | float) else found
    known_keys(found, [f.name for f in fields(kind)], what)  # type: ignore[arg-type]
    return kind(**found)


__all__ = ["from_data", "to_data"]
