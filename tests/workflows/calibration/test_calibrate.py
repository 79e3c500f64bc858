"""`calibrate` from labelled rows to a policy that, on other rows, does what it says."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from carrara.engines.errors import CarraraError
from carrara.engines.request import Completion, Confidence, Request
from carrara.engines.scripted import ScriptedEngine
from carrara.workflows.calibration.calibrate import Calibrated, calibrate
from carrara.workflows.calibration.fit import Target
from carrara.workflows.calibration.plot import draw
from carrara.workflows.records import SourceError
from carrara.workflows.session import Session
from carrara.workflows.yaml.load import loads
from carrara.workflows.yaml.policy import load_policy, policy_text

PIPELINE = """
name: parity
inputs: {number: int}
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


def calibrated(data: Path, target: Target, **more: Any) -> Calibrated:
    workflow = loads(PIPELINE).workflow
    engines = {
        "diffusion": ScriptedEngine("diffusion", unsure, can=["choice"]),
        "ar": ScriptedEngine("ar", slowly_right, can=["choice"]),
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
