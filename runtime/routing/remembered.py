"""The answers of a run that equal requests need not be asked for again, up to a bound in bytes: the least recently used
is forgotten first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import NamedTuple

from carrara.engines.request import Completion, Request, Timings

MOST_BYTES = 32 << 20
"""About 10,000 answers of a few hundred characters."""

_MOST_GIVEN = 4096
"""So many of the newest askers are known."""

_ENTRY_BYTES = 1024


class _Question(NamedTuple):
    """A request to an engine without its text, and the hash of that."""

    place: Hashable
    request: Request
    messages: bytes


@dataclass(frozen=True, slots=True)
class _Answer:
    completion: Completion
    size: int


class Remembered:
    """Answers to repeatable requests. For one run.

    Nobody is given the same answer twice: who asks once more wants another one.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._answers: OrderedDict[_Question, _Answer] = OrderedDict()
        self._given: OrderedDict[tuple[int, int], None] = OrderedDict()
        self.bytes = 0

    def get(self, place: Hashable, request: Request, asker: int) -> Completion | None:
        """The answer of the engine at `place`, None where it is to be asked. `asker` is the number of a node."""
        question = _question(place, request)
        found = self._answers.get(question)
        if found is None or not self._note(question, asker):
            return None
        self._answers.move_to_end(question)
        return replace(found.completion, timings=Timings())

    def put(self, place: Hashable, request: Request, asker: int, completion: Completion) -> None:
        """`asker` has been given an answer, which takes the place of an earlier one."""
        question = _question(place, request)
        self._note(question, asker)
        size = _size(request, completion)
        if size > self._most_bytes:
            return
        earlier = self._answers.pop(question, None)
        self.bytes += size - (0 if earlier is None else earlier.size)
        self._answers[question] = _Answer(completion, size)
        while self.bytes > self._most_bytes:
            _, oldest = self._answers.popitem(last=False)
            self.bytes -= oldest.size

    def _note(self, question: _Question, asker: int) -> bool:
        """Whether this is the first answer to the question that the asker is given."""
        key = (asker, hash(question))
        if key in self._given:
            return False
        self._given[key] = None
        if len(self._given) > _MOST_GIVEN:
            self._given.popitem(last=False)
        return True


def _question(place: Hashable, request: Request) -> _Question:
    hashed = blake2b(digest_size=16)
    for message in request.messages:
        for part in (message.role, message.content):
            raw = part.encode("utf-8", "surrogatepass")
            hashed.update(len(raw).to_bytes(8, "little") + raw)
    return _Question(place, replace(request, messages=()), hashed.digest())


def _size(request: Request, completion: Completion) -> int:
    """About what an answer takes in memory: its text, the value in it, and how sure each token is."""
    sure = completion.confidence
    told = 4 * len(completion.text) + 32 * len(sure.tokens) + 128 * len(sure.fields)
    return _ENTRY_BYTES + told + (len(request.draft.text) if request.draft is not None else 0)


__all__ = ["MOST_BYTES", "Remembered"]
