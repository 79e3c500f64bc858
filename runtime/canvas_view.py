"""A draft for the eye: text that emerges from noise, the surer the brighter."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from carrara.engines.pieces import UNDECIDED
from carrara.engines.request import Progress, Span

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

PINNED, GUESSED = "grey58", "italic grey42"
SURE = ((0.9, "bold #f5f1e8"), (0.6, "#e6c98f"), (0.0, "#d08c60"))
"""From which probability on a decided token has which style: marble, sand, clay."""

_NOISE = "░▒▓▒"
_SHADES = ("grey23", "grey27", "grey30", "grey35", "grey39")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def harmless(text: str) -> str:
    """Text of a model, fit for a terminal: a control character in it does nothing there."""
    return _CONTROL.sub("\ufffd", text)


def canvas(draft: Progress, *, plain: bool = False) -> Text:
    """The whole draft with its styles. `plain`: for terminals that know no block characters."""
    from rich.text import Text

    found = Text()
    shown = harmless(draft.text)
    for span, is_final in _parts(draft):
        if is_final:
            found.append(shown[span.start : span.stop], style=_style(span.sure))
            continue
        for at in range(span.start, span.stop):
            if shown[at] != UNDECIDED:
                found.append(shown[at], style=GUESSED)
            elif plain:
                found.append(".", style=_SHADES[-1])
            else:
                grain = _grain(at, draft.step)
                found.append(_NOISE[grain % len(_NOISE)], style=_SHADES[grain % len(_SHADES)])
    return found


def window(draft: Progress, console: Console, width: int, most: int) -> list[Text]:
    """At most `most` lines of the canvas: those around the first place that is still open, else the last ones."""
    plain = not (console.encoding or "").lower().startswith("utf")
    text = canvas(draft, plain=plain)
    lines = list(text.wrap(console, max(width, 1)))
    if len(lines) <= most:
        return lines
    opening = next((span.start for span, is_final in _parts(draft) if not is_final), None)
    last = len(lines)
    if opening is not None:
        before = len(list(text[:opening].wrap(console, max(width, 1)))) if opening else 1
        last = min(len(lines), max(most, before + most // 2))
    return lines[last - most : last]


def _parts(draft: Progress) -> Iterator[tuple[Span, bool]]:
    """All of the text in spans, each final or not."""
    at = 0
    for span in draft.spans:
        if at < span.start:
            yield Span(at, span.start), False
        yield span, True
        at = span.stop
    if at < len(draft.text):
        yield Span(at, len(draft.text)), False


def _style(sure: float | None) -> str:
    if sure is None:
        return PINNED
    return next(style for least, style in SURE if sure >= least)


def _grain(at: int, step: int) -> int:
    """A number that looks random and differs from place to place and from pass to pass."""
    return ((at * 2_654_435_761) ^ ((step + 1) * 40_503 * (at + 7))) >> 7
