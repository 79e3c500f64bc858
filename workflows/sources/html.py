"""HTML as Markdown: what a reader would see, tables and lists kept, scripts and navigation left out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from carrara.engines.errors import CarraraError
from carrara.workflows.sources.record import Unreadable

INSTALL = "pip install 'carrara[documents]'"
_UNSEEN = ("script", "style", "template", "noscript", "svg", "canvas", "iframe", "nav", "object")
MAX_BYTES = 8 * 2**20
"""A larger page is refused: a table of so many bytes takes a minute and 3 GB to be read."""
_BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*){2,}")


def read(raw: bytes | str) -> Mapping[str, Any]:
    """`text` and `title` of a page; the encoding of bytes is the one that they declare, else UTF-8.

    Raises:
        Unreadable: there is nothing to read in it, or it is too large or nested too deeply.
        CarraraError: the package for it is not installed.
    """
    try:
        from bs4 import BeautifulSoup
    except ImportError as error:
        raise CarraraError(f"HTML files need beautifulsoup4 and markdownify: {INSTALL}") from error
    if not raw.strip():
        raise Unreadable("the file is empty")
    size = len(raw if isinstance(raw, bytes) else raw.encode(errors="replace"))
    if size > MAX_BYTES:
        raise Unreadable(
            f"an HTML page of {size / 2**20:.0f} MiB, at most {MAX_BYTES // 2**20} are read: "
            "cut it, or give its text"
        )
    try:
        soup = BeautifulSoup(raw, "html.parser")
        return {"text": as_markdown(soup), "title": _title(soup)}
    except RecursionError as error:
        raise Unreadable("the page nests its elements too deeply to be read") from error


def as_markdown(soup: Any) -> str:
    from markdownify import MarkdownConverter

    from carrara.workflows.sources.html_tables import square_tables

    for tag in soup(_UNSEEN):
        tag.decompose()
    for tag in soup(attrs={"hidden": True}):
        tag.decompose()
    square_tables(soup)
    converter = MarkdownConverter(
        heading_style="ATX",
        bullets="-",
        strip=["img", "a"],
        table_infer_header=True,
        escape_misc=False,
        escape_asterisks=False,
        escape_underscores=False,
    )
    made = converter.convert_soup(soup.body or soup)
    text = _BLANK_LINES.sub("\n\n", "\n".join(line.rstrip() for line in made.split("\n"))).strip()
    if not text:
        raise Unreadable("the page holds no text (it may be made by a script in the browser)")
    return text + "\n"


def _title(soup: Any) -> str:
    found = soup.title.get_text(" ", strip=True) if soup.title else ""
    heading = soup.h1.get_text(" ", strip=True) if soup.h1 else ""
    return found or heading


__all__ = ["INSTALL", "MAX_BYTES", "as_markdown", "read"]
