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
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self, TypeVar

from carrara.engines.contract import Contract, Regex, Text, describe
from carrara.engines.engine import Ability, Health
from carrara.engines.errors import (
    BadReply,
    ContentFiltered,
    ContractError,
    EngineFailed,
    EngineRefused,
    EngineTimeout,
    LoadingError,
)
from carrara.engines.remote.anthropic_wire import AnthropicMessages
from carrara.engines.remote.carrier import Carrier, carrier_of
from carrara.engines.remote.confidence import confidence
from carrara.engines.remote.decisions import decide, fits_decisions
from carrara.engines.remote.faults import placed, refused_feature
from carrara.engines.remote.gemini_wire import GeminiContent
from carrara.engines.remote.grammars import llguidance_text
from carrara.engines.remote.keys import Key, find_key, how_to_set
from carrara.engines.remote.line import HttpLine, Line, StatusError, cut_off
from carrara.engines.remote.openai_wire import OpenAiChat, OpenAiText
from carrara.engines.remote.pins import Unpinnable, pinned
from carrara.engines.remote.preset import Preset, WireName
from carrara.engines.remote.reply import Call, Reply, Tool
from carrara.engines.remote.wire import Ask, ServerFault, Wire, Wrong
from carrara.engines.request import (
    Completion,
    Message,
    Progress,
    Request,
    StopReason,
    Timings,
    Watch,
)

WIRES: dict[WireName, Callable[[], Wire]] = {
    "openai": OpenAiChat,
    "openai-text": OpenAiText,
    "anthropic": AnthropicMessages,
    "gemini": GeminiContent,
}


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answered:
    """A reply, and the seconds until its first text and until its end."""

    reply: Reply
    first_s: float
    whole_s: float


