"""Mails are read as a mail program shows them, however malformed; none ends the reading of the others."""

from email.message import EmailMessage
from pathlib import Path
from time import process_time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carrara.workflows.records import Record, read_records

MALFORMED = [
    b"Cc: group: ;*0*=/b.c[?b?,?=text",
    b"Message-ID: <,group: ;=?utf-8?q?\\boundarygroup: ;.(",
    b"From: \xe9charset?=Mon@[",
    b"To: " + b"(" * 3000,
    b"Date: Mon, 99 Foo 99999999999999999999 +99999999",
    b"Content-Type: text/plain; charset*=bad''%zz; name*0*=x'",
    b"Content-Type: ;;;",
    b"Content-Transfer-Encoding: base65",
    b"Content-Disposition: =?utf-8?q?\\=",
]


def mail(folder: Path, raw: bytes) -> Record:
    (folder / "a.eml").write_bytes(raw)
    [record] = read_records(str(folder / "a.eml"))
    return record


def fields(folder: Path, raw: bytes) -> dict[str, Any]:
    record = mail(folder, raw)
    assert record.problem is None
    return dict(record.fields)


@pytest.mark.parametrize("header", MALFORMED)
def test_a_malformed_header_hides_no_text(tmp_path: Path, header: bytes) -> None:
    found = fields(tmp_path, header + b"\nSubject: hello\n\nthe text\n")
    assert (found["subject"], found["text"]) == ("hello", "the text\n")


def test_a_malformed_mail_does_not_end_the_mailbox(tmp_path: Path) -> None:
    path = tmp_path / "in.mbox"
    mails = [b"Subject: a", *MALFORMED, b"Subject: z"]
    path.write_bytes(b"".join(b"From x\n%s\n\ntext\n\n" % head for head in mails))
    records = list(read_records(str(path)))
    assert len(records) == len(mails)
    assert records[-1].fields["subject"] == "z"
    assert len({record.key for record in records}) == len(mails)


@pytest.mark.parametrize(
    ("raw", "subject"),
    [
        (b"=?unknown-8bit?q?caf=E9?= =?iso-8859-1?Q?=80?=", "café€"),
        (b"caf\xc3\xa9", "café"),
        (b"caf\xe9", "café"),
        (b"=?utf-8?B?w6k=?=\n =?utf-8?B?w6k=?= x", "éé x"),
        (b"=?utf-8?B?ww==?= =?utf-8?B?qQ==?=", "é"),
        (b"=?gb2312?B?6Z8=?= \xe9", "闊 é"),
        (b"=?koi8-r?q?=C4=CF=CD?=", "дом"),
        (b"=?x-none?q?a=5Fb_c?=", "a_b c"),
        (b"\xff\xfe", "ÿþ"),
        (b"\xff\xfeHello", "ÿþHello"),
        (b"\xef\xbb\xbfHello", "Hello"),
    ],
)
def test_subjects_keep_their_letters(tmp_path: Path, raw: bytes, subject: str) -> None:
    assert fields(tmp_path, b"Subject: " + raw + b"\n\nx\n")["subject"] == subject


def test_names_with_commas_stay_quoted(tmp_path: Path) -> None:
    raw = "From: =?utf-8?q?Doe=2C_Jos=C3=A9?= <a@b.c>\nTo: Zoë <z@b.c>\n\nx\n".encode()
    found = fields(tmp_path, raw)
    assert (found["from"], found["to"]) == ('"Doe, José" <a@b.c>', "Zoë <z@b.c>")


def test_a_header_of_many_addresses_takes_linear_time(tmp_path: Path) -> None:
    to = ", ".join(f"Ann {n} <ann{n}@example.com>" for n in range(30_000))
    begun = process_time()
    assert fields(tmp_path, f"To: {to}\n\nx\n".encode())["to"] == to
    assert process_time() - begun < 5


@pytest.mark.parametrize(
    ("head", "raw", "text"),
    [
        ("charset=unknown-8bit", b"caf\xe9", "café"),
        ("charset=x-none", "café".encode(), "café"),
        ("charset=us-ascii", b"caf\xe9", "café"),
        ("charset=utf-8", b"caf\xe9 \xc3\xa9", "café é"),
        ("charset=iso-8859-1", b"\x80 \x93x\x94", "€ “x”"),
        ("charset=", b"caf\xe9", "café"),
        ("charset=iso-8859-1", b"\xef\xbb\xbfcaf\xc3\xa9", "café"),
    ],
)
@pytest.mark.parametrize("kind", ["plain", "html"])
def test_texts_keep_their_letters(
    tmp_path: Path, head: str, raw: bytes, text: str, kind: str
) -> None:
    content = f"Subject: x\nContent-Type: text/{kind}; {head}\nContent-Transfer-Encoding: 8bit\n\n"
    assert fields(tmp_path, content.encode() + raw + b"\n")["text"] == f"{text}\n"


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", b"\r\n\n", b"\xef\xbb\xbf\r\n"])
def test_what_stands_before_the_header_is_passed_over(tmp_path: Path, start: bytes) -> None:
    assert fields(tmp_path, start + b"Subject: x\n\ny\n")["subject"] == "x"


def part(text: str | bytes, kind: str = "text/plain", more: str = "") -> EmailMessage:
    made = EmailMessage()
    made["Content-Type"] = kind + more
    made.set_payload(text)
    return made


