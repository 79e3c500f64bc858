"""The text of a mail: every part that a mail program shows as it opens the mail, in order; and what is attached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from email.message import Message
from typing import Any, TypeAlias

from carrara.workflows.sources import html
from carrara.workflows.sources.encodings import as_windows, text_of
from carrara.workflows.sources.record import Unreadable

Part: TypeAlias = "Message[Any, Any]"
_PAGES = ("text/html", "application/xhtml+xml")


@dataclass(frozen=True, slots=True)
class Body:
    """`attachments` are names, "" for one without."""

    text: str
    attachments: list[str]


def body_of(message: Part) -> Body:
    """Texts that follow one another are parted by a blank line. Of alternatives the plain one stands for all, else the
    page, whichever holds text. A mail that shows nothing else shows the texts that are named like files.

    Raises:
        Unreadable: it holds no text, or a page in it cannot be read.
        CarraraError: the package for HTML is not installed.
    """
    found = _parts(message, is_whole=True)
    texts = _texts(found.shown) or _texts(found.named)
    if not texts:
        raise Unreadable("the e-mail holds no text")
    if len(texts) > 1:
        texts = ["\n\n".join(text.strip("\r\n") for text in texts) + "\n"]
    return Body(texts[0], found.names)


@dataclass(slots=True)
class _Parts:
    """What is shown, read already where it was chosen among alternatives, and whether it begins with a page; the names
    of what is attached; and which of this is text that is shown on request."""

    shown: list[Part | str] = field(default_factory=list)
    is_page: bool = False
    names: list[str] = field(default_factory=list)
    named: list[Part] = field(default_factory=list)

    def add(self, other: _Parts, is_shown: bool = True) -> None:
        if is_shown:
            self.is_page = self.is_page if self.shown else other.is_page
            self.shown += other.shown
        self.names += other.names
        self.named += other.named


def _parts(part: Part, is_whole: bool) -> _Parts:
    """`is_whole`: the part is the mail or an alternative, which are no attachments, whatever they are called."""
    payload: Any = part.get_payload()
    if not isinstance(payload, list):
        return _leaf(part, is_whole)
    if part.get_content_maintype() != "multipart":  # a message within this one
        return _Parts(names=[_name(part)])
    kind, found = part.get_content_subtype(), _Parts()
    if kind == "alternative":
        return _alternatives(payload)
    root = _root(part, payload) if kind == "related" else None
    for one in payload:
        if root is None or one is root:
            found.add(_parts(one, is_whole=one is root))
        else:
            found.names.append(_name(one))
    return found


def _alternatives(parts: list[Part]) -> _Parts:
    """The first that holds text, plain ones before pages, and the attachments of all."""
    each = [_parts(one, is_whole=True) for one in parts]
    each.sort(key=lambda found: found.is_page)
    chosen, failed = None, None
    for found in each:
        try:
            if texts := _texts(found.shown):
                chosen, found.shown = found, [*texts]
                break
        except Unreadable as error:
            failed = error
    if chosen is None and failed is not None:
        raise failed
    whole = _Parts()
    for found in each:
        whole.add(found, is_shown=found is chosen)
    return whole


def _leaf(part: Part, is_whole: bool) -> _Parts:
    kind, is_attached = part.get_content_type(), part.get_content_disposition() == "attachment"
    name = _name(part)
    is_text = kind in ("text/plain", *_PAGES) or kind.startswith("multipart/")  # of no parts
    if is_text and (is_whole or not (is_attached or name)):
        return _Parts(shown=[part], is_page=kind in _PAGES)
    is_named = kind.startswith("text/") and not is_attached
    return _Parts(names=[name], named=[part] if is_named else [])


def _texts(parts: Sequence[Part | str]) -> list[str]:
    """The texts of the parts, but for blank ones."""
    return [text for part in parts if (text := _text(part)).strip()]


def _text(part: Part | str) -> str:
    if isinstance(part, str):
        return part
    raw = part.get_payload(decode=True)
    raw, label = raw if isinstance(raw, bytes) else b"", _charset(part)
    if part.get_content_type() not in _PAGES:
        return text_of(raw, label)
    try:
        return str(html.read(raw, label)["text"])
    except html.NoText:
        return ""


def _root(part: Part, inner: list[Part]) -> Part | None:
    """The part of `multipart/related` to which the others belong."""
    start = part.get_param("start")
    named = (one for one in inner if start and str(one.get("Content-ID", "")).strip() == start)
    return next(named, inner[0] if inner else None)


def _charset(part: Part) -> str | None:
    try:
        return part.get_content_charset()
    except (LookupError, ValueError, AttributeError, TypeError):
        return None


def _name(part: Part) -> str:
    try:
        return as_windows(part.get_filename() or "")
    except (LookupError, ValueError, AttributeError, TypeError):
        return ""


__all__ = ["Body", "Part", "body_of"]
