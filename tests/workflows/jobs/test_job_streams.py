"""Jobs read ahead no more than they can hold, and end early where they are told to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from carrara.engines.errors import LoadingError, Unreachable
from carrara.engines.facts import EngineFacts
from carrara.engines.facts import Price as ToldPrice
from carrara.engines.remote.faults import error_of, placed
from carrara.engines.remote.told import Told
from carrara.engines.request import Request
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.journal.sqlite import SqliteJournal
from carrara.runtime.routing.policy import Policy, Price, Rule
from carrara.workflows.errors import InputError
from carrara.workflows.estimate import Estimate, estimate
from carrara.workflows.job import Job, JobResult, Until, find_job, run_job
from carrara.workflows.row_use import EngineUse
from carrara.workflows.rows import MOST_WAITING, Row, Rows
from carrara.workflows.run import session
from carrara.workflows.sinks.opening import sink_of
from carrara.workflows.target import load_workflow

PIPELINE = """
name: shout
inputs: {text: str}
steps:
  loud: {llm: "Shout: {{ text }}", max_tokens: 10}
outputs: {loud: "{{ loud }}"}
"""
PRICED = Policy(prices={"ar": Price(prompt=0.0, completion=100_000.0)})
"""A token of an answer costs 10 cents."""


class Desk:
    def __init__(self, folder: Path, journal: SqliteJournal) -> None:
        self.folder = folder
        self.journal = journal
        (folder / "shout.yaml").write_text(PIPELINE)

    def give(self, count: int) -> None:
        lines = (json.dumps({"id": f"r{n}", "text": f"t{n}"}) + "\n" for n in range(count))
        (self.folder / "in.jsonl").write_text("".join(lines))

    def job(self, output: str = "out.jsonl", **more: Any) -> Job:
        place = output if ":///" in output else str(self.folder / output)
        return Job(str(self.folder / "shout.yaml"), str(self.folder / "in.jsonl"), place, **more)

    def run(
        self,
        job: Job,
        reply: Callable[[Request], Any] = lambda request: request.messages[-1].content[7:].upper(),
        policy: Policy | None = None,
        kind: type[ScriptedEngine] = ScriptedEngine,
        **more: Any,
    ) -> tuple[JobResult, list[str]]:
        engine = kind("ar", reply)

        async def main() -> JobResult:
            async with session(journal=self.journal, engines={"ar": engine}, policy=policy) as kept:
                return await run_job(job, kept, **more)

        result = asyncio.run(main())
        return result, [request.messages[-1].content[7:] for request in engine.requests]

    def rows(self, name: str = "out.jsonl") -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    journal = SqliteJournal(tmp_path / "journal.db")
    yield Desk(tmp_path, journal)
    journal.close()


def test_records_are_read_as_there_is_room_for_them(desk: Desk) -> None:
    desk.give(60)
    began: list[str] = []
    most = 0
    done = 0

    async def reply(request: Request) -> str:
        nonlocal most
        began.append(request.messages[-1].content)
        await asyncio.sleep(0)
        most = max(most, len(began) - done)
        return "x"

    def seen(outcome: Any) -> None:
        nonlocal done
        done += 1

    result, _ = desk.run(desk.job(concurrency=3), reply, seen=seen)
    assert result.done == 60
    assert most <= 3


def test_rows_wait_for_the_one_before_them_only_so_many(tmp_path: Path) -> None:
    class Nothing:
        def __contains__(self, place: int, /) -> bool:
            return False

        def places(self) -> list[int]:
            return []

        def fields(self, place: int) -> dict[str, Any]:
            raise KeyError(place)

    from carrara import load_workflow

    (tmp_path / "shout.yaml").write_text(PIPELINE)
    workflow = load_workflow(str(tmp_path / "shout.yaml"))
    sink = sink_of(str(tmp_path / "o.jsonl"), workflow)
    rows = Rows(sink, Nothing())
    rows.begin(fresh=True)
    with rows:
        assert rows.has_room(MOST_WAITING - 1)
        assert not rows.has_room(MOST_WAITING)
        rows.put(Row(1, True, {}, b"1\n"))
        assert not rows.has_room(MOST_WAITING)
        rows.put(Row(0, True, {}, b"0\n"))
        assert rows.has_room(MOST_WAITING + 1)
    assert (tmp_path / "o.jsonl").read_text() == "0\n1\n"


def test_a_spent_budget_ends_the_job_and_leaves_its_records_open(desk: Desk) -> None:
    desk.give(6)
    job = desk.job(concurrency=1)
    until = Until(cost=2.5)  # an answer may cost a dollar and costs one token, ten cents
    first, asked = desk.run(job, lambda request: "x " * 9, PRICED, until=until)
    assert 0 < first.done < 6
    assert (first.failed, first.left_open) == (0, 1)
    assert "budget" in first.stopped
    run = desk.journal.find(first.run_id)
    assert (run.status, run.error) == ("interrupted", first.stopped)
    assert len(asked) == first.done
    assert not (desk.folder / "out.failed.jsonl").exists()
    second, again = desk.run(job, policy=PRICED, run_id=find_job(job, desk.journal))
    assert (second.done, second.stopped, second.left_open) == (6, "", 0)
    assert len(again) == 6 - first.done
    assert [row["key"] for row in desk.rows()] == [f"r{n}" for n in range(6)]


GONE = "engine 'ar': no connection to http://ar. Is the server running?"


@pytest.mark.parametrize("answers", [0, 5])
def test_an_engine_that_is_gone_ends_the_job_and_leaves_its_records_open(
    desk: Desk, answers: int
) -> None:
    desk.give(200)
    job = desk.job(concurrency=4)
    left = iter(range(answers))

    def reply(_: Request) -> Any:
        return "yes" if next(left, None) is not None else placed(Unreachable(GONE), "ar", "connect")

    quick = Policy(rules=(Rule(("ar",)),), break_s=0.01)
    first, asked = desk.run(job, reply, quick)
    assert (first.done, first.failed) == (answers, 0)
    assert GONE in first.stopped
    assert "--engine" in first.stopped
    assert len(asked) < answers + 20
    assert not (desk.folder / "out.failed.jsonl").exists()
    second, again = desk.run(job, run_id=first.run_id)
    assert (second.done, second.failed, second.stopped) == (200, 0, "")
    assert len(again) == 200 - answers


def test_a_wait_longer_than_a_call_waits_ends_the_job_and_leaves_its_records_open(
    desk: Desk,
) -> None:
    desk.give(50)
    job = desk.job(concurrency=4)
    busy = error_of(Told(429, "slow down", retry_after_s=1000.0), "ar", "http://ar")
    left = iter(range(5))

    def reply(_: Request) -> Any:
        return "yes" if next(left, None) is not None else busy

    first, asked = desk.run(job, reply)
    assert (first.done, first.failed) == (5, 0)
    assert "slow down. It asks for a wait of 1,000 s." in first.stopped
    assert len(asked) < 20
    second, _ = desk.run(job, run_id=first.run_id)
    assert (second.done, second.failed, second.stopped) == (50, 0, "")


def test_a_server_that_comes_back_costs_no_record(desk: Desk) -> None:
    desk.give(40)
    number = 0

    def reply(_: Request) -> Any:
        nonlocal number
        number += 1
        return placed(Unreachable(GONE), "ar", "connect") if 10 < number < 15 else "yes"

    found, _ = desk.run(desk.job(concurrency=4), reply, Policy(rules=(Rule(("ar",)),), break_s=1.0))
    assert (found.done, found.failed, found.stopped) == (40, 0, "")


def test_an_engine_that_cannot_be_opened_ends_the_job(desk: Desk) -> None:
    class Keyless(ScriptedEngine):
        async def _begin(self) -> None:
            raise LoadingError("engine 'ar' needs a key")

    desk.give(50)
    first, _ = desk.run(desk.job(), kind=Keyless)
    assert (first.done, first.failed) == (0, 0)
    assert "no engine can be opened: engine 'ar' needs a key" in first.stopped
    second, _ = desk.run(desk.job(), run_id=first.run_id)
    assert second.done == 50


def test_a_budget_needs_prices(desk: Desk) -> None:
    desk.give(1)
    with pytest.raises(InputError, match="no engine has a price"):
        desk.run(desk.job(), until=Until(cost=1.0))


class Dear(ScriptedEngine):
    """An engine that tells what its tokens cost, as remote ones do."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.facts = EngineFacts(price=ToldPrice(output=100_000.0))


