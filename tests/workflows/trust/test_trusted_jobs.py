"""What a job writes beside its output: confidences, spans, engines, repairs, and the rows to review."""

import asyncio
import json
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from carrara.engines.errors import EngineFailed
from carrara.engines.request import Completion, Confidence, Request, Usage
from carrara.engines.scripted import ScriptedEngine
from carrara.workflows.job import Job, JobResult, run_job
from carrara.workflows.places import PlaceError
from carrara.workflows.run import session
from carrara.workflows.trust.lines import Lines

PIPELINE = """
inputs: {text: str}
steps:
  bill:
    llm: "Read: {{ text }}"
    returns: {shop: str, total: float, paid: bool}
  mood:
    llm: "Feel: {{ bill.shop }}"
    returns: {one_of: [glad, sad]}
outputs:
  bill: "{{ bill }}"
  mood: "{{ mood }}"
"""
TEXTS = {"a": "Corner Shop\nTOTAL 1,200.50", "b": "Other Shop\nTOTAL 3.00", "c": "Third\nTOTAL 9"}

Reply = Callable[[Request], Completion | str]


def reply(request: Request) -> Completion:
    asked = request.messages[-1].content
    if asked.startswith("Feel"):
        return Completion("glad", None, Confidence(0.95, {"": 0.95}), Usage(), engine="ar")
    if "Corner" in asked:  # a comma too many, and a value that stands nowhere
        text = '{"shop": "Corner Store", "total": 1200.5, "paid": true,}'
        sure = Confidence(0.7, {"/shop": 0.4, "/total": 0.99, "/paid": 0.8})
    else:
        shop = "Other Shop" if "Other" in asked else "Third"
        text = json.dumps({"shop": shop, "total": 3.0 if "Other" in asked else 9, "paid": False})
        sure = Confidence(0.97, {"/shop": 0.97, "/total": 0.98, "/paid": 0.99})
    return Completion(text, None, sure, Usage(), engine="ar")


def run(
    folder: Path,
    answer: Reply = reply,
    run_id: str | None = None,
    pipeline: str = PIPELINE,
    **options: Any,
) -> JobResult:
    (folder / "bills.yaml").write_text(pipeline)
    rows = [json.dumps({"id": key, "text": text}) + "\n" for key, text in TEXTS.items()]
    (folder / "in.jsonl").write_text("".join(rows))
    job = Job("bills.yaml", "in.jsonl", "out.jsonl", folder=str(folder), **options)

    async def main() -> JobResult:
        engines = {"ar": ScriptedEngine("ar", answer)}
        async with session(engines=engines, journal=folder / "j.db") as kept:
            return await run_job(job, kept, run_id=run_id)

    return asyncio.run(main())


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_field_has_confidence_span_engine_and_repairs(tmp_path: Path) -> None:
    run(tmp_path, trust=True)
    found = lines(tmp_path / "out.trust.jsonl")
    assert [line["key"] for line in found] == ["a", "b", "c"]
    fields = found[0]["fields"]
    assert fields["/bill/total"] == {
        "confidence": 0.99, "engine": "ar", "repaired": [], "span": [18, 26], "found": "number",
    }  # fmt: skip
    assert TEXTS["a"][18:26] == "1,200.50"
    assert fields["/bill/shop"]["found"] == "nowhere"
    assert fields["/bill/paid"]["found"] is None
    assert fields["/mood"]["confidence"] == 0.95
    assert (found[0]["confidence"], found[0]["source"]) == (0.7, "text")
    assert [step["repaired"] != [] for step in found[0]["steps"]] == [True, False]
    assert not (tmp_path / "out.review.jsonl").exists()


def test_unsure_rows_go_to_the_review_file_too(tmp_path: Path) -> None:
    assert run(tmp_path, review=0.5).done == 3
    (line,) = lines(tmp_path / "out.review.jsonl")
    assert (line["key"], line["doubtful"]) == ("a", ["/bill/shop"])
    assert line["inputs"] == {"text": TEXTS["a"]}
    assert len(lines(tmp_path / "out.jsonl")) == 3


def test_a_row_to_review_tells_the_step_whose_validators_it_has_passed(tmp_path: Path) -> None:
    (tmp_path / "bill_checks.py").write_text("def positive(bill):\n    return bill.total > 0\n")
    head = PIPELINE.split("  mood:\n")[0]
    checked = f'{head}    validators: ["./bill_checks.py:positive"]\noutputs: {{bill: "{{{{ bill }}}}"}}\n'
    for pipeline, told in ((checked, "bill"), (checked.replace("    validators", "    #"), None)):
        run(tmp_path, pipeline=pipeline, review=0.5)
        (line,) = lines(tmp_path / "out.review.jsonl")
        assert line["lesson"].get("validated_by") == told
        for path in tmp_path.glob("out.*"):
            path.unlink()


