"""Threads are chosen by what passes cost, trials are rare where they lose, and a change is noticed."""

import pytest
import torch

from carrara.engines.model.pace import LONGEST_WAIT, Choice, Made, Pace


def run(
    choice: Choice, passes: int, alone_s: float, together_s: float, places: int = 1
) -> list[int]:
    used = []
    for _ in range(passes):
        used.append(choice.threads)
        choice.took(places, alone_s if choice.threads == 1 else together_s)
    return used


def test_a_busy_machine_is_left_to_one_thread_after_few_passes() -> None:
    used = run(Choice(4), 400, alone_s=0.04, together_s=0.4)
    assert used[0] == 4
    assert used.count(4) <= 2 + 8
    assert used[-50:].count(1) >= 49


def test_a_quiet_machine_keeps_all_threads() -> None:
    used = run(Choice(4), 400, alone_s=0.04, together_s=0.02)
    assert used.count(1) <= 8


def test_a_change_is_noticed_within_the_longest_wait() -> None:
    choice = Choice(2)
    run(choice, 1000, alone_s=0.04, together_s=0.4)
    used = run(choice, LONGEST_WAIT + 2, alone_s=0.04, together_s=0.02)
    assert used[-1] == 2


def test_small_passes_are_compared_only_with_their_like() -> None:
    choice = Choice(2)
    for places in (1, 1, 9, 1, 9, 1, 9):  # every trial falls on a pass of another size
        choice.took(places, 0.001 if places == 9 else 1.0)
    assert not choice.alone
    choice.took(9, 1.0)
    choice.took(9, 0.001)
    assert choice.alone


def test_large_passes_are_compared_by_the_token() -> None:
    choice = Choice(2)
    for places, seconds in ((100, 1.0), (100, 1.0), (200, 1.5)):
        choice.took(places, seconds)
    assert choice.alone


@pytest.mark.parametrize("most", [1, 2])
def test_passes_are_counted_by_their_kind(most: int) -> None:
    pace = Pace(most, clock=lambda: 0.0)
    before = torch.get_num_threads()
    try:
        for places in (3, 5):
            with pace.timed("canvas", places, 2):
                begun = pace.made("canvas")
        with pace.timed("prompt", 100, 1):
            pass
    finally:
        torch.set_num_threads(before)
    assert (begun, begun.since(Made(1, 3, 2)), pace.made("other")) == (
        Made(2, 8, 4),
        Made(1, 5, 2),
        Made(),
    )


def test_threads_are_set_for_the_pass_and_nothing_else_is_touched_without_a_choice() -> None:
    before = torch.get_num_threads()
    try:
        with Pace(2, clock=lambda: 0.0).timed("answer", 1, 1):
            assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        with Pace(1).timed("answer", 1, 1):
            assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_a_pass_that_fails_counts_for_nothing() -> None:
    pace = Pace(2, clock=lambda: 0.0)
    with pytest.raises(ZeroDivisionError), pace.timed("answer", 1, 1):
        1 / 0  # noqa: B018
    assert pace._choices["answer"].passes == 0
    torch.set_num_threads(1)
