"""Pages keep their characters, and their tables the columns that a browser shows."""

from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrara.workflows.records import Record, read_records
from carrara.workflows.sources import html
from carrara.workflows.sources.record import Unreadable


def text_of(page: str) -> str:
    return str(html.read(page)["text"])


def mail(folder: Path, raw: bytes) -> Record:
    (folder / "a.eml").write_bytes(raw)
    [record] = read_records(str(folder / "a.eml"))
    return record


def test_a_mails_own_encoding_wins_over_that_which_its_page_declares(tmp_path: Path) -> None:
    page = '<html><head><meta charset="windows-1252"></head><body><p>Café für 5 €</p></body></html>'
    made = EmailMessage()
    made["Subject"] = "Rechnung"
    made.set_content(page, subtype="html", charset="windows-1252")
    assert mail(tmp_path, made.as_bytes()).fields["text"] == "Café für 5 €\n"


@pytest.mark.parametrize("encoding", ["windows-1252", "utf-8"])
def test_a_page_in_a_mail_that_tells_no_encoding_tells_its_own(
    tmp_path: Path, encoding: str
) -> None:
    page = f'<meta charset="{encoding}"><p>Café für 5 €</p>'
    raw = b"Subject: x\nContent-Type: text/html\nContent-Transfer-Encoding: 8bit\n\n"
    record = mail(tmp_path, raw + page.encode(encoding))
    assert record.fields["text"] == "Café für 5 €\n"


@pytest.mark.parametrize("encoding", ["windows-1252", "utf-8"])
def test_a_mail_in_text_that_tells_no_encoding_keeps_its_letters(
    tmp_path: Path, encoding: str
) -> None:
    raw = b"Subject: x\nContent-Type: text/plain\nContent-Transfer-Encoding: 8bit\n\n"
    record = mail(tmp_path, raw + "Café für 5 €\n".encode(encoding))
    assert record.fields["text"] == "Café für 5 €\n"


@given(st.text(st.sampled_from("ab1_*#-+.!|~ ()[]{}\\"), min_size=1).map(str.strip).filter(bool))
def test_characters_stay_what_they_are(text: str) -> None:
    assert text_of(f"<p>{text}</p>").split() == text.split()


def test_names_and_numbers_are_not_escaped() -> None:
    text = "Mail john_doe@example.com, file a_b_c.txt, 2*3=6"
    assert text_of(f"<p>{text}</p>") == f"{text}\n"


@pytest.mark.parametrize(
    ("table", "rows"),
    [
        pytest.param(
            "<tr><th>Name</th><th>Size</th><th>Price</th></tr>"
            "<tr><td rowspan=2>Pen</td><td>S</td><td>1</td></tr><tr><td>L</td><td>2</td></tr>",
            ["Name | Size | Price", "Pen | S | 1", "Pen | L | 2"],
            id="a cell over two rows",
        ),
        pytest.param(
            "<tr><th rowspan=2>Name</th><th colspan=2>Price</th></tr><tr><th>net</th><th>gross</th></tr>"
            "<tr><td>Pen</td><td>1</td><td>2</td></tr>",
            ["Name | Price | ", "Name | net | gross", "Pen | 1 | 2"],
            id="a header of two rows",
        ),
        pytest.param(
            "<thead><tr><th rowspan=3>A</th><th>B</th></tr></thead><tbody><tr><td>1</td><td>2</td></tr></tbody>",
            ["A | B", "1 | 2"],
            id="no cell leaves the head",
        ),
        pytest.param(
            "<tr><th>A</th><th>B</th></tr><tr><td>x|y</td><td><code>a|b</code></td></tr>",
            ["A | B", r"x\|y | `a\|b`"],
            id="a bar in a cell",
        ),
        pytest.param(
            "<tr><th>A<th>B<tr><td>1<td>2<tr><td>3",
            ["A | B", "1 | 2", "3 | "],
            id="end tags left out, and a short row",
        ),
        pytest.param(
            "<tr><td colspan=1000>A</td></tr><tr><td>1</td><td rowspan=0>2</td></tr><tr><td>3</td></tr>",
            ["A | ", "1 | 2", "3 | 2"],
            id="spans without an end",
        ),
    ],
)  # fmt: skip
def test_values_stand_under_their_header(table: str, rows: list[str]) -> None:
    lines = text_of(f"<p>before</p><table>{table}</table><p>after</p>").split("\n")
    assert lines[:2] == ["before", ""]
    assert lines[-3:] == ["", "after", ""]
    made = lines[2:-3]
    assert made.pop(1) == "|" + " --- |" * (rows[0].count(" | ") + 1)
    assert made == [f"| {row} |" for row in rows]


def test_a_long_cell_over_several_rows_is_not_repeated() -> None:
    long = "word " * 100
    text = text_of(
        f"<table><tr><td rowspan=2>{long}</td><td>1</td></tr><tr><td>2</td></tr></table>"
    )
    assert text.count("word") == 100
    assert text.endswith("\n|  | 2 |\n")


def test_the_caption_stands_before_its_table() -> None:
    page = (
        "<table><caption>Prices</caption><tr><th>A</th><th>B</th></tr><tr><td>1<td>2</tr></table>"
    )
    assert text_of(page) == "Prices\n\n| A | B |\n| --- | --- |\n| 1 | 2 |\n"


def test_tables_within_tables_are_read_one_by_one() -> None:
    page = """<table width=600><tr><td><h1>Hi</h1><p>Dear <b>Ann</b>,</p>
    <table><tr><th>Item</th><th>Price</th></tr><tr><td>Pen</td><td>1.20</td></tr></table></td>
    <td>aside</td></tr></table>"""
    assert text_of(page) == (
        "# Hi\n\nDear **Ann**,\n\n| Item | Price |\n| --- | --- |\n| Pen | 1.20 |\n\naside\n"
    )


def test_a_table_that_spans_beyond_measure_is_refused() -> None:
    page = f"<table>{'<tr><td colspan=1000>x</td><td>y</td></tr>' * 2100}</table>"
    with pytest.raises(Unreadable, match="more than 2,000,000 cells"):
        html.read(page)


def test_empty_tables_keep_words_apart() -> None:
    assert text_of("one<table></table>two<table>\n</table>three").split() == [
        "one", "two", "three",
    ]  # fmt: skip
