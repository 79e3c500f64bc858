"""A request in flight on an engine of this process: what its loop asks of it, its caller, its times."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from carrara.engines.errors import EngineBusy, EngineError, EngineFailed
from carrara.engines.prefix_cache import Hit
from carrara.engines.request import (
    Completion,
    Confidence,
    Progress,
    Request,
    StopReason,
    Timings,
    Usage,
    Watch,
)


class Job(Protocol):
    """One request in the making, by whatever decoder.

    `tokens` belong into the cache, the first `prompt` of them are the prompt; `hit` is what the prefix cache had of
    them. `failure`: it cannot go on, None while it can.
    """

    request: Request
    tokens: list[int]
    prompt: int
    hit: Hit[Any] | None
    passes: int
    failure: EngineError | None

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to decide."""
        ...

    @property
    def completion_tokens(self) -> int: ...

    @property
    def standing(self) -> str:
        """How far it came, for errors: "with 3 of at most 20 tokens written"."""
        ...

    def progress(self) -> Progress:
        """What to show of it now."""
        ...

    def finish(self) -> tuple[str, Any, StopReason, Confidence]:
        """Text, value, the reason for the end and confidence of a finished answer.

        Raises:
            ContractError: it does not hold to its contract, which would be a fault of the decoder.
        """
        ...


J = TypeVar("J", bound=Job)


@dataclass(slots=True, eq=False)
class Live(Generic[J]):
    """A request in flight. Times are of the engine's clock, None until reached: it was `submitted`, its first pass
    `started`, its prompt was `prefilled`. `known` of the job's tokens are known to the batcher, and `shown` is its
    last draft."""

    ticket: int
    job: J
    watch: Watch | None
    submitted: float
    done: asyncio.Future[Completion]
    started: float | None = None
    prefilled: float | None = None
    known: int = 0
    shown: Progress | None = None

    @property
    def deadline(self) -> float | None:
        seconds = self.job.request.limits.deadline_s
        return None if seconds is None else self.submitted + seconds

    def completion(self, engine: str, model: str, now: float) -> Completion:
        """What a finished answer comes to.

        Raises:
            ContractError: as `Job.finish`.
        """
        job = self.job
        text, value, stop, confidence = job.finish()
        started = now if self.started is None else self.started
        prefilled = now if self.prefilled is None else self.prefilled
        return Completion(
            text=text,
            value=value,
            confidence=confidence,
            usage=Usage(
                prompt_tokens=job.prompt,
                # What a grammar forces may be fed, and found, together with the prompt.
                cached_tokens=min(job.hit.tokens, job.prompt) if job.hit else 0,
                completion_tokens=job.completion_tokens,
                passes=job.passes,
            ),
            timings=Timings(started - self.submitted, prefilled - started, now - prefilled),
            stop=stop,
            engine=engine,
            model=model,
        )

    def too_late(self, engine: str, now: float) -> EngineError:
        """What to tell its caller once the deadline has passed."""
        waited_s = now - self.submitted
        if self.started is None:
            return late_in_queue(engine, waited_s)
        return EngineFailed(
            f"the deadline of a request passed on engine {engine!r}, {waited_s:.1f} s after it was submitted, "
            f"{self.job.standing}",
            engine=engine,
        )


def late_in_queue(engine: str, waited_s: float) -> EngineBusy:
    return EngineBusy(
        f"the deadline of a request passed in the queue of engine {engine!r}, "
        f"{waited_s:.1f} s after it was submitted",
        engine=engine,
    )
