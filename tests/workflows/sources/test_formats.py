"""Each format gives records with the right fields, and what cannot be read is told by file and reason."""

import io
import json
import logging
import mailbox
import sqlite3
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import duckdb
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from carrara.workflows.batch import Binder, RecordError
from carrara.workflows.cluster.wire import record_from, record_text
from carrara.workflows.define import workflow
from carrara.workflows.records import Record, SourceError, content_hash, read_records
from carrara.workflows.selection import Selection


def only(source: Any) -> Record:
    [record] = read_records(str(source))
    return record


def pdf_of(*pages: str) -> bytes:
    """A PDF with these lines, a page each."""
    objects = ["<</Type/Catalog/Pages 2 0 R>>", ""]
    kids = []
    for text in pages:
        content = f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET"
        objects.append(f"<</Length {len(content)}>>stream\n{content}\nendstream")
        objects.append(
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]/Contents {len(objects)} 0 R"
            "/Resources<</Font<</F1<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>>>"
        )
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<</Type/Pages/Count {len(kids)}/Kids[{' '.join(kids)}]>>"
    made, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(made))
        made += f"{number} 0 obj\n{content}\nendobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    size = len(objects) + 1
    end = f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer<</Size {size}/Root 1 0 R>>\n"
    return made + f"{end}startxref\n{len(made)}\n%%EOF".encode()


def test_html_becomes_markdown_with_its_tables(tmp_path: Path) -> None:
    page = """<html><head><title>Bill 7</title><style>p {}</style></head><body>
    <nav>Home | About</nav><h1>Bill</h1><p>For <b>Ann</b>.</p>
    <table><tr><th>Item</th><th>Price</th></tr><tr><td>Pen</td><td>1.20</td></tr></table>
    <ul><li>one<ul><li>inner</li></ul></li></ul><script>alert(1)</script></body></html>"""
    (tmp_path / "bill.html").write_text(page)
    record = only(tmp_path / "bill.html")
    assert record.fields["title"] == "Bill 7"
    text = record.fields["text"]
    assert "# Bill" in text
    assert "| Item | Price |\n| --- | --- |\n| Pen | 1.20 |" in text
    assert "- one\n  - inner" in text
    assert not any(word in text for word in ("alert", "Home", "p {}"))


def test_a_page_without_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "app.html").write_text("<body><div id=root></div><script>x</script></body>")
    assert only(tmp_path / "app.html").problem == (
        "the page holds no text (it may be made by a script in the browser)"
    )


def test_a_declared_encoding_is_obeyed(tmp_path: Path) -> None:
    page = '<meta charset="iso-8859-1"><p>Grüße</p>'
    (tmp_path / "old.htm").write_bytes(page.encode("latin-1"))
    assert only(tmp_path / "old.htm").fields["text"] == "Grüße\n"


def test_pdf_text_comes_page_by_page(tmp_path: Path) -> None:
    (tmp_path / "two.pdf").write_bytes(pdf_of("Invoice 17", "Total 9.50"))
    record = only(tmp_path / "two.pdf")
    assert [page.strip() for page in record.fields["text"].split("\f")] == [
        "Invoice 17",
        "Total 9.50",
    ]
    assert record.fields["pages"] == 2


def test_a_database_file_is_told_how_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"SQLite format 3\x00rest")
    assert "sqlite:///FILE#TABLE" in str(only(tmp_path / "a.db").problem)


def test_scanned_pages_are_refused_by_number(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), "white").save(tmp_path / "scan.pdf")
    assert only(tmp_path / "scan.pdf").problem == (
        "no page holds any text, only pictures: read it with OCR in a step of your own"
    )


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "the file is empty"),
        (b"%PDF-1.4\nnonsense", "not a readable PDF"),
        (pdf_of("Hello")[:200], "not a readable PDF"),
    ],
)
def test_damaged_pdfs_are_told(tmp_path: Path, raw: bytes, problem: str) -> None:
    (tmp_path / "bad.pdf").write_bytes(raw)
    found = only(tmp_path / "bad.pdf").problem
    assert found is not None
    assert found.startswith(problem)


