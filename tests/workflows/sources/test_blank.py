"""A text that is needed and blank is a failed record, whatever it comes from; an input with a default takes it."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from carrara.workflows.batch import Binder, RecordError
from carrara.workflows.define import workflow
from carrara.workflows.records import Record, read_records

BLANK = ["", "  ", "\n\t"]


@workflow
async def read(text: str) -> str:
    return text


@workflow
async def lenient(text: str = "nothing") -> str:
    return text


@workflow
async def nullable(text: str | None) -> str:
    return str(text)


@workflow
async def untyped(text) -> str:  # type: ignore[no-untyped-def]
    return str(text)


def documents(folder: Path) -> str:
    for number, text in enumerate(BLANK):
        (folder / f"{number}.txt").write_text(text)
    return f"{folder}/*.txt"


def json_lines(folder: Path) -> str:
    rows = [*({"text": text} for text in BLANK), {"text": None}]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"{folder}/a.jsonl"


def cells(folder: Path) -> str:
    quoted = "".join(f'{number},"{text}"\n' for number, text in enumerate(BLANK))
    (folder / "a.csv").write_text(f"n,text\n{quoted}")
    return f"{folder}/a.csv"


def parquet(folder: Path) -> str:
    pyarrow.parquet.write_table(pyarrow.table({"text": [*BLANK, None]}), folder / "a.parquet")
    return f"{folder}/a.parquet"


def database(folder: Path) -> str:
    with sqlite3.connect(folder / "a.db") as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT)")
        connection.executemany("INSERT INTO t (text) VALUES (?)", [(t,) for t in [*BLANK, None]])
    connection.close()
    return f"sqlite:///{folder}/a.db#t"


@pytest.mark.parametrize("source", [documents, json_lines, cells, parquet, database])
@pytest.mark.parametrize("flow", [read, untyped], ids=["str", "untyped"])
def test_a_blank_text_is_a_failed_record(tmp_path: Path, source: Any, flow: Any) -> None:
    records = list(read_records(source(tmp_path)))
    assert len(records) >= len(BLANK)
    for record in records:
        with pytest.raises(RecordError, match="is empty") as raised:
            Binder(flow).bind(record)
        assert str(raised.value).startswith(f"{record.where}: the ")


@pytest.mark.parametrize(("flow", "given"), [(lenient, ""), (nullable, ""), (nullable, None)])
def test_an_input_that_may_be_empty_takes_it(flow: Any, given: Any) -> None:
    assert Binder(flow).bind(Record(0, "a", "in:1", {"text": given})) == {"text": given}


def test_the_message_names_the_field_that_was_mapped() -> None:
    binder = Binder(read, columns={"text": "body"})
    with pytest.raises(RecordError, match=r"in:1: the field 'body' is empty, and the input 'text'"):
        binder.bind(Record(0, "a", "in:1", {"body": " ", "text": "x"}))
