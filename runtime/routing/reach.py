"""Which engines a call may be routed to, known before any of them is open."""

from __future__ import annotations

from carrara.runtime.routing.facts import CallFacts
from carrara.runtime.routing.policy import Policy


def reach(facts: CallFacts, policy: Policy) -> tuple[tuple[str, ...], bool]:
    """The names of the engines, and whether some rule is sure to fit: else the router asks the usual engines. What a
    rule says of devices is known only once its engines are open: it may fit or not. Engines that the policy names
    outside of its rules, such as judges, are among them."""
    ruled = {name for rule in policy.rules for name in rule.engines}
    named: list[str] = []
    fits = False
    for rule in policy.rules:
        if rule.devices and not any(rule.fits(facts, device) for device in rule.devices):
            continue
        if not rule.devices and not rule.fits(facts):
            continue
        named += rule.engines
        if fits := not rule.devices:
            break
    named += [name for name in policy.engines if name not in ruled]
    return tuple(dict.fromkeys(named)), fits


__all__ = ["reach"]
