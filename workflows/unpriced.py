"""Servers whose price nobody knows, under a budget of cost: what they cost counts nowhere, and it does not hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from carrara.runtime.dollars import as_given
from carrara.runtime.routing.policy import Policy


def unpriced(
    policy: Policy, named: Iterable[str], definitions: Mapping[str, Mapping[str, Any]] | None
) -> list[str]:
    """What to tell of those of the engines of a policy, and of the `named` ones, whose price is not known. Engines in
    this process cost nothing.

    Raises:
        LoadingError: the configuration file or a definition is wrong.
    """
    if policy.budget.cost is None:
        return []
    from carrara.engines.registry import KINDS, kinds_by_name, prices_by_name

    priced = {*KINDS, *policy.prices, *prices_by_name(definitions)}
    known = kinds_by_name(definitions)
    names = dict.fromkeys((*policy.engines, *named))
    return [
        f"policy {policy.name!r}: the price of engine {name!r} is not known, so its calls do not count in the budget "
        f"of {as_given(policy.budget.cost)}; give it one under 'prices' (0 where it costs nothing)"
        for name in names
        if name in known and name not in priced
    ]


__all__ = ["unpriced"]
