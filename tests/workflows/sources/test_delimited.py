"""CSV: what is wrong with a row is told by its line, and every other row is read."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carrara.workflows.records import EmptySource, Record, SourceError, read_records


def read(folder: Path, content: bytes | str) -> list[Record]:
    path = folder / "in.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_records(str(path)))


def lines(records: list[Record]) -> list[tuple[int, bool]]:
    return [(int(r.where.rpartition(":")[2]), r.problem is None) for r in records]


@pytest.mark.parametrize("bad", [2, 5, 3000])
def test_a_bad_byte_costs_its_own_row_alone(tmp_path: Path, bad: int) -> None:
    rows = [b"id,text\n"] + [b"r%d,some text\n" % n for n in range(2, 5001)]
    rows[bad - 1] = b"x,caf\xe9\n"
    found = read(tmp_path, b"".join(rows))
    assert lines(found) == [(n, n != bad) for n in range(2, 5001)]
    assert found[bad - 2].problem == "not UTF-8 text: the byte 0xe9 in the column 'text'"
    assert found[bad - 2].key == f"line:{bad}"
    assert [record.index for record in found] == list(range(4999))


def test_a_header_in_other_bytes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="not a CSV file in UTF-8"):
        read(tmp_path, "näme,text\n1,2\n".encode("latin-1"))


def test_a_quote_that_nothing_closes_costs_its_own_row_alone(tmp_path: Path) -> None:
    found = read(tmp_path, 'id,text\na,1\nb,"2\nc,3\n\nd,"4, 4"\ne,"five\n5"\n')
    assert lines(found) == [(2, True), (3, False), (4, True), (6, True), (7, True)]
    assert found[1].problem is not None
    assert (
        "the quote that opens in line 3, character 3, closes in line 6 before its cell ends"
        in found[1].problem
    )
    assert [record.fields.get("text") for record in found] == ["1", None, "3", "4, 4", "five\n5"]


def test_a_quote_that_is_open_at_the_end_of_the_file_is_told(tmp_path: Path) -> None:
    found = read(tmp_path, 'id,text\na,"1\n1",\nb,"x\ny"\nc,"2 ""two""\nd,3\ne,5 pipe\n')
    assert lines(found) == [(2, False), (4, True), (6, False), (7, True), (8, True)]
    assert found[2].problem == (
        "not CSV: the quote that opens in line 6, character 3, never closes; reading goes on in the line after it"
    )
    assert found[4].fields["text"] == "5 pipe"


def test_the_quote_is_told_where_it_opens_in_a_row_of_several_lines(tmp_path: Path) -> None:
    found = read(tmp_path, 'id,text\n"a\nb","2\nc,3\n')
    assert lines(found) == [(2, False), (4, True)]
    assert "opens in line 3, character 4" in (found[0].problem or "")


def test_a_header_with_an_open_quote_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="its header cannot be read"):
        read(tmp_path, 'id,"text\n1,2\n')


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="columns 1 and 3 are both called 'text'"):
        read(tmp_path, "text,id,text\n1,2,3\n")


cells = st.text(st.sampled_from('ab,"\n\r\té '), max_size=6)


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_a_csv_writer_wrote_is_read_as_it_was(
    tmp_path: Path, rows: list[tuple[str, str]]
) -> None:
    text = io.StringIO()
    written = csv.writer(text)
    written.writerow(["a", "b"])
    written.writerows(rows)
    found = read(tmp_path, text.getvalue())
    assert [tuple(record.fields.values()) for record in found] == rows


@given(st.lists(st.text(st.sampled_from('a,"'), max_size=6), min_size=1, max_size=8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_line_is_lost_whatever_stands_in_it(tmp_path: Path, written: list[str]) -> None:
    """A line of its own at the end is always read: as a row, within a cell, or told as broken."""
    found = read(tmp_path, "\n".join(["a,b", *written, "last,row"]) + "\n")
    last = found[-1]
    assert last.fields.get("a") == "last" or "last,row" in "".join(last.fields.values())


def test_the_place_of_a_row_is_its_first_line(tmp_path: Path) -> None:
    found = read(tmp_path, '\nid,text\n\na,"1\n1"\n\nb,2\n')
    assert lines(found) == [(4, True), (7, True)]


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        ("id;text\n1;hello\n2;wor,ld\n", [("1", "hello"), ("2", "wor,ld")]),
        ('"id";"text"\n1;"a;b"\n', [("1", "a;b")]),
        ("id|text\n1|a\n", [("1", "a")]),
        ("\nid\ttext\n\n1\ta,b\n", [("1", "a,b")]),
        ("id,text\n1,a;b\n2,c\n", [("1", "a;b"), ("2", "c")]),
        ('id,text\n2,a|"b\n', [("2", 'a|"b')]),
    ],
)
def test_another_sign_between_the_cells_is_seen_in_the_header(
    tmp_path: Path, content: str, fields: list[tuple[str, str]]
) -> None:
    found = read(tmp_path, content)
    assert [record.fields for record in found] == [
        {"id": key, "text": text} for key, text in fields
    ]


@pytest.mark.parametrize(
    "content",
    ["net; gross\n5\n", "a;b|c\n1;2|3\n", '"id;text"\n1;2\n', "id;id\n1;2\n", "id;\n1;2\n"],
)
def test_a_header_that_may_be_one_column_stays_one(tmp_path: Path, content: str) -> None:
    [record] = read(tmp_path, content)
    assert list(record.fields) == [content.split("\n")[0].strip('"')]


def test_a_first_row_that_is_broken_says_nothing_of_the_header(tmp_path: Path) -> None:
    [record] = read(tmp_path, 'id,te;xt\n1,"a"b;c\n')
    assert str(record.problem).startswith("not CSV: the quote that opens in line 2, character 3,")


def test_commas_in_a_tsv_are_seen_too(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("id,text\n1,a\n")
    [record] = read_records(str(tmp_path / "t.tsv"))
    assert record.fields == {"id": "1", "text": "a"}


def test_a_ragged_row_tells_what_stands_between_the_cells(tmp_path: Path) -> None:
    found = read(tmp_path, 'id;text\n1;a\n2\n3;"c\n4;d\n')
    assert lines(found) == [(2, True), (3, False), (4, False), (5, True)]
    assert found[1].problem == "no cell for text (between the cells stands ';', as in the header)"


@pytest.mark.parametrize("content", ["id,text\n", "id;text\n\n\n"])
def test_a_header_without_rows_is_an_empty_source(tmp_path: Path, content: str) -> None:
    with pytest.raises(EmptySource, match="there is no row below its header"):
        read(tmp_path, content)
