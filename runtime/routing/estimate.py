"""About how many tokens a text has, where no tokenizer is at hand: for budgets, rates and rules.

English has about four characters a token, the alphabets from Greek to Arabic about two, and all others (Indic, Thai,
Chinese, Japanese, Korean, symbols) about one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from carrara.engines.request import Message

_HALVES = re.compile("[\u0370-\u08ff\u1f00-\u1fff]")
_WHOLES = re.compile("[\u0900-\u1dff\u2070-\U0010ffff]")


def estimated_tokens(messages: Iterable[Message]) -> int:
    """Of a prompt, without what a template puts around the messages."""
    return sum(_quarters(message.content) for message in messages) // 4


def estimated_text_tokens(text: str) -> int:
    """Of a single text."""
    return _quarters(text) // 4


def _quarters(text: str) -> int:
    """The estimate in quarters of a token."""
    if text.isascii():
        return len(text)
    halves, wholes = len(_HALVES.findall(text)), len(_WHOLES.findall(text))
    return len(text) + halves + 3 * wholes


__all__ = ["estimated_text_tokens", "estimated_tokens"]
