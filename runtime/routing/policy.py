"""A routing policy is data: who is asked first for what, and how sure an answer must be to be taken.

It can be written in Python or, through `policy_data`, in YAML. The decisions made with it are in `router`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from carrara.engines.errors import CarraraError
from carrara.runtime.routing.accept import Accept
from carrara.runtime.routing.bounds import check_number, check_switch, check_text
from carrara.runtime.routing.evidence import step_of
from carrara.runtime.routing.facts import CallFacts
from carrara.runtime.routing.naming import known_keys
from carrara.runtime.routing.rule_names import wrong_device, wrong_language

KINDS = ("text", "choice", "json", "table", "outline", "regex", "infill")


@dataclass(frozen=True, slots=True)
class Rule:
    """For calls that fit, `engines` in order. What is empty or None fits every call, of a set one in common is
    enough. `prompt_tokens_over` fits prompts estimated longer than that; `reasoning` those whose wording asks to
    work something out (`reasoning`), or does not; `languages` are ISO 639-1 codes (needs the extra "language");
    `devices` are those of the first engine that is open: "cpu", "cuda", "remote"."""

    engines: tuple[str, ...]
    kinds: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    prompt_tokens_over: int = -1
    reason: str = ""
    reasoning: bool | None = None
    languages: frozenset[str] = frozenset()
    devices: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        names = self.engines
        if not isinstance(names, tuple | list) or not _are_names(names):
            raise CarraraError(
                f"'engines' of a rule are names of engines in a tuple, not {names!r}"
            )
        if not names:
            raise CarraraError("a rule names no engine: give it one, or leave the rule out")
        if twice := [name for name in names if names.count(name) > 1]:
            raise CarraraError(f"a rule names the engine {twice[0]!r} twice: name it once")
        for part in ("kinds", "tags", "languages", "devices"):
            found = getattr(self, part)
            if not isinstance(found, frozenset | set) or not _are_names(found):
                named = ", ".join(map(repr, [found] if isinstance(found, str) else _items(found)))
                meant = f"frozenset({{{named or '…'}}})"
                raise CarraraError(f"{part!r} of a rule is a set of names, {meant}, not {found!r}")
        known_keys(self.kinds, KINDS, "contract kind")
        for what, wrong in (("devices", wrong_device), ("languages", wrong_language)):
            for name in sorted(getattr(self, what)):
                if told := wrong(name):
                    raise CarraraError(f"{what!r} of a rule: {told}")
        check_number(
            "'prompt_tokens_over' of a rule", self.prompt_tokens_over, least=-1, whole=True
        )
        check_text("'reason' of a rule", self.reason, empty=True)
        if self.reasoning is not None:
            check_switch("'reasoning' of a rule, if not None,", self.reasoning)

    def fits(self, facts: CallFacts, device: str = "") -> bool:
        """Whether the rule is for a call; `device` is that of the first of its engines that is open."""
        return (
            (not self.kinds or facts.kind in self.kinds)
            and (not self.tags or bool(self.tags & facts.tags))
            and facts.prompt_tokens > self.prompt_tokens_over
            and self.reasoning in (None, facts.reasoning)
            and (not self.languages or facts.language in self.languages)
            and (not self.devices or device in self.devices)
        )


@dataclass(frozen=True, slots=True)
class Hedge:
    """Start the next engine beside the first when the first is late or looks bad; the answer that is accepted first
    wins and the other is cancelled. The last engine is asked a second time, if it is not on this machine. Late is a
    call to an engine after `after_s` seconds, `times` the median that the engine took at this step so far, or the time
    within which the share `share` of its answers came, whichever is the earliest; and one that is not made for longer
    than that, as the engine asked for a pause. Bad: after `passes` denoising passes less than the
    share `settled` of the canvas is committed. None switches a sign off."""

    after_s: float | None = None
    times: float | None = 3.0
    share: float | None = None
    passes: int | None = None
    settled: float = 0.5

    def __post_init__(self) -> None:
        if all(sign is None for sign in (self.after_s, self.times, self.share, self.passes)):
            raise CarraraError("a hedge needs after_s, times, share or passes")
        if self.share is not None:
            check_number("'share' of a hedge", self.share, above=0, below=1)
        for name in ("after_s", "times"):
            if (value := getattr(self, name)) is not None:
                check_number(f"{name!r} of a hedge", value, above=0)
        if self.passes is not None:
            check_number("'passes' of a hedge", self.passes, least=1, whole=True)
        check_number("'settled' of a hedge", self.settled, least=0, most=1)


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens. `cached` of the prompt cost `cached` each, None: as the others."""

    prompt: float = 0.0
    completion: float = 0.0
    cached: float | None = None

    def __post_init__(self) -> None:
        for name in ("prompt", "completion", "cached"):
            if (value := getattr(self, name)) is not None:
                check_number(f"{name!r} of a price", value, least=0)


