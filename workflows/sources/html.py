"""HTML as Markdown: what a reader would see, tables and lists kept, scripts and navigation left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carrara.engines.errors import CarraraError
from carrara.workflows.sources.encodings import page_of
from carrara.workflows.sources.record import Unreadable

INSTALL = "pip install 'carrara[documents]'"
MAX_BYTES = 8 * 2**20
"""A larger page is refused: a table of so many bytes takes a minute and a half and a gigabyte to be read."""


class NoText(Unreadable):
    """A page that can be read and shows no text."""


def read(raw: bytes | str, label: str | None = None) -> Mapping[str, Any]:
    """`text` and `title` of a page. `label` is what the sender calls the encoding of the bytes; without one it is that
    which the page declares, else UTF-8 where they are, else windows-1252.

    Raises:
        NoText: there is nothing to read in it.
        Unreadable: it is too large or nested too deeply.
        CarraraError: the package for it is not installed.
    """
    try:
        from carrara.workflows.sources.html_page import parsed, title_of
    except ImportError as error:
        raise CarraraError(f"HTML files need justhtml: {INSTALL}") from error
    from carrara.workflows.sources.html_text import markdown

    if not raw.strip():
        raise NoText("the file is empty")
    size = len(raw if isinstance(raw, bytes) else raw.encode(errors="replace"))
    if size > MAX_BYTES:
        raise Unreadable(
            f"an HTML page of {size / 2**20:.0f} MiB, at most {MAX_BYTES // 2**20} are read: "
            "cut it, or give its text"
        )
    page = parsed(page_of(raw, label) if isinstance(raw, bytes) else raw)
    text = markdown(page)
    if not text:
        raise NoText("the page holds no text (it may be made by a script in the browser)")
    return {"text": text + "\n", "title": title_of(page)}


__all__ = ["INSTALL", "MAX_BYTES", "NoText", "read"]
