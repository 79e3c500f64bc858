"""Bytes of mails and pages as text, in the encoding that a browser would choose."""

from __future__ import annotations

import codecs
import re
from functools import cache

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LARGER = {
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
    "big5": "big5hkscs",
    "utf-16": "utf-16-le",
}
"""What browsers read where a label is one of these: the larger set, which senders mean."""
_OTHER_LABELS = {
    "unicode-1-1-utf-8": "utf-8",
    "x-sjis": "cp932",
    "windows-31j": "cp932",
    "ms932": "cp932",
    "ks_c_5601-1987": "cp949",
    "ks_c_5601-1989": "cp949",
    "windows-949": "cp949",
    "windows-874": "cp874",
    "dos-874": "cp874",
    "x-gbk": "gb18030",
    "gb_2312-80": "gb18030",
    "x-x-big5": "big5hkscs",
    "cn-big5": "big5hkscs",
    "iso-8859-8-i": "iso8859-8",
    "iso-8859-8-e": "iso8859-8",
    "iso-8859-6-i": "iso8859-6",
    "x-mac-roman": "mac-roman",
    "macintosh": "mac-roman",
    "x-mac-cyrillic": "mac-cyrillic",
    "x-cp1250": "cp1250",
    "x-cp1251": "cp1251",
    "x-cp1252": "cp1252",
}
_TELL_NOTHING = {
    "idna",
    "punycode",
    "undefined",
    "unicode_escape",
    "raw_unicode_escape",
    "mbcs",
    "oem",
    "ascii",
}
_HALVES = re.compile("[\ud800-\udfff]")
_COMMENTS = re.compile(rb"<!--.*?(?:-->|\Z)", re.DOTALL)
_XML = re.compile(rb"""\s*<\?xml\b[^>]{0,200}?\bencoding\s*=\s*["']([^"'>]+)""")
_META = re.compile(rb"""<meta\b[^>]{0,400}?[\s"';]charset\s*=\s*["']?\s*([^\s"'/>;]+)""", re.I)
_DECLARED_WITHIN = 2**16


def text_of(raw: bytes, label: str | None = None, *, wide: bool = True) -> str:
    """The text of the bytes, whose sender calls their encoding `label`.

    A byte order mark tells the encoding (one of 16 bits only where it may be such, `wide`), else the label, if it names
    one beyond ASCII. Otherwise it is UTF-8 where the bytes are, else windows-1252. Bytes that are none of a declared
    UTF-8 are read as windows-1252, those of another declared encoding become U+FFFD, unless the whole is UTF-8.
    """
    for mark, marked in _MARKS:
        if raw.startswith(mark) and (wide or marked == "utf-8"):
            return _without_halves(_mended(raw[len(mark) :], marked))
    encoding = codec_of(label)
    if encoding == "utf-8":
        return _mended(raw, encoding)
    for likely in (encoding or "utf-8", "utf-8"):
        try:
            return _without_halves(raw.decode(likely))
        except UnicodeDecodeError:
            continue
    return _without_halves(_mended(raw, encoding or "cp1252"))


def page_of(raw: bytes, label: str | None = None) -> str:
    """The text of an HTML page, which may tell its encoding itself where no `label` does."""
    return text_of(raw, label if codec_of(label) is not None else _declared(raw))


def codec_of(label: str | None) -> str | None:
    """Python's codec for what a mail or a page calls its encoding, None for a name that means none, and for ASCII,
    under which anything is sent."""
    return _codec(label.strip().strip("\"'").lower()) if label else None


def as_windows(text: str) -> str:
    """The text with control characters of ISO 8859-1 as what windows-1252 has in their place."""
    return text.translate(_CONTROLS)


@cache
def _codec(label: str) -> str | None:
    if len(label) > 40 or not label.isascii():
        return None
    try:
        name = codecs.lookup(_OTHER_LABELS.get(label, label)).name
        b"a".decode(name, "ignore")
    except (LookupError, ValueError, TypeError):
        return None
    return None if name in _TELL_NOTHING else _LARGER.get(name, name)


def _declared(raw: bytes) -> str | None:
    """The encoding that a page declares in an XML declaration or a `meta`. One of 16 bits cannot be: it was read."""
    begun = raw[:_DECLARED_WITHIN]
    found = _XML.match(begun) or _META.search(_COMMENTS.sub(b"", begun))
    if found is None:
        return None
    named = found[1].decode("ascii", "replace")
    return "utf-8" if (codec_of(named) or "").startswith(("utf-16", "utf-32")) else named


def _mended(raw: bytes, encoding: str) -> str:
    """The text, with bytes that the encoding has not as windows-1252 where the rest is UTF-8 or that, else U+FFFD."""
    return raw.decode(encoding, _AS_WINDOWS if encoding in ("utf-8", "cp1252") else "replace")


def _without_halves(text: str) -> str:
    return text if text.isascii() else _HALVES.sub("\ufffd", text)


def _windows(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    wrong = error.object[error.start : error.end]
    return "".join(_BYTES[byte] for byte in wrong), error.end


_BYTES = [bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in range(256)]
"""A character for each byte; the five that windows-1252 has not are control characters, as in browsers."""
_CONTROLS = {byte: _BYTES[byte] for byte in range(0x80, 0xA0)}
_AS_WINDOWS = "carrara-windows-1252"
codecs.register_error(_AS_WINDOWS, _windows)


__all__ = ["as_windows", "codec_of", "page_of", "text_of"]
