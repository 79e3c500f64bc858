"""Indentation as evidence of nesting: what stands further left than its neighbours belongs outside."""

from __future__ import annotations


def is_outdented(text: str, member: int, at: int) -> bool:
    """Whether the line of `at` is indented less than that of the `member` before: an object may have ended."""
    here, before = _indent(text, at), _indent(text, member)
    return 0 <= here < before


def _indent(text: str, at: int) -> int:
    """The column of `at` if only blanks stand before it on its line, else -1."""
    if at < 0:
        return -1
    start = text.rfind("\n", max(0, at - 200), at) + 1
    return -1 if start == 0 or text[start:at].strip(" \t") else at - start


__all__ = ["is_outdented"]
