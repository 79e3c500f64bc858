"""The text of PDF files by pypdf. Scanned pages have none and are refused: reading pictures is a step of the user's."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from carrara.engines.errors import CarraraError
from carrara.workflows.sources.record import Unreadable

INSTALL = "pip install 'carrara[documents]'"
PAGE_BREAK = "\f"
_SHOWN = 8
# What pypdf remarks on damaged files is told in the record, not without its file on standard error.
logging.getLogger("pypdf").addHandler(logging.NullHandler())


def read(raw: bytes) -> Mapping[str, Any]:
    """`text` with a form feed between pages, `pages` (their number), `title` and `author` ("" where it has none).

    Raises:
        Unreadable: damaged, locked by a password, or with pages that hold a picture and no text.
        CarraraError: the package for it is not installed.
    """
    try:
        from pypdf import PdfReader
        from pypdf.errors import PyPdfError
    except ImportError as error:
        raise CarraraError(f"PDF files need the package pypdf: {INSTALL}") from error
    if not raw.strip():
        raise Unreadable("the file is empty")
    try:
        reader = PdfReader(io.BytesIO(raw))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("the PDF is locked by a password")
        pages = [page.extract_text().replace("\x00", "") for page in reader.pages]
        bare = [n for n, text in enumerate(pages, 1) if not text.strip()]
        scanned = [n for n in bare if _has_picture(reader.pages[n - 1])]
        about = reader.metadata
    except Unreadable:
        raise
    except (PyPdfError, OSError, ValueError, KeyError, RecursionError, AttributeError) as error:
        raise Unreadable(f"not a readable PDF: {error or type(error).__name__}") from error
    if scanned or len(bare) == len(pages):
        raise Unreadable(_no_text(scanned or bare, len(pages)))
    return {
        "text": PAGE_BREAK.join(pages),
        "pages": len(pages),
        "title": str((about and about.title) or ""),
        "author": str((about and about.author) or ""),
    }


def _has_picture(page: Any) -> bool:
    resources = page.get("/Resources")
    objects = resources.get_object().get("/XObject") if resources is not None else None
    if objects is None:
        return False
    return any(
        part.get_object().get("/Subtype") == "/Image" for part in objects.get_object().values()
    )


def _no_text(pages: Sequence[int], count: int) -> str:
    if not count:
        return "the PDF has no pages"
    named = ", ".join(map(str, pages[:_SHOWN])) + (", …" if len(pages) > _SHOWN else "")
    which = "no page holds" if len(pages) == count else f"page {named} of {count} holds no"
    text = f"{which} any text" if len(pages) == count else f"{which} text"
    return f"{text}, only pictures: read it with OCR in a step of your own"


__all__ = ["INSTALL", "PAGE_BREAK", "read"]
