"""A draft as text, and where an answer stands in it.

A draft is a guess: nothing here has to be right, it only has to be right often. It is compared with the answer byte
by byte, since the two may cut the same text into other tokens. Where the answer leaves the draft, the rest of it
waits until the answer comes back to it: one wrong field does not spoil those after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from carrara.engines.answer_text import whole_characters

Encode = Callable[[str], Sequence[int]]

_LEAST_MATCH, _MOST_MATCH = 4, 48
"""Bytes of the answer's end that must be found in the draft before it counts as back, and that are looked for."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A token of a draft: what it writes, and how sure the model was of it (1 where it had no choice)."""

    token: int
    raw: bytes
    sure: float = 1.0


@dataclass(slots=True, eq=False)
class Draft:
    """Grows by `extend`, while the answer goes through it with `follow`.

    `cursor` is the byte of the draft at which the answer stands, None while it went another way; `over` are the bytes
    it has gone beyond the draft's end, by its length where it is elsewhere. `encode` cuts text into the tokens that the
    model is used to.
    """

    encode: Encode
    vocabulary: Sequence[bytes]
    raw: bytes = b""
    cursor: int | None = 0
    over: int = 0
    _pieces: dict[int, Piece] = field(default_factory=dict)
    _spelled: dict[int, int] = field(default_factory=dict)
    _lost: int = 0

    @property
    def is_ahead(self) -> bool:
        """Whether the answer stands in the draft with some of it to come."""
        return self.cursor is not None and self.cursor < len(self.raw)

    @property
    def is_used_up(self) -> bool:
        """Whether the answer has come to the draft's end, or got longer on another way."""
        return self.over > 0 if self.cursor is None else self.cursor == len(self.raw)

    def extend(self, pieces: Iterable[Piece], answer: bytes = b"") -> None:
        """Add to the end. What the answer wrote beyond the old end is compared now."""
        grown = bytearray(self.raw)
        for piece in pieces:
            if piece.raw:
                self._pieces[len(grown)] = piece
                grown += piece.raw
        self.raw = bytes(grown)
        self._spelled.clear()  # the last token may be cut otherwise now
        if over := self.over:
            self.over = 0
            self.follow(answer, over)

    def follow(self, answer: bytes, new: int) -> None:
        """Go on over the last `new` bytes of an answer."""
        if self.cursor is not None:
            self._go_on(answer[len(answer) - new :])
        if self.cursor is None:
            self._come_back(answer)

    def candidates(self, at: int) -> Iterator[int]:
        """Tokens that write the draft from byte `at` on, the likeliest first."""
        spelled = self._spelling(at)
        if spelled is not None:
            yield spelled
        piece = self._pieces.get(at)
        if piece is not None and piece.token != spelled:
            yield piece.token

    def chance(self, begin: int, end: int) -> float:
        """The probability of what the draft decided in these bytes."""
        found = 1.0
        for at in range(begin, min(end, len(self.raw))):
            piece = self._pieces.get(at)
            if piece is not None:
                found *= piece.sure
        return found

    def after(self, at: int, written: bytes) -> int | None:
        """Where in the draft one stands after writing `written` at byte `at`, None if the draft has other text."""
        return at + len(written) if self.raw.startswith(written, at) else None

    def _go_on(self, written: bytes) -> None:
        assert self.cursor is not None
        rest = len(self.raw) - self.cursor
        if self.raw.startswith(written[:rest], self.cursor):
            self.over += max(0, len(written) - rest)
            self.cursor += min(rest, len(written))
        else:
            pairs = enumerate(zip(written, self.raw[self.cursor :], strict=False))
            shared = next(at for at, (mine, drafted) in pairs if mine != drafted)
            self._lost, self.cursor = self.cursor + shared, None

    def _come_back(self, answer: bytes) -> None:
        """Find the longest end of the answer in the rest of the draft."""
        for length in range(min(_MOST_MATCH, len(answer)), _LEAST_MATCH - 1, -1):
            found = self.raw.find(answer[-length:], self._lost)
            if found >= 0:
                self.cursor, self.over = found + length, 0
                return
        self.over = max(0, len(answer) - len(self.raw))

    def _spelling(self, at: int) -> int | None:
        if at not in self._spelled and at < len(self.raw):
            place = at
            for token in self.encode(whole_characters(self.raw[at:])):
                piece = self.vocabulary[token]
                if place in self._spelled or not piece or not self.raw.startswith(piece, place):
                    break
                self._spelled[place] = token
                place += len(piece)
        return self._spelled.get(at)
