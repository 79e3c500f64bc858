"""One call of an LLM step as data, and the requests that are made from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from carrara.engines.contract import Choice, Contract, Hole, Infill, Json, Text
from carrara.engines.contract_text import describe
from carrara.engines.engine import Ability, Engine
from carrara.engines.request import Completion, Draft, Limits, Message, Request, Rule, Sampling
from carrara.runtime.routing.estimate import estimated_tokens
from carrara.runtime.routing.facts import CallFacts, Repair
from carrara.runtime.routing.language import language_of
from carrara.runtime.routing.policy import Policy
from carrara.runtime.routing.reasoning import asks_for_reasoning

_AROUND = 16  # tokens that a server may wrap around an option, and its end

_HOLDS: Mapping[str, Ability] = {
    "json": "schema",
    "choice": "choice",
    "regex": "regex",
    "table": "table",
    "outline": "outline",
    "infill": "infill",
}


def as_it_is(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class LlmCall:
    """What an LLM step asks and what it takes for an answer.

    `validate` turns the contract's value into the step's value, or refuses it with a ValueError (pydantic's
    included; one with `paths` or pydantic's own names the failing fields). `engine` None leaves the choice
    to the policy. `describe` adds the form of the answer to the last user message unless it stands there;
    None does so only for an engine that cannot hold the contract by construction: a small model is led astray by a
    JSON Schema that its grammar or scaffold enforces anyway.

    `repair` is what may be done for a faulty answer before another engine is asked: "off" nothing,
    "structural" edits of its form, "infill" also re-noising the bad fields, "escalate" also asking the last
    engine again with the faults named. `draft` is an answer to refine from, for engines that can. `take` gets the
    completion that is accepted, where its value is not all that is wanted of it.
    """

    messages: tuple[Message, ...]
    output: Contract = field(default_factory=Text)
    validate: Callable[[Any], Any] = as_it_is
    engine: str | None = None
    limits: Limits = field(default_factory=Limits)
    sampling: Sampling = field(default_factory=Sampling)
    tags: frozenset[str] = frozenset()
    repair: Repair = "escalate"
    stop: tuple[str, ...] = ()
    describe: bool | None = None
    adapter: str | None = None
    rule: Rule | None = None
    draft: Draft | None = None
    take: Callable[[Completion], None] | None = None


def facts_of(call: LlmCall, path: str, policy: Policy) -> CallFacts:
    """What a policy's rules may ask about a call; the prompt's wording and language only where one
    does."""
    return CallFacts(
        path,
        call.output.kind,
        estimated_tokens(call.messages),
        call.limits.max_tokens,
        call.tags,
        None if call.engine == "auto" else call.engine,
        call.repair,
        policy.asks_wording and asks_for_reasoning(call.messages, call.output),
        language_of(call.messages) if policy.asks_language else "",
        call.limits.deadline_s,
    )


def answer_tokens(output: Contract, max_tokens: int, can: Collection[Ability] = ()) -> int:
    """The most tokens of an answer. An engine that holds a closed choice or a boolean by construction writes no more
    than the longest option, and no token is shorter than a byte."""
    if _HOLDS.get(output.kind) not in can:
        return max_tokens
    longest = max((len(option.encode()) for option in _options(output)), default=max_tokens)
    return min(max_tokens, longest + _AROUND)


def _options(output: Contract) -> Sequence[str]:
    """All answers of a contract that has few, none of any other."""
    if isinstance(output, Choice):
        return output.options
    if isinstance(output, Json):
        schema = output.schema
        if schema.get("type") == "boolean":
            return ("true", "false")
        return [json.dumps(value) for value in schema.get("enum", ())]
    return ()


def request_of(call: LlmCall, priority: float, can: Collection[Ability] = ()) -> Request:
    """The request for an engine that `can` do this."""
    held = (_HOLDS.get(call.output.kind) in can) if call.describe is None else not call.describe
    messages = call.messages if held else _described(call.messages, call.output)
    return Request(
        messages=messages,
        output=call.output,
        limits=call.limits,
        sampling=call.sampling,
        stop=call.stop,
        priority=priority,
        adapter=call.adapter,
        draft=call.draft,
        rule=call.rule,
    )


def refusal_of(call: LlmCall, engine: Engine) -> str | None:
    """Why an engine can never answer a call, None if it can."""
    draft = call.draft
    if draft is None or engine.facts.is_closed:
        return engine.refusal(call.output)
    fills = isinstance(call.output, Text)  # a text is refined by filling the holes in it
    if "drafts" not in engine.can and not (fills and draft.spans and "infill" in engine.can):
        return f"engine {engine.name!r} writes from the beginning and refines no such draft"
    return engine.refusal(Infill((Hole(),)) if fills else call.output)


def with_draft(request: Request, text: str, fields: Iterable[str]) -> Request:
    """The request to refine `text`: `fields` written anew, the rest pinned."""
    return replace(request, draft=Draft(text, tuple(fields)))


def for_part(call: LlmCall, part: Json) -> LlmCall:
    """The call for just some fields of its answer; an engine that cannot hold the contract is told its form."""
    return replace(call, output=part, validate=as_it_is)


def drawn_again(request: Request, temperature: float, seed: int) -> Request:
    """The request with another draw of its answer."""
    return replace(request, sampling=replace(request.sampling, temperature=temperature, seed=seed))


def to_be_judged(call: LlmCall, text: str, question: str) -> Request:
    """The request that shows task and answer to a judge, who says yes or no."""
    task = "\n\n".join(message.content for message in call.messages)
    shown = f"Task:\n{task}\n\nAnswer:\n{text}\n\n{question} Answer yes or no."
    limits = replace(call.limits, max_tokens=8)
    return Request((Message("user", shown),), Choice(("yes", "no")), limits)


def with_faults(request: Request, text: str, faults: Sequence[str]) -> Request:
    """The request to answer again, shown the faulty answer and a numbered list of what is wrong with it. An empty
    answer is no turn: services refuse one without text, and templates two of the user in a row."""
    listed = "\n".join(f"{number}. {fault}" for number, fault in enumerate(faults, 1))
    if not text.strip():
        complaint = f"An empty answer is wrong:\n{listed}\nGive the answer and nothing else."
        return replace(request, messages=_with_words(request.messages, complaint))
    complaint = f"This answer is wrong:\n{listed}\nGive the corrected answer and nothing else."
    turns = (Message("assistant", text), Message("user", complaint))
    return replace(request, messages=(*request.messages, *turns))


def with_room(request: Request, most: int) -> Request:
    """The request with twice the room for its answer, but no more than `most` tokens."""
    limits = request.limits
    more = max(limits.max_tokens, min(2 * limits.max_tokens, most))
    return replace(request, limits=replace(limits, max_tokens=more))


def _described(messages: tuple[Message, ...], output: Contract) -> tuple[Message, ...]:
    form = describe(output)
    if not form or any(form in message.content for message in messages):
        return messages
    return _with_words(messages, form)


def _with_words(messages: tuple[Message, ...], words: str) -> tuple[Message, ...]:
    """The messages with `words` at the end of the last turn of the user."""
    if not messages or messages[-1].role != "user":
        return (*messages, Message("user", words))
    last = messages[-1]
    return (*messages[:-1], Message("user", f"{last.content.rstrip()}\n\n{words}"))


__all__ = [
    "LlmCall",
    "answer_tokens",
    "as_it_is",
    "drawn_again",
    "facts_of",
    "for_part",
    "refusal_of",
    "request_of",
    "to_be_judged",
    "with_draft",
    "with_faults",
    "with_room",
]
