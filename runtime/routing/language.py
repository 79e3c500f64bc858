"""The language of a prompt, for rules that ask for it, by the package py3langid (extra "language")."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from carrara.engines.errors import CarraraError
from carrara.engines.request import Message

_MOST = 4000  # characters; more do not make it surer


def language_of(messages: Iterable[Message]) -> str:
    """The ISO 639-1 code of the last user message's language.

    Raises:
        CarraraError: the package is not installed.
    """
    texts = [message.content for message in messages if message.role == "user"]
    return _classified(texts[-1][-_MOST:]) if texts else ""


def _classified(text: str) -> str:
    code, _ = _identifier().classify(text)
    return str(code)


@cache
def _identifier() -> Any:
    try:
        import py3langid
    except ImportError as error:
        raise CarraraError(
            "a routing rule names languages, which needs the package py3langid: pip install 'carrara[language]'"
        ) from error
    return py3langid


__all__ = ["language_of"]
