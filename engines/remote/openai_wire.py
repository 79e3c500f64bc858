"""The OpenAI wire format, which most servers speak: `/chat/completions`, and `/completions` for plain text models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carrara.engines.remote.keys import Key
from carrara.engines.remote.reply import (
    Call,
    End,
    Reply,
    TokenChance,
    chance,
    count,
    probability,
    token_bytes,
)
from carrara.engines.remote.wire import Ask, Wrong, first, is_first, mapping, part, words
from carrara.engines.request import Confidence, Usage

_ENDS: Mapping[str, End] = {
    "stop": "end",
    "length": "length",
    "tool_calls": "end",
    "function_call": "end",
    "content_filter": "filtered",
    "eos": "end",
    "end_turn": "end",
    "max_tokens": "length",
    "error": "broken",
    "abort": "broken",
    "aborted": "broken",
    "cancelled": "broken",
    "network_error": "broken",
    "insufficient_system_resource": "broken",
}
"""What else servers say is the end of a whole answer: they have many words for that."""

_TEXTS = ("text", "output_text")
_THOUGHTS = ("thinking", "reasoning")


class OpenAiChat:
    """Chat completions."""

    def path(self, ask: Ask) -> str:
        return "/chat/completions"

    def headers(self, key: Key) -> dict[str, str]:
        return {"Authorization": f"Bearer {key.reveal()}"} if key else {}

    def body(self, ask: Ask) -> dict[str, Any]:
        preset = ask.preset
        turns = [{"role": m.role, "content": m.content} for m in ask.messages]
        body: dict[str, Any] = {"model": preset.model, "messages": turns}
        if ask.max_tokens:
            body[preset.max_tokens_name] = ask.max_tokens
        if ask.top_logprobs is not None:
            body["logprobs"] = True
            if ask.top_logprobs:
                body["top_logprobs"] = ask.top_logprobs
        if ask.tools:
            body["tools"] = [
                {
                    "type": "function",
                    "function": {
                        "name": tool.name,
                        "description": tool.description,
                        "parameters": dict(tool.parameters),
                    },
                }
                for tool in ask.tools
            ]
        if ask.schema is not None:
            held = {"name": _name(ask.schema_name), "schema": ask.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": held}
        elif ask.object:
            body["response_format"] = {"type": "json_object"}
        return body | common(ask)

    def read(self, body: Any) -> Reply:
        found = mapping(body, "the answer")
        choice = mapping(first(found.get("choices"), "choice"), "a choice")
        message = mapping(choice.get("message"), "the message")
        return Reply(
            text=content_of(message.get("content")),
            end=_end(choice),
            reason=words(choice.get("finish_reason")),
            tokens=tokens_of(choice.get("logprobs")),
            usage=usage_of(found.get("usage")),
            model=words(found.get("model")),
            calls=_calls(message.get("tool_calls")),
            refused=words(message.get("refusal")),
            token_ids=token_ids_of(choice),
            sure=_sure(choice.get("confidence")),
        )

    def add(self, reply: Reply, event: str, data: Any) -> bool:
        found = opened(reply, data)
        for choice in _chosen(found):
            delta = part(choice.get("delta"), "a delta")
            reply.text += content_of(delta.get("content"))
            reply.refused += words(delta.get("refusal"))
            _add_calls(reply, delta.get("tool_calls"))
            closed(reply, choice)
        return False


class OpenAiText:
    """Plain completions: for base models, and servers without a chat template. The turns are joined by blank lines."""

    def path(self, ask: Ask) -> str:
        return "/completions"

    def headers(self, key: Key) -> dict[str, str]:
        return OpenAiChat().headers(key)

    def body(self, ask: Ask) -> dict[str, Any]:
        prompt = "\n\n".join(message.content for message in ask.messages)
        body: dict[str, Any] = {"model": ask.preset.model, "prompt": prompt}
        if ask.max_tokens:
            body[ask.preset.max_tokens_name] = ask.max_tokens
        if ask.top_logprobs is not None:
            body["logprobs"] = max(ask.top_logprobs, 1)
        if ask.schema is not None:
            held = {"name": _name(ask.schema_name), "schema": ask.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": held}
        return body | common(ask)

    def read(self, body: Any) -> Reply:
        found = mapping(body, "the answer")
        choice = mapping(first(found.get("choices"), "choice"), "a choice")
        if not isinstance(choice.get("text"), str):
            raise Wrong("the choice has no text")
        return Reply(
            text=choice["text"],
            end=_end(choice),
            reason=words(choice.get("finish_reason")),
            tokens=tokens_of(choice.get("logprobs")),
            usage=usage_of(found.get("usage")),
            model=words(found.get("model")),
        )

    def add(self, reply: Reply, event: str, data: Any) -> bool:
        found = opened(reply, data)
        for choice in _chosen(found):
            reply.text += words(choice.get("text"))
            closed(reply, choice)
        return False


def common(ask: Ask) -> dict[str, Any]:
    """What both kinds of completions have in common."""
    body: dict[str, Any] = {}
    if ask.sampling is not None:
        body["temperature"] = ask.sampling.temperature
        if ask.sampling.top_p < 1:
            body["top_p"] = ask.sampling.top_p
        if ask.sampling.seed is not None and ask.preset.seed:
            body["seed"] = ask.sampling.seed
    if ask.stop:
        body["stop"] = list(ask.stop[:4])
    if ask.structured is not None:
        body["structured_outputs"] = dict(ask.structured)
    if ask.grammar is not None:
        body["grammar"] = ask.grammar
    if ask.stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    return body | dict(ask.preset.body) | dict(ask.more)


def opened(reply: Reply, data: Any) -> Mapping[str, Any]:
    """The chunk of a stream, checked; usage and model are noted."""
    found = mapping(data, "a chunk of the stream")
    choices = found.get("choices")
    if choices is not None and not (
        isinstance(choices, list) and all(isinstance(choice, Mapping) for choice in choices)
    ):
        raise Wrong("the choices of a chunk are no list of objects")
    if found.get("usage"):
        reply.usage = usage_of(found["usage"])
    reply.model = words(found.get("model")) or reply.model
    return found


def closed(reply: Reply, choice: Mapping[str, Any]) -> None:
    """Note the probabilities in a chunk, and the reason of the end where it stands."""
    reply.tokens += tokens_of(choice.get("logprobs"))
    reply.token_ids += token_ids_of(choice)
    reply.sure = _sure(choice.get("confidence")) or reply.sure
    if choice.get("finish_reason"):
        reply.end, reply.reason = _end(choice), words(choice["finish_reason"])


def content_of(found: Any) -> str:
    """The text of a message or of a piece of it, which some servers send as a list of parts. Thoughts are left out.

    Raises:
        Wrong: it holds something else than text.
    """
    if found is None or isinstance(found, str):
        return found or ""
    if not isinstance(found, list):
        raise Wrong(f"the content is {type(found).__name__}, not text")
    text = ""
    for piece in found:
        kind = mapping(piece, "a part of the content").get("type")
        if kind not in _TEXTS + _THOUGHTS:
            raise Wrong("the content has a part that is no text", words(kind))
        text += words(piece.get("text")) if kind in _TEXTS else ""
    return text


def _chosen(chunk: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The choices of a chunk that belong to the answer: a server may send several, whatever was asked for."""
    return [choice for choice in chunk.get("choices") or () if is_first(choice)]


