"""Commit rules pick what they promise, and always move on."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.engines.diffusion.commit import (
    Carried,
    CommitRule,
    above,
    at_least,
    at_random,
    confidence_threshold,
    entropy_bounded,
    factor,
    falling,
    fixed_steps,
    in_order,
    scheduled,
    surest,
    threshold_or_quota,
)
from carrara.engines.diffusion.quotas import even, falls, plan, rounded

unhurried = settings(deadline=None, max_examples=30)
rows = st.integers(1, 3).flatmap(
    lambda b: st.integers(1, 6).flatmap(
        lambda t: st.lists(
            st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=t, max_size=t),
            min_size=b,
            max_size=b,
        )
    )
)


@unhurried
@given(rows, st.floats(0.01, 1))
def test_the_threshold_rule_commits_the_sure_and_at_least_one(
    cells: list[list[tuple[float, bool]]], threshold: float
) -> None:
    confidence = torch.tensor([[c for c, _ in row] for row in cells], dtype=torch.float64)
    undecided = torch.tensor([[u for _, u in row] for row in cells])
    commit = confidence_threshold(threshold)(confidence, undecided, 0)
    assert not (commit & ~undecided).any()
    assert (commit.any(1) == undecided.any(1)).all()
    assert commit[undecided & (confidence >= threshold)].all()


@pytest.mark.parametrize("threshold", [0.0, -1, 1.1])
def test_a_threshold_is_a_probability(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        confidence_threshold(threshold)


@unhurried
@given(st.integers(0, 40), st.integers(1, 40))
def test_quotas_commit_everything_in_at_most_the_steps_given(masked: int, steps: int) -> None:
    shares = rounded(masked, steps)
    assert sum(shares) == masked
    assert all(share > 0 for share in shares)
    assert len(shares) <= steps


def test_fixed_steps_follow_their_quotas() -> None:
    rule = fixed_steps(torch.tensor([[2, 1], [0, 3]]))
    confidence = torch.tensor([[0.1, 0.9, 0.5], [0.3, 0.2, 0.1]])
    undecided = torch.ones(2, 3, dtype=torch.bool)
    assert rule(confidence, undecided, 0).tolist() == [[False, True, True], [False] * 3]
    left = torch.tensor([[True, False, False], [True, True, True]])
    assert rule(confidence, left, 1).tolist() == [[True, False, False], [True, True, True]]
    assert not rule(confidence, undecided, 2).any()


def test_a_rule_can_be_made_to_commit_more() -> None:
    rule = at_least(confidence_threshold(0.9), 2)
    confidence = torch.tensor([[0.95, 0.1, 0.5, 0.4]])
    undecided = torch.tensor([[True, True, False, True]])
    assert rule(confidence, undecided, 0).tolist() == [[True, False, False, True]]


def test_each_canvas_can_be_made_to_commit_as_much_as_it_needs() -> None:
    rule = at_least(confidence_threshold(0.9), torch.tensor([0, 3, 9]))
    confidence = torch.tensor([[0.2, 0.1, 0.3, 0.1]] * 3)
    undecided = torch.tensor([[True] * 4, [True] * 4, [True, False, True, True]])
    assert rule(confidence, undecided, 0).tolist() == [
        [False, False, True, False],
        [True, True, True, False],
        [True, False, True, True],
    ]


def of(*rows: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Confidence and undecided from rows in which 0 stands at what is decided."""
    confidence = torch.tensor(rows)
    return confidence, confidence > 0


RULES: list[CommitRule] = [
    confidence_threshold(0.5),
    scheduled(plan(even, 3)),
    threshold_or_quota(0.5, [2, 1]),
    above(0.5),
    factor(1.0),
    in_order([2]),
    falling([0.5, 1.0]),
    at_random([0.5, 1.0], torch.rand),
    entropy_bounded(0.2),
]


@unhurried
@given(rows, st.integers(0, len(RULES) - 1), st.integers(0, 2))
def test_no_rule_touches_what_is_decided(
    cells: list[list[tuple[float, bool]]], number: int, step: int
) -> None:
    confidence = torch.tensor([[c for c, _ in row] for row in cells])
    undecided = torch.tensor([[u for _, u in row] for row in cells])
    RULES[1](confidence, undecided, 0)  # its plan is made in a first step
    assert not (RULES[number](confidence, undecided, step) & ~undecided).any()


@unhurried
@given(rows, st.integers(0, 7))
def test_the_surest_are_those_that_no_other_surpasses(
    cells: list[list[tuple[float, bool]]], count: int
) -> None:
    confidence = torch.tensor([[c for c, _ in row] for row in cells], dtype=torch.float64)
    undecided = torch.tensor([[u for _, u in row] for row in cells])
    taken = surest(confidence, undecided, torch.full((len(cells),), count))
    assert taken.sum(1).tolist() == [min(count, n) for n in undecided.sum(1).tolist()]
    for value, is_taken, is_open in zip(confidence, taken, undecided, strict=True):
        left = value[is_open & ~is_taken]
        assert not len(left) or not is_taken.any() or value[is_taken].min() >= left.max()


