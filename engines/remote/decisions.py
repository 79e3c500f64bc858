"""Choices by vLLM's `/v1/decisions`: one denoising step reads the probability of each option.

The options become the choices of one question; the conversation is the input. The answer names the likeliest with
the probabilities of all, which is what a confidence is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carrara.engines.contract import Choice, Contract
from carrara.engines.remote.line import Line
from carrara.engines.remote.preset import Preset
from carrara.engines.remote.reply import count, probability
from carrara.engines.remote.wire import Wrong, first, mapping, words
from carrara.engines.request import Completion, Confidence, Request, Usage

_MOST_OPTIONS = 26  # labels are letters


def fits_decisions(contract: Contract) -> bool:
    return isinstance(contract, Choice) and 2 <= len(contract.options) <= _MOST_OPTIONS


async def decide(
    line: Line, headers: Mapping[str, str], preset: Preset, request: Request
) -> Completion:
    """Answer a choice.

    Raises:
        StatusError: the server has no decisions, or not for this.
        EngineError: the call failed.
    """
    assert isinstance(request.output, Choice)
    options = request.output.options
    *before, last = request.messages
    told = "\n\n".join(message.content for message in before) or last.content
    body = {
        "model": preset.model,
        "input": told,
        "questions": [
            {
                "type": "choice",
                "instructions": last.content if before else "Which one answers the request above?",
                "choices": [{"value": option} for option in options],
            }
        ],
    }
    found = mapping(await line.post("/decisions", headers, body), "the decision")
    answer = mapping(first(found.get("answers"), "answer"), "an answer")
    chosen = answer.get("choice")
    if chosen not in options:
        raise Wrong("the decision is none of the options", words(chosen))
    sure = _probability(answer, str(chosen))
    return Completion(
        text=str(chosen),
        value=str(chosen),
        confidence=Confidence(sure, {"": sure}, (sure,)),
        usage=_usage(found.get("usage")),
        model=str(found.get("model") or preset.model),
    )


def _probability(answer: Mapping[str, Any], chosen: str) -> float:
    listed = answer.get("probabilities")
    for part in listed if isinstance(listed, list) else ():
        if isinstance(part, Mapping) and part.get("value") == chosen:
            return probability(part.get("probability")) or 0.0
    return probability(answer.get("confidence")) or 0.0


def _usage(found: Any) -> Usage:
    if not isinstance(found, Mapping):
        return Usage(passes=1)
    details = found.get("input_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else 0
    return Usage(
        count(found.get("input_tokens")), count(cached), count(found.get("output_tokens")), 1
    )


__all__ = ["decide", "fits_decisions"]
