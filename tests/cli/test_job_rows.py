"""What a row says does not depend on where it goes: the same digits, the same types, the same failed records."""

from __future__ import annotations

import csv
from typing import Any

import pytest

FLOW = """
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypedDict

from carrara import step, workflow


class Price(TypedDict):
    price: Decimal
    count: int


@step
def read(text: str) -> Price:
    return {"price": Decimal(text), "count": "two" if text == "2" else 1}


@workflow
async def price(text: str) -> Price:
    return await read(text)


@workflow
async def again(price: Decimal) -> Decimal:
    return price


@dataclass
class Line:
    price: Decimal | None
    rate: float
    sizes: list[Decimal]


@workflow
async def copied(line: Line, rate: float, what) -> dict[str, str]:
    return {"line": repr(line), "rate": repr(rate), "what": repr(what)}


class Rate(TypedDict):
    rate: float | None
    more: dict[str, Any]


@workflow
async def anything(what):
    return what


ODD = {"nan": float("nan"), "bytes": b"x", "decimal": Decimal("-Infinity")}


@step
def odd(text: str) -> Rate:
    more = {"parts": [ODD[text] if text in ODD else text]}
    return {"rate": ODD["nan"] if text == "rate" else 1.5, "more": more}


@workflow
async def rates(text: str) -> Rate:
    return await odd(text)


@workflow
async def rated(rate: float | None) -> str:
    return repr(rate)
"""
EXACT = ["0.10", "12345678901234567890.1234567890", "1.50"]
SINKS = [
    "out.jsonl",
    "out.csv",
    "out.parquet",
    "duckdb:///out.duckdb#rows",
    "sqlite:///out.db#rows",
]


def lines(*texts: str) -> str:
    return "".join(f'{{"id": "k{n}", "text": "{text}"}}\n' for n, text in enumerate(texts))


@pytest.mark.parametrize("output", SINKS)
def test_a_row_of_another_type_than_declared_fails_whatever_the_sink(
    shell: Any, output: str
) -> None:
    shell.write("price.py", FLOW)
    shell.write("in.jsonl", lines("1", "2", "3"))
    ended = shell("run", "price.py:price", "-i", "in.jsonl", "-o", output, "-q")
    assert ended.code == 1, ended.err
    (failed,) = next(
        shell.rows(path.name) for path in shell.folder.iterdir() if "failed" in path.name
    )
    assert failed["key"] == "k1"
    assert "count: a value of type integer is needed, found 'two'" in failed["error"]


def test_decimals_keep_their_digits_in_json_lines_and_csv_and_on_the_way_back(shell: Any) -> None:
    shell.write("price.py", FLOW)
    shell.write("in.jsonl", lines(*EXACT))
    for output in ("out.jsonl", "out.csv"):
        assert shell("run", "price.py:price", "-i", "in.jsonl", "-o", output, "-q").code == 0
    assert [row["price"] for row in shell.rows("out.jsonl")] == EXACT
    assert [row["price"] for row in csv.DictReader(shell.read("out.csv").splitlines())] == EXACT
    for number, source in enumerate(("out.jsonl", "out.csv")):
        back = f"back{number}.jsonl"
        assert shell("run", "price.py:again", "-i", source, "-o", back, "-q").code == 0
        assert [row["value"] for row in shell.rows(back)] == EXACT


def test_numbers_of_json_lines_keep_their_digits_for_decimals_alone(shell: Any) -> None:
    shell.write("price.py", FLOW)
    digits = ["12345678901234567890.12", "1.10", "1e400", "-0.1", "7"]
    shell.write("in.jsonl", "".join(f'{{"price": {text}}}\n' for text in digits))
    call = ("run", "price.py:again", "-i", "in.jsonl", "-o", "out.jsonl", "-q")
    ended = shell(*call)
    assert ended.code == 0, ended.err
    assert [row["value"] for row in shell.rows("out.jsonl")] == [
        "12345678901234567890.12", "1.10", "1E+400", "-0.1", "7",
    ]  # fmt: skip
    assert shell(*call, "--resume").code == 0

    line = '{"price": 1.10, "rate": 1.10, "sizes": [0.50]}'
    shell.write("one.jsonl", f'{{"id": 1.10, "line": {line}, "rate": 1.10, "what": [1.10]}}\n')
    ended = shell("run", "price.py:copied", "-i", "one.jsonl", "-o", "copied.jsonl", "-q")
    assert ended.code == 0, ended.err
    assert shell.rows("copied.jsonl") == [
        {
            "key": "1.1",
            "value": {
                "line": "Line(price=Decimal('1.10'), rate=1.1, sizes=[Decimal('0.50')])",
                "rate": "1.1",
                "what": "[1.1]",
            },
        }
    ]


