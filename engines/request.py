"""What goes into an engine and what comes out: Request, Completion and their parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from carrara.engines.contract import Contract, Hole, Infill, Text

Role = Literal["system", "user", "assistant"]
StopReason = Literal["end", "length", "stop", "steps"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `content` is data: a literal special token in it is escaped, never obeyed."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """Temperature 0 is greedy, others are finite; `top_p` is above 0 and at most 1.

    `seed` makes a warmer request repeatable, None leaves it open.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None

    @property
    def is_repeatable(self) -> bool:
        """Whether equal requests have equal answers on one engine."""
        return self.temperature == 0 or self.seed is not None


@dataclass(frozen=True, slots=True)
class Limits:
    """`max_tokens` of answer, `max_steps` denoising passes (None: the engine's default), and the
    seconds from submission after which the answer is of no use (None: no deadline)."""

    max_tokens: int = 512
    max_steps: int | None = None
    deadline_s: float | None = None


_USUAL = Limits()


@dataclass(frozen=True, slots=True)
class Draft:
    """An earlier answer to refine, and which part of it.

    `fields` are JSON pointers, `spans` pairs of character offsets into `text` (start, end; equal ones: a place to
    write something in): these are fully renoised, everything else is pinned, byte for byte. A span of a structured
    draft leaves its scaffold alone; what it covers of slots and choices is renoised. A span may get about twice as
    long. Without either, `strength` in (0, 1] is the share of the draft's tokens and choices that is
    renoised.
    """

    text: str
    fields: tuple[str, ...] = ()
    strength: float = 0.3
    spans: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """A commit rule of the diffusion engine by its name, and those of its parameters that differ from the
    defaults; `carrara.engines.diffusion.rule_table` lists both."""

    name: str
    parameters: Mapping[str, float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Request:
    """One call. Equal requests at temperature 0 have equal answers on one engine.

    To fill the holes of a text, `output` is an `Infill` (`infill` makes such a request); its holes have their own
    limits, and `limits.max_tokens` does not count. To refine an answer, give it as `draft` under its contract.

    `priority`: higher goes first where an engine has to choose. `stop` ends free text before the first
    of these strings. `draft` is only for engines that can "drafts". `adapter` names a loaded LoRA adapter,
    None takes the engine's default. `rule` says which decisions become final in a denoising step, None leaves
    it to the engine; engines that do not denoise have no use for it.
    """

    messages: tuple[Message, ...]
    output: Contract = field(default_factory=Text)
    limits: Limits = Limits()
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    priority: float = 0.0
    draft: Draft | None = None
    adapter: str | None = None
    rule: Rule | None = None


def infill(parts: Iterable[str | Hole], instruction: str = "", limits: Limits = _USUAL) -> Request:
    """A request to fill the holes of a text. The prompt is the instruction and the text with numbered blanks.

    Raises:
        CarraraError: no hole, or two without text between them.
    """
    contract = Infill(tuple(parts))
    return Request((infill_message(contract, instruction),), contract, limits)


def infill_message(contract: Infill, instruction: str = "") -> Message:
    """What a model is told to fill holes: the instruction, what each blank holds, the text with numbered blanks."""
    from carrara.engines.contract_text import describe

    return Message("user", f"{instruction.strip()}\n\n{describe(contract)}".lstrip())


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and forward passes. `cached_tokens` of the prompt came from the prefix cache; `passes`
    counts forward passes after the prompt (AR: one a token; diffusion: denoising steps)."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    passes: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.completion_tokens + other.completion_tokens,
            self.passes + other.passes,
        )


@dataclass(frozen=True, slots=True)
class Timings:
    queued_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Confidence:
    """How sure the engine is, each a probability in [0, 1].

    `overall` is the geometric mean over the decided tokens, None where an engine cannot tell; `fields`
    maps a JSON pointer (JSON), "/row/column" (table), "/item" (outline) or "" (choice) to the confidence of
    that part, "/0" for the first hole of an infill; `tokens` holds one value per answer token that was decided;
    `spans` one for each span of the draft that was refined, None where nothing was decided in it.
    """

    overall: float | None = None
    fields: Mapping[str, float] = field(default_factory=dict)
    tokens: tuple[float, ...] = ()
    spans: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer. `value` is the parsed value when the contract has one and the text holds to it, else
    None; `stop` says why it ended: "length" and "steps" mean that a limit cut it."""

    text: str
    value: Any = None
    confidence: Confidence = Confidence()
    usage: Usage = Usage()
    timings: Timings = Timings()
    stop: StopReason = "end"
    engine: str = ""
    model: str = ""


class Span(NamedTuple):
    """Characters start..stop of a draft that are final, and the probability they were decided with, None where they
    were given beforehand or the engine cannot tell."""

    start: int
    stop: int
    sure: float | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """A draft: what an engine shows while it works, after pass number `step`.

    `text` is the answer as it stands, `settled` the share of it that will not change, `final` the spans that will not,
    in order; none named where all of it is settled. Diffusion: the canvas, each undecided position as one character.
    AR: the text so far. Verified: behind that, what is drafted but not verified.
    """

    text: str
    settled: float = 1.0
    step: int = 0
    final: tuple[Span, ...] = ()

    @property
    def spans(self) -> tuple[Span, ...]:
        """`final`, also where none are named because all is."""
        whole = self.settled >= 1 and not self.final and self.text
        return (Span(0, len(self.text)),) if whole else self.final

    @property
    def sure(self) -> float | None:
        """The mean probability of what was decided so far, None of nothing."""
        found = [span.sure for span in self.final if span.sure is not None]
        return sum(found) / len(found) if found else None


Watch = Callable[[Progress], None]
"""Called from the event loop, must return at once; an exception in it fails the request."""