def test_a_job_that_goes_on_knows_what_the_first_process_saw(tmp_path: Path) -> None:
    def broken(request: Request) -> Completion:
        if "Corner" in request.messages[-1].content and "Feel" in request.messages[-1].content:
            raise EngineFailed("the engine has gone", engine="ar")
        return reply(request)

    first = run(tmp_path, broken, review=0.5)
    assert (first.done, first.failed) == (2, 1)
    before = lines(tmp_path / "out.trust.jsonl")
    (tmp_path / "out.trust.jsonl").write_text("half a li")  # as after a crash
    asked: list[str] = []

    def watched(request: Request) -> Completion:
        asked.append(request.messages[-1].content)
        return reply(request)

    second = run(tmp_path, watched, first.run_id, review=0.5)
    assert (second.done, second.reused) == (3, 2)
    assert [text[:4] for text in asked] == ["Feel"]  # the bill came from the journal
    found = lines(tmp_path / "out.trust.jsonl")
    assert found[1:] == before
    assert found[0]["fields"]["/bill/total"]["confidence"] == 0.99
    assert [step["engine"] for step in found[0]["steps"]] == ["ar", "ar"]
    assert [line["key"] for line in lines(tmp_path / "out.review.jsonl")] == ["a"]


def test_a_text_too_long_to_search_at_once_has_spans_too(tmp_path: Path) -> None:
    (tmp_path / "bills.yaml").write_text(PIPELINE)
    text = "Other Shop\n" + "word " * 10_000 + "TOTAL 3.00"
    (tmp_path / "one.jsonl").write_text(json.dumps({"text": text}) + "\n")
    job = Job("bills.yaml", "one.jsonl", "one.out.jsonl", folder=str(tmp_path), trust=True)

    async def main() -> JobResult:
        async with session(
            engines={"ar": ScriptedEngine("ar", reply)}, journal=tmp_path / "j.db"
        ) as kept:
            return await run_job(job, kept)

    assert asyncio.run(main()).done == 1
    (line,) = lines(tmp_path / "one.out.trust.jsonl")
    start, end = line["fields"]["/bill/total"]["span"]
    assert text[start:end] in ("3", "3.00")


def test_a_row_of_unknown_confidence_is_reviewed(tmp_path: Path) -> None:
    def silent(request: Request) -> Completion:
        return Completion(reply(request).text, None, Confidence(), Usage(), engine="ar")

    run(tmp_path, silent, review=0.5)
    assert [line["doubtful"] for line in lines(tmp_path / "out.review.jsonl")] == [[""]] * 3


def test_a_filled_trust_file_and_a_device_are_refused(tmp_path: Path) -> None:
    (tmp_path / "out.trust.jsonl").write_text("mine\n")
    with pytest.raises(PlaceError, match=r"out\.trust\.jsonl is there"):
        run(tmp_path, trust=True)
    assert (tmp_path / "out.trust.jsonl").read_text() == "mine\n"


def test_a_number_with_all_its_digits_goes_to_the_review_file(tmp_path: Path) -> None:
    flow = tmp_path / f"flow_{tmp_path.name}.py"
    flow.write_text(
        "from decimal import Decimal\n"
        "from carrara import llm, workflow\n"
        "@llm\nasync def count(text: str) -> int:\n    'Count {{ text }}'\n"
        "@workflow\nasync def sums(text: str, x: Decimal, y: Decimal = Decimal('1')) -> int:\n"
        "    return await count(text)\n"
    )
    (tmp_path / "in.jsonl").write_text(
        '{"id": "a", "text": "one", "x": 12.5, "y": 0.12345678901234567890}\n'
    )
    job = Job(f"{flow}:sums", "in.jsonl", "out.jsonl", folder=str(tmp_path), review=0.8)

    async def main() -> JobResult:
        unsure = Completion("3", None, Confidence(0.1, {"": 0.1}), Usage(), engine="ar")
        engines = {"ar": ScriptedEngine("ar", lambda _: unsure)}
        async with session(engines=engines, journal=tmp_path / "j.db") as kept:
            return await run_job(job, kept)

    assert asyncio.run(main()).done == 1
    (line,) = lines(tmp_path / "out.review.jsonl")
    assert line["inputs"] == {"text": "one", "x": 12.5, "y": "0.12345678901234567890"}


@dataclass
class _Long:
    """Lines of 10 kB that were there before, made when they are asked for."""

    count: int

    def __contains__(self, place: int, /) -> bool:
        return place < self.count and place != 2

    def places(self) -> Iterable[int]:
        return (place for place in range(self.count) if place in self)

    def line(self, place: int) -> dict[str, Any] | None:
        return {"key": place, "text": f"{place:10000}"} if place % 2 else None


def test_lines_of_before_are_written_without_being_held(tmp_path: Path) -> None:
    tracemalloc.start()
    with Lines(tmp_path / "out.trust.jsonl") as file:
        file.begin(_Long(2_000), fresh=False)
        file.put(2, {"key": 2})
        file.put(2_001, {"key": 2_001})
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert used < 2**20
    keys = [line["key"] for line in lines(tmp_path / "out.trust.jsonl")]
    assert keys == [1, 2, *range(3, 2_000, 2), 2_001]
    assert file.count == len(keys)
