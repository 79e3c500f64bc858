"""How long a slot usually is: what a schema tells of it before anything is written.

Canvas positions cost time, and a slot that is too short cuts or has to grow. A number is short, a `summary` is long,
and `maxLength` is often a fair guess.
"""

from __future__ import annotations

import math
import re

from carrara.engines.diffusion.scaffold.forms import At, Form, Literal, Seq, Slot

NUMBERS = ("integer", "number")
_NUMBER_TOKENS = 10
_CHARACTERS_A_TOKEN = 2  # few, so that a slot is rather too long
_LONGEST_SHARE = 3.0
_FEWEST = 4

_LONG = {
    "abstract",
    "answer",
    "background",
    "bio",
    "biography",
    "body",
    "caption",
    "comment",
    "comments",
    "conclusion",
    "content",
    "context",
    "description",
    "detail",
    "details",
    "evidence",
    "excerpt",
    "explanation",
    "feedback",
    "finding",
    "instructions",
    "justification",
    "message",
    "motivation",
    "narrative",
    "note",
    "notes",
    "objective",
    "overview",
    "paragraph",
    "passage",
    "rationale",
    "reason",
    "reasoning",
    "remark",
    "remarks",
    "response",
    "review",
    "sentence",
    "summary",
    "synopsis",
    "text",
    "thought",
    "thoughts",
}
_SHORT = {
    "abbreviation",
    "code",
    "currency",
    "id",
    "iso",
    "key",
    "locale",
    "postcode",
    "sku",
    "symbol",
    "unit",
    "units",
    "zip",
}
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def share_of(name: str) -> float:
    """How long the text of a field of this name usually is, in parts of a usual string."""
    words = _WORDS.findall(name)
    last = words[-1].lower() if words else ""
    return _LONGEST_SHARE if last in _LONG else 0.5 if last in _SHORT else 1.0


def named(form: Form, name: str) -> Form:
    """The form of a field, its string as long as the field's name lets expect."""
    share = share_of(name)
    if share == 1.0:
        return form
    match form:
        case Slot(language, "string", write, most):
            return Slot(language, "string", write, most, share)
        case Seq((Literal() as quote, Slot() as slot)):
            return Seq((quote, named(slot, name)))
        case At(step, part, silent):
            return At(step, named(part, name), silent)
    return form


def usual_tokens(slot: Slot, tokens: int, grows: bool) -> int:
    """The positions that a string or number begins with, where `tokens` is usual. Shorter only if it may grow."""
    if slot.kind in NUMBERS:
        return min(tokens, _NUMBER_TOKENS)
    wanted = tokens * slot.share
    limit = slot.language.most
    if limit is not None:
        guess = limit / _CHARACTERS_A_TOKEN + 1
        if guess < wanted:
            wanted = guess
        elif slot.share == 1.0:
            wanted = max(wanted, min(guess / 6, tokens * _LONGEST_SHARE))
    if not grows:
        wanted = max(wanted, tokens)
    return max(_FEWEST, math.ceil(wanted))


__all__ = ["NUMBERS", "named", "share_of", "usual_tokens"]
