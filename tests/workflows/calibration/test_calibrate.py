"""`calibrate` from labelled rows to a policy that, on other rows, does what it says."""

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from ruamel.yaml import YAML

from carrara import llm, workflow
from carrara.engines.engine import Ability
from carrara.engines.errors import CarraraError, ContextOverflow, EngineFailed
from carrara.engines.request import Completion, Confidence, Request
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.routing.accept import Accept
from carrara.runtime.routing.policy import Policy
from carrara.workflows.calibration.broken import EngineDown
from carrara.workflows.calibration.calibrate import (
    Calibrated,
    Trial,
    calibrate,
    fitted,
    policy_for,
)
from carrara.workflows.calibration.fit import Point, Target
from carrara.workflows.calibration.plot import draw
from carrara.workflows.evaluate import evaluate_records
from carrara.workflows.labelled import labelled
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
    await asyncio.sleep(0.02)  # much longer than a scripted answer takes
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
    data: Path,
    target: Target,
    first: Any = unsure,
    last: Any = slowly_right,
    task: Any = None,
    **more: Any,
) -> Calibrated:
    asked = loads(PIPELINE).workflow if task is None else task
    engines = {
        "diffusion": ScriptedEngine("diffusion", first, can=["choice"]),
        "ar": ScriptedEngine("ar", last, can=["choice"]),
    }

    async def work() -> Calibrated:
        async with Session(engines=engines) as session:
            return await calibrate(
                asked, str(data), session, target, engines=["diffusion", "ar"], **more
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


@pytest.mark.parametrize(
    ("value", "short"), [(0.8, False), (0.9, False), (0.91, True), (None, False)]
)
def test_a_target_above_the_interval_of_the_trial_is_told(value: float | None, short: bool) -> None:
    point = Point(("ar",), 0.95, 0.0, 1.0, 0.0)
    trial = Trial(40, 0.8, 0.7, 0.9, 0.0, 1.0)
    found = Calibrated(Policy(), Target("accuracy", value), point, True, (), (), 60, trial)
    assert found.falls_short is short
    assert not replace(found, trial=None).falls_short
    assert not replace(found, trial=replace(trial, rows=0)).falls_short


@pytest.mark.parametrize(
    ("value", "low", "reached", "few"),
    [
        (0.9, 0.88, True, False),
        (0.9, 0.87, True, True),
        (0.9, 0.87, False, False),
        (None, 0.5, True, False),
    ],
)
def test_rows_that_are_too_few_to_tell_are_told(
    value: float | None, low: float, reached: bool, few: bool
) -> None:
    point = Point(("ar",), 0.92, 0.0, 1.0, 0.0, low=low)
    found = Calibrated(Policy(), Target("accuracy", value), point, reached, (), (), 60, None)
    assert found.rows_wanted == (94 if few else None)


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


def test_a_step_that_names_its_own_engine_is_not_calibrated(tmp_path: Path) -> None:
    pinned = RECORD.replace("d: str}}", "d: str}, engine: ar}")

    def never(request: Request) -> Completion:
        raise AssertionError("nobody is asked")

    with pytest.raises(CarraraError, match="step 'rec' asks the engine 'ar' whatever a policy"):
        fitted_to(
            pinned, tmp_path / "rows.jsonl", whole_record, never, never, Target("accuracy", 0.9)
        )


def test_a_python_step_that_names_its_own_engine_is_told(tmp_path: Path) -> None:
    @llm(engine="ar")
    def answer(number: int) -> Literal["even", "odd"]:
        """Is {{ number }} even?"""

    @workflow
    async def parity(number: int) -> str:
        return await answer(number)

    lines: list[str] = []
    calibrated(
        rows(tmp_path / "rows.jsonl", 60),
        Target("accuracy", 0.5),
        task=parity,
        tell=lines.append,
    )
    assert [line for line in lines if line.startswith("note")] == [
        "note: step 'answer' asks the engine 'ar' whatever a policy says, so there is nothing to calibrate"
    ]


def test_gold_outside_the_options_of_a_choice_ends_the_calibration(tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    line = '{{"id": "{0}", "number": {0}, "gold": "{1}"}}\n'
    data.write_text("".join(line.format(n, "perhaps" if n == 9 else "ODD ") for n in range(60)))
    told = "gold is 'perhaps', and the answer is one of even, odd: give gold as one of these"
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
    asked = loads(PIPELINE.replace("policy: {", "policy: {hedge: {share: 0.9}, ")).workflow
    for engines, stays in ((("ar",), False), (("openai",), True), (("diffusion", "ar"), True)):
        policy = policy_for(Point(engines, 1.0, 1.0, 1.0, 0.0), asked)
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


RECORD = """
inputs: {text: str}
steps:
  rec: {llm: "Extract {{ text }}", returns: {a: str, b: str, c: str, d: str}}
"""
MIXED = (
    RECORD
    + """
policy: {mixed: true}
"""
)
TWO_CHOICES = """
inputs: {text: str}
steps:
  a: {llm: "A? {{ text }}", returns: {one_of: [x, y]}}
  b: {llm: "B? {{ text }}", returns: {one_of: [x, y]}}
outputs: {a: "{{ a }}", b: "{{ b }}"}
"""
KIND_AND_RECORD = """
inputs: {text: str}
steps:
  kind: {llm: "Which kind? {{ text }}", returns: {one_of: [letter, bill]}}
  rec: {llm: "Extract {{ text }} {{ kind }}", returns: {a: str, b: str, c: str, d: str}}
outputs: {answer: "{{ rec }}"}
"""


def number_of(request: Request) -> int:
    return int(request.messages[-1].content.split("row")[1][:3])


def told(value: Any, sure: float, fields: dict[str, float] | None = None) -> Completion:
    text = value if isinstance(value, str) else json.dumps(value)
    return Completion(text, value, Confidence(sure, fields or {}))


def fitted_to(
    pipeline: str, data: Path, gold: Callable[[int], Any], first: Any, right: Any, target: Target
) -> Calibrated:
    """`right` is answered by the second engine."""
    lines = [{"id": str(n), "text": f"row{n:03d}", "gold": gold(n)} for n in range(100)]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))

    async def last(request: Request) -> Completion:
        await asyncio.sleep(0.02)
        return told(right(request), 0.9)

    async def work() -> Calibrated:
        can: list[Ability] = ["choice", "schema"]
        engines = {
            "diffusion": ScriptedEngine("diffusion", first, can=can),
            "ar": ScriptedEngine("ar", last, can=can),
        }
        asked = loads(pipeline).workflow
        async with Session(engines=engines) as session:
            return await calibrate(
                asked, str(data), session, target, engines=["diffusion", "ar"], concurrency=8
            )

    return asyncio.run(work())


