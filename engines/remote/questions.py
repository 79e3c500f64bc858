"""From a request to a question that a server takes: what its preset can do, less what it has refused.

One `Questions` belongs to one engine. `without` grows as the server turns out not to take an optional part of a
question, `unfit` by the contracts whose schema it refuses while it takes others; nothing is asked for twice that was
refused once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from carrara.engines.contract import Choice, Contract, Regex, Text
from carrara.engines.contract_text import describe
from carrara.engines.engine import Ability
from carrara.engines.remote.carrier import Carrier, carrier_of
from carrara.engines.remote.grammars import llguidance_text
from carrara.engines.remote.preset import Preset
from carrara.engines.remote.reply import Tool
from carrara.engines.remote.wire import Ask
from carrara.engines.request import Message, Request


class Questions:
    def __init__(self, preset: Preset) -> None:
        self.preset = preset
        self.without: set[str] = set()
        self.unfit: set[Contract] = set()

    @property
    def can(self) -> frozenset[Ability]:
        """By the preset, less what the server has turned out not to take."""
        found: set[Ability] = set()
        if self.holds_schemas:
            found |= {"schema", "choice", "table", "outline"}
            if self._grammars or (
                self.preset.pattern != "none" and "structured" not in self.without
            ):
                found.add("regex")
        if self.preset.decisions and "decisions" not in self.without:
            found.add("choice")
        if self.pins:
            found |= {"schema", "drafts", "infill"}
        if self.preset.logprobs and "logprobs" not in self.without:
            found.add("logprobs")
        if self.preset.stream:
            found.add("stream")
        return frozenset(found)

    @property
    def pins(self) -> bool:
        return self.preset.pins and "pins" not in self.without

    def ask(
        self, request: Request, carrier: Carrier | None, streams: bool, tools: Sequence[Tool]
    ) -> Ask:
        preset, without, output = self.preset, self.without, request.output
        messages = request.messages
        structured = self._structured(output)
        if structured is not None:
            carrier = None
        grammar = llguidance_text(output) if self._grammars and output not in self.unfit else None
        if grammar is not None:
            carrier = None
        elif carrier is not None and not carrier.native:
            messages = with_words(messages, carrier.hint)
        elif carrier is None and structured is None and self._should_hold:
            # The caller has left the form out, because such an engine holds it.
            messages = with_words(messages, describe(output))
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
            structured=structured,
            grammar=grammar,
            object=preset.schema == "object" and output.kind == "json" and "schema" not in without,
            top_logprobs=preset.top_logprobs if wants and not tools else None,
            stream=streams and preset.stream,
            tools=tools,
        )

    def optional(self, ask: Ask) -> list[str]:
        """The parts of a request that could be left out."""
        sampling = ask.sampling
        has = {
            "structured": ask.structured is not None,
            "schema": ask.schema is not None or ask.object or ask.grammar is not None,
            "logprobs": ask.top_logprobs is not None,
            "seed": sampling is not None and sampling.seed is not None and self.preset.seed,
            "max_completion_tokens": self.preset.max_tokens_name == "max_completion_tokens",
            "temperature": sampling is not None,
            "stop": bool(ask.stop),
            "stream_options": ask.stream,
        }
        return [name for name, sent in has.items() if sent and name not in self.without]

    def carrier(self, contract: Contract) -> Carrier | None:
        if not self.holds_schemas or contract in self.unfit:
            return None
        by_schema = self.preset.pattern == "schema" and "structured" not in self.without
        return carrier_of(contract, self.preset.schema, pattern=by_schema)

    def _structured(self, contract: Contract) -> dict[str, Any] | None:
        """A choice or a pattern for vLLM's `structured_outputs`, where the server has that."""
        if self.preset.pattern != "structured_outputs" or "structured" in self.without:
            return None
        match contract:
            case Regex(pattern):
                return {"regex": pattern}
            case Choice(options):
                return {"choice": list(options)}
            case _:
                return None

    @property
    def holds_schemas(self) -> bool:
        return self.preset.schema not in ("none", "object") and "schema" not in self.without

    @property
    def _should_hold(self) -> bool:
        preset = self.preset
        return preset.schema not in ("none", "object") or preset.pins or preset.decisions

    @property
    def _grammars(self) -> bool:
        return self.preset.schema == "llguidance" and "schema" not in self.without


def with_words(messages: tuple[Message, ...], words: str) -> tuple[Message, ...]:
    """The messages with `words` at the end of the last user message, unless they stand in one."""
    if not words or any(words in message.content for message in messages):
        return messages
    if not messages or messages[-1].role != "user":
        return (*messages, Message("user", words))
    last = messages[-1]
    return (*messages[:-1], replace(last, content=f"{last.content.rstrip()}\n\n{words}"))


__all__ = ["Questions", "with_words"]
