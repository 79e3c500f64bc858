"""Everything that is shown to a person is computed from these events: one stream, many readers.

Each is a frozen dataclass with the run's id and `at`, unix seconds. `path` names the node
("book/extract[3]"), `node` numbers it within the run: two calls of one step share a path, never a number.
No event is built when nobody listens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from carrara.engines.request import Progress, Span, Timings, Usage


@dataclass(frozen=True, slots=True)
class Event:
    run_id: str
    at: float


@dataclass(frozen=True, slots=True)
class RunStarted(Event):
    workflow: str
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class RunFinished(Event):
    """`error` is "" for a run that ended well. `steps` ended well, `reused` of them from the journal. `cut`: the
    run did not fail by itself but was stopped, by Ctrl-C, its RunControl or its deadline."""

    ok: bool
    error: str = ""
    seconds: float = 0.0
    steps: int = 0
    reused: int = 0
    cut: bool = False


@dataclass(frozen=True, slots=True)
class EngineFilled(Event):
    """How full an engine's batch was while a job had records to begin; see `engines.occupancy.Occupancy`."""

    engine: str = ""
    rounds: int = 0
    seats: int = 0
    taken: int = 0
    denoised: int = 0


@dataclass(frozen=True, slots=True)
class StepEvent(Event):
    path: str
    node: int = 0


@dataclass(frozen=True, slots=True)
class StepReady(StepEvent):
    """All inputs are there; the step waits for a place."""


@dataclass(frozen=True, slots=True)
class StepStarted(StepEvent):
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class StepFinished(StepEvent):
    """`seconds` of the last attempt; for a reused step those of the attempt that was recorded."""

    seconds: float = 0.0
    reused: bool = False
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class StepFailed(StepEvent):
    """One attempt failed. `will_retry` says whether another follows. `within`: a sub-workflow failed with the error of
    a step inside it, which was told there."""

    attempt: int = 1
    error: str = ""
    will_retry: bool = False
    seconds: float = 0.0
    within: bool = False


@dataclass(frozen=True, slots=True)
class StepRetrying(StepEvent):
    """Attempt number `attempt` is due, `delay_s` seconds after the one before failed."""

    attempt: int = 2
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class StepSkipped(StepEvent):
    """An input failed, so this step never started; `origin` is the path of the step that failed first. Or, with
    no origin, its own condition did not hold, and its value is None."""

    origin: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StepCancelled(StepEvent):
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StepChanged(StepEvent):
    """The resumed run holds another result at this path, so the step runs again.

    `what` is "definition", "inputs" or "result type".
    """

    what: str = ""


@dataclass(frozen=True, slots=True)
class EngineCalled(StepEvent):
    engine: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EngineAnswered(StepEvent):
    """`confidence` is the overall one, None where the engine cannot tell; `fields` that of each part. `cost` in US
    dollars, by the policy's prices; `unpriced`: there is a budget of cost, and the engine's price is not known."""

    engine: str = ""
    usage: Usage = field(default_factory=Usage)
    timings: Timings = field(default_factory=Timings)
    confidence: float | None = None
    fields: Mapping[str, float] = field(default_factory=dict)
    stop: str = "end"
    cost: float = 0.0
    unpriced: bool = False


