"""Long texts in a pipeline: a step runs over their parts, and one value is made of what it gives for each."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from carrara.engines.request import Request
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.errors import StepError
from carrara.runtime.run import RunResult
from carrara.workflows.job import Job, run_job
from carrara.workflows.run import session
from carrara.workflows.yaml import Pipeline, loads
from carrara.workflows.yaml.dump import dumps

Run = Callable[..., RunResult[Any]]
Mistakes = Callable[..., list[str]]

PIPELINE = """
name: contract
inputs: {page: str}
types:
  Good: {name: str, price: float}
  Contract: {seller: str?, days: int?, goods: {list: Good, max_items: 3}}
steps:
  contract:
    split: {text: "{{ page }}", tokens: 30}
    llm: "{{ part.headings | join(' > ') }} | {{ part.text }}"
    returns: Contract
    merge: {goods: all, seller: longest}
outputs: {contract: "{{ contract }}"}
"""
TEXT = """# Contract

Seller: Smith

## Goods

A lamp for 12.50 and a chair for 40.00.

And a table for 99.00, to be paid in 30 days.

## Signed

Seller: John Smith, for a lamp at 12.50.
"""


def read(request: Request) -> str:
    """What a right model finds in the part that it is shown."""
    _, _, text = request.messages[-1].content.partition(" | ")
    seller = re.search(r"Seller: ([A-Z][a-z]+(?: [A-Z][a-z]+)?)", text)
    days = re.search(r"(\d+) days", text)
    goods = re.findall(r"a (\w+) (?:for|at) ([\d.]+\d)", text.lower())
    return json.dumps(
        {
            "seller": seller and seller[1],
            "days": days and int(days[1]),
            "goods": [{"name": name, "price": float(price)} for name, price in goods],
        }
    )


def test_the_answers_about_the_parts_become_one_by_the_rules(run_text: Run) -> None:
    asked: list[str] = []

    def reply(request: Request) -> str:
        asked.append(request.messages[-1].content)
        return read(request)

    found = run_text(PIPELINE, reply=reply, page=TEXT).value["contract"]
    assert len(asked) > 2
    assert any(prompt.startswith("Contract | ## Goods") for prompt in asked)
    assert (found.seller, found.days) == ("John Smith", 30)
    # All four, though an answer may hold three of them at most.
    assert [(good.name, good.price) for good in found.goods] == [
        ("lamp", 12.5), ("chair", 40.0), ("table", 99.0), ("lamp", 12.5),
    ]  # fmt: skip


def test_without_rules_the_value_is_a_list_that_a_later_step_reduces(run_text: Run) -> None:
    text = """
    inputs: {page: str}
    steps:
      said: {split: {text: page, tokens: 16}, as: piece, llm: "{{ piece.start }}"}
      whole: {llm: "{{ said | join(',') }}"}
    outputs: {said: "{{ said }}", whole: "{{ whole }}"}
    """
    found = run_text(text, reply=lambda r: r.messages[-1].content, page="One two. " * 20).value
    assert found["said"][0] == "0"
    assert len(found["said"]) > 2
    assert found["whole"] == ",".join(found["said"])


@pytest.mark.parametrize(
    ("rule", "made"),
    [("usual", [1, 2, 3]), ("all", [1, 2, 2, 3]), ("first", [1, 2]), ("longest", [1, 2])],
)
def test_one_rule_holds_for_the_whole_value(run_text: Run, rule: str, made: list[int]) -> None:
    text = f"""
    steps:
      s: {{for_each: [[1, 2], [2, 3]], python: "./own.py:same", with: {{x: "{{{{ item }}}}"}}, merge: {rule}}}
    """
    found = run_text(text, {"own.py": "def same(x): return x\n"})
    assert found.value == {"s": made}


def test_decimals_keep_their_digits_and_dates_are_compared(run_text: Run) -> None:
    text = """
    inputs: {sums: "[decimal]"}
    types: {Bill: {total: {type: decimal, min: 0}, day: date}}
    steps:
      bill:
        for_each: "{{ sums }}"
        python: "./own.py:bill"
        with: {total: "{{ item }}"}
        returns: Bill
        merge: {total: sum, day: max}
    """
    own = """
from datetime import date


def bill(total):
    return {"total": total, "day": date(2026, 1, int(total))}
