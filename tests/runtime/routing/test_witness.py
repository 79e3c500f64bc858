"""What a call tells the evidence of its engines: of answers that are new, and of nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from carrara.engines.request import Completion
from carrara.runtime.routing.evidence import Evidence
from carrara.runtime.routing.router import Cause, Rejection
from carrara.runtime.routing.verdict import Verdict
from carrara.runtime.routing.witness import Stay, Witness

PATH = "flow/step"


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def rejection(engine: str, cause: Cause = "confidence") -> Rejection:
    return Rejection(engine, cause, "unsure")


def verdict(engine: str, taken: bool) -> Verdict:
    found = None if taken else rejection(engine)
    return Verdict("", completion=Completion(""), rejection=found)


def move(
    told: Witness, stay: Stay, how: Any, seconds: float, *, taken: bool, given: bool = False
) -> None:
    """A move that took so long, to its verdict."""
    stay.moves()
    assert isinstance(told.now, Clock)
    told.now.time += seconds
    stay.answered(given)
    stay.judged(taken, 0.5)
    stay.moved(how, verdict(stay.engine, taken))


def seen(told: Witness, engine: str) -> tuple[int, int, list[float], list[float]]:
    found = told.evidence._at(PATH, engine)
    return found.accepted, found.rejected, list(found.turns), list(found.after)


def whole_call(first_given: bool, second_given: bool) -> Witness:
    told = Witness(Evidence(), PATH, Clock())
    first = told.stay("first", "ask")
    move(told, first, "ask", 2.0, taken=False, given=first_given)
    first.ends(verdict("first", False))
    told.goes_on(first, rejection("first"))
    second = told.stay("second", "ask")
    move(told, second, "ask", 3.0, taken=True, given=second_given)
    second.ends(verdict("second", True))
    told.ends(second)
    return told


def test_verdicts_turns_and_what_followed_are_told() -> None:
    told = whole_call(False, False)
    assert seen(told, "first") == (0, 1, [2.0], [3.0])
    assert seen(told, "second") == (1, 0, [3.0], [])


def test_of_an_answer_given_before_nothing_is_told_but_that_it_was_not_taken() -> None:
    """What followed is new where the answers behind are."""
    told = whole_call(True, False)
    assert seen(told, "first") == (0, 0, [], [3.0])
    assert seen(told, "second") == (1, 0, [3.0], [])


def test_a_last_answer_given_before_shows_not_how_long_the_call_went_on() -> None:
    told = whole_call(False, True)
    assert seen(told, "first") == (0, 1, [2.0], [])
    assert seen(told, "second") == (0, 0, [], [])


def test_what_was_rejected_before_an_answer_given_before_is_followed_by_no_time_of_its_own() -> (
    None
):
    told = Witness(Evidence(), PATH, Clock())
    for engine, given in (("first", False), ("second", True), ("third", False)):
        stay = told.stay(engine, "ask")
        taken = engine == "third"
        move(told, stay, "ask", 1.0, taken=taken, given=given)
        if taken:
            told.ends(stay)
        else:
            told.goes_on(stay, rejection(engine))
    assert seen(told, "first")[3] == []
    assert seen(told, "second")[3] == [1.0]


def test_one_answer_given_before_takes_the_time_of_its_whole_stay_but_not_other_verdicts() -> None:
    told = Witness(Evidence(), PATH, Clock())
    stay = told.stay("first", "ask")
    move(told, stay, "ask", 1.0, taken=False, given=True)
    move(told, stay, "renoise", 1.0, taken=True)
    stay.ends(verdict("first", True))
    assert seen(told, "first") == (1, 0, [], [])
    assert seen(told, "first, re-noised") == (1, 0, [1.0], [])


@pytest.mark.parametrize("cause", ["failed", "refused", "busy", "passed over"])
def test_an_engine_without_an_answer_is_not_one_that_was_rejected(cause: Cause) -> None:
    told = Witness(Evidence(), PATH, Clock())
    first, second = told.stay("first", "ask"), told.stay("second", "ask")
    told.goes_on(first, rejection("first", cause))
    told.ends(second)
    assert seen(told, "first")[3] == []


def test_only_some_fields_are_no_turn() -> None:
    told = Witness(Evidence(), PATH, Clock())
    stay = told.stay("first", "fields")
    move(told, stay, "fields", 1.0, taken=True)
    stay.ends(verdict("first", True))
    assert seen(told, "first") == (1, 0, [], [])
