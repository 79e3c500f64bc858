"""Header fields of mails as their sender meant them, however malformed they are."""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as NotBase64
from email.policy import EmailPolicy
from quopri import decodestring
from typing import Any

from carrara.workflows.sources.encodings import as_windows, text_of

_MAX_PARSED = 20_000
"""Characters of a field; the parsers of addresses and of parameters take quadratic time."""
_ENCODED = re.compile(r"=\?([^?*\s]{1,40})(?:\*[^?\s]{0,40})?\?([bq])\?([^?]*)\?=", re.IGNORECASE)
_BETWEEN = re.compile(r"(\?=)[ \t\r\n]+(?==\?)")
_FOLDS = re.compile(r"[\r\n]+")


class _AsSent(EmailPolicy):
    """Reads a field as the standard library does where that gives all of it, else as plain text."""

    def header_fetch_parse(self, name: str, value: Any) -> Any:
        if not isinstance(value, str) or hasattr(value, "name"):
            return value
        sent = _eight_bit(value)
        if len(sent) > _MAX_PARSED:
            is_shown = not name.lower().startswith("content-")
            return _plain(sent if is_shown else sent[:_MAX_PARSED])
        try:
            found = super().header_fetch_parse(name, sent)
            text = str(found)
        except Exception:  # its parser breaks in many ways over what no standard allows
            return _plain(sent)
        return found if text.isascii() or not _has_lost(text) else _plain(sent)


def _has_lost(text: str) -> bool:
    """Whether a character was not read, or is none that is shown."""
    return any(
        character == "\ufffd" or "\x80" <= character <= "\x9f" or "\ud800" <= character <= "\udfff"
        for character in text
    )


def _eight_bit(value: str) -> str:
    """The field with the bytes that are not ASCII, which the parser keeps as halves of characters, as characters. It
    stands in a line with its name, so its encoding has 8 bits: what would be the mark of another elsewhere is text."""
    if value.isascii():
        return value
    return text_of(value.encode("utf-8", "surrogateescape"), "utf-8", wide=False)


def _plain(value: str) -> str:
    """The field in one line, its encoded words read. Words in a row may part a character between them."""
    joined = _BETWEEN.sub(r"\1", _FOLDS.sub("", value))
    made: list[str] = []
    label, raw, at = "", b"", 0
    for word in _ENCODED.finditer(joined):
        if raw and (word.start() > at or word[1].lower() != label):
            made.append(text_of(raw, label))
            raw = b""
        made.append(joined[at : word.start()])
        label, raw, at = word[1].lower(), raw + _bytes_of(word), word.end()
    made += [text_of(raw, label), joined[at:]]
    return as_windows("".join(made)).strip()


def _bytes_of(word: re.Match[str]) -> bytes:
    raw = word[3].encode("utf-8", "replace")
    try:
        return decodestring(raw, header=True) if word[2] in "qQ" else b64decode(raw + b"===")
    except NotBase64:
        return word[0].encode("utf-8", "replace")


AS_SENT = _AsSent()
"""The policy with which to parse a mail."""


__all__ = ["AS_SENT"]
