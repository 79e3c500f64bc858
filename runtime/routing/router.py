"""The routing decisions, pure: facts in, the next move out. Nothing here asks an engine or keeps a clock.

Order of moves: the first candidate of the policy; after a doubtful or faulty answer its bad fields re-noised
on the same engine; then the next candidate, for only the bad fields where the others can stay; at last the final one
once more with the faults spelled out.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

from carrara.engines.errors import EngineRefused
from carrara.engines.facts import REMOTE
from carrara.runtime.routing.budget import OverBudget
from carrara.runtime.routing.evidence import Evidence
from carrara.runtime.routing.facts import CallFacts, Candidate
from carrara.runtime.routing.policy import AUTO, Policy

How = Literal["ask", "renoise", "fields", "again", "longer"]
Cause = Literal[
    "form",
    "cut",
    "content",
    "confidence",
    "agreement",
    "judge",
    "refused",
    "failed",
    "busy",
    "passed over",
    "too dear",
]

JUDGED: frozenset[Cause] = frozenset(("form", "cut", "content", "confidence", "agreement", "judge"))
"""Causes that say something of the engine's answers; the others say that there was none."""

DOUBTED: frozenset[Cause] = frozenset(("confidence", "agreement", "judge"))
"""Those of a valid answer that was not sure enough while another engine could be asked."""

UNASKED: frozenset[Cause] = frozenset(("passed over", "too dear"))
"""Those for which no call was made."""

_OWN = ("diffusion", "ar", "verified")


@dataclass(frozen=True, slots=True)
class Route:
    """The engines to ask, in order, and why the first is first. `passed_over` names those that evidence
    spoke against, so that the caller can count them. `missing` says why engines that stand behind all of these are left
    out now, "" where none is."""

    candidates: tuple[Candidate, ...]
    reason: str
    passed_over: tuple[str, ...] = ()
    missing: str = ""

    @property
    def engine(self) -> str:
        return self.candidates[0].name