def test_sure_enough_positions_go_beyond_the_quota_but_never_below_it() -> None:
    rule = threshold_or_quota(0.6, [2, 0])
    confidence, undecided = of([0.9, 0.8, 0.7, 0.1], [0.9, 0.5, 0.4, 0.0], [0.6, 0.0, 0.0, 0.0])
    assert rule(confidence, undecided, 0).tolist() == [
        [True, True, True, False],
        [True, True, False, False],  # one is sure, the quota is two
        [True, False, False, False],  # exactly the threshold is not above it; one is left
    ]
    assert rule(confidence, undecided, 1).tolist() == [
        [True, True, True, False],
        [True, False, False, False],
        [False] * 4,
    ]


def test_the_factor_rule_counts_ranks_that_are_sure_enough_together() -> None:
    # 1 - f / (r + 1) for f = 1: 0.5, 0.67, 0.75, 0.8
    confidence, undecided = of([0.6, 0.76, 0.7, 0.81], [0.1, 0.2, 0.05, 0.0], [0.0, 0.0, 0.0, 0.0])
    assert factor(1.0)(confidence, undecided, 0).tolist() == [
        [False, True, False, True],
        [False, True, False, False],
        [False] * 4,
    ]


def test_in_order_begins_at_the_first_undecided_position() -> None:
    confidence, undecided = of([0.0, 0.2, 0.9, 0.9], [0.3, 0.0, 0.9, 0.1])
    assert in_order([2])(confidence, undecided, 5).tolist() == [
        [False, True, True, False],
        [True, False, False, False],
    ]


def test_entropy_bounds_the_sum_of_what_is_committed_before() -> None:
    entropy = torch.tensor([[0.3, 0.1, 0.2, 5.0], [9.0, 8.0, 7.0, 6.0]])
    everywhere = torch.ones(2, 4, dtype=torch.bool)
    assert entropy_bounded(0.25)(-entropy, everywhere, 0).tolist() == [
        [False, True, True, False],  # before 0.3 stand 0.1 + 0.2
        [False, False, False, True],  # the surest in any case
    ]


def test_random_commits_use_one_number_for_each_undecided_position() -> None:
    numbers = torch.tensor([0.1, 0.9, 0.4])
    asked = []

    def draw(count: int) -> torch.Tensor:
        asked.append(count)
        return numbers

    confidence, undecided = of([0.0, 0.5, 0.5], [0.5, 0.0, 0.0])
    commit = at_random([0.5], draw)(confidence, undecided, 0)
    assert (asked, commit.tolist()) == ([3], [[False, True, False], [True, False, False]])


def test_what_is_not_sure_enough_is_carried_into_further_steps() -> None:
    rule = Carried(4, 2, 0.9)
    first = torch.tensor([[0.95, 0.2, 0.3, 0.1]])
    undecided = torch.ones(1, 4, dtype=torch.bool)
    commit = rule(first, undecided, 0)
    assert commit.tolist() == [[True, False, False, False]]  # 0.3 was in the quota of two
    left = undecided & ~commit
    commit = rule(torch.tensor([[0.0, 0.5, 0.92, 0.4]]), left, 1)  # a quota of two and one carried
    assert commit.tolist() == [[False, False, True, False]]
    assert rule.steps == 3  # two are carried beyond the last step
    left &= ~commit
    assert rule(torch.tensor([[0.0, 0.95, 0.0, 0.99]]), left, 2).tolist() == [
        [False, True, False, True]
    ]
    assert rule.steps == 3


QUOTAS = {
    (0, 3): [],
    (4, 3): [1, 1, 2],
    (5, 3): [2, 1, 2],
    (7, 2): [4, 3],
    (10, 3): [3, 3, 4],
    (11, 9): [1, 1, 1, 1, 1, 1, 2, 2, 1],
    (21, 8): [3, 3, 3, 2, 2, 3, 2, 3],
    (31, 7): [4, 4, 5, 4, 5, 4, 5],
    (32, 5): [6, 6, 7, 6, 7],
    (24, 13): [2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 2, 1],
}
"""As dllm's `get_num_transfer_tokens` rounds them (at ca176752fbce), halves and all."""


@pytest.mark.parametrize(("masked", "steps"), QUOTAS)
def test_quotas_round_as_the_reference_does(masked: int, steps: int) -> None:
    assert rounded(masked, steps) == QUOTAS[masked, steps]


def test_even_quotas_give_the_remainder_to_the_first_steps() -> None:
    assert (even(10, 4), even(2, 4)) == ([3, 3, 2, 2], [1, 1, 0, 0])


def test_time_that_falls_to_almost_zero_commits_nothing_first_and_all_at_last() -> None:
    """With as many steps as tokens, truncation in single precision loses one token at first."""
    left, counts = 24, []
    for share in falls(24):
        counts.append(int(torch.tensor(float(left)) * share))
        left -= counts[-1]
    assert (counts[0], counts[-1], left) == (0, 2, 0)
