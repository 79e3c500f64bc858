"""A request in flight: its job, its caller, its times."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from carrara.engines.diffusion.job import Job
from carrara.engines.errors import EngineBusy, EngineError, EngineFailed
from carrara.engines.request import Completion, Timings, Usage, Watch


@dataclass(slots=True, eq=False)
class Live:
    """A request in flight. Times are of the engine's clock, None until reached; `known` of the job's tokens are
    known to the batcher."""

    ticket: int
    job: Job
    watch: Watch | None
    submitted: float
    done: asyncio.Future[Completion]
    started: float | None = None
    denoised: float | None = None
    known: int = 0

    @property
    def deadline(self) -> float | None:
        seconds = self.job.request.limits.deadline_s
        return None if seconds is None else self.submitted + seconds

    def completion(self, engine: str, model: str, now: float) -> Completion:
        """What a finished answer comes to.

        Raises:
            ContractError: it does not hold to its contract, which would be a fault of the scaffold.
        """
        job = self.job
        text, value, stop, confidence = job.finish()
        started = now if self.started is None else self.started
        denoised = now if self.denoised is None else self.denoised
        return Completion(
            text=text,
            value=value,
            confidence=confidence,
            usage=Usage(
                prompt_tokens=job.prompt,
                cached_tokens=job.hit.tokens if job.hit else 0,
                completion_tokens=len(job.tokens) - job.prompt,
                passes=job.passes,
            ),
            timings=Timings(started - self.submitted, denoised - started, now - denoised),
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
            f"after {self.job.passes} passes with {self.job.canvas.settled_share:.0%} of the canvas settled",
            engine=engine,
        )


def late_in_queue(engine: str, waited_s: float) -> EngineBusy:
    return EngineBusy(
        f"the deadline of a request passed in the queue of engine {engine!r}, "
        f"{waited_s:.1f} s after it was submitted",
        engine=engine,
    )
