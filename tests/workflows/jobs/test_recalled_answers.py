"""Which of several equal answers a job takes from the journal, and what it knows of them."""

import asyncio
import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from carrara.engines.request import Completion, Confidence, Request, Usage
from carrara.engines.scripted import ScriptedEngine
from carrara.workflows.job import Job, JobResult, run_job
from carrara.workflows.run import session

CHAIN = """
name: chain
inputs: {text: str}
steps:
  a: {llm: "First {{ text }}"}
  b: {llm: "Second {{ a }}"}
outputs: {a: "{{ a }}", b: "{{ b }}"}
"""
VOTES = """
name: votes
inputs: {text: str}
steps:
  vote: {for_each: [1, 2, 3], llm: "Vote on {{ text }}", temperature: 1}
  total: {llm: "Total {{ vote | join(' ') }}"}
outputs: {votes: "{{ vote }}", total: "{{ total }}"}
"""


class Bench:
    """Jobs over one pipeline in one folder. The engine `name` answers `name-number` with its sureness; prompts with
    UNSURE in them with 0.5."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sure = {"ar": 0.95, "good": 0.99, "bad": 0.4}
        self.asked: list[str] = []
        self._number = count()

    def define(self, pipeline: str) -> None:
        (self.folder / "p.yaml").write_text(pipeline)

    def give(self, **texts: str) -> None:
        lines = (json.dumps({"id": key, "text": text}) + "\n" for key, text in texts.items())
        (self.folder / "in.jsonl").write_text("".join(lines))

    def run(
        self,
        output: str = "out.jsonl",
        engine: str = "ar",
        go_on: JobResult | None = None,
        review: float | None = None,
        reuse: bool = False,
    ) -> JobResult:
        """`go_on` accepts changes; `reuse` begins anew, with all that the journal holds."""
        job = Job("p.yaml", "in.jsonl", output, folder=str(self.folder), trust=True, concurrency=4)
        self.asked = []

        def reply(request: Request) -> Completion:
            asked = request.messages[-1].content
            self.asked.append(asked)
            sure = 0.5 if "UNSURE" in asked else self.sure[engine]
            text = f"{engine}-{next(self._number)}"
            return Completion(text, None, Confidence(sure, {"": sure}), Usage(), engine=engine)

        async def main() -> JobResult:
            async with session(
                engines={engine: ScriptedEngine(engine, reply)},
                journal=self.folder / "j.db",
                reuse="any" if reuse else "run",
            ) as kept:
                return await run_job(
                    replace(job, review=review),
                    kept,
                    run_id=go_on.run_id if go_on else None,
                    accept_changes=go_on is not None,
                )

        return asyncio.run(main())

    def rows(self, name: str = "out.jsonl") -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_job_that_makes_its_rows_again_takes_its_own_answers(bench: Bench) -> None:
    bench.define(CHAIN)
    bench.give(r1="hello")
    good = bench.run("good.jsonl", "good", review=0.8)
    bench.run("bad.jsonl", "bad", review=0.8)
    (before,) = bench.rows("good.jsonl")
    bench.define(CHAIN.replace("Second", "2nd"))
    bench.run("good.jsonl", "good", good, review=0.8)
    (row,) = bench.rows("good.jsonl")
    assert row["a"] == before["a"]
    assert bench.asked == [f"2nd {before['a']}"]
    (trust,) = bench.rows("good.trust.jsonl")
    assert [step["engine"] for step in trust["steps"]] == ["good", "good"]


def test_the_answers_of_another_run_bring_along_what_is_known_of_them(bench: Bench) -> None:
    bench.define(CHAIN)
    bench.give(r1="hello")
    bench.run("bad.jsonl", "bad")
    bench.run("good.jsonl", "good", reuse=True)
    assert bench.asked == []
    (trust,) = bench.rows("good.trust.jsonl")
    assert [(step["engine"], step["confidence"]) for step in trust["steps"]] == [("bad", 0.4)] * 2


def test_samples_that_differed_differ_still_when_a_later_step_has_changed(bench: Bench) -> None:
    bench.define(VOTES)
    bench.give(r1="t", r2="t", r3="other")
    first = bench.run()
    before = [row["votes"] for row in bench.rows()]
    assert len({vote for votes in before for vote in votes}) == 9
    bench.define(VOTES.replace("Total", "Sum"))
    bench.run(go_on=first)
    assert len(bench.asked) == 3
    assert [row["votes"] for row in bench.rows()] == before
    bench.run("again.jsonl", reuse=True)
    assert bench.asked == []
    assert [row["votes"] for row in bench.rows("again.jsonl")] == before


def test_samples_that_are_not_there_are_drawn(bench: Bench) -> None:
    bench.define(VOTES)
    bench.give(r1="t")
    first = bench.run()
    (row,) = bench.rows()
    bench.give(r1="t", r2="t")
    bench.run("more.jsonl", reuse=True)
    assert sorted(bench.asked)[-3:] == ["Vote on t"] * 3
    votes = [vote for row in bench.rows("more.jsonl") for vote in row["votes"]]
    assert len(set(votes)) == 6
    assert set(row["votes"]) < set(votes)
    bench.run(go_on=first)  # the first row stays, and with it its votes
    assert len(bench.rows()) == 2
    assert not set(bench.rows()[1]["votes"]) & set(row["votes"])


def test_equal_questions_at_temperature_0_share_one_answer(bench: Bench) -> None:
    bench.define(CHAIN)
    bench.give(r1="t")
    bench.run()
    bench.give(r1="t", r2="t", r3="t")
    bench.run("more.jsonl", reuse=True)
    assert bench.asked == []
    assert len({row["b"] for row in bench.rows("more.jsonl")}) == 1


def test_a_record_that_moved_keeps_what_is_known_of_its_answers(bench: Bench) -> None:
    bench.define(CHAIN)
    bench.give(r1="one", r2="UNSURE two", r3="three", r4="UNSURE four")
    first = bench.run(review=0.8)
    before = {line["key"]: line for line in bench.rows("out.trust.jsonl")}
    assert [line["key"] for line in bench.rows("out.review.jsonl")] == ["r2", "r4"]
    bench.give(r2="UNSURE two", r3="three", r4="UNSURE four")
    bench.run(go_on=first, review=0.8)
    assert bench.asked == []
    assert bench.rows("out.trust.jsonl") == [before[key] for key in ("r2", "r3", "r4")]
    assert [line["key"] for line in bench.rows("out.review.jsonl")] == ["r2", "r4"]


def test_what_is_known_of_an_answer_outlasts_two_changes(bench: Bench) -> None:
    chain = CHAIN.replace("Second", "UNSURE {{ text }}").replace(
        "outputs: {", '  c: {llm: "Third {{ b }}"}\noutputs: {c: "{{ c }}", '
    )
    bench.define(chain)
    bench.give(r1="one")
    result = bench.run(review=0.8)
    for change in ("UNSURE {{", "2nd UNSURE {{"), ("Third", "3rd"):
        chain = chain.replace(*change)
        bench.define(chain)
        result = bench.run(go_on=result, review=0.8)
        (trust,) = bench.rows("out.trust.jsonl")
        assert [step["confidence"] for step in trust["steps"]] == [0.95, 0.5, 0.95]
        assert trust["confidence"] == 0.5
        assert [line["key"] for line in bench.rows("out.review.jsonl")] == ["r1"]


def test_a_row_with_an_answer_of_which_nothing_is_known_does_not_look_sure(bench: Bench) -> None:
    bench.define(CHAIN)
    bench.give(r1="one")
    first = bench.run(review=0.8)
    with closing(sqlite3.connect(bench.folder / "j.db", isolation_level=None)) as journal:
        journal.execute("DELETE FROM events WHERE data LIKE '%Accepted%chain/a%'")
    bench.define(CHAIN.replace("Second", "2nd"))
    bench.run(go_on=first, review=0.8)
    (trust,) = bench.rows("out.trust.jsonl")
    assert [step["confidence"] for step in trust["steps"]] == [None, 0.95]
    assert trust["confidence"] is None
    (line,) = bench.rows("out.review.jsonl")
    assert line["doubtful"] == [""]