@dataclass(frozen=True, slots=True)
class Routed(StepEvent):
    engine: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RouteRefused(StepEvent):
    """No engine can be asked: none holds the contract, the one that is wanted is not open, or the budget is spent."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class PutOff(StepEvent):
    """`engine` has no room, in its own words, and asks for a pause: the call is made again after `wait_s` seconds."""

    engine: str = ""
    reason: str = ""
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class CalledOff(StepEvent):
    """The call that `engine` worked on was taken back, as another was first or its time was up, or it `broke` off on
    its way. It is booked with the `tokens` of its prompt and of what had come of its answer (estimated, unless the
    engine told them), and their `cost` as that of EngineAnswered."""

    engine: str = ""
    tokens: int = 0
    cost: float = 0.0
    broke: bool = False


@dataclass(frozen=True, slots=True)
class Rejected(StepEvent):
    """An answer was not accepted."""

    engine: str = ""
    reason: str = ""
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Repaired(StepEvent):
    """`kind` of contract, the number of `edits` made and how certain the repair is, in [0, 1]. `made` tells each edit
    as data: where in the answer, what became what, the rule and its reason (at most MOST_EDITS_TOLD of them, long texts
    cut)."""

    kind: str = ""
    edits: int = 0
    certainty: float = 1.0
    made: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Accepted(StepEvent):
    """The answer that became the step's value: who wrote it and how sure it is, as a whole and by field (JSON
    pointers into the answer). `engines` names the engine of each field that another one wrote, `repairs` the rules
    that mended each part, "" those that concern no single part. `doubt`: it was not sure enough, and why it
    is taken all the same. `unjudged`: why its judge said nothing."""

    engine: str = ""
    confidence: float | None = None
    fields: Mapping[str, float] = field(default_factory=dict)
    engines: Mapping[str, str] = field(default_factory=dict)
    repairs: Mapping[str, list[str]] = field(default_factory=dict)
    doubt: str = ""
    unjudged: str = ""


@dataclass(frozen=True, slots=True)
class ValueShown(StepEvent):
    """The value of an LLM step, just accepted or taken from the journal (`reused`). Told while somebody listens,
    never kept: the journal has it. A fresh one comes with the `call` that it answers, a reused one with the `place` of
    its step in the journal."""

    value: Any = None
    reused: bool = False
    call: Any = None
    place: int = 0


@dataclass(frozen=True, slots=True)
class Escalated(StepEvent):
    """The next attempt goes from engine `origin` to engine `target`."""

    origin: str = ""
    target: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Hedged(StepEvent):
    """Engine `target` starts beside `engine`, which is late or looks bad."""

    engine: str = ""
    target: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class HedgeEnded(StepEvent):
    """The answer of `engine` was accepted first; told of each of the others. Where none was accepted, it is the one
    whose doubtful answer is taken all the same, "" where none is. `loser` was cancelled if it had not ended. What it
    did since it was asked was in vain: `wasted_s` seconds, `wasted_tokens` of prompts and answers (estimated for a
    call that was cut off), `wasted_passes` (as far as they were seen)."""

    engine: str = ""
    loser: str = ""
    wasted_s: float = 0.0
    wasted_passes: int = 0
    wasted_tokens: int = 0


@dataclass(frozen=True, slots=True)
class DraftShown(StepEvent):
    """What an engine shows of its answer after a pass. Told while somebody listens, never kept."""

    progress: Progress = field(default_factory=lambda: Progress(""))


Listener = Callable[[Event], None]
"""Called on the event loop, must return at once. One that raises is logged and gets no more events."""


@dataclass(frozen=True, slots=True)
class OfRun:
    """A listener that hears of the run's own beginning and end alone: for it no events of steps are built."""

    tell: Listener

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunStarted | RunFinished):
            self.tell(event)


MOST_EDITS_TOLD = 50

_PARTS: Mapping[str, type[Any]] = {"usage": Usage, "timings": Timings, "progress": Progress}


def _kinds(base: type[Event]) -> dict[str, type[Event]]:
    found: dict[str, type[Event]] = {}
    for kind in base.__subclasses__():
        found[kind.__name__] = kind
        found |= _kinds(kind)
    return found


_KINDS: dict[str, type[Event]] = {}


def _kind(name: str) -> type[Event] | None:
    """The class of that name, None if there is none. To look through all of them costs 60 µs."""
    if name not in _KINDS:
        _KINDS.update(_kinds(Event))
    return _KINDS.get(name)


def to_data(event: Event) -> dict[str, Any]:
    """The event as JSON data with its type; `from_data` is the inverse."""
    kind = type(event)
    found: dict[str, Any] = {"type": kind.__name__}
    for name in _names(kind):
        value = getattr(event, name)
        if name in _PARTS:
            value = asdict(value)
        elif name in ("fields", "engines", "repairs"):
            value = dict(value)
        elif name == "made":
            value = [dict(edit) for edit in value]
        found[name] = value
    return found


_NAMES: dict[type[Event], tuple[str, ...]] = {}


def _names(kind: type[Event]) -> tuple[str, ...]:
    found = _NAMES.get(kind)
    if found is None:
        found = _NAMES[kind] = tuple(f.name for f in fields(kind))
    return found


def _part(key: str, part: Any) -> Any:
    if key == "made":
        return tuple(part)
    if key == "progress" and isinstance(part, Mapping):
        part = {**part, "final": tuple(Span(*span) for span in part.get("final", ()))}
    return _PARTS[key](**part) if key in _PARTS and isinstance(part, Mapping) else part


def from_data(found: Mapping[str, Any]) -> Event:
    """Rebuild an event from `to_data`.

    Raises:
        ValueError: the type is unknown, or its fields are others.
    """
    name = found.get("type")
    kind = _kind(name) if isinstance(name, str) else None
    if kind is None:
        known = ", ".join(sorted(_kinds(Event)))
        raise ValueError(f"unknown event type {name!r}; known: {known}")
    parts = {key: _part(key, part) for key, part in found.items() if key != "type"}
    try:
        return kind(**parts)
    except TypeError as error:
        raise ValueError(f"event {name!r} has other fields: {error}") from error