def message(text: str = "The pen broke.\n") -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "Ann <ann@x.org>", "shop@y.org", "Brökén pen"
    made["Date"] = "Tue, 03 Feb 2026 10:00:00 +0100"
    made["Message-ID"] = "<7@x.org>"
    made.set_content(text)
    return made


def test_mail_gives_its_header_and_text(tmp_path: Path) -> None:
    mail = message()
    mail.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="bill.pdf")
    (tmp_path / "a.eml").write_bytes(mail.as_bytes())
    record = only(tmp_path / "a.eml")
    assert record.key == str(tmp_path / "a.eml")
    assert record.fields["subject"] == "Brökén pen"
    assert record.fields["date"] == "2026-02-03T10:00:00+01:00"
    assert record.fields["text"].strip() == "The pen broke."
    assert record.fields["attachments"] == ["bill.pdf"]


def test_mail_in_html_alone_becomes_markdown(tmp_path: Path) -> None:
    mail = message()
    mail.set_content("<h2>Hi</h2><p>All <b>well</b>.</p>", subtype="html")
    (tmp_path / "a.eml").write_bytes(mail.as_bytes())
    assert only(tmp_path / "a.eml").fields["text"] == "## Hi\n\nAll **well**.\n"


def test_a_mailbox_gives_a_record_for_each_message(tmp_path: Path) -> None:
    box = mailbox.mbox(str(tmp_path / "in.mbox"))
    box.add(message("one"))
    bare = EmailMessage()
    bare["Subject"] = "empty"
    box.add(bare)
    box.close()
    first, second = read_records(str(tmp_path / "in.mbox"))
    assert (first.key, first.fields["text"].strip()) == ("7@x.org", "one")
    assert second.problem == "the e-mail holds no text"
    assert second.where.endswith("in.mbox:message 2")


def test_parquet_rows_come_as_plain_data(tmp_path: Path) -> None:
    rows = [
        {
            "id": 5,
            "day": date(2026, 1, 2),
            "at": datetime(2026, 1, 2, 3, tzinfo=UTC),
            "price": Decimal("1.20"),
            "tags": ["a", "b"],
            "inner": {"x": 1},
            "none": None,
        }
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "t.parquet")
    record = only(tmp_path / "t.parquet")
    assert record.key == "5"
    assert record.fields == {
        "id": 5,
        "day": "2026-01-02",
        "at": "2026-01-02T03:00:00+00:00",
        "price": "1.20",
        "tags": ["a", "b"],
        "inner": {"x": 1},
        "none": None,
    }
    json.dumps(record.fields)


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    """A table with a column of bytes, and one that holds some within."""
    rows = {"id": ["a"], "text": ["x"], "raw": [b"\x00"], "more": [[{"of": b"\x01"}]]}
    pyarrow.parquet.write_table(pyarrow.table(rows), tmp_path / "t.parquet")
    return str(tmp_path / "t.parquet")


def test_a_column_of_bytes_is_left_out(pictures: str) -> None:
    record = only(pictures)
    assert (record.key, record.problem) == ("a", None)
    assert record.fields == {"id": "a", "text": "x"}
    assert set(record.unused) == {"raw", "more"}
    assert content_hash(record) == content_hash(replace(record, unused={}))
    assert record_from(record_text(record)) == record


BINARY = "column 'raw' holds binary data, which no input takes"


def test_a_column_of_bytes_that_is_the_key_breaks_the_record(pictures: str) -> None:
    (record,) = read_records(pictures, key="raw")
    assert record.problem == BINARY


@pytest.mark.parametrize("where", ["raw == 1", "record.raw", "record['raw'] is none or raw"])
def test_a_column_of_bytes_in_a_condition_breaks_the_record(pictures: str, where: str) -> None:
    (record,) = Selection(where=where).of(read_records(pictures))
    assert BINARY in str(record.problem)
    assert list(Selection(where="text == 'x'").of(read_records(pictures)))