@dataclass(frozen=True, slots=True)
class Move:
    """Ask `engine` now. "renoise": refine its last answer, `fields` written anew. "fields": only for `fields` of
    the last answer. "again": with the faults of its last answer in the prompt. "longer": with twice the room. `tries`
    of the same move broke off before. `spared`: it stands in place of re-noising, which does not pay."""

    engine: str
    reason: str
    how: How = "ask"
    fields: tuple[str, ...] = ()
    tries: int = 0
    spared: bool = False


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an answer was not taken. `fields` are JSON pointers of its bad parts, empty when it is bad as a
    whole; `whole` says that they are all its parts. `partial`: the others can stay while another engine is asked for
    these. `longer`: it was cut by its limit of tokens, and may end if it is given more of them. `passing`: the call
    broke off on its way, and the same call may work at once."""

    engine: str
    cause: Cause
    reason: str
    fields: tuple[str, ...] = ()
    whole: bool = False
    partial: bool = False
    longer: bool = False
    passing: bool = False


@dataclass(frozen=True, slots=True)
class Barred:
    """Engines that are not to be asked now, with the reason: `budget` has no room for them, never to be overruled;
    `broken` ones keep failing, and the last one left is asked all the same, when its time has come."""

    budget: Mapping[str, str] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)


def route(
    facts: CallFacts,
    engines: Mapping[str, Candidate],
    policy: Policy,
    evidence: Evidence,
    barred: Barred = Barred(),
) -> Route:
    """Order the engines for a call.

    Raises:
        EngineRefused: the engine that the step insists on is not open, or none can hold the contract.
        OverBudget: none that can hold it fits into the budget.
    """
    names, reason = _named(facts, engines, policy)
    able = [engines[name] for name in names if engines[name].refusal is None]
    if not able:
        reasons = "; ".join(f"{name}: {engines[name].refusal}" for name in names)
        raise EngineRefused(
            f"step {facts.path!r}: no engine can answer its {facts.kind} contract. {reasons}"
        )
    if able[0].name != names[0]:
        reason = f"{names[0]}: {engines[names[0]].refusal}"
    for name in names[1:]:
        if engines[name].is_closed:
            reason += f"; {name}: {engines[name].refusal}"
    every = able
    able, reason = _affordable(facts, able, reason, barred.budget)
    able, reason = _roomy_first(facts, able, reason)
    able, reason = _whole(able, reason, barred.broken)
    missing = _missing(every, able, barred)
    if len(able) == 1:
        return Route(tuple(able), reason, missing=missing)
    return replace(_without_the_hopeless(facts, able, reason, policy, evidence), missing=missing)


def next_after(
    rejection: Rejection,
    history: Sequence[Move],
    facts: CallFacts,
    found: Route,
    policy: Policy,
    against_renoising: str | None = None,
    once_more_pays: bool = False,
    beside: int = 0,
) -> Move | None:
    """The move after a rejected answer, None when nothing is left to try.

    `history` holds the moves so far, the rejected one last; one that was passed over was no move. `against_renoising`
    says why doubtful fields had better be left to the next engine, `once_more_pays` that a call that broke off had
    better not. `beside` moves are made on other lines of a race.
    """
    if len(history) + beside >= policy.max_attempts:
        return None
    names = [engine.name for engine in found.candidates]
    place = names.index(rejection.engine)
    renoise = _renoise(rejection, history, facts, found.candidates[place], policy)
    if renoise is not None and against_renoising is not None and names[place + 1 :]:
        move = _next_engine(rejection, names[place + 1 :], policy)
        assert move is not None
        return replace(move, reason=f"{move.reason}; {against_renoising}", spared=True)
    return (
        renoise
        or (_once_more(rejection, history, policy) if once_more_pays else None)
        or _whole_instead(rejection, history)
        or _next_engine(rejection, names[place + 1 :], policy)
        or _again(rejection, history, facts, policy)
        or _longer(rejection, history, facts, found.candidates[place], policy)
        or _once_more(rejection, history, policy)
    )


def prolonged(found: Route, again: Route, asked: Collection[str]) -> Route | None:
    """The route with engines behind that it had left out and that a route made `again`, now that money is gone, has
    not: their place was another's, which turned out too dear. None where all of them were `asked`."""
    fresh = tuple(one for one in again.candidates if one.name not in asked)
    if not fresh:
        return None
    back = {one.name for one in fresh}
    earlier = tuple(one for one in found.candidates if one.name not in back)
    return replace(found, candidates=(*earlier, *fresh), missing=again.missing)


def is_last(engine: str, found: Route) -> bool:
    """Whether no engine could be asked after this one: then a valid answer is taken, sure or not."""
    return found.candidates[-1].name == engine


def company(
    move: Move, found: Route, once_more_pays: bool = False, is_doubled: bool = False
) -> str | None:
    """The engine that may be asked beside a move that is late: the next one; the same where it is the last, or where
    `once_more_pays`, and not on this machine, whose own queue a second call would only lengthen. One that `is_doubled`
    has been asked a second time already."""
    if move.how != "ask":
        return None
    names = [engine.name for engine in found.candidates]
    place = names.index(move.engine)
    can_double = found.candidates[place].device == REMOTE and not is_doubled
    if names[place + 1 :] and not (can_double and once_more_pays):
        return names[place + 1]
    return move.engine if can_double else None