def test_a_budget_counts_the_prices_that_engines_tell_themselves(desk: Desk) -> None:
    desk.give(6)
    job = desk.job(concurrency=1)
    first, asked = desk.run(job, lambda _: "x " * 9, until=Until(cost=2.5), kind=Dear)
    assert 0 < first.done < 6
    assert "budget" in first.stopped
    assert len(asked) == first.done


@pytest.mark.parametrize(("engines", "costs"), [(["openai"], True), (["ar"], False)])
def test_engines_that_are_named_have_the_prices_of_their_presets(
    desk: Desk, engines: list[str], costs: bool
) -> None:
    async def main() -> bool:
        async with session(engines=engines) as kept:
            return kept.any_costs(load_workflow(str(desk.folder / "shout.yaml")))

    assert asyncio.run(main()) is costs


@pytest.mark.parametrize(
    ("cost", "told"),
    [
        (0.0, "$0.00"),
        (0.000123, "$0.00012"),
        (0.0456, "$0.046"),
        (0.12, "$0.12"),
        (1234.5, "$1,234.50"),
    ],
)
def test_a_small_cost_is_told_with_two_digits(cost: float, told: str) -> None:
    lines = Estimate(1, 0, 1, 1, cost=cost, engines={"ar": EngineUse()}).lines()
    assert lines[-1] == f"cost: about {told} by the prices that are known"
    assert not any("cost" in line for line in Estimate(1, 0, 1, 1).lines())


