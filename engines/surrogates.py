"""Text that has halves of surrogate pairs in it, as JSON escapes and cut streams can bring: no character, and nothing
that UTF-8 can hold."""

from __future__ import annotations


def paired(text: str, errors: str = "replace") -> str:
    """The text with halves that stand together joined to the character; any other half is U+FFFD.

    Raises:
        UnicodeDecodeError: with `errors` "strict", for any other half.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", errors)
    return text


__all__ = ["paired"]
