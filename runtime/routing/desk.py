"""The router of a session: the policy that it follows, the evidence that it gathers, what it spent.

It is the resource "router" of a run; "hurried" says whether somebody waits for the run, so that an engine which fails
from the beginning is given up soon (`breaker`).
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from carrara.runtime.routing.breaker import Breakers
from carrara.runtime.routing.budget import Purse
from carrara.runtime.routing.evidence import Evidence
from carrara.runtime.routing.policy import AUTO, Policy
from carrara.runtime.routing.scouts import Scouts


@dataclass(slots=True)
class Router:
    """Give the same one to every run that should learn from the others, and spend from one budget."""

    policy: Policy = AUTO
    evidence: Evidence = field(default_factory=Evidence)
    scouts: Scouts = field(default_factory=Scouts)
    breakers: Breakers = field(default_factory=Breakers)
    purse: Purse = field(init=False)

    def __post_init__(self) -> None:
        self.purse = Purse(self.policy.budget, self.policy.prices)


def router_of(resources: Mapping[str, Any]) -> Router:
    """The router among the resources of a run. Without one, a router with the default policy is put
    there if the mapping can be changed, so that the calls of one run learn from each other."""
    found = resources.get("router")
    if isinstance(found, Router):
        return found
    if isinstance(found, Policy):
        found = Router(found)
    router = found or Router()
    if isinstance(resources, MutableMapping):
        resources["router"] = router
    return router


__all__ = ["Router", "router_of"]
