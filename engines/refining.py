"""Refinement of free text as infill: the spans to be written anew are holes, everything else is pinned.

So a refined text differs from its draft in the spans and nowhere else, byte for byte, on every engine that fills holes.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from carrara.engines.contract import MOST_HOLES, Hole, Infill, Text
from carrara.engines.errors import EngineFailed, EngineRefused
from carrara.engines.request import Completion, Confidence, Draft, Request

Span = tuple[int, int]
Encode = Callable[[str], list[int]]
_ROOM = 4  # tokens that a span may get longer by, beside the length that it has


@dataclass(frozen=True, slots=True)
class Refining:
    """A request to fill the holes of a draft, and for each span that was asked for the hole that has it."""

    request: Request
    holes: tuple[int, ...]

    def completion(self, found: Completion) -> Completion:
        """The answer as one about text: confidence by span.

        Raises:
            EngineFailed: it was cut, so that text behind the spans is gone.
        """
        if found.value is None:
            raise EngineFailed(
                f"the refined text was cut ({found.stop!r}) before all of the draft was there again",
                engine=found.engine,
            )
        fields = found.confidence.fields
        spans = tuple(fields.get(f"/{hole}") for hole in self.holes)
        sure = Confidence(found.confidence.overall, {}, found.confidence.tokens, spans)
        return replace(found, value=found.text, confidence=sure)


def refining(request: Request, encode: Encode, vocabulary: Sequence[bytes]) -> Refining | None:
    """How a draft of free text is refined by filling holes; None for any other request.

    Without spans, a share of the draft's tokens is renoised, the same ones for the same draft on every machine.

    Raises:
        EngineRefused: the draft names fields, or spans that it does not have.
    """
    draft = request.draft
    if draft is None or not isinstance(request.output, Text):
        return None
    if draft.fields:
        raise EngineRefused(
            "a draft of free text has no fields; name spans, or nothing to refine all of it"
        )
    if draft.spans:
        spans = checked_spans(draft)
        asked: Sequence[Span] = draft.spans
    else:
        spans = merged(_noised(draft, encode(draft.text), vocabulary))
        asked = spans
    if len(spans) > MOST_HOLES:
        raise EngineRefused(
            f"{len(spans)} separate spans are to be renoised, at most {MOST_HOLES} can be"
        )
    parts: list[str | Hole] = []
    at = 0
    for start, end in spans:
        tokens = len(encode(draft.text[start:end]))
        parts += [draft.text[at:start], Hole(2 * tokens + _ROOM)]
        at = end
    parts.append(draft.text[at:])
    holes = tuple(
        next(n for n, (start, end) in enumerate(spans) if start <= low and high <= end)
        for low, high in asked
    )
    return Refining(replace(request, output=Infill(tuple(parts)), draft=None, stop=()), holes)


def checked_spans(draft: Draft) -> list[Span]:
    """The spans of a draft in order, those that touch or overlap as one.

    Raises:
        EngineRefused: a span that the draft does not have.
    """
    for start, end in draft.spans:
        if not 0 <= start <= end <= len(draft.text):
            raise EngineRefused(
                f"the draft has characters 0 to {len(draft.text):,}, not the span {start:,} to {end:,}"
            )
    return merged(draft.spans)


def merged(spans: Iterable[Span]) -> list[Span]:
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def chosen(count: int, draft: Draft) -> list[int]:
    """Which of `count` tokens to renoise by a draft's strength: the same ones for the same draft, everywhere."""
    digest = hashlib.blake2b(draft.text.encode("utf-8", "replace"), digest_size=8).digest()
    chance = random.Random(int.from_bytes(digest, "big"))
    share = min(count, max(1, round(count * draft.strength)))
    return sorted(chance.sample(range(count), share))


def _noised(draft: Draft, tokens: Sequence[int], vocabulary: Sequence[bytes]) -> Iterator[Span]:
    """The characters of a share of the tokens; a character belongs to all tokens that have a byte of it."""
    if not tokens:
        yield (0, 0)
        return
    characters: list[int] = []  # of each byte
    for number, char in enumerate(draft.text):
        characters += [number] * len(char.encode())
    starts = [0]
    for token in tokens:
        starts.append(starts[-1] + len(vocabulary[token]))
    for number in chosen(len(tokens), draft):
        first, last = starts[number], starts[number + 1] - 1
        if first <= last < len(characters):
            yield characters[first], characters[last] + 1


__all__ = ["Refining", "Span", "checked_spans", "chosen", "merged", "refining"]