def multipart(kind: str, *parts: EmailMessage) -> EmailMessage:
    made = EmailMessage()
    made["Content-Type"] = f"multipart/{kind}"
    for one in parts:
        made.attach(one)
    return made


FILE = part("%PDF", "application/pdf", "; name=b.pdf")
PAGE = part("<p>page</p>", "text/html")
PICTURE = part("x", "image/png", "; name=i.png")


@pytest.mark.parametrize(
    ("made", "text", "attachments"),
    [
        (multipart("alternative", part(" \n"), PAGE), "page", []),
        (multipart("alternative", part("plain"), PAGE), "plain", []),
        (multipart("alternative", PAGE, part("plain")), "plain", []),
        (multipart("alternative", part("plain", more="; name=a.txt"), PAGE), "plain", []),
        (multipart("mixed", part("one\n"), FILE, part("two\n")), "one\n\ntwo", ["b.pdf"]),
        (multipart("mixed", PAGE, FILE, PAGE), "page\n\npage", ["b.pdf"]),
        (multipart("mixed", part("one"), part("<p> </p>", "text/html")), "one", []),
        (multipart("mixed", part("one"), part("x", more="; name=n.txt")), "one", ["n.txt"]),
        (multipart("mixed", FILE, part("two", more="; name=n.txt")), "two", ["b.pdf", "n.txt"]),
        (multipart("mixed", multipart("alternative", part("a"), PAGE), part("b")), "a\n\nb", []),
        (multipart("related", PAGE, PICTURE), "page", ["i.png"]),
        (multipart("alternative", part("a"), multipart("mixed", PAGE, FILE, PAGE)), "a", ["b.pdf"]),
        (multipart("alternative", part(""), multipart("mixed", PAGE, FILE, PAGE)), "page\n\npage", ["b.pdf"]),
        (multipart("signed", part("a"), part("s", "application/pgp-signature", "; name=s.asc")), "a", ["s.asc"]),
        (part("a", more="; name=b.txt"), "a", []),
        (part("a", "multipart/mixed"), "a", []),
        (part("# a", "text/markdown"), "# a", [""]),
    ],
)  # fmt: skip
def test_what_a_mail_program_shows_is_read_in_order(
    tmp_path: Path, made: EmailMessage, text: str, attachments: list[str]
) -> None:
    made["Subject"] = "x"
    found = fields(tmp_path, made.as_bytes())
    assert (found["text"].strip(), found["attachments"]) == (text, attachments)


def test_a_mail_without_text_says_so(tmp_path: Path) -> None:
    made = multipart("mixed", FILE, part(" "), part("<p>&nbsp;</p>", "text/html"))
    made["Subject"] = "x"
    assert mail(tmp_path, made.as_bytes()).problem == "the e-mail holds no text"


def test_a_page_that_is_refused_stands_beside_its_plain_text(tmp_path: Path) -> None:
    deep = part("<div>" * 3000 + "x", "text/html")
    for made, problem in (
        (multipart("alternative", part("plain"), deep), None),
        (multipart("alternative", deep), "the page nests its elements too deeply to be read"),
    ):
        made["Subject"] = "x"
        assert mail(tmp_path, made.as_bytes()).problem == problem


def test_parts_nested_without_end_are_refused(tmp_path: Path) -> None:
    head = "".join(f"Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n" for n in range(1500))
    problem = mail(tmp_path, f"Subject: x\n{head}\ntext".encode()).problem
    assert problem == "not a readable e-mail: it nests its parts too deeply"


PIECES = st.sampled_from(
    [b"Subject", b"From", b"To", b"Cc", b"Date", b"Message-ID", b"Content-Type", b"Content-Transfer-Encoding",
     b"Content-Disposition", b"Content-ID", b": ", b"; ", b"=", b"\n", b"\r\n", b"\n\n", b" ", b"<", b">", b"@", b"(",
     b"[", b'"', b"\\", b"group: ;", b",", b"=?utf-8?q?", b"=?x?b?", b"?=", b"text/html", b"text/plain", b"charset",
     b"multipart/alternative", b"multipart/mixed", b"multipart/related", b"message/rfc822", b"boundary=b", b"--b",
     b"--b--", b"filename*0*=", b"utf-8''%e9", b"base64", b"quoted-printable", b"attachment", b"<p>", b"\xe9", b"Mon",
     b"1 Jan 2020", b"+9999", b"utf-7", b"idna", b"\xef\xbb\xbf", b"From "]
)  # fmt: skip


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(PIECES, st.binary(max_size=3)), max_size=60).map(b"".join))
def test_every_mail_gives_a_record(tmp_path: Path, raw: bytes) -> None:
    record = mail(tmp_path, raw)
    assert (record.problem is None) == bool(record.fields)
    for value in record.fields.values():
        assert str(value).encode() or value is not None


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(PIECES, max_size=30).map(b"".join), min_size=1, max_size=4))
def test_every_mailbox_gives_its_last_record(tmp_path: Path, mails: list[bytes]) -> None:
    path = tmp_path / "in.mbox"
    path.write_bytes(b"".join(b"From x\n%s\n\n" % raw for raw in [*mails, b"Subject: z\n\nend"]))
    *_, last = read_records(str(path))
    assert last.fields["text"].strip() == "end"
