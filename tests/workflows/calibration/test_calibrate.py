"""`calibrate` from labelled rows to a policy that, on other rows, does what it says."""

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from carrara.engines.errors import CarraraError, ContextOverflow, EngineFailed
from carrara.engines.request import Completion, Confidence, Request
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.routing.accept import Accept
from carrara.workflows.calibration.broken import EngineDown
from carrara.workflows.calibration.calibrate import Calibrated, calibrate, policy_for
from carrara.workflows.calibration.fit import Point, Target
from carrara.workflows.calibration.plot import draw
from carrara.workflows.records import SourceError
from carrara.workflows.session import Session
from carrara.workflows.yaml.load import loads
from carrara.workflows.yaml.policy import load_policy, policy_text

PIPELINE = """
name: parity
inputs: {number: int}
policy: {break_s: 0.001}  # an engine that broke is asked again at once
steps:
  answer:
    llm: "Is {{ number }} even?"
    returns: {one_of: ["even", "odd"]}
"""


def truth(request: Request) -> tuple[int, str]:
    number = int(request.messages[-1].content.split()[1])
    return number, "even" if number % 2 == 0 else "odd"


def unsure(request: Request) -> Completion:
    """Right as often as it says."""
    number, right = truth(request)
    draw = random.Random(number)
    sure = draw.uniform(0.3, 1.0)
    text = right if draw.random() < sure else ("odd" if right == "even" else "even")
    return Completion(text, confidence=Confidence(sure, {"": sure}))


async def slowly_right(request: Request) -> str:
    await asyncio.sleep(0.004)  # much longer than a scripted answer takes
    return truth(request)[1]


