"""Rows are held by their size: many small ones at once, few large ones."""

from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import sqlalchemy

from carrara import workflow
from carrara.workflows.records import read_records
from carrara.workflows.row_weight import AT_ONCE_BYTES, at_once, fetched, weight
from carrara.workflows.sinks.opening import sink_of

LARGE = "x" * (AT_ONCE_BYTES // 8)


@workflow
async def said(text: str) -> str:
    return text


def test_a_weight_counts_what_lies_within() -> None:
    assert weight({"a": ["x" * 500, {"b": b"y" * 500}]}) > 1000
    assert weight([1, None, 2.5]) < 1000


def test_large_rows_are_fetched_few_at_a_time() -> None:
    left = [(LARGE,)] * 40 + [("x",)] * 3000
    asked: list[int] = []

    def fetch(size: int) -> list[Any]:
        asked.append(size)
        found, left[:size] = left[:size], []
        return found

    assert len(list(fetched(fetch))) == 3040
    assert max(asked[1:5]) <= 8
    assert max(asked) == 256
    assert at_once(10 * AT_ONCE_BYTES) == 1


def test_row_groups_of_parquet_are_bounded_in_bytes_and_read_back(tmp_path: Path) -> None:
    sink = sink_of(str(tmp_path / "o.parquet"), said)
    sink.begin([], fresh=True)
    for number in range(20):
        sink.put(sink.prepare({"key": str(number), "value": f"{number}{LARGE}"}))
    sink.finish()
    sink.close()
    about = pyarrow.parquet.read_metadata(tmp_path / "o.parquet")
    sizes = [about.row_group(n).total_byte_size for n in range(about.num_row_groups)]
    assert len(sizes) == 3
    assert max(sizes) < 2 * AT_ONCE_BYTES
    assert [record.key for record in read_records(str(tmp_path / "o.parquet"))] == [
        str(number) for number in range(20)
    ]


def test_a_table_writes_large_rows_before_there_are_many(tmp_path: Path) -> None:
    sink = sink_of(f"sqlite:///{tmp_path}/o.db#rows", said)
    sink.begin([], fresh=True)
    for number in range(10):
        sink.put(sink.prepare({"key": str(number), "value": LARGE}))
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/o.db")
    with engine.connect() as connection:
        assert connection.scalar(sqlalchemy.text("SELECT count(*) FROM rows")) == 8
    engine.dispose()
    sink.close()


@pytest.mark.parametrize("fresh", [True, False])
def test_what_a_killed_job_left_half_made_goes_with_the_next(tmp_path: Path, fresh: bool) -> None:
    left = tmp_path / ".rows.jsonl.partial"
    left.write_text("half a r")
    sink = sink_of(str(tmp_path / "rows.jsonl"), said)
    sink.begin([], fresh=fresh)
    sink.put(sink.prepare({"key": "a", "value": "x"}))
    sink.finish()
    sink.close()
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