@dataclass(frozen=True, slots=True)
class Budget:
    """What a session may spend on engines, in US dollars and in tokens (prompt and answer); None is no limit.
    An engine that a call could exceed it with is not asked."""

    cost: float | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        if self.cost is not None:
            check_number("'cost' of a budget", self.cost, least=0)
        if self.tokens is not None:
            check_number("'tokens' of a budget", self.tokens, least=0, whole=True)


@dataclass(frozen=True, slots=True)
class Policy:
    """The first of `rules` that fits a call names its engines; `accept` is by contract kind, and `steps` by the
    step's name goes before it.

    `renoise`: how often doubtful fields are re-noised on a diffusion engine before another one is asked. `mixed`: of
    an answer some of whose fields are doubtful only those are asked of the next engine. `again`: how often the last
    engine is asked again with the faults of its answer or more room, and as often once more where a call broke off on
    its way. `max_attempts` bounds all of them together, those of both engines where a hedge starts one.
    `give_up_after` rejections of an engine without one acceptance, for the same step, it is passed over, but for one
    probe every `probe_every` calls. Until it had an answer accepted or was given up, at most `scouts` calls of the
    step ask it at once, the others wait. `max_wait_s`: the longest Retry-After that is waited for; a longer one is
    left to the step's own retries.
    `choose` "time": an engine is passed over too where it is expected to cost more time than it saves (`prospect`);
    "order" never does. After `break_after` failures in a row an engine is not asked for `break_s`.
    """

    name: str = "auto"
    rules: tuple[Rule, ...] = ()
    accept: Mapping[str, Accept] = field(default_factory=dict)
    steps: Mapping[str, Accept] = field(default_factory=dict)
    renoise: int = 1
    mixed: bool = True
    again: int = 1
    max_attempts: int = 4
    give_up_after: int = 4
    probe_every: int = 20
    scouts: int = 2
    max_wait_s: float = 30.0
    choose: Literal["order", "time"] = "time"
    break_after: int = 5
    break_s: float = 30.0
    hedge: Hedge | None = None
    budget: Budget = Budget()
    prices: Mapping[str, Price] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """
        Raises:
            CarraraError: a number out of its range, or a part of another type.
        """
        check_text("the name of a policy", self.name)
        whose = f"of policy {self.name!r}"
        for part, kind in (("accept", Accept), ("steps", Accept), ("prices", Price)):
            if not isinstance(found := getattr(self, part), Mapping):
                raise CarraraError(
                    f"{part!r} {whose} is a mapping to {kind.__name__}(…), not {found!r}"
                )
            for key, value in found.items():
                check_text(f"each name in {part!r} {whose}", key)
                _check_is(value, kind, f"{part}[{key!r}] {whose}")
        known_keys(self.accept, KINDS, "contract kind")
        if not isinstance(self.rules, tuple | list):
            raise CarraraError(f"the rules {whose} are a tuple, (Rule(…),), not {self.rules!r}")
        for rule in self.rules:
            _check_is(rule, Rule, f"each of the rules {whose}")
        _check_is(self.budget, Budget, f"the budget {whose}")
        if self.hedge is not None:
            _check_is(self.hedge, Hedge, f"the hedge {whose}")
        check_switch(f"'mixed' {whose}", self.mixed)
        for name in ("renoise", "again"):
            check_number(f"{name!r} {whose}", getattr(self, name), least=0, whole=True)
        for name in ("max_attempts", "give_up_after", "probe_every", "scouts", "break_after"):
            check_number(f"{name!r} {whose}", getattr(self, name), least=1, whole=True)
        check_number(f"'max_wait_s' {whose}", self.max_wait_s, least=0)
        check_number(f"'break_s' {whose}", self.break_s, above=0)
        if self.choose not in ("order", "time"):
            raise CarraraError(f"'choose' {whose} is 'order' or 'time', not {self.choose!r}")

    def accepts(self, kind: str, path: str = "", engine: str = "") -> Accept:
        """What an engine's answer of this kind of contract needs at a step: by its whole path, or its name."""
        return self._at(kind, path).of(engine)

    def _at(self, kind: str, path: str) -> Accept:
        if self.steps:
            step = step_of(path)
            for name in (step, step.rpartition("/")[2]):
                if name in self.steps:
                    return self.steps[name]
        return self.accept.get(kind, Accept())

    @property
    def engines(self) -> tuple[str, ...]:
        """All engines that its rules name, and its judges."""
        ruled = [name for rule in self.rules for name in rule.engines]
        return tuple(dict.fromkeys((*ruled, *self.judges)))

    @property
    def named_engines(self) -> tuple[str, ...]:
        """Every engine that it names at all, those of thresholds and prices too."""
        accepts = (*self.accept.values(), *self.steps.values())
        judged = [name for accept in accepts for name in accept.engines]
        return tuple(dict.fromkeys((*self.engines, *judged, *self.prices)))

    def lonely_hedge(self, is_here: Callable[[str], bool]) -> str:
        """What to tell of a hedge that can start nothing, "" for one that can: each rule names one engine, and that
        `is_here`, on this machine, where it is not asked a second time."""
        alone = [name for rule in self.rules for name in rule.engines]
        if self.hedge is None or not alone or len(alone) > len(self.rules):
            return ""
        if not all(map(is_here, alone)):
            return ""
        return (
            f"the hedge of policy {self.name!r} has nobody to start: its rules name one engine each, on this machine "
            f"({', '.join(dict.fromkeys(alone))}). Name a second engine in a rule, or leave the hedge out"
        )

    @property
    def judges(self) -> tuple[str, ...]:
        """The engines that are asked for a verdict on the answers of others."""
        accepts = (*self.accept.values(), *self.steps.values())
        every = [one for outer in accepts for one in (outer, *outer.engines.values())]
        return tuple(dict.fromkeys(one.judge.engine for one in every if one.judge is not None))

    @property
    def asks_wording(self) -> bool:
        """Whether some rule depends on what the prompt asks for."""
        return any(rule.reasoning is not None for rule in self.rules)

    @property
    def asks_language(self) -> bool:
        """Whether some rule depends on the prompt's language."""
        return any(rule.languages for rule in self.rules)