def test_a_column_of_bytes_that_an_input_asks_for_fails_the_record(pictures: str) -> None:
    @workflow
    async def reading(text: str, raw: str = "") -> str:
        return text + raw

    record = only(pictures)
    with pytest.raises(RecordError, match=BINARY):
        Binder(reading).bind(record)
    assert Binder(reading, constants={"raw": "r"}).bind(record) == {"text": "x", "raw": "r"}


def test_blobs_of_a_database_are_left_out_and_may_be_its_key(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "b.db") as connection:
        connection.execute("CREATE TABLE docs (hash BLOB PRIMARY KEY, body TEXT)")
        connection.execute("INSERT INTO docs VALUES (x'0AFF', 'one')")
    connection.close()
    record = only(f"sqlite:///{tmp_path}/b.db#docs")
    assert (record.key, record.fields, record.problem) == ("0aff", {"body": "one"}, None)


@workflow
async def typed(
    text: str,
    n: int = 3,
    day: date | None = None,
    tags: list[str] | None = None,
    note: str | None = "none",
    *,
    must: float | None,
) -> str:
    return text


def test_an_empty_cell_is_the_default_or_null_where_the_input_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,n,day,tags,note,must\nx,,,,,\n")
    given = Binder(typed).bind(only(tmp_path / "t.csv"))
    assert given == {"text": "x", "note": "", "must": None}
    (tmp_path / "t.csv").write_text("n,must\n4,\n")
    bound = Binder(typed, constants={"text": "x"}).bind(only(tmp_path / "t.csv"))
    assert bound == {"text": "x", "n": 4, "must": None}


def test_an_empty_cell_of_an_input_that_must_be_given_fails_the_record(tmp_path: Path) -> None:
    @workflow
    async def counting(n: int) -> int:
        return n

    (tmp_path / "t.csv").write_text("n,m\n,1\n")
    with pytest.raises(RecordError, match="input 'n' of counting"):
        Binder(counting).bind(only(tmp_path / "t.csv"))


def test_a_row_of_empty_cells_takes_all_defaults(tmp_path: Path) -> None:
    @workflow
    async def halving(n: int = 4) -> int:
        return n // 2

    (tmp_path / "t.csv").write_text("n,m\n,1\n")
    assert Binder(halving).bind(only(tmp_path / "t.csv")) == {}
    (tmp_path / "t.jsonl").write_text('{"n": ""}\n')
    with pytest.raises(RecordError, match="input 'n'"):  # JSON has a null of its own
        Binder(halving).bind(only(tmp_path / "t.jsonl"))


@pytest.mark.parametrize("source", ["s3://bucket/*.txt", "mysql+x://h/n#t"])
def test_another_kind_of_source_is_told_what_there_is(source: str) -> None:
    kind = source.partition(":")[0]
    with pytest.raises(SourceError) as error:
        only(source)
    assert str(error.value).startswith(f"{kind}:// is no kind of source; there are files")


def test_what_is_no_parquet_is_a_source_error(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_text("id,name\n1,2\n")
    with pytest.raises(SourceError, match=r"t\.parquet: not a readable Parquet file"):
        only(tmp_path / "t.parquet")


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = tmp_path / "docs.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE docs (code TEXT PRIMARY KEY, body TEXT, pages INT)")
        rows = [("b", "two", 2), ("a", "one", 1), ("c", "three", None)]
        connection.executemany("INSERT INTO docs VALUES (?, ?, ?)", rows)
    connection.close()
    return f"sqlite:///{path}"


def test_a_table_is_read_in_the_order_of_its_key(database: str) -> None:
    found = list(read_records(f"{database}#docs"))
    assert [record.key for record in found] == ["a", "b", "c"]
    assert found[2].fields == {"code": "c", "body": "three", "pages": None}


