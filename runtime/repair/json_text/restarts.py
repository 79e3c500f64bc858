"""A start that was written twice: at a block border a decoder begins a member or an element anew.

The first try is an exact prefix of what follows it, so nothing is lost when it goes.
"""

from __future__ import annotations

from collections.abc import Iterator

from carrara.runtime.repair.json_text.lexemes import WINDOW, past_space
from carrara.runtime.repair.json_text.parts import value_of
from carrara.runtime.repair.json_text.states import KEY, VALUE, Frame, State, edited

_ANCESTORS = 6
_TELLING = 5  # characters; a shorter start says little


def restarted(text: str, s: State) -> list[State]:
    """States in which the member being read, or one around it, is dropped because it starts again later."""
    found = []
    frame = s.frame
    inner = frame.member if frame else -1
    for _ in range(_ANCESTORS):
        if frame is None:
            break
        start = frame.member
        if 0 <= start < s.at:
            for again in _repeats(text, start, s.at, inner):
                if frame.kind == "{" or _goes_on(text, start, again):
                    found.append(_from(text, s, frame, start, again))
                break
        frame = frame.parent
    return found


def value_again(text: str, s: State) -> list[State]:
    """The state behind a member's value that stands twice, the second time without a comma."""
    frame = s.frame
    if frame is None or frame.kind != "{" or not frame.key:
        return []
    start = value_of(text, frame)
    if s.end - start < 2 or not text.startswith(text[start : s.end], s.at):
        return []
    after = s.at + s.end - start
    trail = edited(s.trail, s.end, after, "", "member_restarted")
    return [s._replace(cost=s.cost + 0.9, at=after, trail=trail)]


def _goes_on(text: str, start: int, again: int) -> bool:
    """Whether an element's second try is longer than the first: two equal elements may both be meant."""
    end = again + len(text[start:again].rstrip())
    return end < len(text) and text[end] not in ",]} \t\r\n"


def _from(text: str, s: State, frame: Frame, start: int, again: int) -> State:
    trail = s.trail
    while trail is not None and trail.end > start and trail.start >= start:
        trail = trail.earlier  # repairs of what is dropped
    trail = edited(trail, start, again, "", "member_restarted")
    expect = KEY if frame.kind == "{" else VALUE
    fragment = text[start:again].rstrip()
    telling = len(fragment) > _TELLING and any(c in ':[{"' for c in fragment)
    return State(
        s.cost + (0.9 if telling else 2.2),
        again,
        expect,
        frame._replace(member=frame.before, before=-1),
        trail,
        start,
        -1,
    )


def _repeats(text: str, start: int, at: int, inner: int) -> Iterator[int]:
    """Where the text from `start` on begins again: all of it up to there is a prefix of what follows. It may begin
    again at `inner`, the member that was read last, inside the bracket that the first try opened."""
    first_try = text[start:inner].rstrip() if start < inner < start + WINDOW else ""
    if len(first_try) > _TELLING and text.startswith(first_try, inner):
        yield inner
        return
    least = text[start : max(at, start + 2)].rstrip()
    if len(least) < 3:
        return
    again = text.find(least, max(at, start + 1), at + WINDOW)
    if again < 0:
        place = past_space(text, at)
        again = place if text.startswith(least, place) and place > start else -1
    if again > start:
        fragment = text[start:again].rstrip()
        if fragment and text.startswith(fragment, again):
            yield again


__all__ = ["restarted", "value_again"]
