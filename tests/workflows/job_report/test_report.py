"""A job's report tells what its events and rows hold, in Markdown and as one page that needs nothing else."""

import asyncio
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from carrara.engines.request import Completion, Confidence, Request
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.journal.reading import Reader
from carrara.runtime.routing.policy import AUTO
from carrara.workflows.job import Job, run_job
from carrara.workflows.job_report.duplicates import Alike
from carrara.workflows.job_report.facts import JobFacts, JobRow, job_facts
from carrara.workflows.job_report.html import page
from carrara.workflows.job_report.markdown import markdown
from carrara.workflows.job_report.rows import stored_rows
from carrara.workflows.session import Session

PIPELINE = """
name: bills
inputs: {text: str}
types:
  Bill: {seller: str?, total: float?}
steps:
  bill:
    llm: "Extract the bill. {{ text }}"
    returns: Bill
    retries: 0
outputs: {seller: "{{ bill.seller }}", total: "{{ bill.total }}"}
"""


def number_in(request: Request) -> int:
    return int(request.messages[0].content.split()[-1])


def first(request: Request) -> Completion:
    number = number_in(request)
    sure = 0.2 if number % 4 == 0 else 0.9
    answer = {"seller": f"Shop <{number}>", "total": None if number % 2 else 9.5}
    return Completion(json.dumps(answer), confidence=Confidence(sure))


def second(request: Request) -> str:
    return "nothing" if number_in(request) == 8 else json.dumps({"seller": "B", "total": 1})


@pytest.fixture
def found(tmp_path: Path) -> JobFacts:
    (tmp_path / "bills.yaml").write_text(PIPELINE)
    lines = [json.dumps({"id": f"b{n}", "text": str(n)}) for n in range(24)]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    engines = {
        "diffusion": ScriptedEngine("diffusion", first, can=["schema"]),
        "ar": ScriptedEngine("ar", second, can=["schema"]),
    }
    job = Job(str(tmp_path / "bills.yaml"), str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"))

    async def work() -> str:
        in_order = replace(AUTO, choose="order")  # whatever time scripted answers take
        async with Session(engines=engines, journal=tmp_path / "j.db", policy=in_order) as session:
            return (await run_job(job, session)).run_id

    run_id = asyncio.run(work())
    with Reader.open(tmp_path / "j.db") as reader:
        in_time = job_facts(reader.timeline(run_id), stored_rows(reader.rows(run_id)))
        node_by_node = job_facts(reader.events(run_id), stored_rows(reader.each_row(run_id)))
        assert node_by_node.run.to_data() == in_time.run.to_data()
        assert node_by_node == in_time
        return job_facts(reader.events(run_id), stored_rows(reader.each_row(run_id)))


def test_counts_reasons_and_fill_rates(found: JobFacts) -> None:
    assert (found.done, found.failed, found.ended) == (23, 1, True)
    [(reason, count)] = found.reasons.items()
    assert count == 1
    assert "no acceptable json answer in 3 attempts" in reason
    assert found.fill["seller"] == 1.0
    assert found.fill["total"] == pytest.approx(11 / 23)
    assert sum(found.throughput) == 24
    assert sum(found.confidence["diffusion"]) == 18
    assert {record.key for record in found.most_escalated} == {
        "b0",
        "b4",
        "b8",
        "b12",
        "b16",
        "b20",
    }
    assert [row.key for row in found.failures] == ["b8"]


def test_the_markdown_has_a_table_for_each_question(found: JobFacts) -> None:
    text = markdown(found)
    assert text.startswith("# Job: bills\n\n23 rows, 1 failed records.")
    assert "| total | 48% |" in text
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings[:3] == ["Why records failed", "Fields", "Confidence of accepted answers"]
    assert {"Slowest records", "Most escalated records", "Steps", "Engines"} <= set(headings)


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, Any]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [(name, value) for name, value in attrs if name in ("src", "href")]
        self.found += [("script", tag)] if tag == "script" else []
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element without content closes itself."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else(found: JobFacts) -> None:
    found.failures[0] = JobRow(8, "<b8>", False, {}, "bad </table><script>alert(1)</script>")
    text = page(found)
    parser = Links()
    parser.feed(text)
    assert parser.found == []
    assert parser.open == []
    assert "http" not in text
    assert "&lt;b8&gt;" in text
    assert text.count("<svg") == 4


def test_a_job_without_records_has_a_report() -> None:
    empty = job_facts([], [])
    assert "0 rows" in markdown(empty)
    assert "<h1>" in page(empty)


def test_rows_with_equal_values_under_other_keys_are_possible_duplicates() -> None:
    def row(place: int, **fields: Any) -> JobRow:
        return JobRow(place, f"k{place}", True, {"key": f"k{place}", **fields})

    bill = {"seller": "Corner  Shop", "items": [{"name": "tea", "price": 2.0}]}
    rows = [
        row(0, **bill),
        row(1, **bill | {"seller": "CORNER shop"}),
        row(2, **bill | {"seller": "Other"}),
        row(3, mood="glad", seller=None),
        row(4, mood="glad", seller=None),
    ]
    found = job_facts([], rows)
    assert found.duplicates == [Alike(2, ["k0", "k1"])]
    assert "| 2 | k0, k1 |" in markdown(found)
    assert "Possible duplicates" in page(found)


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        (["answered 400: x", "answered 500: x"], "answered 400: x (and like it)"),
        (["answered 400: x", "answered 400: x"], "answered 400: x"),
        (["step 's' in run a1 failed: RuntimeError: \n\nthe disk\nis full"], "RuntimeError: the disk"),
        (["\n\n"], "no reason was given"),
        (
            ["step 's': no acceptable json answer in 2 attempts.\n  1. ar (first): cut\n  2. ar (again): bad"],
            "no acceptable json answer in 2 attempts, the last: ar (again): bad",
        ),
    ],
)  # fmt: skip
def test_a_reason_tells_what_went_wrong(errors: list[str], told: str) -> None:
    rows = [JobRow(n, f"k{n}", False, {}, error) for n, error in enumerate(errors)]
    assert job_facts([], rows).reasons == {told: len(errors)}
