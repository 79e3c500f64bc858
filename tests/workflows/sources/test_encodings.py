"""Bytes become the text that a browser shows; none becomes a mark for a character that was lost unless it must."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrara.workflows.sources.encodings import codec_of, page_of, text_of


@pytest.mark.parametrize(
    ("raw", "label", "text"),
    [
        (b"caf\xe9", None, "café"),
        ("café".encode(), None, "café"),
        (b"\xa3 12.00", None, "£ 12.00"),
        (b"na\xefve r\xe9sum\xe9", "us-ascii", "naïve résumé"),
        ("naïve".encode(), "us-ascii", "naïve"),
        (b"\x80 \x93x\x94", "iso-8859-1", "€ “x”"),
        (b"\x80", "LATIN1", "€"),
        (b"caf\xe9", "unknown-8bit", "café"),
        (b"caf\xe9", "x-no-such", "café"),
        (b"caf\xe9 caf\xc3\xa9", "utf-8", "café café"),
        ("дом".encode("koi8-r"), "koi8-r", "дом"),
        ("日本 ①".encode("cp932"), "Shift_JIS", "日本 ①"),
        ("中文镕".encode("gb18030"), "gb2312", "中文镕"),
        ("日本".encode(), "iso-2022-jp", "日本"),
        ("\ufeffcafé".encode(), "iso-8859-1", "café"),
        ("café".encode("utf-16"), None, "café"),
        (b"+AGE-", "unicode_escape", "+AGE-"),
        (b"6162", "hex", "6162"),
        (b"+2AA-", "utf-7", "\ufffd"),
        (b"\x81", "windows-1252", "\x81"),
    ],
)
def test_an_encoding_is_chosen_as_in_browsers(raw: bytes, label: str | None, text: str) -> None:
    assert text_of(raw, label) == text


@pytest.mark.parametrize(
    ("page", "encoding"),
    [
        ("<meta charset=iso-8859-2><p>łódź", "iso-8859-2"),
        ('<META http-equiv="Content-Type" content="text/html; charset=windows-1251">дом', "cp1251"),
        ('<?xml version="1.0" encoding="ISO-8859-2"?><p>łódź', "iso-8859-2"),
        ("<!-- <meta charset=koi8-r> --><meta charset='iso-8859-2'>łódź", "iso-8859-2"),
        ("<meta charset=utf-16><p>café", "utf-8"),
        ("<meta charset=x-none><p>café", "cp1252"),
        ("<meta charset=x-none><p>łódź", "utf-8"),
    ],
)
def test_a_page_tells_its_encoding(page: str, encoding: str) -> None:
    assert page_of(page.encode(encoding)) == page


def test_the_senders_word_counts_more_than_the_pages() -> None:
    raw = "<meta charset=utf-8>дом".encode("koi8-r")
    assert page_of(raw, "koi8-r").endswith("дом")
    assert page_of("<meta charset=koi8-r>дом".encode("koi8-r"), "no-such").endswith("дом")


@given(st.binary(), st.one_of(st.none(), st.text(max_size=12), st.sampled_from(["utf-7", "idna"])))
def test_all_bytes_become_text_that_can_be_written(raw: bytes, label: str | None) -> None:
    text_of(raw, label).encode()
    page_of(raw, label).encode()


@pytest.mark.parametrize(
    "label", ["idna", "punycode", "base64", "rot13", "undefined", "", "é", None]
)
def test_what_is_no_encoding_of_texts_is_none(label: str | None) -> None:
    assert codec_of(label) is None