def test_a_query_is_read_as_it_is_written(database: str) -> None:
    query = "SELECT code AS id, body FROM docs WHERE pages > 1 ORDER BY code DESC"
    found = only(f"{database}#{query}")
    assert (found.key, found.fields) == ("b", {"id": "b", "body": "two"})


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("", "name a table or a query behind '#'"),
        ("#doc", "no table 'doc'; there are: docs"),
        ("#SELECT * FROM nowhere", "no such table: nowhere"),
        ("#SELECT * FROM docs WHERE pages > 9", "there is no row"),
    ],
)
def test_what_a_database_lacks_is_said(database: str, what: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        list(read_records(f"{database}{what}"))


def test_a_missing_database_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no file"):
        list(read_records(f"sqlite:///{tmp_path}/none.db#docs"))
    assert not (tmp_path / "none.db").exists()


def test_a_password_is_never_told() -> None:
    with pytest.raises(SourceError) as error:
        list(read_records("postgresql://me:secret@127.0.0.1:1/none#docs"))
    assert "secret" not in str(error.value)
    assert "me:***@127.0.0.1" in str(error.value)


def test_tabs_separate_the_cells_of_a_tsv(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("id\ttext\n1\ta, b\n")
    assert only(tmp_path / "t.tsv").fields == {"id": "1", "text": "a, b"}


def test_documents_of_all_kinds_match_one_glob(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.pdf").write_bytes(pdf_of("two"))
    (tmp_path / "c.eml").write_bytes(message("three").as_bytes())
    (tmp_path / "d.html").write_text("<p>four</p>")
    (tmp_path / "e.pdf").write_bytes(io.BytesIO(b"junk").read())
    found = list(read_records(str(tmp_path / "*")))
    assert [record.index for record in found] == [0, 1, 2, 3, 4]
    texts = [str(record.fields.get("text", record.problem)).strip() for record in found]
    assert texts[:4] == ["one", "two", "three", "four"]
    assert texts[4].startswith("not a readable PDF")


def test_what_a_pdf_reader_remarks_is_not_written_past_the_records() -> None:
    assert any(isinstance(h, logging.NullHandler) for h in logging.getLogger("pypdf").handlers)


@pytest.fixture
def ducks(tmp_path: Path) -> str:
    with duckdb.connect(str(tmp_path / "a.duckdb")) as connection:
        connection.execute(
            "CREATE TABLE docs (key VARCHAR PRIMARY KEY, day DATE, total DECIMAL(10, 2), tags VARCHAR[])"
        )
        connection.execute("INSERT INTO docs VALUES ('b', NULL, NULL, [])")
        connection.execute("INSERT INTO docs VALUES ('a', '2026-01-02', 0.10, ['x'])")
    return f"duckdb:///{tmp_path}/a.duckdb"


def test_a_table_of_duckdb_is_read_in_the_order_of_its_key(ducks: str) -> None:
    first, second = read_records(f"{ducks}#docs")
    assert first.fields == {"key": "a", "day": "2026-01-02", "total": "0.10", "tags": ["x"]}
    assert (first.key, second.key, second.fields["tags"]) == ("a", "b", [])
    [asked] = read_records(f"{ducks}#SELECT tags[1] AS text FROM docs WHERE total > 0")
    assert (asked.key, asked.fields) == ("row:1", {"text": "x"})


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("", "name the file, and a table or a query behind '#'"),
        ("#bills", "no table 'bills'; there are: docs"),
        ("#SELECT", "Parser Error"),
        ("#SELECT 1 WHERE false", "there is no row in"),
        ("#SELECT 1; DROP TABLE docs", "one query is read, and behind '#' stand 2 statements"),
    ],
)
def test_what_is_wrong_with_a_source_in_duckdb_is_told(ducks: str, what: str, told: str) -> None:
    with pytest.raises(SourceError, match=told):
        list(read_records(f"{ducks}{what}"))


def test_a_source_in_duckdb_runs_no_statement_behind_its_query(ducks: str, tmp_path: Path) -> None:
    copied = tmp_path / "copied.csv"
    with pytest.raises(SourceError, match="2 statements"):
        list(read_records(f"{ducks}#SELECT 1; COPY docs TO '{copied}'"))
    assert not copied.exists()
    (found,) = read_records(f"{ducks}#SELECT ';' AS text; -- and no more")
    assert found.fields == {"text": ";"}
