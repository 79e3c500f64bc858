"""Reading records: every bad row is handed on with its place and reason, none is lost."""

import io
import json
from pathlib import Path

import pytest

from carrara.workflows.records import Record, SourceError, read_records


def read(source: Path | str) -> list[Record]:
    return list(read_records(str(source)))


def test_a_key_that_is_no_text_is_json(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"id": {"b": 1, "a": "é"}}\n{"id": true}\n{"id": [1, null]}\n{"id": 7}\n')
    keys = ['{"a": "é", "b": 1}', "true", "[1, null]", "7"]
    assert [record.key for record in read_records(str(path))] == keys
    path.write_text('{"done": false}\n')
    assert [record.key for record in read_records(str(path), key="done")] == ["false"]


def test_text_files_become_records_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.txt").write_text(f"text of {name}")
    first, second = read(tmp_path / "*.txt")
    assert (first.index, first.fields["name"], first.fields["text"]) == (0, "a", "text of a")
    assert second.key == str(tmp_path / "b.txt")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"\x89PNG\x00\x01", "binary"),
        (b"caf\xe9 au lait", "not UTF-8"),
    ],
)
def test_a_file_that_is_no_text_is_a_broken_record(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    (record,) = read(tmp_path / "a.txt")
    assert reason in (record.problem or "")
    assert record.where == str(tmp_path / "a.txt")


def test_a_malformed_line_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "x", "text": "a"}\n\n{"text": \n[1]\n{"text": "b"}\n')
    good, bad, array, last = read(path)
    assert good.key == "x"
    assert bad.where == f"{path}:3"
    assert "not JSON" in (bad.problem or "")
    assert "object is needed, found list" in (array.problem or "")
    assert (last.index, last.fields["text"]) == (3, "b")


def test_csv_rows_have_columns_and_line_numbers(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('id,text\n1,"two\nlines"\n2,plain,extra\n3\n4,last\n')
    first, extra, short, last = read(path)
    assert first.fields == {"id": "1", "text": "two\nlines"}
    assert "1 cell more" in (extra.problem or "")
    assert extra.where == f"{path}:4"
    assert "no cell for text" in (short.problem or "")
    assert last.key == "4"


def test_json_lines_come_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO(b'{"text": "a"}\n')

    monkeypatch.setattr("sys.stdin", Stdin())
    (record,) = read("-")
    assert record.where == "stdin:1"


def test_a_source_that_cannot_be_read_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no file matches"):
        read(tmp_path / "*.txt")
    with pytest.raises(SourceError, match="there is no file"):
        read(tmp_path / "rows.jsonl")
    with pytest.raises(SourceError, match="is a folder"):
        read(tmp_path)
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(SourceError, match="needs a header"):
        read(tmp_path / "empty.csv")


def test_a_glob_over_several_files_reads_the_records_of_each(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "x", "text": "1"}\n{"text": "2"}\n')
    (tmp_path / "b.jsonl").write_text('{"id": "x", "text": "3"}\n')
    (tmp_path / "c.csv").write_text("text\n4\n")
    (tmp_path / "d.txt").write_text("5")
    found = read(tmp_path / "*.*")
    assert [record.index for record in found] == [0, 1, 2, 3, 4]
    assert [record.fields["text"] for record in found] == ["1", "2", "3", "4", "5"]
    names = ["a.jsonl:x", "a.jsonl:line:2", "b.jsonl:x", "c.csv:line:2", "d.txt"]
    assert [record.key for record in found] == [str(tmp_path / name) for name in names]
    assert found[1].where == f"{tmp_path / 'a.jsonl'}:2"


def test_an_empty_file_among_several_is_a_broken_record(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("")
    (tmp_path / "b.jsonl").write_text('{"text": "1"}\n')
    empty, good = read(tmp_path / "*.jsonl")
    assert (empty.key, empty.problem) == (
        str(tmp_path / "a.jsonl"),
        "empty, there is no record in it",
    )
    assert good.index == 1


@pytest.mark.parametrize("name", ["in.jsonl", "in.csv"])
def test_an_id_that_comes_again_is_a_broken_record_with_both_places(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    rows = [("x", "1"), ("y", "2"), ("x", "3"), ("x", "4")]
    if path.suffix == ".csv":
        path.write_text("id,text\n" + "".join(f"{key},{text}\n" for key, text in rows))
    else:
        path.write_text("".join(json.dumps({"id": k, "text": t}) + "\n" for k, t in rows))
    first_line = 2 if path.suffix == ".csv" else 1
    found = read(path)
    assert [record.problem is None for record in found] == [True, True, False, False]
    for record in found[2:]:
        assert record.problem == f"the id 'x' stands already at {path}:{first_line}"
    assert found[3].where == f"{path}:{first_line + 3}"


def test_a_key_that_cannot_be_written_down_is_a_broken_record(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"id": "\\ud800", "n": "\\udce9"}\n{"id": "é", "n": "b"}\n')
    for key, names in ((None, ("\\ud800", "é")), ("n", ("\\udce9", "b"))):
        bad, good = read_records(str(path), key=key)
        assert (bad.key, good.key, bad.where) == (*names, f"{path}:1")
        assert f"its key '{names[0]}' is not Unicode text" in (bad.problem or "")
        assert good.problem is None


def test_a_file_whose_name_is_no_text_is_a_broken_record(tmp_path: Path) -> None:
    (tmp_path / "caf\udce9.txt").write_text("text")
    (record,) = read(tmp_path / "*.txt")
    assert record.where == str(tmp_path / "caf\\udce9.txt")
    assert "not Unicode text" in (record.problem or "")


def test_records_without_an_id_take_no_other_ones_key(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"id": 2}\n{"id": \n{"t": 1}\n{"id": 3}\n{"id": "line:2"}\n')
    found = read(path)
    assert [record.key for record in found] == ["2", "line:2", "line:3", "3", "line:2"]
    assert [record.problem is None for record in found] == [True, False, True, True, True]


def test_an_integer_too_long_to_read_is_a_broken_record(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"n": ' + "7" * 5000 + '}\n{"n": 1}\n')
    long, short = read(path)
    assert "an integer of more than 4300 digits" in (long.problem or "")
    assert short.fields == {"n": 1}
