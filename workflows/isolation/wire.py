"""What the two processes say to each other: JSON texts behind their length in eight bytes. Values are in the notation
of the journal, which loads no code and keeps every type."""

from __future__ import annotations

LENGTH_BYTES = 8


def packed(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogatepass")
    return len(raw).to_bytes(LENGTH_BYTES, "big") + raw


def length(head: bytes) -> int:
    return int.from_bytes(head, "big")


def text_of(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogatepass")
