"""Keys: where they come from, and that they are never shown.

A key comes from an environment variable, or from the system's keyring (package `keyring`, service "carrara") under the
variable's name. It lives in a `Key`, which shows itself as "***" and takes itself out of any text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from carrara.engines.errors import LoadingError

SERVICE = "carrara"
_PRINTABLE = re.compile(r"[ -~]*")
_WORD = re.compile(r"[\w*-]*")


class Key:
    """A secret. Only `reveal` gives it away; it has no useful repr, cannot be pickled and compares by identity."""

    __slots__ = ("_secret",)

    def __init__(self, secret: str) -> None:
        self._secret = secret.strip()

    def reveal(self) -> str:
        return self._secret

    def scrub(self, text: str) -> str:
        """`text` without the secret, also where only its beginning or its end is shown. Takes time by the length of
        `text`, whatever stands in it."""
        secret = self._secret
        if not secret.strip("*"):
            return text
        mark = (
            "…" if "*" in secret else "***"
        )  # with what stands around it, it never spells the secret again
        text = text.replace(secret, mark)
        if len(secret) >= 12:
            for part in (secret[:8], secret[-8:]):
                text = _without_words(text, part, mark)
        return text

    def __bool__(self) -> bool:
        return bool(self._secret)

    def __repr__(self) -> str:
        return "Key(***)" if self._secret else "Key()"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> Any:
        raise TypeError("a key is not written down")


NO_KEY = Key("")


def find_key(variable: str, keyring: Callable[[str], str | None] | None = None) -> Key:
    """The key named `variable`: from the environment, else from the keyring where there is one. May be empty.

    Raises:
        LoadingError: it cannot stand in a header.
    """
    if not variable:
        return NO_KEY
    found = Key(os.environ.get(variable) or (keyring or _from_keyring)(variable) or "")
    if not _PRINTABLE.fullmatch(found.reveal()):
        raise LoadingError(
            f"{variable} holds no key: not all of its characters are printable ASCII (a line break in it? a long "
            f"dash?). {how_to_set(variable)}"
        )
    return found


def how_to_set(variable: str) -> str:
    """What a person can do about a missing key."""
    return f"export {variable}=…, or: pip install keyring && keyring set {SERVICE} {variable}"


def bare_url(url: str) -> str:
    """A URL as it may be shown: without user, password and query."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        place = f"[{host}]" if ":" in host else host
        if parts.port:
            place += f":{parts.port}"
    except ValueError:
        return "(not a URL)"
    return urlunsplit((parts.scheme, place, parts.path, "", ""))


def _without_words(text: str, part: str, mark: str) -> str:
    """`text` with a mark in place of each `part` and of the word characters and stars around it. Each character is
    looked at a fixed number of times: as one of before the part, of it, or of behind it."""
    kept: list[str] = []
    start = 0
    while (found := text.find(part, start)) >= 0:
        before = text[start:found]
        word = _WORD.match(before[::-1])
        behind = _WORD.match(text, found + len(part))
        assert word is not None  # it matches nothing, too
        assert behind is not None
        kept += (before[: len(before) - word.end()], mark)
        start = behind.end()
    return "".join((*kept, text[start:]))


def _from_keyring(variable: str) -> str | None:
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        return None
    try:
        found = keyring.get_password(SERVICE, variable)
    except (KeyringError, RuntimeError, OSError):  # no back end, or a locked one
        return None
    return found if isinstance(found, str) else None


__all__ = ["NO_KEY", "Key", "bare_url", "find_key", "how_to_set"]
