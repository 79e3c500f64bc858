"""How a cassette writes requests and completions as data, names them by hash and shows them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import blake2b
from typing import Any

from carrara.engines import contract as contracts
from carrara.engines.contract import Contract
from carrara.engines.errors import ContractError
from carrara.engines.request import Completion, Confidence, Request, Timings, Usage


def request_data(request: Request) -> dict[str, Any]:
    """All of a request that its answer may depend on: not its priority, nor how long it may take."""
    return {
        "messages": [asdict(message) for message in request.messages],
        "output": contracts.to_data(request.output),
        "max_tokens": request.limits.max_tokens,
        "max_steps": request.limits.max_steps,
        "sampling": asdict(request.sampling),
        "stop": list(request.stop),
        "draft": asdict(request.draft) if request.draft else None,
        "adapter": request.adapter,
        # Left out where there is none: older cassettes keep their keys.
        **({"rule": asdict(request.rule)} if request.rule else {}),
    }


def request_key(data: Mapping[str, Any]) -> str:
    """The hash of `request_data`. Keys keep their order: that of a schema is that of the answer."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=16).hexdigest()


def completion_data(completion: Completion) -> dict[str, Any]:
    """The completion as JSON data. Its value is left out: it is parsed from the text again."""
    return {
        "text": completion.text,
        "confidence": {
            "overall": completion.confidence.overall,
            "fields": dict(completion.confidence.fields),
            "tokens": list(completion.confidence.tokens),
            "spans": list(completion.confidence.spans),
        },
        "usage": asdict(completion.usage),
        "timings": asdict(completion.timings),
        "stop": completion.stop,
        "model": completion.model,
    }


def completion_from(found: Mapping[str, Any], engine: str, output: Contract) -> Completion:
    """Rebuild a completion from `completion_data`.

    Raises:
        KeyError, TypeError: a part is missing or unknown.
    """
    confidence = found["confidence"]
    return Completion(
        text=found["text"],
        value=_value(found["text"], output),
        confidence=Confidence(
            confidence["overall"],
            dict(confidence["fields"]),
            tuple(confidence["tokens"]),
            tuple(confidence.get("spans", ())),
        ),
        usage=Usage(**found["usage"]),
        timings=Timings(**found["timings"]),
        stop=found["stop"],
        engine=engine,
        model=found["model"],
    )


def readable(data: Mapping[str, Any]) -> list[str]:
    """A request as lines for a diff: messages as they are written, the rest as one line a setting."""
    lines = []
    for message in data["messages"]:
        lines += [f"[{message['role']}]", *message["content"].splitlines()]
    rest = {key: value for key, value in data.items() if key != "messages"}
    lines.append("[settings]")
    for key, value in rest.items():
        shown = json.dumps(value, ensure_ascii=False, indent=1).splitlines()
        lines += [f"{key}: {shown[0]}", *shown[1:]]
    return lines


def _value(text: str, output: Contract) -> Any:
    try:
        return output.parse(text)
    except ContractError:
        return None


__all__ = ["completion_data", "completion_from", "readable", "request_data", "request_key"]
