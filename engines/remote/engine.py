"""An engine behind a wire format: one model at one server, hosted or on this machine.

A contract is held by the server's JSON Schema where it has that, by its controls of a diffusion canvas where it has
those, else it is asked for in words and left to the runtime's repair. What a server turns out not to take (a schema,
probabilities, a seed) is left out from then on: the health line says so, and no request fails for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from carrara.engines.checks import check_numbers
from carrara.engines.contract import Contract, Text
from carrara.engines.engine import Ability, Health
from carrara.engines.errors import (
    ContractError,
    EngineError,
    EngineFailed,
    EngineRefused,
    EngineTimeout,
    LoadingError,
)
from carrara.engines.facts import EngineFacts
from carrara.engines.infill_text import no_holes
from carrara.engines.remote.carrier import Carrier
from carrara.engines.remote.confidence import confidence
from carrara.engines.remote.decisions import decide, fits_decisions
from carrara.engines.remote.dialogue import Answered, Dialogue
from carrara.engines.remote.faults import bad_format, placed, refused_feature
from carrara.engines.remote.keys import NO_KEY, Key, find_key, how_to_set
from carrara.engines.remote.line import HttpLine, Line, StatusError
from carrara.engines.remote.pins import Unpinnable, pinned
from carrara.engines.remote.preset import Preset
from carrara.engines.remote.questions import Questions
from carrara.engines.remote.reply import Call, Reply, Tool
from carrara.engines.remote.wire import Wrong
from carrara.engines.request import Completion, Request, StopReason, Timings, Watch
from carrara.engines.shared import Shared

T = TypeVar("T")


class RemoteEngine(Shared):
    """See `carrara.engines.engine.Engine`.

    `key` None: the preset's variable, looked up when the engine is entered. `line` is for tests and for servers in
    this process. Temperature 0 makes a hosted model's answers similar, not equal: its providers promise no more.
    """

    def __init__(
        self,
        name: str,
        preset: Preset,
        *,
        key: Key | None = None,
        line: Line | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._name, self.preset, self._given_model = name, preset, preset.model
        self._given_key, self._given_line = key, line
        self._questions = Questions(preset)
        self._clock = clock
        self._working: set[asyncio.Task[Any]] = set()
        self._is_unnamed = False
        self._is_cut_off = False
        self._talk = self._dialogue(key or NO_KEY)

    @property
    def name(self) -> str:
        return self._name

    @property
    def can(self) -> frozenset[Ability]:
        """By the preset, less what the server has turned out not to take."""
        return self._questions.can

    @property
    def fingerprint(self) -> str:
        preset = self.preset
        parts = [preset.wire, preset.base_url, preset.model, preset.schema, preset.pattern]
        text = json.dumps(
            [*parts, preset.decisions, preset.pins, dict(preset.body)], sort_keys=True
        )
        return f"remote-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"

    @property
    def context_tokens(self) -> int:
        return self.preset.context_tokens

    @property
    def facts(self) -> EngineFacts:
        """With the price of its preset."""
        return EngineFacts(price=self.preset.price)

    def refusal(self, contract: Contract) -> str | None:
        return no_holes(self._name, contract)

    def health(self) -> Health:
        line = f"{self._name}: {self._shown(self.preset.model) or 'the model'} at {self._talk.line.where}"
        if without := self._questions.without:
            line += f"; the server takes no {', '.join(sorted(without))}"
        if self._users == 0:
            return Health(False, f"{line}, not open")
        if self._is_cut_off:  # the engine itself is ready: to open it again would change nothing
            line += "; the server could not be reached when it was asked last"
        return Health(True, line)

    async def _begin(self) -> None:
        self._talk = self._dialogue(self._given_key or find_key(self.preset.key_env))
        if missing := self._missing():
            raise LoadingError(f"engine {self._name!r} {missing}")
        await self._talk.line.open()
        self._is_unnamed = not self.preset.model
        self._is_cut_off = False
        try:
            await self._name_model()
        except EngineFailed as error:  # told by the first call
            self._is_cut_off = error.is_unreachable

    async def _end(self) -> None:
        for task in tuple(self._working):
            task.cancel()
        await self._talk.line.close()

    async def complete(self, request: Request, watch: Watch | None = None) -> Completion:
        """Complete one request; see the protocol. Cancelling closes the connection.

        Raises:
            EngineBusy, EngineRefused, EngineFailed: and their kinds; see `carrara.engines.errors`.
        """
        check_numbers(request, self._name)
        return await self._guarded(self._complete(request, watch), request.limits.deadline_s)

    async def use_tools(
        self, request: Request, tools: Sequence[Tool]
    ) -> tuple[Completion, tuple[Call, ...]]:
        """Complete a request of free text in which the model may ask for `tools`: the answer, and the calls it wants.

        Raises:
            EngineRefused: the preset says that the server has no tools.
        """
        check_numbers(request, self._name)
        if not self.preset.tools:
            raise EngineRefused(f"engine {self._name!r} has no tools", engine=self._name)
        work = self._talk.answer(request, None, None, tools)
        answered, _ = await self._guarded(work, request.limits.deadline_s)
        return self._completion(request, answered, None), tuple(answered.reply.calls)

    async def _guarded(self, work: Coroutine[Any, Any, T], deadline_s: float | None) -> T:
        """Await `work` within the deadline; it ends when the engine is left."""
        if self._users == 0:
            work.close()
            raise EngineFailed(
                f"engine {self._name!r} is not open: enter it with `async with`", engine=self._name
            )
        task: asyncio.Task[T] = asyncio.ensure_future(work)
        self._working.add(task)
        try:
            async with asyncio.timeout(deadline_s):
                found = await task
            self._is_cut_off = False
            return found
        except EngineFailed as error:
            self._is_cut_off = error.is_unreachable
            raise
        except Wrong as error:
            raise bad_format(error, self._name, self._talk.line.where, self._talk.key) from error
        except TimeoutError as error:
            late = EngineTimeout(
                f"engine {self._name!r}: no whole answer within the deadline of {deadline_s:g} s"
            )
            raise placed(late, self._name, "read") from error
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if caller is not None and caller.cancelling():
                raise
            raise EngineFailed(
                f"engine {self._name!r} was closed while it worked", engine=self._name
            ) from None
        finally:
            self._working.discard(task)
            if not task.done():
                task.cancel()

    async def _complete(self, request: Request, watch: Watch | None) -> Completion:
        await self._name_model()
        if request.draft is not None and not self._questions.pins:
            raise EngineRefused(
                f"engine {self._name!r} writes from the beginning and takes no draft",
                engine=self._name,
            )
        for method in (self._by_decision, self._by_pins):
            completion = await method(request)
            if completion is not None:
                return completion
        if request.draft is not None:
            raise EngineRefused(
                f"engine {self._name!r} cannot lay out this draft on a canvas", engine=self._name
            )
        return await self._by_text(request, watch)

    async def _by_decision(self, request: Request) -> Completion | None:
        """A choice by one denoising step, where the server has `/v1/decisions`."""
        usable = self.preset.decisions and "decisions" not in self._questions.without
        if not usable or request.draft is not None or not fits_decisions(request.output):
            return None
        started = self._clock()
        try:
            found = await decide(self._talk.line, self._talk.headers, self.preset, request)
        except StatusError as error:
            if error.told.status in (400, 404, 422, 501):
                self._questions.without.add("decisions")
                return None
            raise self._talk.line.explained(error.told) from None
        seconds = self._clock() - started
        return self._named(replace(found, timings=Timings(prefill_s=seconds)))

    async def _by_pins(self, request: Request) -> Completion | None:
        """A JSON answer on a canvas whose literals are pinned."""
        if not self._questions.pins:
            return None
        started = self._clock()
        try:
            found = await pinned(self._talk.line, self._talk.headers, self.preset, request)
        except Unpinnable:
            return None
        except StatusError as error:
            if refused_feature(error.told, ["pins"]) or error.told.status == 404:
                self._questions.without.add("pins")
                return None
            raise self._talk.line.explained(error.told) from None
        seconds = self._clock() - started
        return self._named(replace(found, timings=Timings(decode_s=seconds)))

    async def _by_text(self, request: Request, watch: Watch | None) -> Completion:
        carrier = self._questions.carrier(request.output)
        answered, carrier = await self._talk.answer(request, carrier, watch, ())
        return self._completion(request, answered, carrier)

    def _completion(
        self, request: Request, answered: Answered, carrier: Carrier | None
    ) -> Completion:
        reply = answered.reply
        text = reply.text if carrier is None else carrier.unpacked(reply.text)
        if isinstance(request.output, Text) and request.stop:
            text, was_stopped = _before(text, request.stop)
        else:
            was_stopped = False
        value, is_whole = _value(request.output, text, reply.end)
        stop: StopReason = "stop" if was_stopped else _stop(reply)
        completion = Completion(
            text=text,
            value=value,
            confidence=reply.sure
            or confidence(request.output, carrier, reply.text, reply.tokens, is_whole),
            usage=reply.usage,
            timings=Timings(0.0, answered.first_s, answered.whole_s - answered.first_s),
            stop=stop,
            model=reply.model or self.preset.model,
        )
        return self._named(completion)

    def _named(self, completion: Completion) -> Completion:
        """The completion with the names of its engine and its model."""
        return replace(completion, engine=self._name, model=self._shown(completion.model))

    def _shown(self, model: str) -> str:
        """The name of a model as it may be shown: a server may say the key in place of one."""
        return model if model == self._given_model else self._talk.key.scrub(model)

    async def _name_model(self) -> None:
        """Where no model is named, take the first that the server lists; it is asked for that until it can be reached.

        Raises:
            EngineFailed: it cannot be now.
        """
        line = self._talk.line
        if not self._is_unnamed or not isinstance(line, HttpLine):
            return
        found = None
        try:
            found = await line.get("/models", self._talk.headers)
        except StatusError:
            pass  # it has no list
        except EngineError as error:  # nor has it where the answer is of another kind
            if isinstance(error, EngineFailed) and error.is_unreachable:
                raise
        self._is_unnamed = False
        listed = found.get("data") if isinstance(found, Mapping) else None
        first = listed[0] if isinstance(listed, list) and listed else None
        if isinstance(first, Mapping) and isinstance(first.get("id"), str):
            self.preset = self._questions.preset = replace(self.preset, model=first["id"])

    def _dialogue(self, key: Key) -> Dialogue:
        line = self._given_line or HttpLine(self._name, self.preset, key)
        return Dialogue(self._name, self._questions, line, key, self._clock)

    def _missing(self) -> str:
        preset = self.preset
        if (
            preset.key_required
            and preset.key_env
            and not self._talk.key
            and self._given_line is None
        ):
            return f"needs a key: {how_to_set(preset.key_env)}"
        if not preset.model and preset.key_required:
            return "needs the name of a model: set `model`"
        return ""


def _before(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """The text before the first stop string, for servers that take fewer or none."""
    places = [at for stop in stops if stop and (at := text.find(stop)) >= 0]
    return (text[: min(places)], True) if places else (text, False)


def _value(contract: Contract, text: str, end: str) -> tuple[Any, bool]:
    """The value where the text holds to the contract and was not cut off, and whether it does."""
    if end == "length" and not isinstance(contract, Text):
        return None, False
    try:
        return contract.parse(text), True
    except ContractError:
        return None, False


def _stop(reply: Reply) -> StopReason:
    match reply.end:
        case "length" | "stop" | "steps" as known:
            return known
        case _:
            return "end"


__all__ = ["RemoteEngine"]
