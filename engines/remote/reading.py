"""An answer read out of what a line gives: at once, or event by event until it is over.

What all formats have in common is settled here: when a stream is whole, how long a text may become, and that its
characters are whole.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from carrara.engines.remote.reply import Reply
from carrara.engines.remote.wire import Wire, Wrong
from carrara.engines.surrogates import paired

_CHARACTERS_A_TOKEN = 256  # more than the longest token of a vocabulary has


def read(wire: Wire, body: Any) -> Reply:
    """The answer in a whole body.

    Raises:
        Wrong: it is not in the format, or its text has half a surrogate pair.
    """
    return _sound(wire.read(body))


class Reading:
    """A stream as far as it has come. `most_tokens` is what the answer was allowed: a server that writes on and on is
    no longer listened to."""

    def __init__(self, wire: Wire, most_tokens: int) -> None:
        self.reply = Reply()
        self._wire, self._most_characters = wire, most_tokens * _CHARACTERS_A_TOKEN

    def add(self, event: str, data: Any) -> bool:
        """Take an event of a line; whether the answer is over.

        Raises:
            Wrong: it is not in the format.
        """
        if event == "whole":
            self.reply = self._wire.read(data)
            is_over = True
        else:
            is_over = event == "done" or self._wire.add(self.reply, event, data)
        reply = self.reply
        if is_over and not reply.end and (reply.text or reply.calls or event == "whole"):
            reply.end = "end"  # the server says that it was all, if not why
        if self._most_characters and len(reply.text) > self._most_characters:
            reply.text, reply.end = reply.text[: self._most_characters], "length"
            return True
        return is_over

    @property
    def shown(self) -> str:
        """The text so far, without half of a pair whose other half is still to come."""
        return paired(self.reply.text, "ignore")

    def whole(self) -> Reply:
        """The answer, once it is over.

        Raises:
            Wrong: its text has half a surrogate pair.
        """
        return _sound(self.reply)


def _whole(text: str) -> str:
    return paired(text, "strict")


def _sound(reply: Reply) -> Reply:
    """The reply with pairs joined that came in halves."""
    try:
        reply.text, reply.refused = _whole(reply.text), _whole(reply.refused)
        reply.model = _whole(reply.model)
        reply.calls = [
            replace(
                call,
                id=_whole(call.id),
                name=_whole(call.name),
                arguments=_whole(call.arguments),
            )
            for call in reply.calls
        ]
    except UnicodeError as error:
        raise Wrong("its text has half a surrogate pair, which is no character") from error
    return reply


__all__ = ["Reading", "read"]