"""
    sums = ["1.12345678901234567890", "2.5"]
    (bill,) = run_text(text, {"own.py": own}, sums=sums).value.values()
    assert (bill.total, bill.day) == (Decimal("3.62345678901234567890"), date(2026, 1, 2))


def test_a_rule_that_fits_no_value_names_the_field(run_text: Run) -> None:
    loose = PIPELINE.replace("returns: Contract", "returns: {map: any}")
    with pytest.raises(StepError, match="merge rule 'sum' of seller is for numbers"):
        run_text(loose.replace("seller: longest", "seller: sum"), reply=read, page=TEXT)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("goods: all", "gods: all", "has a rule for 'gods', which its value has not. Did you mean 'goods'?"),
        ("goods: all", "goods.nam: all", "has a rule for 'goods.nam'"),
        ("seller: longest", "seller: sum", "has the rule 'sum' for 'seller', which is for numbers"),
        ("seller: longest", "days: all", "has the rule 'all' for 'days', which is for lists"),
        ("goods: all", "goods: al", "no merge rule 'al' for 'goods'"),
        ("tokens: 30", "tokens: 3", "'split.tokens' of step 'contract' must be at least 16, not 3"),
        ("tokens: 30", "tokens: 30, overlap: 20", "'overlap' of step 'contract' must be at most half"),
        ("tokens: 30", "token: 30", "Did you mean 'tokens'?"),
        ("part.headings", "part.heading", "'part' has no field 'heading'"),
        ("split: {", "for_each: [1]\n    split: {", "'for_each' and 'split' exclude each other"),
        ('split: {text: "{{ page }}", tokens: 30}', "when: true", "'merge' needs 'for_each' or 'split'"),
    ],
)  # fmt: skip
def test_mistakes_are_found_before_anything_runs(
    mistakes_in: Mistakes, old: str, new: str, told: str
) -> None:
    found = mistakes_in(PIPELINE.replace(old, new))
    assert any(told in mistake for mistake in found), found


def test_a_pipeline_with_parts_is_written_as_it_is_read() -> None:
    pipeline: Pipeline = loads(PIPELINE)
    again = loads(dumps(pipeline.definition))
    assert again.definition.steps == pipeline.definition.steps


def test_values_of_a_job_have_spans_in_the_whole_document(tmp_path: Path) -> None:
    (tmp_path / "contract.yaml").write_text(PIPELINE)
    (tmp_path / "one.md").write_text(TEXT)
    job = Job("contract.yaml", "one.md", "out.jsonl", folder=str(tmp_path), trust=True)

    async def main() -> None:
        engines = {"ar": ScriptedEngine("ar", read)}
        async with session(engines=engines, journal=tmp_path / "j.db") as kept:
            result = await run_job(job, kept)
            assert (result.done, result.failed) == (1, 0)

    asyncio.run(main())
    fields = json.loads((tmp_path / "out.trust.jsonl").read_text())["fields"]
    stands = {at: TEXT[slice(*facts["span"])] for at, facts in fields.items() if facts["span"]}
    assert stands["/contract/seller"] == "John Smith"
    assert stands["/contract/goods/2/name"] == "table"
    assert stands["/contract/days"] == "30"
    assert {facts["engine"] for facts in fields.values()} == {"ar"}


SHOPS = "".join(
    f"## Shop {n}\n2026-01-0{n + 1}\nbread {n + 1}.20\nmilk 0.9{n}\nBread {n + 1}.20\nTOTAL {n * 2}.30\n\n"
    for n in range(9)
)
RECEIPTS = """
name: receipts
inputs: {page: str}
types:
  Item: {name: str, price: float}
  Receipt: {day: date?, items: [Item]}
steps:
  receipt:
    split: {text: "{{ page }}", tokens: 60, overlap: 30}
    llm: "Read this: {{ part.text }}"
    returns: Receipt
    merge: {items: all, day: last}
outputs: {day: "{{ receipt.day }}", items: "{{ receipt['items'] }}"}
"""


def read_receipts(request: Request) -> str:
    text = request.messages[-1].content
    days = re.findall(r"2026-\d\d-\d\d", text)
    items = re.findall(r"^([bBm]\w+) ([\d.]+)$", text, re.MULTILINE)
    return json.dumps(
        {
            "day": days[-1] if days else None,
            "items": [{"name": name, "price": float(price)} for name, price in items],
        }
    )


def test_values_of_overlapping_parts_come_once_and_have_their_spans_in_their_part(
    tmp_path: Path,
) -> None:
    (tmp_path / "receipts.yaml").write_text(RECEIPTS)
    (tmp_path / "one.md").write_text(SHOPS)
    job = Job("receipts.yaml", "one.md", "out.jsonl", folder=str(tmp_path), trust=True)

    async def main() -> None:
        engines = {"ar": ScriptedEngine("ar", read_receipts)}
        async with session(engines=engines, journal=tmp_path / "j.db") as kept:
            result = await run_job(job, kept)
            assert (result.done, result.failed) == (1, 0)

    asyncio.run(main())
    row = json.loads((tmp_path / "out.jsonl").read_text())
    lines = re.findall(r"^([bBm]\w+) ([\d.]+)$", SHOPS, re.MULTILINE)
    assert [(item["name"], f"{item['price']:.2f}") for item in row["items"]] == lines
    fields = json.loads((tmp_path / "out.trust.jsonl").read_text())["fields"]
    spans = [facts["span"] for at, facts in fields.items() if at.startswith("/items")]
    assert len(spans) == 54
    assert spans == sorted(spans)
