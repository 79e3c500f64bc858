"""The engines around a cassette: one that writes down what another answers, one that answers from it."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from carrara.engines.contract import Contract
from carrara.engines.engine import Ability, Engine, Health
from carrara.engines.errors import EngineError, EngineFailed, EngineRefused
from carrara.engines.facts import EngineFacts
from carrara.engines.request import Completion, Progress, Request, Watch
from carrara.runtime.cassette import Cassette, CassetteError, EngineRecord, contract_key
from carrara.runtime.cassette_format import completion_data, completion_from

_ERRORS: dict[str, type[EngineError]] = {"refused": EngineRefused, "failed": EngineFailed}


class RecordingEngine:
    """The engine behind it, with every call written down. EngineBusy is not: it is no answer."""

    def __init__(self, engine: Engine, cassette: Cassette) -> None:
        self._inner = engine
        self._cassette = cassette

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def can(self) -> frozenset[Ability]:
        return self._inner.can

    @property
    def fingerprint(self) -> str:
        return self._inner.fingerprint

    @property
    def context_tokens(self) -> int:
        return self._inner.context_tokens

    @property
    def facts(self) -> EngineFacts:
        return self._inner.facts

    def refusal(self, contract: Contract) -> str | None:
        reason = self._inner.refusal(contract)
        if reason is not None:
            self._introduce()
            self._cassette.add_refusal(self.name, contract, reason)
        return reason

    def health(self) -> Health:
        found = self._inner.health()
        return Health(found.ready, f"{found.line}; recorded to {self._cassette.path}")

    async def complete(self, request: Request, watch: Watch | None = None) -> Completion:
        self._introduce()
        try:
            completion = await self._inner.complete(request, watch)
        except (EngineRefused, EngineFailed) as error:
            kind = "refused" if isinstance(error, EngineRefused) else "failed"
            self._cassette.add_call(self.name, request, {"error": kind, "message": str(error)})
            raise
        self._cassette.add_call(self.name, request, completion_data(completion))
        return completion

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        self._introduce()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._inner.__aexit__(kind, error, trace)

    def _introduce(self) -> None:
        if self.name not in self._cassette.engines:
            found = EngineRecord(self.can, self.context_tokens, self.fingerprint, self._inner.facts)
            self._cassette.add_engine(self.name, found)


class ReplayEngine:
    """Answers what the recorded engine of that name answered."""

    def __init__(self, name: str, cassette: Cassette) -> None:
        self._name = name
        self._cassette = cassette
        self._record = cassette.engines[name]

    @property
    def name(self) -> str:
        return self._name

    @property
    def can(self) -> frozenset[Ability]:
        return self._record.can

    @property
    def fingerprint(self) -> str:
        return self._record.fingerprint

    @property
    def context_tokens(self) -> int:
        return self._record.context_tokens

    @property
    def facts(self) -> EngineFacts:
        return self._record.facts

    def refusal(self, contract: Contract) -> str | None:
        return self._record.refusals.get(contract_key(contract))

    def health(self) -> Health:
        return Health(True, f"{self._name}: replayed from {self._cassette.path}, no model")

    async def complete(self, request: Request, watch: Watch | None = None) -> Completion:
        """The recorded answer.

        Raises:
            CassetteMiss: none was recorded; the message shows the difference to the nearest request.
            CassetteError: the recorded answer is incomplete.
            EngineRefused, EngineFailed: that was the recorded answer.
        """
        call = self._cassette.find(self._name, request)
        if "error" in call.reply:
            raise _ERRORS[call.reply["error"]](call.reply["message"], engine=self._name)
        try:
            completion = completion_from(call.reply, self._name, request.output)
        except (KeyError, TypeError) as error:
            where = f"{self._cassette.path}:{call.line}"
            raise CassetteError(f"{where}: the recorded answer lacks {error}") from error
        if watch is not None:
            watch(Progress(completion.text))
        return completion

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None


__all__ = ["RecordingEngine", "ReplayEngine"]
