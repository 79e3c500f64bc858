"""Anthropic's wire format: the Messages API, `/messages`.

The system prompt stands apart from the turns, the longest answer must be given, events of a stream have names. There
are no token probabilities and no seed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from carrara.engines.remote.keys import Key
from carrara.engines.remote.reply import Call, End, Reply, count
from carrara.engines.remote.wire import Ask, Wrong, mapping, words
from carrara.engines.request import Usage

_ENDS: Mapping[str, End] = {
    "end_turn": "end",
    "tool_use": "end",
    "pause_turn": "broken",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "filtered",
}


class AnthropicMessages:
    def path(self, ask: Ask) -> str:
        return "/messages"

    def headers(self, key: Key) -> dict[str, str]:
        return {"x-api-key": key.reveal()} if key else {}

    def body(self, ask: Ask) -> dict[str, Any]:
        system = "\n\n".join(m.content for m in ask.messages if m.role == "system")
        body: dict[str, Any] = {
            "model": ask.preset.model,
            "max_tokens": ask.max_tokens or 1024,
            "messages": [
                {"role": m.role, "content": m.content} for m in ask.messages if m.role != "system"
            ],
        }
        if system:
            body["system"] = system
        if ask.sampling is not None:
            # The service takes temperatures up to 1, and newer models only one of the two.
            body["temperature"] = min(ask.sampling.temperature, 1.0)
            if ask.sampling.top_p < 1:
                del body["temperature"]
                body["top_p"] = ask.sampling.top_p
        if ask.stop:
            body["stop_sequences"] = list(ask.stop)
        if ask.schema is not None:
            form = {"type": "json_schema", "schema": ask.schema}
            body["output_config"] = {"format": form}
        if ask.tools:
            body["tools"] = [
                {
                    "name": tool.name,
                    "description": tool.description,
                    "input_schema": dict(tool.parameters),
                }
                for tool in ask.tools
            ]
        if ask.stream:
            body["stream"] = True
        return body | dict(ask.preset.body) | dict(ask.more)

    def read(self, body: Any) -> Reply:
        found = mapping(body, "the answer")
        blocks = found.get("content")
        if not isinstance(blocks, list):
            raise Wrong("the answer has no content")
        reply = Reply(usage=_usage(found.get("usage")), model=words(found.get("model")))
        for block in blocks:
            _begin(reply, mapping(block, "a block"))
            if block.get("type") == "tool_use":
                call = reply.calls[-1]
                reply.calls[-1] = Call(call.id, call.name, json.dumps(block.get("input") or {}))
        _close(reply, found)
        return reply

    def add(self, reply: Reply, event: str, data: Any) -> bool:
        found = mapping(data, "an event of the stream")
        match found.get("type"):
            case "message_start":
                message = mapping(found.get("message"), "the message")
                reply.model = words(message.get("model"))
                reply.usage = _usage(message.get("usage"))
            case "content_block_start":
                _begin(reply, mapping(found.get("content_block"), "a block"))
            case "content_block_delta":
                _go_on(reply, mapping(found.get("delta"), "a delta"))
            case "message_delta":
                _close(reply, mapping(found.get("delta"), "a delta"))
                told = found.get("usage")
                if isinstance(told, Mapping):
                    written = count(told.get("output_tokens"))
                    reply.usage = replace(reply.usage, completion_tokens=written, passes=written)
            case "message_stop":
                return True
        return False  # "ping" and what may come to be


def _begin(reply: Reply, block: Mapping[str, Any]) -> None:
    match block.get("type"):
        case "text":
            reply.text += words(block.get("text"))
        case "tool_use":
            reply.calls.append(Call(words(block.get("id")), words(block.get("name")), ""))


def _go_on(reply: Reply, delta: Mapping[str, Any]) -> None:
    match delta.get("type"):
        case "text_delta":
            reply.text += words(delta.get("text"))
        case "input_json_delta":
            if not reply.calls:
                raise Wrong("arguments came before their tool call")
            call = reply.calls[-1]
            reply.calls[-1] = Call(
                call.id, call.name, call.arguments + words(delta.get("partial_json"))
            )


def _close(reply: Reply, found: Mapping[str, Any]) -> None:
    reason = found.get("stop_reason")
    if isinstance(reason, str):
        reply.end, reply.reason = _ENDS.get(reason, "end"), reason


def _usage(found: Any) -> Usage:
    """Anthropic counts the cached part of a prompt apart from the rest; here the prompt is all of it."""
    if not isinstance(found, Mapping):
        return Usage()
    cached = count(found.get("cache_read_input_tokens"))
    written = count(found.get("cache_creation_input_tokens"))
    prompt = count(found.get("input_tokens")) + cached + written
    answer = count(found.get("output_tokens"))
    return Usage(prompt, cached, answer, answer)


__all__ = ["AnthropicMessages"]