def test_no_record_begins_after_the_deadline(desk: Desk) -> None:
    desk.give(10)
    now = 0.0

    def reply(request: Request) -> str:
        nonlocal now
        now += 1.0
        return "x"

    until = Until(deadline_s=4.0)
    first, asked = desk.run(desk.job(concurrency=1), reply, until=until, clock=lambda: now)
    assert len(asked) == first.done == 4
    assert first.stopped == "the deadline of 4 s has passed"
    second, _ = desk.run(desk.job(), run_id=first.run_id)
    assert (second.done, second.reused) == (10, 4)


def test_a_dry_run_counts_and_runs_a_sample_only(desk: Desk) -> None:
    desk.give(9)
    with (desk.folder / "in.jsonl").open("a") as lines:
        lines.write('{"other": 1}\n')
    engine = ScriptedEngine("ar", lambda request: "x")

    async def main(count: int) -> Any:
        async with session(engines={"ar": engine}, policy=PRICED) as kept:
            return await estimate(desk.job(), kept, count)

    found = asyncio.run(main(3))
    assert (found.records, found.broken, found.sampled, found.failed) == (10, 1, 3, 0)
    assert len(engine.requests) == 3
    assert found.engines["ar"].calls == 3
    assert found.cost > 0
    assert "about 9 calls" in "\n".join(found.lines())
    only = asyncio.run(main(0))
    assert (only.records, only.sampled, len(engine.requests)) == (10, 0, 3)
    assert only.tokens == 18 // 4
    assert not (desk.folder / "out.jsonl").exists()


@pytest.mark.parametrize(
    "more",
    [{"key": "text"}, {"where": "id != 'r1'"}, {"shard": "1/2"}, {"sample": 2}, {"seed": 1}],
)
def test_another_choice_of_records_is_another_job(desk: Desk, more: dict[str, Any]) -> None:
    desk.give(3)
    result, _ = desk.run(desk.job())
    assert find_job(desk.job(), desk.journal) == result.run_id
    assert find_job(desk.job(**more), desk.journal) is None


def test_a_chosen_part_goes_on_as_it_began(desk: Desk) -> None:
    desk.give(12)
    job = desk.job(where="id != 'r3'", shard="1/2", sample=4, seed=7)

    def reply(request: Request) -> str:
        if request.messages[-1].content.endswith(bad):
            raise RuntimeError("no")
        return "x"

    bad = "?"
    whole, asked = desk.run(
        desk.job("whole.jsonl", where=job.where, shard=job.shard, sample=4, seed=7)
    )
    bad = asked[1]
    first, _ = desk.run(job, reply)
    assert (first.done, first.failed) == (3, 1)
    second, again = desk.run(job, run_id=first.run_id)
    assert again == [bad]
    assert [row["key"] for row in desk.rows()] == [row["key"] for row in desk.rows("whole.jsonl")]
    assert whole.done == second.done == 4


def test_a_row_that_its_sink_cannot_hold_is_a_failed_record(desk: Desk) -> None:
    desk.give(2)
    place = f"sqlite:///{desk.folder}/rows.db#rows"

    def reply(request: Request) -> str:
        return "\ud800" if request.messages[-1].content.endswith("t0") else "good"

    result, _ = desk.run(desk.job(place), reply)
    assert (result.done, result.failed) == (1, 1)
    (failed,) = desk.rows("rows.db.rows.failed.jsonl")
    assert "the result cannot be written: loud is no text that UTF-8 can hold" in failed["error"]


def test_outputs_of_one_stem_have_each_their_own_files_beside_them(desk: Desk) -> None:
    desk.give(1)
    database = f"sqlite:///{desk.folder}"
    outputs = [
        "o.jsonl",
        "o.ndjson",
        "o.csv",
        "o.parquet",
        f"{database}/o.db#o",
        f"{database}/o.sqlite#o",
    ]

    def fail(request: Request) -> str:
        raise RuntimeError("no")

    ended = [desk.run(desk.job(output), fail)[0] for output in outputs]
    places = [each.failed_output for each in ended]
    assert len(set(places)) == len(outputs)
    assert places[0] == desk.folder / "o.failed.jsonl"
    for each, output in zip(ended, outputs, strict=True):
        assert desk.run(desk.job(output, trust=True), run_id=each.run_id)[0].done == 1
    assert sorted(path.name for path in desk.folder.glob("*.jsonl")) == [
        "in.jsonl",
        "o.csv.trust.jsonl",
        "o.db.o.trust.jsonl",
        "o.jsonl",
        "o.ndjson.trust.jsonl",
        "o.parquet.trust.jsonl",
        "o.sqlite.o.trust.jsonl",
        "o.trust.jsonl",
    ]