def usage_of(found: Any) -> Usage:
    """What a server tells of tokens, nothing where it does not. More cached ones than the prompt has are none of it:
    such a server counts them beside the prompt."""
    if not isinstance(found, Mapping):
        return Usage()
    details = found.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else None
    prompt, hits = count(found.get("prompt_tokens")), count(cached)
    written = count(found.get("completion_tokens"))
    return Usage(prompt if hits <= prompt else prompt + hits, hits, written, written)


def tokens_of(found: Any) -> list[TokenChance]:
    """The probabilities of chat ("content") or of plain completions ("tokens", "token_logprobs")."""
    if not isinstance(found, Mapping):
        return []
    if isinstance(listed := found.get("content"), list):
        return [_token(one) for one in listed if isinstance(one, Mapping)]
    names, chances = found.get("tokens"), found.get("token_logprobs")
    if isinstance(names, list) and isinstance(chances, list):
        pairs = zip(names, chances, strict=False)
        return [TokenChance(token_bytes(words(name)), chance(value)) for name, value in pairs]
    return []


def token_ids_of(choice: Mapping[str, Any]) -> list[int]:
    """vLLM's `return_token_ids`."""
    found = choice.get("token_ids")
    return [one for one in found if isinstance(one, int)] if isinstance(found, list) else []


def _sure(found: Any) -> Confidence | None:
    """The confidence as `carrara serve` tells it."""
    if not isinstance(found, Mapping):
        return None
    fields = found.get("fields")
    told = fields.items() if isinstance(fields, Mapping) else ()
    known = {str(path): sure for path, value in told if (sure := probability(value)) is not None}
    return Confidence(probability(found.get("overall")), known)


def _token(found: Mapping[str, Any]) -> TokenChance:
    others = found.get("top_logprobs")
    listed = others if isinstance(others, list) else []
    return TokenChance(
        _raw(found),
        chance(found.get("logprob")),
        tuple((_raw(o), chance(o.get("logprob"))) for o in listed if isinstance(o, Mapping)),
    )


def _raw(found: Mapping[str, Any]) -> bytes:
    listed = found.get("bytes")
    if isinstance(listed, list) and all(isinstance(b, int) and 0 <= b < 256 for b in listed):
        return bytes(listed)
    return token_bytes(words(found.get("token")))


def _end(choice: Mapping[str, Any]) -> End:
    reason = choice.get("finish_reason")
    return _ENDS.get(reason, "end") if isinstance(reason, str) else ""


def _calls(found: Any) -> list[Call]:
    calls = []
    for one in found if isinstance(found, list) else ():
        function = one.get("function") if isinstance(one, Mapping) else None
        if not isinstance(function, Mapping) or not words(function.get("name")):
            raise Wrong("a tool call names no function")
        arguments = words(function.get("arguments")) or "{}"
        calls.append(Call(words(one.get("id")), words(function["name"]), arguments))
    return calls


def _add_calls(reply: Reply, found: Any) -> None:
    """Tool calls come in pieces: the name first, then the arguments bit by bit, each piece with its index."""
    for piece in found if isinstance(found, list) else ():
        index = piece.get("index", 0) if isinstance(piece, Mapping) else -1
        if not isinstance(index, int) or not 0 <= index <= len(reply.calls):
            raise Wrong("a piece of a tool call has no place")
        function = part(piece.get("function"), "the function of a tool call")
        if index == len(reply.calls):
            reply.calls.append(Call(words(piece.get("id")), words(function.get("name")), ""))
        old = reply.calls[index]
        arguments = old.arguments + words(function.get("arguments"))
        reply.calls[index] = Call(old.id, old.name, arguments)


def _name(name: str) -> str:
    """A schema's name as the API takes it: letters, digits, - and _, at most 64."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in name)
    return kept[:64] or "value"


__all__ = ["OpenAiChat", "OpenAiText"]