def _items(found: Any) -> list[Any]:
    return list(found) if isinstance(found, Iterable) else []


def _are_names(found: Iterable[Any]) -> bool:
    return all(isinstance(name, str) and name for name in found)


def _check_is(value: Any, kind: type, what: str) -> None:
    if not isinstance(value, kind):
        raise CarraraError(f"{what} takes {kind.__name__}(…), not {value!r}")


AUTO = Policy(
    rules=(
        Rule(("ar",), tags=frozenset({"reasoning"}), reason="the step is tagged 'reasoning'"),
        Rule(("ar",), reasoning=True, reason="the prompt asks to work it out"),
        Rule(("diffusion", "ar"), frozenset({"choice"}), reason="closed choice"),
        Rule(
            ("diffusion", "ar"),
            frozenset({"json", "table", "outline", "regex"}),
            reason="typed extraction",
        ),
        Rule(("diffusion", "ar"), frozenset({"infill"}), reason="a text with holes"),
        Rule(("diffusion", "ar"), reason="free text, accepted by its confidence"),
    ),
    accept={
        "text": Accept(0.8, 0.0),
        "choice": Accept(0.5, 0.3),
        "json": Accept(0.75, 0.3),
        "table": Accept(0.75, 0.3),
        "outline": Accept(0.75, 0.3),
        "regex": Accept(0.75, 0.3),
        "infill": Accept(0.5, 0.3),
    },
)
"""The default: what has a form goes to diffusion, reasoning to AR, and doubtful answers on to AR.

The thresholds are set above what plain AR weights reach as a denoiser on the cookbook (tables 0.43 to 0.60, text up
to 0.61, JSON below 0.5); a labelled set of one's own gives better ones (`carrara calibrate`).
"""


__all__ = ["AUTO", "KINDS", "Budget", "Hedge", "Policy", "Price", "Rule"]