def rows(path: Path, count: int) -> Path:
    lines = [
        {"id": str(n), "number": n, "gold": "even" if n % 2 == 0 else "odd"} for n in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def breaking(answer: Any, breaks: Callable[[int], bool]) -> Any:
    """An engine that drops the connection on some rows."""

    async def reply(request: Request) -> Any:
        if breaks(truth(request)[0]):
            raise EngineFailed("http://far/v1 closed the connection", engine="diffusion")
        found = answer(request)
        return await found if asyncio.iscoroutine(found) else found

    return reply


def calibrated(
    data: Path, target: Target, first: Any = unsure, last: Any = slowly_right, **more: Any
) -> Calibrated:
    workflow = loads(PIPELINE).workflow
    engines = {
        "diffusion": ScriptedEngine("diffusion", first, can=["choice"]),
        "ar": ScriptedEngine("ar", last, can=["choice"]),
    }

    async def work() -> Calibrated:
        async with Session(engines=engines) as session:
            return await calibrate(
                workflow, str(data), session, target, engines=["diffusion", "ar"], **more
            )

    return asyncio.run(work())


def test_a_policy_is_fitted_tried_and_written(tmp_path: Path) -> None:
    found = calibrated(rows(tmp_path / "rows.jsonl", 200), Target("accuracy", 0.9, 0.3))
    assert found.reached
    assert found.fitted_rows == 120
    assert 0.3 <= found.chosen.coverage < 1
    trial = found.trial
    assert trial is not None
    assert trial.rows == 80
    assert trial.low <= trial.value <= trial.high
    assert trial.high >= 0.9
    assert trial.coverage == pytest.approx(found.chosen.coverage, abs=0.2)
    place = tmp_path / "policy.yaml"
    place.write_text(policy_text(found.policy, "fitted\nto rows"))
    assert load_policy(place) == found.policy
    assert place.read_text().startswith("# fitted\n# to rows\npolicy:\n")
    picture = draw(found, tmp_path / "frontier.png")
    assert picture is not None
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_too_few_rows_and_one_engine_are_refused(tmp_path: Path) -> None:
    data = rows(tmp_path / "rows.jsonl", 25)
    with pytest.raises(SourceError, match="25 rows leave 15 to fit thresholds on"):
        calibrated(data, Target("accuracy", 0.9))

    async def alone() -> None:
        async with Session(engines={}) as session:
            await calibrate(
                loads(PIPELINE).workflow,
                str(data),
                session,
                Target("accuracy", 0.9),
                engines=["ar", "ar"],
            )

    with pytest.raises(CarraraError, match="at least two engines"):
        asyncio.run(alone())


def test_rows_that_no_engine_can_be_asked_about_end_the_calibration(tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(f'{{"id": "{n}", "n": {n}, "gold": "odd"}}\n' for n in range(60)))
    told = "no field 'number' for the input 'number'; its fields are: id, n, gold. Give another the name 'number'"
    with pytest.raises(SourceError, match=told):
        calibrated(data, Target("accuracy", 0.9))


def test_gold_of_another_shape_than_the_answer_ends_the_calibration(tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    line = '{{"id": "{0}", "number": {0}, "gold": {{"answer": "odd"}}}}\n'
    data.write_text("".join(line.format(n) for n in range(60)))
    with pytest.raises(SourceError, match="gold is an object with the keys answer"):
        calibrated(data, Target("accuracy", 0.9))


def test_calls_that_broke_are_told_and_left_out_of_the_fit(tmp_path: Path) -> None:
    data = rows(tmp_path / "rows.jsonl", 200)
    whole = calibrated(data, Target("accuracy", None))
    broken = calibrated(
        data,
        Target("accuracy", None),
        last=breaking(slowly_right, lambda number: number % 10 == 0),
    )
    assert broken.fitted_rows + broken.left_out.rows == whole.fitted_rows == 120
    assert broken.left_out.engines == {"ar": broken.left_out.rows}
    assert broken.left_out.told == (
        f"{broken.left_out.rows} of 120 rows left out, their calls broke: "
        f"ar {broken.left_out.rows} (EngineFailed: http://far/v1 closed the connection)"
    )
    [last] = [point for point in broken.single if point.engines == ("ar",)]
    assert last.value == 1.0  # each row that it answered is right
    assert broken.trial is not None
    assert broken.trial.rows + broken.trial.left_out.rows == 80


def test_a_refusal_of_one_prompt_is_an_answer_that_is_wrong(tmp_path: Path) -> None:
    def short(request: Request) -> str:
        if truth(request)[0] >= 100:
            raise ContextOverflow("too long for me", engine="diffusion")
        return truth(request)[1]

    found = calibrated(rows(tmp_path / "rows.jsonl", 200), Target("accuracy", 0.9), first=short)
    assert found.left_out.rows == 0
    [first] = [point for point in found.single if point.engines == ("diffusion",)]
    assert 0.3 < first.value < 0.7


def test_too_many_broken_calls_for_a_fit_are_an_error_that_says_so(tmp_path: Path) -> None:
    data = rows(tmp_path / "rows.jsonl", 50)
    often = breaking(unsure, lambda number: number % 2 == 0)
    wanted = r"of 30 rows left out, .* diffusion \d+ \(.*at least 20 are needed"
    with pytest.raises(EngineDown, match=wanted):
        calibrated(data, Target("accuracy", 0.9), first=often, concurrency=16)


def test_an_engine_that_is_gone_ends_the_calibration_at_once(tmp_path: Path) -> None:
    asked: list[int] = []

    def gone(number: int) -> bool:
        asked.append(number)
        return True

    data = rows(tmp_path / "rows.jsonl", 200)
    with pytest.raises(EngineDown, match=r"'diffusion' broke on 3 rows in a row.*closed the conn"):
        calibrated(data, Target("accuracy", 0.9), first=breaking(unsure, gone))
    assert len(set(asked)) == 3


def test_a_hedge_stays_where_there_is_somebody_to_start() -> None:
    workflow = loads(PIPELINE.replace("policy: {", "policy: {hedge: {share: 0.9}, ")).workflow
    for engines, stays in ((("ar",), False), (("openai",), True), (("diffusion", "ar"), True)):
        policy = policy_for(Point(engines, 1.0, 1.0, 1.0, 0.0), workflow)
        assert (policy.hedge is not None) == stays


def test_thresholds_are_for_the_answers_of_the_engine_that_they_were_fitted_on(
    tmp_path: Path,
) -> None:
    found = calibrated(rows(tmp_path / "rows.jsonl", 200), Target("accuracy", 0.9, 0.3))
    fitted = found.chosen.thresholds["answer"]
    assert found.policy.accepts("choice", "parity/answer", "diffusion").overall == fitted
    others = found.policy.accepts("choice", "parity/answer", "ar")
    assert (others.overall, others.field) == (Accept().overall, Accept().field)
    written = YAML(typ="safe").load(policy_text(found.policy))["policy"]
    assert written["steps"] == {
        "answer": {"engines": {"diffusion": {"overall": fitted, "field": 0.0}}}
    }
    assert "accept" not in written  # as in the default policy
