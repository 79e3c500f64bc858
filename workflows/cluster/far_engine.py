"""An engine whose replicas are in other processes, as the workers of a job see it.

A request goes to the replica that has the fewest of this worker's. When a replica is lost its requests are asked again,
of another one or of the same once it has been started anew: steps and routers notice nothing but the time.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from carrara.engines import contract as contracts
from carrara.engines.contract import Contract
from carrara.engines.engine import Ability, Health
from carrara.engines.errors import CarraraError, EngineError, EngineFailed
from carrara.engines.facts import EngineFacts
from carrara.engines.request import Completion, Progress, Request, Watch
from carrara.workflows.cluster.wire import completion_from_text, request_text

AWAY_S = 900.0
"""How long all replicas may be away before a call fails: weights may have to be loaded on a new machine."""

MOST_LOST = 8
"""Replicas that may be lost with one request in them: it may be what takes them down."""

_AGAIN_S = 0.5


class ReplicaLost(Exception):
    """The process of a replica has gone, or cannot be reached."""


class Replica(Protocol):
    """A process with engines. Every method raises ReplicaLost where it is gone; it may come back."""

    async def call(self, method: str, *words: str) -> Any: ...


class Replicas:
    """The replicas of a job, for one worker. `first` is where it begins to ask, so that not all begin with the same."""

    def __init__(
        self,
        replicas: Sequence[Replica],
        first: int = 0,
        *,
        away_s: float = AWAY_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        turn = first % len(replicas)
        self._replicas = [*replicas[turn:], *replicas[:turn]]
        self._asked = [0] * len(replicas)
        self._away: set[int] = set()
        self._away_s = away_s
        self._sleep = sleep
        self._back = asyncio.Event()
        self._watches: set[asyncio.Task[None]] = set()

    async def call(self, method: str, *words: str) -> Any:
        """Ask the freest replica; again, where it is lost meanwhile.

        Raises:
            EngineFailed: none has come back in time, or this very call has taken several down.
        """
        for _ in range(MOST_LOST):
            number = await self._freest()
            self._asked[number] += 1
            try:
                return await self._replicas[number].call(method, *words)
            except ReplicaLost:
                self._lost(number)
            finally:
                self._asked[number] -= 1
        raise EngineFailed(
            f"{MOST_LOST} processes with engines were lost while they worked on this request"
        )

    async def close(self) -> None:
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)

    async def _freest(self) -> int:
        while len(self._away) == len(self._replicas):
            self._back.clear()
            try:
                await asyncio.wait_for(self._back.wait(), self._away_s)
            except TimeoutError:
                raise EngineFailed(
                    f"none of the {len(self._replicas)} processes with engines has come back within "
                    f"{self._away_s:g} s; look at the cluster (`ray status`)"
                ) from None
        there = [number for number in range(len(self._replicas)) if number not in self._away]
        return min(there, key=self._asked.__getitem__)

    def _lost(self, number: int) -> None:
        if number not in self._away:
            self._away.add(number)
            watch = asyncio.create_task(self._watch(number))
            self._watches.add(watch)
            watch.add_done_callback(self._watches.discard)

    async def _watch(self, number: int) -> None:
        """Ask until it answers again."""
        while True:
            try:
                await self._replicas[number].call("ready")
            except ReplicaLost:
                await self._sleep(_AGAIN_S)
            else:
                break
        self._away.discard(number)
        self._back.set()


class FarEngine:
    """An `Engine`. What it can and holds is known once it is entered, which opens it in the replica that is asked."""

    def __init__(self, name: str, replicas: Replicas) -> None:
        self._name = name
        self._replicas = replicas
        self._told: dict[str, Any] = {}
        self._facts = EngineFacts()
        self._refusals: dict[str, str | None] = {}

    @property
    def name(self) -> str:
        return self._name

    @property
    def can(self) -> frozenset[Ability]:
        return frozenset(self._told["can"])

    @property
    def fingerprint(self) -> str:
        return str(self._told["fingerprint"])

    @property
    def context_tokens(self) -> int:
        return int(self._told["context_tokens"])

    @property
    def facts(self) -> EngineFacts:
        return self._facts

    def refusal(self, contract: Contract) -> str | None:
        """Known after the first request with this contract; until then the engine is taken to hold it."""
        return self._refusals.get(_contract_text(contract))

    def health(self) -> Health:
        return Health(True, f"{self._told['line']}, on the cluster")

    async def complete(self, request: Request, watch: Watch | None = None) -> Completion:
        """Raises the engine's own errors; EngineFailed where it is not to be had."""
        await self._refuse(request.output)
        text = await self._replicas.call("complete", self._name, request_text(request))
        completion = completion_from_text(text, self._name, request.output)
        if watch is not None:
            watch(Progress(completion.text))
        return completion

    async def _refuse(self, contract: Contract) -> None:
        text = _contract_text(contract)
        if text in self._refusals:
            return
        try:
            self._refusals[text] = await self._replicas.call("refusal", self._name, text)
        except EngineError:
            raise
        except CarraraError as error:  # it was open when it was described, and is not now
            raise EngineFailed(str(error), engine=self._name) from error

    async def __aenter__(self) -> Self:
        """Raises LoadingError where it cannot be opened there."""
        self._told = json.loads(await self._replicas.call("describe", self._name))
        self._facts = EngineFacts.from_data(self._told["facts"])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None


def _contract_text(contract: Contract) -> str:
    return json.dumps(contracts.to_data(contract))


__all__ = ["AWAY_S", "FarEngine", "Replica", "ReplicaLost", "Replicas"]
