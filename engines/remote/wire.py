"""What a wire format is: how a question is put into a body, and how an answer is read out of one.

A format is pure: no socket, no clock. It knows the field names of its service and nothing else of it; whether a
service has an ability is in its preset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from carrara.engines.remote.keys import Key
from carrara.engines.remote.preset import Preset
from carrara.engines.remote.reply import Reply, Tool
from carrara.engines.request import Message, Sampling


@dataclass(frozen=True, slots=True)
class Ask:
    """One question as a wire format needs it: what the preset cannot do has been left out already.

    `schema` is to be held, `structured` (vLLM's `structured_outputs`) and `grammar` likewise; `object` asks for some
    JSON. `top_logprobs` None asks for no probabilities. `more` is added to the body as it is.
    """

    preset: Preset
    messages: tuple[Message, ...]
    max_tokens: int
    sampling: Sampling | None
    stop: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    schema_name: str = "value"
    structured: Mapping[str, Any] | None = None
    grammar: str | None = None
    object: bool = False
    top_logprobs: int | None = None
    stream: bool = False
    tools: Sequence[Tool] = ()
    more: Mapping[str, Any] = field(default_factory=dict)


class Wrong(ValueError):
    """A body is not in the format; says which part. `word` is what the server sent in its place, "" for nothing worth
    telling: it may repeat a key, so it is no part of the message."""

    def __init__(self, what: str, word: str = "") -> None:
        super().__init__(what)
        self.word = word


class Wire(Protocol):
    """Errors never come here: a line raises them, also those inside an answer."""

    def path(self, ask: Ask) -> str:
        """The path behind the base URL, with what the format puts into its query."""
        ...

    def headers(self, key: Key) -> dict[str, str]:
        """The header in which services of this format take the key; none for no key."""
        ...

    def body(self, ask: Ask) -> dict[str, Any]: ...

    def read(self, body: Any) -> Reply:
        """The answer in a whole body.

        Raises:
            Wrong: it is none.
        """
        ...

    def add(self, reply: Reply, event: str, data: Any) -> bool:
        """Add one event of a stream to `reply`; whether the stream has said that it is over.

        Raises:
            Wrong: it is none of the format.
        """
        ...


def key_headers(wire: Wire, preset: Preset, key: Key) -> dict[str, str]:
    """The header that carries the key: that of the preset, else that of the wire format."""
    name = preset.key_header
    if not name or not key:
        return wire.headers(key)
    bearer = "Bearer " if name.lower() == "authorization" else ""
    return {name: f"{bearer}{key.reveal()}"}


def mapping(found: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(found, Mapping):
        raise Wrong(f"{what} is {type(found).__name__}, not an object")
    return found


def first(found: Any, what: str) -> Any:
    if not isinstance(found, list) or not found:
        raise Wrong(f"there is no {what}")
    return found[0]


def part(found: Any, what: str) -> Mapping[str, Any]:
    """An object that may be left out or null: then it is empty."""
    return {} if found is None else mapping(found, what)


def is_first(choice: Mapping[str, Any]) -> bool:
    """Whether it is the one choice that was asked for, and none beside it."""
    index = choice.get("index")
    return not (isinstance(index, int) and index > 0)


def words(found: Any) -> str:
    """Text, or nothing where there is none."""
    return found if isinstance(found, str) else ""


__all__ = ["Ask", "Wire", "Wrong", "first", "is_first", "key_headers", "mapping", "part", "words"]
