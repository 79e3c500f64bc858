"""The text of an answer as it grows: bytes of tokens in, whole characters out, cut at stop strings.

Tokens may end in the middle of a character, and a stop string may begin in one token and end in another.
What is shown never holds half a character, nor the beginning of what may turn out to be a stop string.
"""

from __future__ import annotations

from collections.abc import Iterable

from carrara.engines.contract import Text


class AnswerText:
    """Grows by `add`. `stops` are the strings before which the text ends; empty ones are ignored. What is longer than
    `bound` allows is cut."""

    def __init__(self, stops: Iterable[str] = (), bound: Text = Text()) -> None:  # noqa: B008 - frozen
        self._stops = [stop.encode() for stop in stops if stop]
        self._reach = max(map(len, self._stops), default=0)
        self._raw = bytearray()
        self._bound = bound
        self.is_stopped = False
        self.is_full = False

    @property
    def raw(self) -> bytes:
        return bytes(self._raw)

    @property
    def is_over(self) -> bool:
        """Whether nothing may follow: it is stopped or full."""
        return self.is_stopped or self.is_full

    def add(self, piece: bytes) -> None:
        """Append what a token writes; sets `is_stopped` and cuts the text when that completes a stop
        string, or `is_full` when it is longer than it may be."""
        if self.is_over:
            return
        start = max(0, len(self._raw) - self._reach + 1)
        self._raw += piece
        found = [at for stop in self._stops if (at := self._raw.find(stop, start)) >= 0]
        if found:
            del self._raw[min(found) :]
            self.is_stopped = True
        if self._bound.max_length is not None:
            text = whole_characters(self._raw)
            if (kept := self._bound.cut(text)) != text:
                self._raw[:] = kept.encode()
                self.is_full = True

    def shown(self) -> str:
        """The text that is settled: what may still become a stop string or a character is held back."""
        raw = self._raw
        held = 0 if self.is_over else max((_overlap(raw, stop) for stop in self._stops), default=0)
        return whole_characters(raw[: len(raw) - held])

    def final(self) -> str:
        """The whole text once nothing follows; half a character at its end is dropped."""
        return whole_characters(self._raw)


def whole_characters(raw: bytes | bytearray) -> str:
    """UTF-8 as text: an unfinished character at the end is left out, bytes that can be none become
    U+FFFD."""
    for back in range(1, min(4, len(raw)) + 1):
        lead = raw[-back]
        if lead >= 0xC0:
            length = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            if back < length:
                raw = raw[:-back]
            break
        if lead < 0x80:
            break
    return raw.decode("utf-8", "replace")


def _overlap(raw: bytearray, stop: bytes) -> int:
    """How many bytes at the end of `raw` begin `stop`."""
    for length in range(min(len(stop) - 1, len(raw)), 0, -1):
        if raw.endswith(stop[:length]):
            return length
    return 0
