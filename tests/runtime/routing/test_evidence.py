"""Evidence speaks against an engine after rejections without an acceptance, and lets a probe through."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrara.runtime.routing.evidence import Evidence, step_of


def rejected(times: int, confidence: float | None = 0.2) -> Evidence:
    evidence = Evidence()
    for _ in range(times):
        evidence.note("flow/step[1]", "diffusion", False, confidence)
    return evidence


def test_a_few_rejections_are_not_held_against_an_engine() -> None:
    assert rejected(3).objection("flow/step", "diffusion", 4, 20) is None


def test_after_enough_rejections_the_objection_says_how_sure_the_engine_was() -> None:
    objection = rejected(4, 0.21).objection("flow/step[7]", "diffusion", 4, 20)
    assert objection == "diffusion rejected 4 of 4 for this step (median confidence 0.21)"
    assert rejected(5, None).objection("flow/step", "diffusion", 4, 20) == (
        "diffusion rejected 5 of 5 for this step"
    )


def test_one_acceptance_clears_an_engine() -> None:
    evidence = rejected(9)
    evidence.note("flow/step", "diffusion", True, 0.9)
    assert evidence.objection("flow/step", "diffusion", 4, 20) is None


def test_other_steps_and_engines_are_not_touched() -> None:
    evidence = rejected(9)
    assert evidence.objection("flow/other", "diffusion", 4, 20) is None
    assert evidence.objection("flow/step", "ar", 4, 20) is None


@given(st.integers(1, 30), st.integers(1, 200))
def test_a_hopeless_engine_is_probed_at_every_nth_call(every: int, calls: int) -> None:
    evidence = rejected(4)
    asked = []
    for call in range(1, calls + 1):
        if evidence.objection("flow/step", "diffusion", 4, every) is None:
            evidence.probe("flow/step", "diffusion")
            evidence.note("flow/step", "diffusion", False)
            asked.append(call)
        else:
            evidence.pass_over("flow/step", "diffusion")
    assert asked == list(range(every, calls + 1, every))


def test_map_indexes_are_no_part_of_a_step() -> None:
    assert step_of("book/chapter[3]/extract[12]") == "book/chapter/extract"


def test_the_tally_can_be_shown() -> None:
    assert rejected(2).to_data() == [
        {
            "step": "flow/step",
            "engine": "diffusion",
            "accepted": 0,
            "rejected": 2,
            "median_confidence": 0.2,
            "median_s": None,
        }
    ]


def timed(first_s: float, second_s: float, accepted: int, rejected: int) -> Evidence:
    found = Evidence()
    for number in range(accepted + rejected):
        found.note("flow/step", "diffusion", number < accepted)
        found.turned("flow/step", "diffusion", first_s)
    found.turned("flow/step", "ar", second_s)
    return found


def test_an_engine_that_costs_more_than_it_saves_is_told() -> None:
    assert timed(0.5, 2.0, 9, 1).loss("flow/step[3]", "diffusion", "ar", 20) is None
    told = timed(1.5, 2.0, 2, 8).loss("flow/step[3]", "diffusion", "ar", 20)
    assert told == (
        "2 of 10 answers of diffusion were taken here, a chance of 25% to save 2.00 s of ar for 1.50 s"
    )


def test_small_differences_are_no_ground() -> None:
    assert timed(0.030, 0.010, 9, 1).loss("flow/step", "diffusion", "ar", 20) is None
    assert timed(1.02, 1.0, 98, 0).loss("flow/step", "diffusion", "ar", 20) is None


def test_what_follows_a_rejection_may_cost_less_than_a_whole_answer() -> None:
    found = timed(0.9, 2.0, 2, 2)
    found.followed("flow/step", "diffusion", 0.5)
    gain_s = found.prospect("flow/step", "diffusion", "ar", 0.5).gain_s
    assert gain_s == pytest.approx(2.0 - 0.9 - 0.25)
    alone = timed(0.9, 2.0, 2, 2).prospect("flow/step", "diffusion", "ar", 0.5)
    assert alone.gain_s == pytest.approx(2.0 - 0.9 - 1.0)


def test_one_rejection_is_enough_until_the_other_engines_time_is_known() -> None:
    found = Evidence()
    assert found.loss("flow/step", "diffusion", "ar", 20) is None
    found.note("flow/step", "diffusion", False)
    assert found.loss("flow/step", "diffusion", "ar", 20) == (
        "0 of 1 answers of diffusion were taken here, a chance of 33%"
    )
    found.turned("flow/step", "diffusion", 0.1)
    found.turned("flow/step", "ar", 2.0)
    assert found.loss("flow/step", "diffusion", "ar", 20) is None  # a cheap try


def test_an_engine_that_expects_little_of_itself_is_not_asked_but_for_probes() -> None:
    found = Evidence()
    for _ in range(19):
        told = found.loss("flow/step", "diffusion", "ar", 20, expected=0.05)
        assert told == "diffusion expects 5% of such answers to be taken, a chance of 5%"
        found.pass_over("flow/step", "diffusion")
    assert found.loss("flow/step", "diffusion", "ar", 20, expected=0.05) is None


def test_a_slow_engine_is_probed_all_the_same() -> None:
    found = timed(1.5, 1.0, 5, 5)
    for _ in range(19):
        assert found.loss("flow/step", "diffusion", "ar", 20)
        found.pass_over("flow/step", "diffusion")
    assert found.loss("flow/step", "diffusion", "ar", 20) is None


def test_the_others_time_is_learned_by_asking_it_now_and_then() -> None:
    found = Evidence()
    asked_other = 0
    for _ in range(60):
        if found.learning("flow/step", "diffusion", "ar", 20):
            asked_other += 1
        found.choose("flow/step", "diffusion")
        found.note("flow/step", "diffusion", True)
        found.took("flow/step", "diffusion", 1.0)
    assert asked_other == 3
    found.turned("flow/step", "ar", 1.0)
    assert not any(found.learning("flow/step", "diffusion", "ar", every) for every in range(1, 99))


def test_re_noising_is_done_while_it_saves_more_than_it_costs() -> None:
    def tried(taken: int, failed: int, seconds: float, follows_s: float) -> str | None:
        found = Evidence()
        for number in range(taken + failed):
            found.renoised("flow/step[1]", "diffusion", number < taken, seconds)
        found.followed("flow/step", "diffusion", follows_s)
        return found.renoising_loss("flow/step", "diffusion", "ar", 20)

    assert tried(0, 0, 1.0, 1.0) is None
    assert tried(1, 0, 1.0, 2.0) is None
    assert tried(0, 1, 0.2, 2.0) is None  # a cheap try
    assert tried(0, 2, 1.0, 2.0) == "not re-noised, 0 of 2 such answers were taken here"


def test_re_noising_is_probed_too() -> None:
    found = Evidence()
    found.renoised("flow/step", "diffusion", False, 1.0)
    for _ in range(19):
        assert found.renoising_loss("flow/step", "diffusion", "ar", 20)
        found.keep_from_renoising("flow/step", "diffusion")
    assert found.renoising_loss("flow/step", "diffusion", "ar", 20) is None


@pytest.mark.parametrize(
    ("answered", "broken", "next_s", "pays"),
    [
        (8, 2, 2.0, True),  # it will hardly break again, and the next one is slow
        (8, 2, 1.0, False),
        (2, 8, 2.0, False),  # it keeps breaking
        (2, 8, 9.0, True),
    ],
)
def test_a_call_that_broke_off_is_made_once_more_where_that_is_quicker(
    answered: int, broken: int, next_s: float, pays: bool
) -> None:
    found = Evidence()
    for _ in range(answered):
        found.took("flow/step", "server", 1.0)
    for _ in range(broken):
        found.broke("flow/step", "server")
    assert not found.once_more_pays("flow/step", "server", "other")  # its time is unknown
    found.turned("flow/step", "other", next_s)
    assert found.once_more_pays("flow/step[2]", "server", "other") is pays
