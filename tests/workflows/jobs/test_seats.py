"""A job keeps the seats of its engines taken while there are records to begin, and tells how full they were."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from carrara.engines.facts import EngineFacts
from carrara.engines.occupancy import Occupancy
from carrara.engines.request import Completion, Request, Watch
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime import events
from carrara.runtime.cassette import Cassette
from carrara.runtime.journal.reading import Reader
from carrara.runtime.limits import EngineLimits
from carrara.runtime.report import report
from carrara.runtime.report_view import remarks
from carrara.workflows.estimate import Estimate, estimate
from carrara.workflows.job import Job, JobResult, run_job
from carrara.workflows.run import session
from carrara.workflows.seats import AHEAD, FEWEST, MOST, Seats

PIPELINE = """
name: shout
inputs: {text: str}
steps:
  loud: {llm: "Shout: {{ text }}"}
outputs: {loud: "{{ loud }}"}
"""


class Batching(ScriptedEngine):
    """Answers when asked; each answer is a round, in which as many of its seats are taken as there are requests."""

    def __init__(self, seats: int) -> None:
        super().__init__("ar", self._loud, facts=EngineFacts(seats=seats))

    def count(self, taken: int) -> None:
        """One more round."""
        told = self.facts
        counted = told.occupancy + Occupancy(1, told.seats, taken, taken)
        self.facts = replace(told, occupancy=counted)

    async def _loud(self, request: Request) -> str:
        await asyncio.sleep(0)
        return request.messages[-1].content.upper()

    async def complete(self, request: Request, watch: Watch | None = None) -> Completion:
        found = await super().complete(request, watch)
        self.count(min(self.facts.seats, self.in_flight + 1))
        return found


def job_in(folder: Path, count: int, **more: Any) -> Job:
    (folder / "shout.yaml").write_text(PIPELINE)
    lines = [json.dumps({"id": f"r{number}", "text": f"t{number}"}) for number in range(count)]
    (folder / "in.jsonl").write_text("\n".join(lines))
    places = (str(folder / name) for name in ("shout.yaml", "in.jsonl", "out.jsonl"))
    return Job(*places, **more)


def run(folder: Path, count: int, engine: ScriptedEngine, **more: Any) -> JobResult:
    job = job_in(folder, count, **more)

    async def work() -> JobResult:
        async with session(journal=folder / "j.db", engines={"ar": engine}) as kept:
            return await run_job(job, kept)

    return asyncio.run(work())


@pytest.mark.parametrize(("seats", "under_way"), [(4, FEWEST), (50, 50 * AHEAD), (1000, MOST)])
def test_by_default_there_are_records_enough_for_all_seats(
    tmp_path: Path, seats: int, under_way: int
) -> None:
    engine = Batching(seats)
    run(tmp_path, 600, engine)
    assert engine.most_in_flight == under_way


def test_a_job_may_say_how_many_records_are_under_way(tmp_path: Path) -> None:
    engine = Batching(50)
    run(tmp_path, 100, engine, concurrency=3)
    assert engine.most_in_flight == 3


def test_what_engines_do_after_the_last_record_was_begun_does_not_count(tmp_path: Path) -> None:
    engine = Batching(8)
    result = run(tmp_path, 100, engine)
    assert 0 < result.occupancy["ar"].rounds < 100
    assert engine.facts.occupancy.rounds == 100


def test_the_report_tells_how_full_the_engines_were(tmp_path: Path) -> None:
    result = run(tmp_path, 100, Batching(8))
    counted = result.occupancy["ar"]
    with Reader.open(tmp_path / "j.db") as reader:
        told = report(reader.timeline(result.run_id))
    assert told.occupancy == {"ar": counted}
    assert told.to_data()["occupancy"]["ar"]["rounds"] == counted.rounds
    assert f"occupancy: ar: {counted.line}, while there were records to begin" in remarks(told)


def test_an_engine_that_counts_no_seats_is_not_told_of(tmp_path: Path) -> None:
    result = run(tmp_path, 3, ScriptedEngine("ar", lambda request: "loud"))
    assert result.occupancy == {}


def test_openings_of_a_job_are_counted_together() -> None:
    told = [
        events.EngineFilled("r", 1.0, "ar", 2, 32, 16, 8),
        events.EngineFilled("r", 2.0, "ar", 2, 32, 32, 8),
    ]
    found = report(told).occupancy["ar"]
    assert found == Occupancy(4, 64, 48, 16)
    assert found.share == 0.75


def test_a_recorded_engine_counts_as_the_one_behind_it(tmp_path: Path) -> None:
    engine = Batching(50)
    engine.count(50)
    with Cassette.recording(tmp_path / "tape.jsonl") as cassette:
        recorded = cassette.record({"ar": engine})
        seats = Seats(recorded)
        assert seats.enough() == 100
        engine.count(10)
        assert seats.occupancy == {"ar": Occupancy(1, 50, 10, 10)}


def test_an_occupancy_in_words() -> None:
    assert Occupancy(3, 48, 36, 12).line == "75% of 16 seats taken over 3 rounds, 25% denoised"
    assert Occupancy().line == "no round yet"
    assert Occupancy().share is None


def test_a_source_is_counted_to_its_end_and_no_further() -> None:
    engine = Batching(4)
    seats = Seats({"ar": engine})

    def records() -> Iterator[int]:
        for number in range(3):
            engine.count(4)
            yield number

    assert list(seats.until_the_end(records())) == [0, 1, 2]
    engine.count(1)
    assert seats.occupancy["ar"] == Occupancy(3, 12, 12, 12)


@pytest.mark.parametrize(
    ("count", "limit", "told"),
    [
        (9, {}, "if 3 at once"),
        (9, {"limits": {"ar": EngineLimits(concurrency=2)}}, "if 2 at once"),
        (1, {}, "if 1 at once"),
    ],
)
def test_an_estimate_counts_no_more_records_at_once_than_engines_take(
    tmp_path: Path, count: int, limit: dict[str, Any], told: str
) -> None:
    job = job_in(tmp_path, count)

    async def work() -> Estimate:
        async with session(engines={"ar": Batching(3)}, **limit) as kept:
            return await estimate(job, kept, 1)

    assert told in "\n".join(asyncio.run(work()).lines())


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.29, "290 ms"), (0.0051, "5 ms"), (30.0, "30.0 s"), (150, "2 min 30 s")]
)
def test_short_times_are_no_0_s(seconds: float, told: str) -> None:
    lines = Estimate(3, 0, 1, 1, seconds=seconds, concurrency=10).lines()
    assert f": {told} each; all of them take {told} if 3 at once" in lines[-1]