def _named(
    facts: CallFacts, engines: Mapping[str, Candidate], policy: Policy
) -> tuple[list[str], str]:
    """Names of open engines in the policy's order, and why."""
    if not engines:
        raise EngineRefused(f"step {facts.path!r} asks a model, but no engine is open")
    if facts.engine is not None:
        if facts.engine not in engines:
            near = difflib.get_close_matches(facts.engine, engines, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise EngineRefused(
                f"step {facts.path!r} asks for engine {facts.engine!r}, "
                f"open are: {', '.join(engines)}.{hint}",
                engine=facts.engine,
            )
        return [facts.engine], "the step names it"
    rules = [rule for rule in policy.rules if rule.fits(facts, _device(rule.engines, engines))]
    if not rules:
        return _usual(engines), f"policy {policy.name!r} has no rule for it"
    names = _open_ones(rules[0].engines, engines)
    reason = rules[0].reason or f"policy {policy.name!r}"
    if names and all(engines[name].is_closed for name in names):
        return [*names, *(name for name in _usual(engines) if name not in names)], reason
    if not names:
        missing = ", ".join(rules[0].engines)
        return _usual(engines), f"{reason}; {missing} not open, so any engine that is"
    if names[0] != rules[0].engines[0]:
        reason += f"; {rules[0].engines[0]} is not open"
    return names, reason


def _device(names: Sequence[str], engines: Mapping[str, Candidate]) -> str:
    """That of the first of the engines that is open."""
    return next((engines[name].device for name in names if name in engines), "")


def _open_ones(wanted: Sequence[str], engines: Mapping[str, Candidate]) -> list[str]:
    """Those of the wanted engines that are here, open or refusing. Where `ar` is not open, the engines that are none of
    this process's own take its place, in their order: a server or hosted service is an AR engine to the router."""
    names = []
    for name in wanted:
        stand_ins = [other for other in engines if other not in (*wanted, *_OWN)]
        names += [name] if name in engines else []
        if name == "ar" and (name not in engines or engines[name].is_closed):
            names += stand_ins
    return names


def _usual(engines: Mapping[str, Candidate]) -> list[str]:
    """The engines that the default policy would ask, else all there are: some answer only when they are named."""
    found = _open_ones(AUTO.rules[-1].engines, engines)
    return list(engines) if all(engines[name].is_closed for name in found) else found


def _affordable(
    facts: CallFacts, able: list[Candidate], reason: str, over: Mapping[str, str]
) -> tuple[list[Candidate], str]:
    left = [engine for engine in able if engine.name not in over]
    if not left:
        told = "; ".join(over[engine.name] for engine in able)
        raise OverBudget(f"step {facts.path!r}: the budget is spent. {told}", engine=able[0].name)
    if left[0] is not able[0]:
        reason = f"{over[able[0].name]}: {left[0].name} instead"
    gone = [over[engine.name] for engine in able[1:] if engine.name in over]
    return left, "; ".join((reason, *gone))


def _whole(
    able: list[Candidate], reason: str, broken: Mapping[str, str]
) -> tuple[list[Candidate], str]:
    """Without the engines that keep failing; the last of all stays if all do."""
    left = [engine for engine in able if engine.name not in broken] or able[-1:]
    if left[0] is not able[0]:
        reason = f"{broken[able[0].name]}: {left[0].name} at once"
    gone = [broken[engine.name] for engine in able[1:] if engine not in left]
    return left, "; ".join((reason, *gone))


def _missing(every: Sequence[Candidate], able: Sequence[Candidate], barred: Barred) -> str:
    """Why the engines behind the last of those that are left cannot be asked now."""
    reasons = {**barred.broken, **barred.budget}
    behind = every[every.index(able[-1]) + 1 :]
    return "; ".join(reasons[one.name] for one in behind if one.name in reasons)


def _roomy_first(
    facts: CallFacts, able: list[Candidate], reason: str
) -> tuple[list[Candidate], str]:
    """Engines whose context is too small by estimate go last; the engine itself has the exact number."""
    needed = facts.prompt_tokens + facts.max_tokens
    tight = [engine for engine in able if needed > engine.context_tokens]
    roomy = [engine for engine in able if needed <= engine.context_tokens]
    if roomy and able[0] in tight:
        reason = (
            f"about {needed:,} tokens are too long for {able[0].name}, "
            f"its context holds {able[0].context_tokens:,}"
        )
    return roomy + tight, reason


def _without_the_hopeless(
    facts: CallFacts, able: list[Candidate], reason: str, policy: Policy, evidence: Evidence
) -> Route:
    objections = {
        engine.name: objection
        for engine, following in pairwise(able)
        if (objection := objection_to(engine, following, facts, policy, evidence)) is not None
        or (objection := _to_learn(engine, following, facts, policy, evidence)) is not None
    }
    left = [engine for engine in able if engine.name not in objections]
    if able[0].name in objections:
        reason = f"{objections[able[0].name]}: {left[0].name} at once"
    return Route(tuple(left), reason, tuple(objections))


def objection_to(
    engine: Candidate,
    following: Candidate,
    facts: CallFacts,
    policy: Policy,
    evidence: Evidence,
) -> str | None:
    """Why evidence speaks for asking the following engine at once, None if it does not."""
    path, every = facts.path, policy.probe_every
    found = evidence.objection(path, engine.name, policy.give_up_after, every)
    if found is None:
        found = _too_late(engine.name, following.name, facts, evidence)
    if found is None and policy.choose == "time":
        found = evidence.loss(path, engine.name, following.name, every, engine.expected)
    return found


def _to_learn(
    engine: Candidate,
    following: Candidate,
    facts: CallFacts,
    policy: Policy,
    evidence: Evidence,
) -> str | None:
    if policy.choose != "time":
        return None
    return evidence.learning(facts.path, engine.name, following.name, policy.probe_every)


def _too_late(engine: str, following: str, facts: CallFacts, evidence: Evidence) -> str | None:
    """The engine hardly answers within the call's deadline, and the following one does."""
    limit, usual = facts.deadline_s, evidence.typical_s(facts.path, engine)
    if limit is None or usual is None or usual <= limit:
        return None
    other = evidence.typical_s(facts.path, following)
    if other is None or other > limit:
        return None
    return f"{engine} takes {usual:.2f} s here, the answer is due in {limit:.2f} s"


def _renoise(
    rejection: Rejection,
    history: Sequence[Move],
    facts: CallFacts,
    engine: Candidate,
    policy: Policy,
) -> Move | None:
    done = sum(move.how == "renoise" and move.engine == engine.name for move in history)
    wanted = rejection.fields and not rejection.whole and facts.repair in ("infill", "escalate")
    if not wanted or "drafts" not in engine.can or done >= policy.renoise:
        return None
    reason = f"re-noise {', '.join(rejection.fields)}: {rejection.reason}"
    return Move(engine.name, reason, "renoise", rejection.fields)


def _whole_instead(rejection: Rejection, history: Sequence[Move]) -> Move | None:
    """The engine that was asked for some fields in vain is asked for all."""
    if rejection.cause not in JUDGED or history[-1].how != "fields":
        return None
    return Move(rejection.engine, f"for the whole answer: {rejection.reason}")


def _next_engine(rejection: Rejection, names: Sequence[str], policy: Policy) -> Move | None:
    if not names:
        return None
    reason = f"{rejection.engine}: {rejection.reason}"
    if policy.mixed and rejection.partial and not rejection.whole:
        return Move(names[0], reason, "fields", rejection.fields)
    return Move(names[0], reason)


def _again(
    rejection: Rejection, history: Sequence[Move], facts: CallFacts, policy: Policy
) -> Move | None:
    done = sum(move.how in ("again", "longer") for move in history)
    mendable = rejection.cause in ("form", "content") and facts.repair == "escalate"
    if not mendable or done >= policy.again:
        return None
    return Move(rejection.engine, f"once more, with its faults: {rejection.reason}", "again")


def _longer(
    rejection: Rejection,
    history: Sequence[Move],
    facts: CallFacts,
    engine: Candidate,
    policy: Policy,
) -> Move | None:
    """An answer with a form is worth nothing where a limit cuts it: once more, if the context has room."""
    done = sum(move.how in ("again", "longer") for move in history)
    roomy = facts.prompt_tokens + facts.max_tokens < engine.context_tokens
    if not rejection.longer or not roomy or facts.repair != "escalate" or done >= policy.again:
        return None
    return Move(rejection.engine, f"once more, with more room: {rejection.reason}", "longer")


def _once_more(rejection: Rejection, history: Sequence[Move], policy: Policy) -> Move | None:
    """A call that broke off on its way is made again at once: most faults of servers concern one call. What goes on
    failing is left to the next engine, or to the step's retries, which wait longer and longer."""
    if not rejection.passing or history[-1].tries >= policy.again:
        return None
    last = history[-1]
    reason = f"once more: {rejection.reason}"
    return replace(last, reason=reason, tries=last.tries + 1)


__all__ = [
    "DOUBTED",
    "JUDGED",
    "UNASKED",
    "Barred",
    "Cause",
    "How",
    "Move",
    "Rejection",
    "Route",
    "company",
    "is_last",
    "next_after",
    "objection_to",
    "prolonged",
    "route",
]
