"""Finding out what a server really does: each ability is tried with a small question, and what came is looked at.

A server that ignores a part of a request silently is found out as well: a schema counts only when an answer that the
prompt does not ask for obeys it. What went wrong in passing (a full server, a time-out) is tried again, and is else
unknown: it settles nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from carrara.engines.contract import Choice, Json
from carrara.engines.errors import EngineError, Unreachable
from carrara.engines.remote.configured import is_loopback
from carrara.engines.remote.decisions import decide
from carrara.engines.remote.dialogue import WIRES, check_unbroken
from carrara.engines.remote.faults import bad_format, error_of
from carrara.engines.remote.keys import Key, bare_url
from carrara.engines.remote.line import HttpLine, StatusError
from carrara.engines.remote.patience import Passing, Patience
from carrara.engines.remote.pins import holds_pins
from carrara.engines.remote.preset import Pattern, Preset, SchemaMode
from carrara.engines.remote.reading import Reading, read
from carrara.engines.remote.reply import Reply
from carrara.engines.remote.told import Told
from carrara.engines.remote.wire import Ask, Wrong, key_headers
from carrara.engines.request import Limits, Message, Request, Sampling

_SECRET_WORDS = ("zebra", "walnut")
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"zebra": {"type": "integer", "enum": [4071]}},
    "required": ["zebra"],
    "additionalProperties": False,
}
_OPEN_SCHEMA = {
    "type": "object",
    "properties": {**_SCHEMA["properties"], "note": {"type": "string", "maxLength": 1}},
    "required": ["zebra"],
}
"""The strict dialect refuses it: a key that may be left out, others that are not ruled out."""
_NUMBER = {
    "type": "object",
    "properties": {"zebra": {"type": "integer"}},
    "required": ["zebra"],
}
_GREETING = (Message("user", "Say hello."),)
_SENTENCE = "A prefix is long enough to be kept when it is asked for a second time. "
_HERE, _AWAY = 8, 80
"""How many sentences: a server on this machine may be slow and keeps short prefixes, services keep 1,024 tokens."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried: the fields of a preset that it settles, and what was seen, in a few words. `known`
    False: it could not be found out now."""

    what: str
    fields: Mapping[str, Any]
    seen: str
    known: bool = True


@dataclass(frozen=True, slots=True)
class Probed:
    """The preset, and what could not be found out: what, and why. Of that the preset says nothing."""

    preset: Preset
    unknown: Mapping[str, str]


async def probe(
    base: Preset,
    key: Key,
    tell: Callable[[Finding], None] = lambda finding: None,
    *,
    timeout_s: float = 60.0,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Probed:
    """`base` with the abilities that the server at its URL shows. `tell` is told of each finding. `timeout_s` is the
    longest silence of the server while it is probed; the preset keeps its own.

    Raises:
        EngineError: the server cannot be reached, or does not answer the plainest question.
    """
    prober = _Prober(base, key, timeout_s, Patience(sleep=sleep))
    unknown: dict[str, str] = {}
    await prober.line.open()
    try:
        for step in (
            prober.model,
            prober.plain,
            prober.stream,
            prober.schema,
            prober.pattern,
            prober.logprobs,
            prober.seed,
            prober.cache,
            prober.decisions,
            prober.pins,
        ):
            finding = await step()
            prober.take(finding)
            if not finding.known:
                unknown[finding.what] = finding.seen
            tell(finding)
    finally:
        await prober.line.close()
    checked = f"probed, but for {', '.join(unknown)}" if unknown else "probed"
    return Probed(prober.preset.but({"checked": checked}, base.name), unknown)


class _Prober:
    def __init__(self, base: Preset, key: Key, timeout_s: float, patience: Patience) -> None:
        self.preset, self.key, self.patience = base, key, patience
        self.wire = WIRES[base.wire]()
        quick = replace(base, timeouts=replace(base.timeouts, read_s=timeout_s))
        self.line = HttpLine(
            base.name, quick, key, silence=f"the probe's --timeout of {timeout_s:g} s"
        )

    @property
    def headers(self) -> dict[str, str]:
        return key_headers(self.wire, self.preset, self.key)

    def take(self, finding: Finding) -> None:
        self.preset = self.preset.but(finding.fields, self.preset.name)

    async def model(self) -> Finding:
        """The first model that the server lists, unless one is named, and its context."""
        named = self.preset.model
        try:
            found = await self.patience.ask(lambda: self.line.get("/models", self.headers))
        except Passing as passing:
            if isinstance(passing.error, Unreachable):
                raise passing.error from None
            return _unknown("model", passing)
        except (EngineError, StatusError) as error:
            return Finding("model", {}, f"{named or 'none'} (no list of models: {_words(error)})")
        listed = found.get("data") if isinstance(found, Mapping) else None
        models = [
            one
            for one in (listed if isinstance(listed, list) else ())
            if isinstance(one, Mapping) and isinstance(one.get("id"), str)
        ]
        one = next((m for m in models if m["id"] == named or not named), None)
        if one is None:
            missing = "none of that name" if named else "no model"
            return Finding("model", {}, f"{named or 'none'} (the server lists {missing})")
        context = _context_of(one)
        fields: dict[str, Any] = {"model": one["id"]} | (
            {"context_tokens": context} if context else {}
        )
        shown = f"{one['id']}, {context:,} tokens of context" if context else one["id"]
        return Finding("model", fields, shown)

    async def plain(self) -> Finding:
        """A greeting. Which field bounds an answer, and whether a temperature is taken, is settled here."""
        fields: dict[str, Any] = {}
        while True:
            self.preset = self.preset.but(fields, self.preset.name)
            try:
                reply = await self._ask(self._greeting(most=8))
            except Passing as passing:
                raise self._error(passing.error) from None
            except StatusError as error:
                more = _amended(error.told, self.preset)
                if more is None:
                    raise self._error(error) from None
                fields |= more
                continue
            return Finding("answer", fields, repr(reply.text[:40]))

    async def stream(self) -> Finding:
        try:
            return await self.patience.ask(self._stream)
        except Passing as passing:
            return _unknown("stream", passing)
        except (StatusError, EngineError, Wrong) as error:
            return Finding("stream", {"stream": False}, f"no: {_words(error)}")

    async def _stream(self) -> Finding:
        chunks = 0
        ask = self._greeting(stream=True, most=8)
        reading = Reading(self.wire, ask.max_tokens)
        events = self.line.stream(self.wire.path(ask), self.headers, self.wire.body(ask))
        async with aclosing(events) as source:
            async for event, data in source:
                if event == "whole":
                    return Finding("stream", {"stream": False}, "no: answers come whole")
                if reading.add(event, data):
                    break
                chunks += 1
        check_unbroken(reading.reply, self.preset.name, self.line.where, self.key)
        good = bool(reading.reply.end)
        seen = f"{chunks} chunks" if good else "no: it has no end"
        return Finding("stream", {"stream": good}, seen)

    async def schema(self) -> Finding:
        reason = ""
        tries: list[tuple[SchemaMode, Mapping[str, Any] | None]] = [
            ("full", _OPEN_SCHEMA),
            ("strict", _SCHEMA),
            ("object", None),
        ]
        for mode, schema in tries:
            asked = self._greeting(schema=schema, object=schema is None)
            try:
                reply = await self._ask(asked, "schema")
            except Passing as passing:
                return _unknown("schema", passing)
            except (StatusError, EngineError, Wrong) as error:
                reason = _words(error)
                continue
            if schema is not None and _obeys(reply.text):
                lost = (
                    ""
                    if _is_json(reply.text)
                    else ", but the model fills its answer with white space"
                )
                return Finding("schema", {"schema": mode}, f"held, {mode}{lost}")
            if schema is None and _is_json(reply.text):
                return Finding("schema", {"schema": mode}, "no schemas, but JSON")
            reason = "ignored"
        return Finding("schema", {"schema": "none"}, f"no: {reason}")

    async def pattern(self) -> Finding:
        tries: list[tuple[Pattern, str, dict[str, Any]]] = [
            ("structured_outputs", "structured", {"structured": {"regex": "[0-7]{4}-zebra"}}),
        ]
        if self.preset.schema in ("strict", "full"):
            held = {"type": "string", "pattern": "^[0-7]{4}-zebra$"}
            tries.append(("schema", "schema", {"schema": held}))
        for name, feature, asked in tries:
            try:
                reply = await self._ask(self._greeting(**asked), feature)
            except Passing as passing:
                return _unknown("pattern", passing)
            except (StatusError, EngineError, Wrong):
                continue
            text = reply.text.strip().strip('"')
            if text.endswith("-zebra") and len(text) == 10:
                return Finding("pattern", {"pattern": name}, f"held, by {name}")
        return Finding("pattern", {"pattern": "none"}, "no")

    async def logprobs(self) -> Finding:
        for top in (20, 5, 0):
            try:
                reply = await self._ask(self._greeting(top_logprobs=top, most=4), "logprobs")
            except Passing as passing:
                return _unknown("logprobs", passing)
            except (StatusError, EngineError, Wrong):
                continue
            if reply.tokens:
                seen = max(len(token.others) for token in reply.tokens)
                fields = {"logprobs": True, "top_logprobs": min(top, seen)}
                return Finding("logprobs", fields, f"yes, the {seen} likeliest")
        return Finding("logprobs", {"logprobs": False}, "no")

    async def seed(self) -> Finding:
        """Two warm answers with one seed are equal."""
        if not self.preset.temperature:  # a wire format sends both or none
            return Finding("seed", {"seed": False}, "no: it takes no temperature")
        asking = replace(self.preset, seed=True)
        ask = self._greeting(sampling=Sampling(1.0, 1.0, 7), words="Write random words.", most=10)
        ask = replace(ask, preset=asking)
        try:
            texts = [(await self._ask(ask, "seed")).text for _ in range(2)]
        except Passing as passing:
            return _unknown("seed", passing)
        except (StatusError, EngineError, Wrong) as error:
            return Finding("seed", {"seed": False}, f"no: {_words(error)}")
        same = texts[0] == texts[1]
        return Finding("seed", {"seed": same}, "repeatable" if same else "no: two answers differ")

    async def cache(self) -> Finding:
        many = _HERE if is_loopback(self.preset.base_url) else _AWAY
        ask = self._greeting(words=f"{_SENTENCE * many}Say hello.", most=4)
        try:
            for _ in range(2):
                reply = await self._ask(ask)
        except Passing as passing:
            return _unknown("prefix cache", passing)
        except (StatusError, EngineError, Wrong) as error:
            return Finding("prefix cache", {"cached_usage": False}, f"not seen: {_words(error)}")
        cached = reply.usage.cached_tokens
        told = f"{cached} of {reply.usage.prompt_tokens} tokens" if cached else "not told"
        return Finding("prefix cache", {"cached_usage": cached > 0}, told)

    async def decisions(self) -> Finding:
        if self.preset.wire != "openai":
            return Finding("decisions", {}, "no")
        request = Request(_GREETING, Choice(_SECRET_WORDS), Limits(8))
        try:
            await self.patience.ask(lambda: decide(self.line, self.headers, self.preset, request))
        except Passing as passing:
            return _unknown("decisions", passing)
        except (StatusError, EngineError, Wrong):
            return Finding("decisions", {"decisions": False}, "no")
        return Finding("decisions", {"decisions": True}, "yes")

    async def pins(self) -> Finding:
        """Literals on the canvas of a diffusion model."""
        if self.preset.wire != "openai":
            return Finding("pins", {}, "no")
        request = Request(_GREETING, Json.of(_NUMBER), Limits(64))
        try:
            held = await self.patience.ask(
                lambda: holds_pins(self.line, self.headers, self.preset, request), "pins"
            )
        except Passing as passing:
            return _unknown("pins", passing)
        except (StatusError, EngineError, Wrong):
            held = False
        return Finding("pins", {"pins": held}, "held" if held else "no")

    async def _ask(self, ask: Ask, feature: str = "") -> Reply:
        """The answer; `feature` and errors as in `Patience.ask`."""
        return await self.patience.ask(lambda: self._answer(ask), feature)

    async def _answer(self, ask: Ask) -> Reply:
        path, body = self.wire.path(ask), self.wire.body(ask)
        found = await self.line.post(path, self.headers, body)
        try:
            reply = read(self.wire, found)
        except Wrong as error:
            raise bad_format(error, self.preset.name, self.line.where, self.key) from error
        check_unbroken(reply, self.preset.name, self.line.where, self.key)
        return reply

    def _error(self, error: Exception) -> Exception:
        if isinstance(error, StatusError):
            return error_of(error.told, self.preset.name, bare_url(self.preset.base_url))
        return error

    def _greeting(self, words: str = "", most: int = 24, **more: Any) -> Ask:
        messages = (Message("user", words),) if words else _GREETING
        asked = more.pop("sampling", Sampling())
        sampling = asked if self.preset.temperature else None
        return Ask(self.preset, messages, most, sampling, **more)


def preset_text(preset: Preset, *comments: str) -> str:
    """A preset as the text of its file, below comments."""
    lines = [f"# {' '.join(comment.split())}" for comment in comments]
    for key, value in preset.data().items():
        if key == "name" or value is None or value == {}:
            continue
        lines.append(f"{key} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case Mapping():
            parts = [f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items() if v is not None]
            return "{ " + ", ".join(parts) + " }"
        case list() | tuple():
            return "[" + ", ".join(_toml(part) for part in value) + "]"
        case _:
            return json.dumps(value, ensure_ascii=False)


def _amended(told: Told, preset: Preset) -> dict[str, Any] | None:
    """What to change in the preset for a server that refused a plain question, None for nothing."""
    words = told.words.lower()
    if "max_completion_tokens" in words and preset.max_tokens_name != "max_completion_tokens":
        return {"max_tokens_name": "max_completion_tokens"}
    if "temperature" in words and preset.temperature:
        return {"temperature": False}
    return None


def _context_of(model: Mapping[str, Any]) -> int:
    meta = model.get("meta")
    for place in (model, meta if isinstance(meta, Mapping) else {}):
        for key in ("max_model_len", "n_ctx", "context_tokens", "context_length", "context_window"):
            if isinstance(found := place.get(key), int) and found > 0:
                return found
    return 0


def _obeys(text: str) -> bool:
    """Whether the answer to a greeting obeys the schema. One that lost itself in white space, as small models do
    where a grammar allows that, has a key that only the schema names."""
    return text.lstrip().startswith("{") and '"zebra"' in text


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _unknown(what: str, passing: Passing) -> Finding:
    return Finding(what, {}, f"unknown: {passing.why}", known=False)


def _words(error: Exception) -> str:
    told = error.told.message if isinstance(error, StatusError) else str(error)
    return told[:100]


__all__ = ["Finding", "Probed", "preset_text", "probe"]
