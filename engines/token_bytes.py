"""What each token of a vocabulary writes, as bytes.

Byte-level BPE (GPT-2 and most models since) spells each byte as one printable character; SentencePiece
vocabularies with byte fallback write a space as "▁" and single bytes as "<0x0A>". Other vocabularies have
no exact bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

Spelling = Literal["byte-level", "byte-fallback"]

_BYTE_NAME = re.compile(r"<0x([0-9A-F]{2})>")


def spelling(spec: Mapping[str, Any]) -> Spelling | None:
    """How the vocabulary of a parsed tokenizer.json spells bytes, None if in no exact way."""
    decoder = spec.get("decoder") or {}
    parts = {part.get("type") for part in [decoder, *decoder.get("decoders", [])]}
    if "ByteLevel" in parts:
        return "byte-level"
    if "ByteFallback" in parts:
        return "byte-fallback"
    return None


def byte_characters() -> dict[int, int]:
    """GPT-2's map from the code point that spells a byte to that byte.

    Printable Latin-1 characters spell themselves, the other 68 bytes take code points from 256 on, in order.
    """
    plain = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: byte for byte in plain} | {256 + n: byte for n, byte in enumerate(others)}


def token_bytes(tokens: Mapping[str, int], how: Spelling) -> dict[int, bytes]:
    """The bytes of every token of a model's own vocabulary. Added tokens are not part of it."""
    if how == "byte-fallback":
        return {i: _fallback_bytes(token) for token, i in tokens.items()}
    # Characters outside the map are made impossible in Latin-1, so that a token that holds one shows.
    table = {code: chr(byte) for code, byte in byte_characters().items()}
    table |= {code: "\uffff" for code in range(256) if code not in table}
    return {i: _latin(token.translate(table), token) for token, i in tokens.items()}


def _latin(spelled: str, token: str) -> bytes:
    try:
        return spelled.encode("latin-1")
    except UnicodeEncodeError:  # not made of byte characters: a token that was put in as plain text
        return token.encode("utf-8")


def _fallback_bytes(token: str) -> bytes:
    if found := _BYTE_NAME.fullmatch(token):
        return bytes([int(found[1], 16)])
    return token.replace("▁", " ").encode("utf-8")