def test_a_job_that_moves_to_another_sink_takes_all_digits_with_it(shell: Any) -> None:
    shell.write("price.py", FLOW)
    shell.write("in.jsonl", lines(*EXACT))
    assert shell("run", "price.py:price", "-i", "in.jsonl", "-o", "out.jsonl", "-q").code == 0
    assert shell("resume", "last", "--output", "duckdb:///out.duckdb#rows", "-q").code == 0
    import duckdb

    with duckdb.connect(str(shell.folder / "out.duckdb")) as connection:
        found = connection.sql("SELECT price FROM rows ORDER BY key").fetchall()
    assert [f"{price:.10f}" for (price,) in found] == [
        "0.1000000000", "12345678901234567890.1234567890", "1.5000000000",
    ]  # fmt: skip


@pytest.mark.parametrize("output", SINKS)
def test_what_no_row_can_hold_fails_and_is_named(shell: Any, output: str) -> None:
    shell.write("price.py", FLOW)
    shell.write("in.jsonl", lines("rate", "nan", "bytes", "decimal", "1"))
    ended = shell("run", "price.py:rates", "-i", "in.jsonl", "-o", output, "-q")
    assert ended.code == 1
    (failed,) = [path for path in shell.folder.iterdir() if path.name.endswith("failed.jsonl")]
    told = [
        row["error"].removeprefix("the result cannot be written: ") for row in shell.rows(failed)
    ]
    assert sorted(told) == [
        "more/parts/0: -Infinity is no number that JSON has; give null in its place",
        "more/parts/0: a bytes cannot be written as JSON",
        "more/parts/0: nan is no number that JSON has; give null in its place",
        "rate: nan is no number that JSON has; give null in its place",
    ]


@pytest.mark.parametrize("to", [(), ("-o", "out.json"), ("-o", "folder")])
def test_what_no_row_can_hold_is_no_result_of_a_single_run_either(shell: Any, to: Any) -> None:
    shell.write("price.py", FLOW)
    ended = shell("run", "price.py:rates", "--set", "text=nan", *to, "-q")
    assert (ended.code, ended.out) == (1, "")
    assert "the result cannot be written: " in ended.err
    assert "more/parts/0: nan is no number that JSON has; give null in its place" in ended.err
    assert not [path for path in shell.folder.rglob("*") if path.suffix == ".json"]


def test_a_number_too_large_for_decimals_fails_its_record_alone(shell: Any) -> None:
    shell.write("price.py", FLOW)
    shell.write("in.jsonl", '{"price": 1e99999999999999999999}\n{"price": 1.50}\n')
    assert shell("run", "price.py:again", "-i", "in.jsonl", "-o", "out.jsonl", "-q").code == 1
    assert [row["value"] for row in shell.rows("out.jsonl")] == ["1.50"]
    (failed,) = shell.rows("out.failed.jsonl")
    assert "Input should be a finite number" in failed["error"]


def test_a_number_that_is_none_is_not_null_in_a_source(shell: Any) -> None:
    import pyarrow
    import pyarrow.parquet

    keys = pyarrow.array(list("abcd"))
    rates = pyarrow.array([float("nan"), float("-inf"), None, 0.5])
    pyarrow.parquet.write_table(
        pyarrow.table({"key": keys, "rate": rates}), shell.folder / "in.parquet"
    )
    shell.write("price.py", FLOW)
    assert shell("run", "price.py:rated", "-i", "in.parquet", "-o", "out.jsonl", "-q").code == 0
    assert [row["value"] for row in shell.rows("out.jsonl")] == ["nan", "-inf", "None", "0.5"]
    none = pyarrow.array([None, float("-inf"), None, 0.5])
    pyarrow.parquet.write_table(
        pyarrow.table({"key": keys, "rate": none}), shell.folder / "null.parquet"
    )
    assert shell("diff", "in.parquet", "null.parquet").code == 1


@pytest.mark.parametrize("output", SINKS)
def test_a_text_is_told_from_a_number_of_unknown_type(shell: Any, output: str) -> None:
    shell.write("price.py", FLOW)
    given = ['"1"', "1", '"null"', "true", '"a"', '["1", 1]', '"[1]"']
    shell.write("in.jsonl", "".join(f'{{"what": {text}}}\n' for text in given))
    call = ("run", "price.py:anything", "-i", "in.jsonl", "-q", "-o")
    assert shell(*call, output).code == 0
    if not output.endswith(".csv"):  # it knows texts alone
        shell.write("other.jsonl", "".join(
            f'{{"key": "line:{n}", "value": {text}}}\n' for n, text in enumerate(given, 1)
        ))  # fmt: skip
        compared = shell("diff", output, "other.jsonl")
        assert compared.code == 0, compared.out
        swapped = shell.read("other.jsonl").replace('"value": "1"', '"value": 1')
        shell.write("swapped.jsonl", swapped)
        assert shell("diff", output, "swapped.jsonl").code == 1
