"""The chunks of a stream put together to the body that a call without a stream gives."""

from __future__ import annotations

from typing import Any


class Whole:
    """Chunks go in by `add`; `body` is a chat completion."""

    def __init__(self) -> None:
        self._text = ""
        self._tokens: list[Any] = []
        self._calls: list[dict[str, Any]] = []
        self._known: dict[str, Any] = {}
        self._reason: str | None = None

    def add(self, chunk: dict[str, Any]) -> None:
        for key in ("model", "usage", "timings"):
            if chunk.get(key):
                self._known[key] = chunk[key]
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            self._text += delta.get("content") or ""
            self._tokens += (choice.get("logprobs") or {}).get("content") or ()
            self._reason = choice.get("finish_reason") or self._reason
            for part in delta.get("tool_calls") or ():
                self._add_call(part)

    def body(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self._text}
        if self._calls:
            message["tool_calls"] = self._calls
        choice: dict[str, Any] = {"message": message, "finish_reason": self._reason}
        if self._tokens:
            choice["logprobs"] = {"content": self._tokens}
        return {**self._known, "choices": [choice]}

    def _add_call(self, part: dict[str, Any]) -> None:
        index = part.get("index", 0)
        while len(self._calls) <= index:
            self._calls.append({"id": "", "function": {"name": "", "arguments": ""}})
        call, function = self._calls[index], part.get("function") or {}
        call["id"] = part.get("id") or call["id"]
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""


__all__ = ["Whole"]
