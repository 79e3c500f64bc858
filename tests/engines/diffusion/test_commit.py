"""Commit rules pick what they promise, and always move on."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.engines.diffusion.commit import at_least, confidence_threshold, fixed_steps, quotas

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
    shares = quotas(masked, steps)
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
