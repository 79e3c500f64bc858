"""Google's wire format: `models/MODEL:generateContent`, and `:streamGenerateContent?alt=sse` for a stream.

The assistant is called "model", an answer is a list of parts (thoughts among them, which are left out), and a stream
ends with the connection: the finish reason alone says that it was whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from carrara.engines.remote.keys import Key
from carrara.engines.remote.reply import Call, End, Reply, TokenChance, chance, count, token_bytes
from carrara.engines.remote.wire import Ask, Wrong, is_first, mapping, part, words
from carrara.engines.request import Usage

_ENDS: Mapping[str, End] = {
    "STOP": "end",
    "MAX_TOKENS": "length",
    "SAFETY": "filtered",
    "RECITATION": "filtered",
    "BLOCKLIST": "filtered",
    "PROHIBITED_CONTENT": "filtered",
    "SPII": "filtered",
    "LANGUAGE": "filtered",
    "IMAGE_SAFETY": "filtered",
}
"""All that are no failures: any other reason (OTHER, MALFORMED_FUNCTION_CALL and more) is one."""


class GeminiContent:
    def path(self, ask: Ask) -> str:
        model = quote(ask.preset.model.removeprefix("models/"), safe="")
        how = "streamGenerateContent?alt=sse" if ask.stream else "generateContent"
        return f"/models/{model}:{how}"

    def headers(self, key: Key) -> dict[str, str]:
        # In a header, never in the URL: URLs are logged.
        return {"x-goog-api-key": key.reveal()} if key else {}

    def body(self, ask: Ask) -> dict[str, Any]:
        system = "\n\n".join(m.content for m in ask.messages if m.role == "system")
        body: dict[str, Any] = {
            "contents": [
                {
                    "role": "model" if m.role == "assistant" else "user",
                    "parts": [{"text": m.content}],
                }
                for m in ask.messages
                if m.role != "system"
            ],
            "generationConfig": _generation(ask),
        }
        if system:
            body["systemInstruction"] = {"parts": [{"text": system}]}
        if ask.tools:
            listed = [
                {
                    "name": tool.name,
                    "description": tool.description,
                    "parametersJsonSchema": dict(tool.parameters),
                }
                for tool in ask.tools
            ]
            body["tools"] = [{"functionDeclarations": listed}]
        return body | dict(ask.preset.body) | dict(ask.more)

    def read(self, body: Any) -> Reply:
        reply = Reply()
        self.add(reply, "message", mapping(body, "the answer"))
        if not reply.reason and not reply.text and not reply.calls:
            raise Wrong("the answer has no candidate")
        return reply

    def add(self, reply: Reply, event: str, data: Any) -> bool:
        found = mapping(data, "a part of the answer")
        reply.model = words(found.get("modelVersion")) or reply.model
        if isinstance(told := found.get("usageMetadata"), Mapping):
            reply.usage = _usage(told)
        feedback = found.get("promptFeedback")
        if isinstance(feedback, Mapping) and feedback.get("blockReason"):
            reply.end, reply.reason = "filtered", words(feedback["blockReason"])
            return False
        candidates = found.get("candidates") or []
        if not isinstance(candidates, list):
            raise Wrong("the candidates are no list")
        for candidate in candidates:
            if is_first(mapping(candidate, "a candidate")):
                _add_candidate(reply, candidate)
        return False


def _generation(ask: Ask) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if ask.max_tokens:
        found["maxOutputTokens"] = ask.max_tokens
    if ask.sampling is not None:
        found["temperature"] = ask.sampling.temperature
        if ask.sampling.top_p < 1:
            found["topP"] = ask.sampling.top_p
        if ask.sampling.seed is not None and ask.preset.seed:
            found["seed"] = ask.sampling.seed
    if ask.stop:
        found["stopSequences"] = list(ask.stop[:5])
    if ask.schema is not None:
        found["responseMimeType"] = "application/json"
        found["responseJsonSchema"] = ask.schema
    elif ask.object:
        found["responseMimeType"] = "application/json"
    if ask.top_logprobs is not None:
        found["responseLogprobs"] = True
        if ask.top_logprobs:
            found["logprobs"] = ask.top_logprobs
    return found


def _add_candidate(reply: Reply, found: Mapping[str, Any]) -> None:
    content = found.get("content")
    parts = content.get("parts") if isinstance(content, Mapping) else None
    for piece in parts if isinstance(parts, list) else ():
        if not isinstance(piece, Mapping) or piece.get("thought"):
            continue
        reply.text += words(piece.get("text"))
        if isinstance(call := piece.get("functionCall"), Mapping):
            arguments = json.dumps(call.get("args") or {})
            reply.calls.append(Call(words(call.get("id")), words(call.get("name")), arguments))
    reply.tokens += _tokens(found.get("logprobsResult"))
    reason = found.get("finishReason")
    if isinstance(reason, str) and reason != "FINISH_REASON_UNSPECIFIED":
        reply.end, reply.reason = _ENDS.get(reason, "broken"), reason


def _tokens(found: Any) -> list[TokenChance]:
    if not isinstance(found, Mapping) or not isinstance(found.get("chosenCandidates"), list):
        return []
    tops = found.get("topCandidates")
    tokens = []
    for at, chosen in enumerate(found["chosenCandidates"]):
        top = tops[at] if isinstance(tops, list) and at < len(tops) else None
        listed = part(top, "the likeliest tokens").get("candidates")
        others = [_token(one) for one in listed] if isinstance(listed, list) else []
        tokens.append(TokenChance(*_token(chosen), tuple(others)))
    return tokens


def _token(found: Any) -> tuple[bytes, float]:
    token = mapping(found, "a token")
    return token_bytes(words(token.get("token"))), chance(token.get("logProbability"))


def _usage(found: Mapping[str, Any]) -> Usage:
    answer = count(found.get("candidatesTokenCount")) + count(found.get("thoughtsTokenCount"))
    prompt, cached = found.get("promptTokenCount"), found.get("cachedContentTokenCount")
    return Usage(count(prompt), count(cached), answer, answer)


__all__ = ["GeminiContent"]
