"""Files that are one document each: text, Markdown, HTML, PDF. Each becomes a record with its `text`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from carrara.engines.errors import CarraraError
from carrara.workflows.sources import html, pdf
from carrara.workflows.sources.record import MAX_TEXT_BYTES, Record, Unreadable, broken

Reader = Callable[[bytes], Mapping[str, Any]]
"""The fields of a document from its bytes; raises Unreadable."""


def read_document(path: Path) -> Record:
    """The record of one file: `text`, `path`, `name`, and what its format tells beside. A file over which its reader
    breaks is a broken record like any other that cannot be used.

    Raises:
        CarraraError: a package for the format is not installed.
    """
    empty = Record(0, str(path), str(path))
    try:
        size = path.stat().st_size
        if size > MAX_TEXT_BYTES:
            return broken(
                empty, f"larger than {MAX_TEXT_BYTES // 2**20} MiB ({size / 2**20:.0f} MiB)"
            )
        raw = path.read_bytes()
    except OSError as error:
        return broken(empty, f"cannot be read: {error.strerror}")
    try:
        found = READERS.get(path.suffix.lower(), _text)(raw)
    except Unreadable as error:
        return broken(empty, str(error))
    except CarraraError:
        raise
    except Exception as error:
        return broken(empty, f"not readable: {type(error).__name__}: {error}")
    return Record(0, str(path), str(path), {**found, "path": str(path), "name": path.stem})


def decoded(raw: bytes) -> str:
    """The text of a file.

    Raises:
        Unreadable: it is empty, binary, or not UTF-8.
    """
    if not raw.strip():
        raise Unreadable("the file is empty")
    if raw.startswith(b"SQLite format 3\x00"):
        raise Unreadable("an SQLite database: as a source it is written sqlite:///FILE#TABLE")
    if b"\x00" in raw:
        raise Unreadable("a binary file, not text (it holds NUL bytes)")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"not UTF-8 text (byte {error.start}: {error.reason})") from error


def _text(raw: bytes) -> Mapping[str, Any]:
    return {"text": decoded(raw)}


READERS: Mapping[str, Reader] = {
    ".html": html.read,
    ".htm": html.read,
    ".xhtml": html.read,
    ".pdf": pdf.read,
}
"""By suffix; every other file is read as text."""


__all__ = ["READERS", "decoded", "read_document"]