def record_of(request: Request) -> Any:
    if request.output.kind == "choice":
        return "bill"
    names = request.output.schema["properties"]  # type: ignore[union-attr]
    return {name: f"{name}{number_of(request)}" for name in names}


def whole_record(number: int) -> dict[str, str]:
    return {name: f"{name}{number}" for name in "abcd"}


def same_on_other_rows(found: Calibrated) -> None:
    assert found.trial is not None
    assert found.trial.low - 0.05 <= found.chosen.value <= found.trial.high + 0.05


def in_doubt_of_a(wrong: str) -> Callable[[Request], Completion]:
    """Answers of which every other one is unsure of its field `a`, and wrong in this one."""

    def answer(request: Request) -> Completion:
        number = number_of(request)
        value, fields = whole_record(number), {f"/{name}": 0.95 for name in "abcd"}
        if number % 2:
            value[wrong], fields["/a"] = "wrong", 0.4
        return told(value, 0.4 if number % 2 else 0.95, fields)

    return answer


def test_the_table_knows_that_sure_fields_stay_in_a_mixed_answer(tmp_path: Path) -> None:
    target = Target("accuracy", 0.95)
    found = fitted_to(
        MIXED, tmp_path / "rows.jsonl", whole_record, in_doubt_of_a("b"), record_of, target
    )
    assert max(p.value for p in found.points if p.coverage > 0) < 0.6
    assert found.chosen.engines == ("ar",)
    same_on_other_rows(found)


def test_the_last_engine_gives_whole_answers_as_it_was_asked_for_on_the_rows(
    tmp_path: Path,
) -> None:
    def last(request: Request) -> object:  # it knows whole records alone
        found = record_of(request)
        return found if len(found) == 4 else dict.fromkeys(found, "lost")

    target = Target("accuracy", 0.95, 0.4)
    found = fitted_to(
        RECORD, tmp_path / "rows.jsonl", whole_record, in_doubt_of_a("a"), last, target
    )
    assert found.reached
    assert found.chosen.engines == ("diffusion", "ar")
    assert not found.policy.mixed
    same_on_other_rows(found)


def test_the_table_knows_that_each_step_goes_on_to_the_last_engine_by_itself(
    tmp_path: Path,
) -> None:
    def first(request: Request) -> Completion:
        if number_of(request) % 2 == 0:
            return told("x", 0.9)
        return told("y", 0.9) if request.messages[-1].content.startswith("A") else told("x", 0.3)

    target = Target("accuracy", 0.95)
    found = fitted_to(
        TWO_CHOICES,
        tmp_path / "rows.jsonl",
        lambda number: {"a": "x", "b": "x"},
        first,
        lambda request: "x",
        target,
    )
    assert max(p.value for p in found.points if p.coverage > 0) < 0.6
    assert not any(point.guessed for point in found.points)
    assert found.chosen.engines == ("ar",)
    same_on_other_rows(found)


