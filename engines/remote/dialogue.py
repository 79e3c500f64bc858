"""Asking a server one question: whole or as a stream, again without what it refuses, until an answer or an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from carrara.engines.errors import ContentFiltered, EngineError, EngineTimeout, StreamCut
from carrara.engines.remote.anthropic_wire import AnthropicMessages
from carrara.engines.remote.carrier import Carrier
from carrara.engines.remote.faults import is_of_one_schema, placed, refused_feature
from carrara.engines.remote.gemini_wire import GeminiContent
from carrara.engines.remote.keys import Key
from carrara.engines.remote.line import Line, StatusError, cut_off
from carrara.engines.remote.openai_wire import OpenAiChat, OpenAiText
from carrara.engines.remote.preset import WireName
from carrara.engines.remote.questions import Questions
from carrara.engines.remote.reading import Reading, read
from carrara.engines.remote.reply import Reply, Tool
from carrara.engines.remote.told import quoted
from carrara.engines.remote.wire import Ask, Wire, key_headers
from carrara.engines.request import Progress, Request, Usage, Watch
from carrara.engines.surrogates import paired

WIRES: dict[WireName, Callable[[], Wire]] = {
    "openai": OpenAiChat,
    "openai-text": OpenAiText,
    "anthropic": AnthropicMessages,
    "gemini": GeminiContent,
}


@dataclass(frozen=True, slots=True)
class Answered:
    """A reply, and the seconds until its first text and until its end."""

    reply: Reply
    first_s: float
    whole_s: float


@dataclass(frozen=True, slots=True)
class Dialogue:
    """What is needed to ask: the engine's name for errors, its questions, its line, its key and a clock."""

    engine: str
    questions: Questions
    line: Line
    key: Key
    clock: Callable[[], float]

    @property
    def wire(self) -> Wire:
        return WIRES[self.questions.preset.wire]()

    @property
    def headers(self) -> dict[str, str]:
        return key_headers(self.wire, self.questions.preset, self.key)

    async def answer(
        self, request: Request, carrier: Carrier | None, watch: Watch | None, tools: Sequence[Tool]
    ) -> tuple[Answered, Carrier | None]:
        """Ask until the server takes the request: each time without the part that it refused. Also how the answer
        that came was carried."""
        while True:
            if carrier is not None:
                carrier = self.questions.carrier(request.output)
            ask = self.questions.ask(request, carrier, watch is not None, tools)
            try:
                return await self._once(ask, watch), carrier if ask.schema is not None else None
            except StatusError as error:
                feature = refused_feature(error.told, self.questions.optional(ask))
                if feature is None:
                    raise _begun(self.line.explained(error.told), error.reply) from None
                if feature == "schema" and is_of_one_schema(error.told):
                    self.questions.unfit.add(request.output)
                else:
                    self.questions.without.add(feature)

    async def _once(self, ask: Ask, watch: Watch | None) -> Answered:
        headers, body = self.headers, self.wire.body(ask)
        if "max_completion_tokens" in self.questions.without and "max_completion_tokens" in body:
            body["max_tokens"] = body.pop("max_completion_tokens")
        if "stream_options" in self.questions.without:
            body.pop("stream_options", None)
        started, path = self.clock(), self.wire.path(ask)
        if not ask.stream:
            reply = read(self.wire, await self.line.post(path, headers, body))
            return self._checked(Answered(reply, 0.0, self.clock() - started))
        reading = Reading(self.wire, ask.max_tokens)
        events = self.line.stream(path, headers, body)
        return self._checked(await self._streamed(reading, events, started, watch))

    async def _streamed(
        self,
        reading: Reading,
        events: AsyncGenerator[tuple[str, Any], None],
        started: float,
        watch: Watch | None,
    ) -> Answered:
        """The answer that the events tell. Once the reason of its end has come it is whole: the usage that may follow
        is waited for `tail_s` and no longer, and where the connection breaks or falls silent it stays unknown."""
        first_s, tail_s = 0.0, self.questions.preset.timeouts.tail_s
        try:
            async with aclosing(events) as source, asyncio.timeout(None) as tail:
                async for event, data in source:
                    before = len(reading.reply.text)
                    is_over = reading.add(event, data)
                    if event != "whole" and len(reading.reply.text) > before:
                        first_s = first_s or self.clock() - started
                        if watch is not None:
                            watch(Progress(reading.shown))
                    if is_over:
                        break
                    if reading.reply.end and tail.when() is None:
                        tail.reschedule(asyncio.get_running_loop().time() + tail_s)
        except TimeoutError:
            pass  # the end of `tail`
        except StatusError as error:
            error.reply = reading.reply
            raise
        except EngineError as error:
            if not (reading.reply.end and isinstance(error, StreamCut | EngineTimeout)):
                _begun(error, reading.reply)
                raise
        if not reading.reply.end:
            raise _begun(cut_off(self.engine, self.line.where, reading.shown), reading.reply)
        return Answered(reading.whole(), first_s, self.clock() - started)

    def _checked(self, answered: Answered) -> Answered:
        reply = answered.reply
        if reply.end == "filtered" or reply.refused:
            said = reply.refused or reply.reason
            filtered = ContentFiltered(
                f"engine {self.engine!r}: the provider refused the answer: {self.key.scrub(said)[:200]}"
            )
            raise _begun(placed(filtered, self.engine, "read"), reply)
        check_unbroken(reply, self.engine, self.line.where, self.key)
        return answered


def check_unbroken(reply: Reply, engine: str, where: str, key: Key) -> None:
    """
    Raises:
        StreamCut: the server gave the answer up.
    """
    if reply.end == "broken":
        raise _begun(cut_off(engine, where, reply.text, quoted(reply.reason, key)), reply)


def _begun(error: EngineError, reply: Reply) -> EngineError:
    """The same error with what had come of the reply."""
    error.text = error.text or paired(reply.text, "ignore")
    error.usage = reply.usage if reply.usage != Usage() else None
    return error


__all__ = ["Answered", "Dialogue", "check_unbroken"]
