"""Bodies of the OpenAI wire format as requests, and completions as bodies."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from carrara.engines.contract import Choice, Contract, Json, Regex, Text
from carrara.engines.errors import CarraraError
from carrara.engines.json_schema import validator
from carrara.engines.request import Completion, Limits, Message, Request, Sampling, StopReason


class Part(BaseModel):
    type: Literal["text"]
    text: str

    @model_validator(mode="before")
    @classmethod
    def _is_text(cls, found: Any) -> Any:
        if isinstance(found, Mapping) and found.get("type") != "text":
            raise ValueError(
                f"only parts of the type 'text' are taken, this is {found.get('type')!r:.40}"
            )
        return found


class Turn(BaseModel):
    """`content` is None only of an assistant, which may have said nothing."""

    role: Literal["system", "developer", "user", "assistant"]
    content: list[Part] | None = None

    @field_validator("content", mode="before")
    @classmethod
    def _in_parts(cls, found: Any) -> Any:
        if isinstance(found, str):
            return [Part(type="text", text=found)]
        if found is None or isinstance(found, list):
            return found
        raise ValueError("takes text, or a list of parts of the type text")

    @model_validator(mode="after")
    def _has_words(self) -> Self:
        if self.content is None and self.role != "assistant":
            raise ValueError(f"a turn of the {self.role} needs content")
        return self


class JsonSchema(BaseModel):
    name: str = "value"
    held: dict[str, Any] = Field(alias="schema")


class Form(BaseModel):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class Structured(BaseModel):
    """vLLM's `structured_outputs`; exactly one of its parts."""

    model_config = ConfigDict(extra="forbid")

    held: dict[str, Any] | None = Field(None, alias="json")
    choice: list[str] | None = None
    regex: str | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if sum(part is not None for part in (self.held, self.choice, self.regex)) != 1:
            raise ValueError("takes exactly one of json, choice and regex")
        return self


class ChatBody(BaseModel):
    """The parts of a chat completion request that mean something here; others are passed over, as servers do. Null
    stands for the default of a part."""

    model: str = "auto"
    messages: list[Turn] = Field(min_length=1)
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool = False
    response_format: Form | None = None
    structured_outputs: Structured | None = None
    n: Literal[1] = 1
    tools: Annotated[list[Any], Field(max_length=0)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, found: Any) -> Any:
        if not isinstance(found, Mapping):
            return found
        return {key: part for key, part in found.items() if part is not None}

    def request(self) -> Request:
        """As an engine takes it.

        Raises:
            CarraraError: a contract that is none, also for its JSON Schema.
        """
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        most = self.max_completion_tokens or self.max_tokens or 512
        return Request(
            messages=tuple(Message(_role(turn), _words(turn)) for turn in self.messages),
            output=self._contract(),
            limits=Limits(max_tokens=most),
            sampling=Sampling(self.temperature, self.top_p, self.seed),
            stop=tuple(stops),
        )

    def _contract(self) -> Contract:
        asked = self.structured_outputs
        if asked is not None:
            if asked.choice is not None:
                return Choice(tuple(asked.choice))
            if asked.regex is not None:
                return Regex(asked.regex)
            if asked.held is not None:
                return _json(asked.held)
        form = self.response_format
        if form is None or form.type == "text":
            return Text()
        if form.type == "json_object":
            return _json({"type": "object"})
        if form.json_schema is None:
            raise CarraraError("response_format of type json_schema needs json_schema")
        return _json(form.json_schema.held, form.json_schema.name)


def read_body(found: Any) -> ChatBody:
    """The body of a request.

    Raises:
        CarraraError: names the first part that is wrong.
    """
    try:
        return ChatBody.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise CarraraError(f"{where}: {first['msg']}") from error


def whole(call_id: str, completion: Completion) -> dict[str, Any]:
    """A completion as the body of an answer. `confidence` is an addition of this project."""
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": completion.text},
        "finish_reason": _reason(completion.stop),
        "logprobs": None,
        "confidence": {
            "overall": completion.confidence.overall,
            "fields": dict(completion.confidence.fields),
        },
    }
    return {
        "id": call_id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": completion.model,
        "choices": [choice],
        "usage": usage(completion),
    }


def chunk(
    call_id: str, model: str, delta: Mapping[str, Any], completion: Completion | None = None
) -> dict[str, Any]:
    """A chunk of a stream; the last one has the completion."""
    choice: dict[str, Any] = {"index": 0, "delta": dict(delta), "finish_reason": None}
    found: dict[str, Any] = {
        "id": call_id,
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": model,
        "choices": [choice],
    }
    if completion is not None:
        choice["finish_reason"] = _reason(completion.stop)
        choice["confidence"] = {
            "overall": completion.confidence.overall,
            "fields": dict(completion.confidence.fields),
        }
        found["usage"] = usage(completion)
    return found


def usage(completion: Completion) -> dict[str, Any]:
    told = completion.usage
    return {
        "prompt_tokens": told.prompt_tokens,
        "completion_tokens": told.completion_tokens,
        "total_tokens": told.prompt_tokens + told.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": told.cached_tokens},
    }


def fault(message: str, kind: str, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _json(schema: Mapping[str, Any], name: str = "value") -> Json:
    contract = Json.of(schema, name)
    validator(contract.schema_text)
    return contract


def _role(turn: Turn) -> Literal["system", "user", "assistant"]:
    return "system" if turn.role == "developer" else turn.role


def _words(turn: Turn) -> str:
    return "".join(part.text for part in turn.content or ())


def _reason(stop: StopReason) -> str:
    return "length" if stop in ("length", "steps") else "stop"


__all__ = ["ChatBody", "chunk", "fault", "read_body", "whole"]