def test_fields_get_thresholds_in_a_workflow_of_two_steps(tmp_path: Path) -> None:
    def first(request: Request) -> Completion:
        number = number_of(request)
        if request.output.kind == "choice":
            return told("bill", 0.99)
        value, fields = whole_record(number), {f"/{name}": 0.95 for name in "abcd"}
        fields["/a"] = 0.6 + (number % 10) / 100
        if number % 2:
            value["a"], fields["/a"] = "wrong", 0.4 + (number % 10) / 1000
        return told(value, 0.9, fields)

    target = Target("accuracy", 0.95, 0.4)
    found = fitted_to(
        KIND_AND_RECORD, tmp_path / "rows.jsonl", whole_record, first, record_of, target
    )
    assert found.reached
    accept = found.policy.accepts("json", "x/rec", "diffusion")
    assert 0.41 <= accept.fields["/a"] <= 0.6
    assert found.policy.accepts("choice", "x/kind", "diffusion").fields == {}
    same_on_other_rows(found)


def test_what_a_step_answers_to_a_prompt_that_it_was_not_shown_is_called_a_guess(
    tmp_path: Path,
) -> None:
    def first(request: Request) -> Completion:
        number = number_of(request)
        if request.output.kind == "choice":
            return told("letter" if number % 2 else "bill", 0.3 if number % 2 else 0.9)
        return told(whole_record(number), 0.9)

    target = Target("accuracy", 0.95, 0.4)
    found = fitted_to(
        KIND_AND_RECORD, tmp_path / "rows.jsonl", whole_record, first, record_of, target
    )
    guessed = {point.guessed for point in found.points if point.thresholds["kind"] <= 0.3}
    assert guessed == {0.0}
    doubting = [p.guessed for p in found.points if 0.3 < p.thresholds["kind"] <= 0.9]
    assert doubting
    assert all(0.4 < share < 0.6 for share in doubting)


TWO_RECORDS = """
inputs: {text: str}
steps:
  one: {llm: "One: {{ text }}", returns: {a: str, b: str, c: str, d: str}}
  two: {llm: "Two: {{ text }}", returns: {a: str, b: str, c: str, d: str}}
outputs: {one: "{{ one }}", two: "{{ two }}"}
"""


@pytest.mark.parametrize("policy", ["", "policy: {max_attempts: 1}"])
def test_a_policy_does_to_the_rows_it_was_fitted_on_what_the_table_says(
    tmp_path: Path, policy: str
) -> None:
    data = tmp_path / "rows.jsonl"
    lines = [
        {
            "id": str(n),
            "text": f"row{n:03d}",
            "gold": {"one": whole_record(n), "two": whole_record(n)},
        }
        for n in range(40)
    ]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def first(request: Request) -> Completion:
        number = number_of(request)
        drawn = random.Random(f"{number} {request.messages[-1].content[:3]}")
        value, fields = whole_record(number), {}
        for name in value:
            fields[f"/{name}"] = sure = round(drawn.random(), 3)
            value[name] = value[name] if drawn.random() < 0.3 + 0.7 * sure else "wrong"
        if number % 10 == 7:
            return Completion("I do not know.", confidence=Confidence(0.9))
        return told(value, sum(fields.values()) / 4, fields)

    def steady(request: Request) -> Completion:
        """It gives the same fields when it is asked for some of them."""
        full = {name: f"{name}{number_of(request)}" for name in "abcd"}
        drawn = random.Random(number_of(request))
        full = {name: part if drawn.random() < 0.8 else "bad" for name, part in full.items()}
        return told({name: full[name] for name in record_of(request)}, 0.5)

    can: list[Ability] = ["choice", "schema"]
    asked = loads(TWO_RECORDS + policy).workflow

    async def work() -> None:
        engines = {
            "diffusion": ScriptedEngine("diffusion", first, can=can),
            "ar": ScriptedEngine("ar", steady, can=can),
        }
        async with Session(engines=engines) as session:
            alone = {
                name: await evaluate_records(asked, labelled(str(data)), session, engine=name)
                for name in engines
            }
            made = fitted(asked, alone, Target("f1", 0.9))
            points = [*made.points[::9], next(p for p in made.points if p.fields)]
            assert any(point.fields for point in points)
            for point in points:
                assert not point.guessed
                written = policy_for(point, asked)
                found = await evaluate_records(asked, labelled(str(data)), session, policy=written)
                assert found.totals.field_f1 == pytest.approx(point.value)
                taken = [row.engines for row in found.rows]
                assert sum(engines == ("diffusion",) for engines in taken) / 40 == point.coverage

    asyncio.run(work())
