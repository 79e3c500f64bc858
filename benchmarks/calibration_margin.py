"""How often a fitted threshold misses its target on other rows, with and without the margin. Synthetic: no model is
asked.

    python -m benchmarks.calibration_margin [--draws 100] [--rows 200 500] [--targets 0.8 0.9] [--last 1.0 0.95]

Each draw makes labelled rows of which `carrara calibrate` would fit on 60 %. The first engine's confidence is even
between 0.3 and 1 and honest: it is right as often as it says. The last engine takes ten times as long and is right on
the share --last. What a threshold reaches on all other rows is worked out, not sampled. "plain": the fastest setting
whose value on the fitted rows reaches the target, as if there were no margin; "margin": what is chosen.

Prints one line a setting: the mean of what is reached, the worst, the share of draws more than 2 points below the
target, and the mean coverage (the share of rows whose answer is the first engine's).
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass

from carrara.engines.contract import Choice
from carrara.engines.request import Completion, Confidence, Message
from carrara.runtime.routing.call import LlmCall
from carrara.workflows.calibration.certainty import SLACK
from carrara.workflows.calibration.fit import Point, Target, choose, compared
from carrara.workflows.calibration.observed import Answer, Pair
from carrara.workflows.scoring.score import Score
from carrara.workflows.step_answer import StepAnswer

LEAST = 0.3
CALL = LlmCall((Message("user", "?"),), Choice(("yes", "no")))


@dataclass(frozen=True)
class Reached:
    """What a setting does on all other rows."""

    value: float
    coverage: float


def drawn(count: int, last_right: float, seed: int) -> Pair:
    draw, rows = random.Random(seed), []
    for _ in range(count):
        sure = draw.uniform(LEAST, 1.0)
        first = answered(draw.random() < sure, sure, 10.0)
        rows.append((first, answered(draw.random() < last_right, 0.5, 100.0)))
    return Pair("first", "last", rows)


def answered(right: bool, sure: float, ms: float) -> Answer:
    completion = Completion("", confidence=Confidence(sure))
    call = StepAnswer("answer", "yes" if right else "no", CALL, completion, ms=ms)

    def marked(given: object) -> Score:
        return Score(given == "yes", True, int(given == "yes"), 1, 1)

    return Answer(
        marked(call.value),
        {"answer": sure},
        {},
        ms,
        answer=call.value,
        calls={"answer": call},
        spots={"answer": ()},
        marked=marked,
    )


def reached(point: Point, last_right: float) -> Reached:
    alone = {("first",): LEAST, ("last",): 1.0}
    threshold = alone[point.engines] if point.engines in alone else point.thresholds["answer"]
    threshold = min(max(threshold, LEAST), 1.0)
    width = 1.0 - LEAST
    handed_on = (threshold - LEAST) / width
    return Reached(last_right * handed_on + (1 - threshold**2) / 2 / width, 1 - handed_on)


def plain(points: Sequence[Point], target: float) -> Point:
    good = [point for point in points if point.value >= target - 1e-9]
    return min(good or points, key=lambda point: (point.ms, -point.value))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--rows", type=int, nargs="+", default=[200, 500])
    parser.add_argument("--targets", type=float, nargs="+", default=[0.8, 0.9])
    parser.add_argument("--last", type=float, nargs="+", default=[1.0, 0.95])
    options = parser.parse_args()
    for last in options.last:
        for rows in options.rows:
            settings = []
            for seed in range(options.draws):
                points, single = compared([drawn(round(0.6 * rows), last, seed)], "accuracy")
                settings.append([*points, *single])
            for target in options.targets:
                goal = Target("accuracy", target)
                rules = {
                    "plain": [plain(points, target) for points in settings],
                    "margin": [choose(points, goal)[0] for points in settings],
                }
                for name, chosen in rules.items():
                    told(f"last {last:g}, {rows} rows, {target:g}, {name}", chosen, last, target)


def told(what: str, chosen: Sequence[Point], last: float, target: float) -> None:
    found = [reached(point, last) for point in chosen]
    values = [one.value for one in found]
    missed = sum(value < target - SLACK for value in values) / len(values)
    coverage = sum(one.coverage for one in found) / len(found)
    print(
        f"{what}: mean {sum(values) / len(values):.3f}, worst {min(values):.3f}, missed {missed:.1%}, "
        f"coverage {coverage:.3f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
