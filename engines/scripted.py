"""An engine that answers from a script, for tests, demonstrations and dry runs. It loads no model.

A script is a function of the request (plain or async) or a list of replies given out in order. A reply is a
text, a whole `Completion`, or an exception to raise. White-space separated words count as tokens.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any

from carrara.engines.checks import check_numbers
from carrara.engines.contract import Contract
from carrara.engines.engine import Ability, Health
from carrara.engines.errors import ContractError, EngineFailed, EngineRefused
from carrara.engines.facts import EngineFacts
from carrara.engines.request import Completion, Confidence, Progress, Request, Usage, Watch
from carrara.engines.shared import Shared

Reply = str | Completion | BaseException
Script = Callable[[Request], Reply | Awaitable[Reply]] | Iterable[Reply]
Sureness = float | Confidence | None | Callable[[Request, str], float | Confidence | None]


class ScriptedEngine(Shared):
    """An `Engine` whose answers are written beforehand.

    `reply` may be async: what it awaits (an `asyncio.Event`, say) is how long the engine takes, so a test
    decides the order of answers without a clock. `confidence` is a number, a `Confidence` or a function of
    request and text; it may be assigned at any time and does not touch replies that are a `Completion`.
    `can`, `refuses` (contract kinds), `context_tokens` and `facts` say what the engine declares about itself.

    `requests` holds every request in the order of arrival, `in_flight` and `most_in_flight` count them.
    """

    def __init__(
        self,
        name: str = "scripted",
        reply: Script = (),
        *,
        confidence: Sureness = 1.0,
        can: Iterable[Ability] = (),
        refuses: Iterable[str] = (),
        context_tokens: int = 1_000_000,
        fingerprint: str = "scripted",
        facts: EngineFacts = EngineFacts(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__()
        self._name = name
        self._reply = reply if callable(reply) else _in_order(name, reply)
        self._can = frozenset(can)
        self._refuses = frozenset(refuses)
        self._context_tokens = context_tokens
        self._fingerprint = fingerprint
        self._working: set[asyncio.Future[Reply]] = set()
        self.confidence = confidence
        self.facts = facts
        self.requests: list[Request] = []
        self.in_flight = 0
        self.most_in_flight = 0

    @property
    def name(self) -> str:
        return self._name

    @property
    def can(self) -> frozenset[Ability]:
        return self._can

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @property
    def context_tokens(self) -> int:
        return self._context_tokens

    def refusal(self, contract: Contract) -> str | None:
        if contract.kind in self._refuses:
            return f"engine {self._name!r} holds no {contract.kind} contract"
        return None

    def health(self) -> Health:
        return Health(True, f"{self._name}: scripted replies, no model")

    async def complete(self, request: Request, watch: Watch | None = None) -> Completion:
        """The next reply of the script, with the value parsed when it holds to the contract.

        Raises:
            EngineRefused: contract kind in `refuses`, or more words than `context_tokens`.
            EngineFailed: the list of replies is used up, or the engine was left while it worked.
        """
        self.requests.append(request)
        self._refuse(request)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            found = await self._work(request)
        finally:
            self.in_flight -= 1
        if isinstance(found, BaseException):
            raise found
        completion = self._completion(request, found)
        if watch is not None:
            watch(Progress(completion.text))
        return completion

    async def _end(self) -> None:
        for work in tuple(self._working):
            work.cancel()

    def _refuse(self, request: Request) -> None:
        check_numbers(request, self._name)
        reason = self.refusal(request.output)
        words = _words(request)
        if reason is None and words > self._context_tokens:
            reason = (
                f"engine {self._name!r} refused {words:,} prompt tokens, "
                f"its context holds {self._context_tokens:,}"
            )
        if reason is not None:
            raise EngineRefused(reason, engine=self._name)

    async def _work(self, request: Request) -> Reply:
        found = self._reply(request)
        if not inspect.isawaitable(found):
            return found
        work = asyncio.ensure_future(found)
        self._working.add(work)
        try:
            return await work
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if caller is not None and caller.cancelling():
                raise
            raise EngineFailed(
                f"engine {self._name!r} was closed while it worked", engine=self._name
            ) from None
        finally:
            self._working.discard(work)

    def _completion(self, request: Request, found: str | Completion) -> Completion:
        if isinstance(found, Completion):
            return replace(found, engine=found.engine or self._name)
        return Completion(
            text=found,
            value=_value(request.output, found),
            confidence=self._confidence(request, found),
            usage=Usage(_words(request), 0, len(found.split()), len(found.split())),
            engine=self._name,
            model="scripted",
        )

    def _confidence(self, request: Request, text: str) -> Confidence:
        found = self.confidence
        if callable(found):
            found = found(request, text)
        return found if isinstance(found, Confidence) else Confidence(overall=found)


def _in_order(name: str, replies: Iterable[Reply]) -> Callable[[Request], Reply]:
    left = iter(tuple(replies))

    def next_reply(_: Request) -> Reply:
        for reply in left:
            return reply
        return EngineFailed(f"engine {name!r} has no reply left in its script", engine=name)

    return next_reply


def _value(contract: Contract, text: str) -> Any:
    try:
        return contract.parse(text)
    except ContractError:
        return None


def _words(request: Request) -> int:
    return sum(len(message.content.split()) for message in request.messages)


__all__ = ["Reply", "Script", "ScriptedEngine", "Sureness"]