class RemoteEngine:
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
        self._name, self.preset = name, preset
        self._given_key, self._given_line = key, line
        self._wire = WIRES[preset.wire]()
        self._key = key or Key("")
        self._line: Line = line or HttpLine(name, preset, self._key)
        self._clock = clock
        self._users = 0
        self._without: set[str] = set()
        self._working: set[asyncio.Task[Any]] = set()

    @property
    def name(self) -> str:
        return self._name

    @property
    def can(self) -> frozenset[Ability]:
        """By the preset, less what the server has turned out not to take."""
        found: set[Ability] = set()
        if self._holds_schemas:
            found |= {"schema", "choice", "table", "outline"}
            if self._grammars or (self.preset.pattern != "none" and "regex" not in self._without):
                found.add("regex")
        if self.preset.decisions and "decisions" not in self._without:
            found.add("choice")
        if self._pins:
            found |= {"schema", "drafts", "infill"}
        if self.preset.logprobs and "logprobs" not in self._without:
            found.add("logprobs")
        if self.preset.stream:
            found.add("stream")
        return frozenset(found)

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

    def refusal(self, contract: Contract) -> str | None:
        return None  # what it cannot hold it is asked for in words

    def health(self) -> Health:
        line = f"{self._name}: {self.preset.model or 'the model'} at {self._line.where}"
        if self._without:
            line += f"; the server takes no {', '.join(sorted(self._without))}"
        if self._users == 0:
            return Health(False, f"{line}, not open")
        return Health(True, line)

    async def __aenter__(self) -> Self:
        if self._users == 0:
            if self._given_line is None:
                self._key = self._given_key or find_key(self.preset.key_env)
                self._line = HttpLine(self._name, self.preset, self._key)
            if missing := self._missing():
                raise LoadingError(f"engine {self._name!r}: {missing}")
            await self._line.open()
        self._users += 1
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._users -= 1
        if self._users == 0:
            for task in tuple(self._working):
                task.cancel()
            await self._line.close()

    async def complete(self, request: Request, watch: Watch | None = None) -> Completion:
        """Complete one request; see the protocol. Cancelling closes the connection.

        Raises:
            EngineBusy, EngineRefused, EngineFailed: and their kinds; see `carrara.engines.errors`.
        """
        return await self._guarded(self._complete(request, watch), request.limits.deadline_s)

    async def use_tools(
        self, request: Request, tools: Sequence[Tool]
    ) -> tuple[Completion, tuple[Call, ...]]:
        """Complete a request of free text in which the model may ask for `tools`: the answer, and the calls it wants.

        Raises:
            EngineRefused: the preset says that the server has no tools.
        """
        if not self.preset.tools:
            raise EngineRefused(f"engine {self._name!r} has no tools", engine=self._name)
        work = self._asked(request, None, None, tools)
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
                return await task
        except Wrong as error:
            bad = BadReply(
                f"engine {self._name!r}: {self._line.where} sent an answer in another format: {error}"
            )
            raise placed(bad, self._name, "parse") from error
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
        if request.draft is not None and not self._pins:
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
        usable = self.preset.decisions and "decisions" not in self._without
        if not usable or request.draft is not None or not fits_decisions(request.output):
            return None
        started = self._clock()
        try:
            found = await decide(self._line, self._wire.headers(self._key), self.preset, request)
        except StatusError as error:
            if error.told.status in (400, 404, 422, 501):
                self._without.add("decisions")
                return None
            raise self._line.explained(error.told) from None
        seconds = self._clock() - started
        return replace(found, engine=self._name, timings=Timings(prefill_s=seconds))

    async def _by_pins(self, request: Request) -> Completion | None:
        """A JSON answer on a canvas whose literals are pinned."""
        if not self._pins:
            return None
        started = self._clock()
        try:
            found = await pinned(self._line, self._wire.headers(self._key), self.preset, request)
        except Unpinnable:
            return None
        except StatusError as error:
            if refused_feature(error.told, ["pins"]) or error.told.status == 404:
                self._without.add("pins")
                return None
            raise self._line.explained(error.told) from None
        seconds = self._clock() - started
        return replace(found, engine=self._name, timings=Timings(decode_s=seconds))

    async def _by_text(self, request: Request, watch: Watch | None) -> Completion:
        answered, carrier = await self._asked(request, self._carrier(request.output), watch, ())
        return self._completion(request, answered, carrier)

    async def _asked(
        self, request: Request, carrier: Carrier | None, watch: Watch | None, tools: Sequence[Tool]
    ) -> tuple[Answered, Carrier | None]:
        """Ask until the server takes the request: each time without the part that it refused. Also how the answer
        that came was carried."""
        while True:
            if carrier is not None and not self._holds_schemas:
                carrier = None
            ask = self._ask(request, carrier, watch is not None, tools)
            try:
                return await self._once(ask, watch), carrier if ask.schema is not None else None
            except StatusError as error:
                feature = refused_feature(error.told, self._optional(ask))
                if feature is None or feature in self._without:
                    raise self._line.explained(error.told) from None
                self._without.add(feature)

    async def _once(self, ask: Ask, watch: Watch | None) -> Answered:
        headers, body = self._wire.headers(self._key), self._wire.body(ask)
        if "max_completion_tokens" in self._without and "max_completion_tokens" in body:
            body["max_tokens"] = body.pop("max_completion_tokens")
        if "stream_options" in self._without:
            body.pop("stream_options", None)
        started = self._clock()
        try:
            if not ask.stream:
                reply = self._wire.read(await self._line.post(self._wire.path(ask), headers, body))
                return self._checked(Answered(reply, 0.0, self._clock() - started))
            events = self._line.stream(self._wire.path(ask), headers, body)
            return self._checked(await self._streamed(events, started, watch))
        except ServerFault as error:
            raise self._told_in_stream(error) from error

    async def _streamed(
        self, events: AsyncIterator[tuple[str, Any]], started: float, watch: Watch | None
    ) -> Answered:
        reply, first_s, is_over = Reply(), 0.0, False
        async with aclosing(events) as source:  # type: ignore[type-var]
            async for event, data in source:
                if event == "whole":
                    reply, is_over = self._wire.read(data), True
                elif event == "done":
                    is_over = True
                else:
                    before = len(reply.text)
                    is_over = self._wire.add(reply, event, data)
                    if len(reply.text) > before:
                        first_s = first_s or self._clock() - started
                        if watch is not None:
                            watch(Progress(reply.text))
                if is_over:
                    break
        if not reply.end:
            raise cut_off(self._name, self._line.where, reply.text)
        return Answered(reply, first_s, self._clock() - started)

    def _told_in_stream(self, error: ServerFault) -> Exception:
        from carrara.engines.remote.faults import told

        body = json.dumps(error.body)
        inner = error.body.get("error") if isinstance(error.body, dict) else None
        code = inner.get("code") if isinstance(inner, dict) else None
        kind = inner.get("type") if isinstance(inner, dict) else None
        known = {"overloaded_error": 529, "rate_limit_error": 429, "api_error": 500}
        status = code if isinstance(code, int) and 400 <= code < 600 else known.get(str(kind), 500)
        return self._line.explained(told(status, {}, body, self._key))

    def _checked(self, answered: Answered) -> Answered:
        reply = answered.reply
        if reply.end == "filtered" or reply.refused:
            said = reply.refused or reply.reason
            filtered = ContentFiltered(
                f"engine {self._name!r}: the provider refused the answer: {self._key.scrub(said)[:200]}"
            )
            raise placed(filtered, self._name, "read")
        return answered

    def _ask(
        self, request: Request, carrier: Carrier | None, streams: bool, tools: Sequence[Tool]
    ) -> Ask:
        preset, without, output = self.preset, self._without, request.output
        messages = request.messages
        regex = None
        if isinstance(output, Regex) and preset.pattern == "structured_outputs":
            regex = None if "regex" in without else output.pattern
            carrier = None if regex else carrier
        grammar = llguidance_text(output) if self._grammars else None
        if grammar is not None:
            carrier = None
        elif carrier is not None and not carrier.native:
            messages = _with(messages, carrier.hint)
        elif carrier is None and regex is None and "schema" in without:
            # The caller left the form out, because the engine could hold it then.
            messages = _with(messages, describe(output))
        wants = preset.logprobs and "logprobs" not in without
        sends = preset.temperature and "temperature" not in without
        sampling = request.sampling if sends else None
        if sampling is not None and "seed" in without:
            sampling = replace(sampling, seed=None)
        is_free = isinstance(output, Text)
        return Ask(
            preset=preset,
            messages=messages,
            max_tokens=request.limits.max_tokens,
            sampling=sampling,
            stop=request.stop if is_free and "stop" not in without else (),
            schema=carrier.schema if carrier is not None else None,
            schema_name=getattr(output, "name", "value"),
            regex=regex,
            grammar=grammar,
            object=preset.schema == "object" and output.kind == "json" and "schema" not in without,
            top_logprobs=preset.top_logprobs if wants and not tools else None,
            stream=streams and preset.stream,
            tools=tools,
        )

    def _optional(self, ask: Ask) -> list[str]:
        """The parts of a request that could be left out."""
        sampling = ask.sampling
        has = {
            "regex": ask.regex is not None,
            "schema": ask.schema is not None or ask.object or ask.grammar is not None,
            "logprobs": ask.top_logprobs is not None,
            "seed": sampling is not None and sampling.seed is not None and self.preset.seed,
            "max_completion_tokens": self.preset.max_tokens_name == "max_completion_tokens",
            "temperature": sampling is not None,
            "stop": bool(ask.stop),
            "stream_options": ask.stream,
        }
        return [name for name, sent in has.items() if sent]

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
        return Completion(
            text=text,
            value=value,
            confidence=confidence(request.output, carrier, reply.text, reply.tokens, is_whole),
            usage=reply.usage,
            timings=Timings(0.0, answered.first_s, answered.whole_s - answered.first_s),
            stop=stop,
            engine=self._name,
            model=reply.model or self.preset.model,
        )

    def _carrier(self, contract: Contract) -> Carrier | None:
        if not self._holds_schemas:
            return None
        by_schema = self.preset.pattern == "schema" and "regex" not in self._without
        return carrier_of(contract, self.preset.schema, pattern=by_schema)

    @property
    def _holds_schemas(self) -> bool:
        return self.preset.schema not in ("none", "object") and "schema" not in self._without

    @property
    def _grammars(self) -> bool:
        return self.preset.schema == "llguidance" and "schema" not in self._without

    @property
    def _pins(self) -> bool:
        return self.preset.pins and "pins" not in self._without

    def _missing(self) -> str:
        preset = self.preset
        if preset.key_required and preset.key_env and not self._key and self._given_line is None:
            return f"needs a key: {how_to_set(preset.key_env)}"
        if not preset.model and preset.key_required:
            return "needs the name of a model: set `model`"
        return ""


def _with(messages: tuple[Message, ...], words: str) -> tuple[Message, ...]:
    """The messages with `words` at the end of the last user message, unless they stand in one."""
    if not words or any(words in message.content for message in messages):
        return messages
    if not messages or messages[-1].role != "user":
        return (*messages, Message("user", words))
    last = messages[-1]
    return (*messages[:-1], replace(last, content=f"{last.content.rstrip()}\n\n{words}"))


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
