"""Masks say who sees whom; every way to compute attention agrees with the plain one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from carrara.engines.model.attention import (
    beside_cache,
    block_causal,
    causal,
    causal_with_padding,
    full,
)
from carrara.engines.model.pattern import TILE, attend, steady, step_by_step, whole


def rows(mask: Tensor) -> list[str]:
    """A mask of one row as lines of x and dots."""
    return ["".join("x" if seen else "." for seen in line) for line in mask[0, 0].tolist()]


def test_causal_sees_itself_and_what_came_before() -> None:
    assert rows(causal(torch.tensor([[1, 2]]), 4)) == ["xx..", "xxx."]


def test_block_causal_is_causal_before_its_start_and_two_sided_within_blocks() -> None:
    mask = block_causal(torch.arange(7)[None], 8, block=2, start=3, lengths=torch.tensor([7]))
    assert rows(mask) == [
        "x.......",
        "xx......",
        "xxx.....",
        "xxxxx...",
        "xxxxx...",
        "xxxxxxx.",
        "xxxxxxx.",
    ]


def test_a_last_block_may_be_shorter_and_sees_no_garbage() -> None:
    mask = block_causal(torch.arange(5)[None], 8, block=4, lengths=torch.tensor([5]))
    assert rows(mask)[4] == "xxxxx..."


def test_rows_have_their_own_starts_and_lengths() -> None:
    positions = torch.tensor([[4, 5], [2, 3]])
    mask = block_causal(positions, 8, block=2, start=torch.tensor([4, 2]))
    assert rows(mask[:1]) == ["xxxxxx..", "xxxxxx.."]
    assert rows(mask[1:]) == ["xxxx....", "xxxx...."]
    assert rows(full(torch.tensor([3, 6]), 1, 8)[1:]) == ["xxxxxx.."]


def test_beside_cache_hides_garbage_in_the_cache_and_padding_among_the_new() -> None:
    mask = beside_cache(torch.tensor([2, 3]), torch.tensor([2, 1]), width=2, cached=3)
    assert rows(mask[:1]) == ["xx.xx", "xx.xx"]
    assert rows(mask[1:]) == ["xxxx.", "xxxx."]


def test_padding_sees_only_itself_so_that_nothing_is_undefined() -> None:
    assert rows(causal_with_padding(torch.tensor([[False, True, True]]))) == ["x..", ".x.", ".xx"]


@settings(deadline=None, max_examples=40)
@given(
    starts=st.lists(st.integers(0, 200), min_size=1, max_size=3),
    new=st.integers(1, 150),
    group=st.sampled_from([1, 3]),
)
def test_steady_attention_is_causal_attention(starts: list[int], new: int, group: int) -> None:
    positions = torch.tensor(starts)[:, None] + torch.arange(new)
    compare(steady, positions, group)


@settings(deadline=None, max_examples=20)
@given(starts=st.lists(st.integers(0, 200), min_size=1, max_size=4), new=st.integers(1, 5))
def test_step_by_step_attention_is_causal_attention(starts: list[int], new: int) -> None:
    positions = torch.tensor(starts)[:, None] + torch.arange(new)
    compare(step_by_step, positions, 3)


def compare(how: object, positions: Tensor, group: int) -> None:
    slots = 6 * TILE
    batch, new = positions.shape
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(batch, new, 2 * group, 8, generator=generator)
    k, v = torch.randn(2, batch, 2, slots, 8, generator=generator)
    pattern = how(positions, slots, group, torch.float32)  # type: ignore[operator]
    assert pattern.slots <= slots
    plain = attend(q, k, v, whole(causal(positions, slots), group, torch.float32))
    found = attend(q, k[:, :, : pattern.slots], v[:, :, : pattern.slots], pattern)
    torch.testing.assert_close(found, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("new", [1, 5])
def test_steady_attention_looks_at_no_slot_that_the_cache_lacks(new: int) -> None:
    pattern = steady(torch.arange(new)[None] + 70, 80, 1, torch.float32)
    assert pattern.slots == 80


def test_one_thread_is_used_only_while_attention_runs() -> None:
    torch.set_num_threads(2)
    try:
        pattern = step_by_step(torch.tensor([[3]]), 64, 1, torch.float32)
        attend(torch.ones(1, 1, 1, 8), torch.ones(1, 1, 64, 8), torch.ones(1, 1, 64, 8), pattern)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
