"""The loop of the diffusion engine: its plans, what it tells its batcher, and a watchdog beside its passes; the rest is
`carrara.engines.rounds`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine
from typing import Any

from carrara.engines import rounds
from carrara.engines.diffusion.batch import Batcher, BatchLimits
from carrara.engines.diffusion.decode import Decoder, NoRoom
from carrara.engines.diffusion.job import Job
from carrara.engines.diffusion.memory import Costs, told
from carrara.engines.diffusion.plan import Plan
from carrara.engines.errors import EngineBusy, EngineFailed, EngineRefused
from carrara.engines.live import Live, late_in_queue
from carrara.engines.local import LocalModel
from carrara.engines.occupancy import Occupancy
from carrara.engines.watchdog import Watchdog

_log = logging.getLogger(__name__)


class Rounds(rounds.Rounds[Job]):
    """The requests of one open engine and the loop that serves them. `occupancy` counts the seats of its rounds."""

    _seats_are = "canvases"
    _batch: Batcher
    _decoder: Decoder

    def __init__(
        self,
        name: str,
        local: LocalModel,
        decoder: Decoder,
        limits: BatchLimits,
        clock: Callable[[], float],
        watchdog: Watchdog,
    ) -> None:
        self._watchdog = watchdog
        self._limits = limits
        self._costs = Costs.of(local.config, local.dtype, local.computed)
        self._preparing: dict[asyncio.Task[Job], float] = {}
        self.occupancy = Occupancy()
        super().__init__(name, local, decoder, clock)

    @property
    def trouble(self) -> str | None:
        """Why nothing is answered now, None while all is well."""
        return super().trouble or self._watchdog.line

    @property
    def is_crowded(self) -> bool:
        """Whether passes take fewer canvases than they may, after one ran out of memory."""
        return self._batch.together < self._limits.rows

    @property
    def seats(self) -> int:
        """How many canvases a pass takes at most while memory allows it."""
        return self._limits.rows

    @property
    def waiting(self) -> int:
        """Also those whose canvas is being made."""
        return super().waiting + len(self._preparing)

    async def prepared(
        self,
        make: Callable[[], Coroutine[Any, Any, Job]],
        submitted: float,
        deadline_s: float | None,
    ) -> Job:
        """What `make` makes on the model's thread, where a pass may keep it waiting.

        Raises:
            EngineBusy: the deadline passed, or a pass is overdue.
            EngineFailed: a pass does not come back.
        """
        due = math.inf if deadline_s is None else submitted + deadline_s
        if (now := self._clock()) >= due:
            raise late_in_queue(self._name, now - submitted)
        self.check_open()
        task = asyncio.create_task(make())
        self._preparing[task] = due
        self._wake.set()
        try:
            await asyncio.wait((task,))
        finally:
            del self._preparing[task]
            task.cancel()
        if not task.cancelled():
            return task.result()
        if line := self._watchdog.line:
            raise EngineFailed(f"engine {self._name!r} is stuck: {line}", engine=self._name)
        raise late_in_queue(self._name, self._clock() - submitted)

    def check_open(self) -> None:
        """See whether requests are answered now.

        Raises:
            EngineFailed: the engine closes or is down.
            EngineBusy: a pass is overdue.
        """
        super().check_open()
        if line := self._watchdog.line:
            raise EngineBusy(f"engine {self._name!r} is stuck: {line}", engine=self._name)

    def _empty_batch(self) -> Batcher:
        return Batcher(self._limits, self._costs)

    def _offer(self, live: Live[Job]) -> bool:
        job = live.job
        self._check_size(job)
        return self._batch.offer(
            live.ticket, len(job.tokens), job.need, job.request.priority, job.block, job.lead
        )

    def _check_size(self, job: Job) -> None:
        size, most = self._batch.bytes_alone(job.need, job.block, job.lead), self._limits.bytes
        if size > most:
            raise EngineRefused(self._too_large(job, size), engine=self._name)

    def _too_large(self, job: Job, size: int) -> str:
        block = job.block
        return (
            f"engine {self._name!r} refused {job.prompt:,} prompt tokens and a canvas of "
            f"{job.need - job.prompt:,}, {block.width:,} of them in a pass: cache and pass take {told(size)} even "
            f"alone, and {told(self._limits.bytes)} is all that the engine may use. Shorten the input, lower "
            "max_tokens, or give it more (BatchLimits.bytes)."
        )

    async def run(self) -> None:
        guard = asyncio.create_task(self._watchdog.run(self._end_late, self._stuck))
        try:
            await super().run()
        finally:
            guard.cancel()

    def _recover(self, error: Exception) -> None:
        if isinstance(error, NoRoom):
            self._without_room(error)
        else:
            self._fail_all(error)

    async def _gather(self) -> None:
        """Let free seats be taken by those whose canvas is being made. The model's thread makes them before the next
        pass in any case; a pass that is planned now would go without them: the first of many with a single one."""
        if self.seated + super().waiting < self.seats:
            await self._see_prepared()

    async def _rest(self) -> None:
        if self._preparing:
            await self._see_prepared()
        else:
            await super()._rest()

    async def _see_prepared(self) -> None:
        """Watch over the canvases that are being made: the model's thread is theirs, as it is a pass's."""
        if not self._preparing:
            return
        self._watchdog.begin(what="the making of a canvas")
        try:
            done, _ = await asyncio.wait(self._preparing)
            if any(task.cancelled() for task in done):  # nobody waits for it, but it still runs
                await self._local.run(lambda: None)
        finally:
            self._watchdog.end()

    async def _round(self) -> None:
        await self._gather()
        plan = self._batch.plan(self._find_prefix)
        for ticket in plan.refused:
            live = self._live[ticket]
            size = self._batch.bytes_alone(live.job.need, live.job.block, live.job.lead)
            self._refuse(live, EngineRefused(self._too_large(live.job, size)))
            self._drop(ticket)
        self.occupancy += Occupancy(1, self.seats, self.seated, len(plan.spots))
        now = self._clock()
        for feed in plan.feeds:
            live = self._live[feed.ticket]
            live.started = now if live.started is None else live.started
        jobs = {ticket: live.job for ticket, live in self._live.items()}
        passes = 1 if self._is_watched(plan) else plan.passes
        self._watchdog.begin(passes)
        try:
            done = await self._local.run(self._decoder.perform, plan, jobs, passes)
        finally:
            self._watchdog.end()
        if done.full_at is not None:
            self._batch.pinched(done.full_at)
        unsound = {feed.ticket for feed in plan.feeds if not jobs[feed.ticket].is_sound}
        for ticket in unsound:
            self._account(self._live[ticket])
        for ticket in [spot.ticket for spot in plan.spots if spot.ticket not in unsound]:
            live = self._live[ticket]
            live.prefilled = now + done.encoded_s if live.prefilled is None else live.prefilled
            self._account(live)

    def _is_watched(self, plan: Plan) -> bool:
        """Whether somebody wants to see the canvases after each pass."""
        return any(self._live[spot.ticket].watch is not None for spot in plan.spots)

    def _account(self, live: Live[Job]) -> None:
        """Tell the batcher how far a canvas came, and its caller when it is finished or has changed."""
        job = live.job
        if job.is_spoilt:
            job.is_spoilt = False
            self._batch.again(live.ticket)
            return
        self._batch.grew(live.ticket, len(job.tokens) - live.known, job.block)
        live.known = len(job.tokens)
        self._tell(live)

    def _end_late(self) -> list[Live[Job]]:
        """Tell those whose deadline passed, also while a pass runs."""
        late = super()._end_late()
        if self._preparing:
            now = self._clock()
            for task, due in self._preparing.items():
                if now >= due:
                    task.cancel()
        return late

    def _stuck(self, line: str) -> None:
        """A pass cannot be interrupted, but nobody has to wait for it."""
        _log.warning("engine %r: %s", self._name, line)
        for live in self._live.values():
            self._refuse(live, EngineFailed(f"engine {self._name!r} is stuck: {line}"))
        for task in self._preparing:
            task.cancel()

    def _without_room(self, error: NoRoom) -> None:
        """All begin anew with fewer beside them; one alone cannot be served."""
        _log.warning("engine %r: no memory for the cache: %s", self._name, error)
        if self.seated > 1:
            self._batch.restart()
            return
        for ticket in self._batch.seated_tickets:
            told = f"there is no memory for its cache: {error}"
            self._refuse(self._live[ticket], EngineBusy(told))
            self._drop(ticket)
        self._batch.restart()

    def _find_prefix(self, ticket: int) -> int:
        job = self._live[ticket].job
        if job.settings.attention == "full":  # nothing is kept: all of it sees the answer
            return 0
        key = job.prefix_key(self._local)
        job.hit = self._local.prefix_cache.find(key, job.tokens, most=job.prompt - 1)
        return job.hit.tokens
