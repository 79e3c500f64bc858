"""The cache keeps what was written, where it was written, through growth and exchange."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.engines.model.attention import beside_cache
from carrara.engines.model.config import LlamaConfig
from carrara.engines.model.kv import KVCache, slot_bytes
from carrara.engines.model.llama import Llama

CONFIG = LlamaConfig(8, 8, 8, 2, 4, 2, 2, 64)


def filled(rows: int, slots: int) -> KVCache:
    cache = KVCache(CONFIG, rows, slots)
    cache.data.copy_(torch.arange(cache.data.numel()).view(cache.data.shape))
    return cache


def test_a_slot_is_a_position_in_every_row() -> None:
    cache = KVCache(CONFIG, 3, 8)
    kv = torch.randn(2, 2, 2, 2, 2)  # rows 1 and 2, two positions each
    positions = torch.tensor([[0, 1], [5, 6]])
    cache.write(1, cache.places(torch.tensor([[1], [2]]), positions), kv)
    assert torch.equal(cache.data[1, :, 1, :, 0], kv[0, 0])
    assert torch.equal(cache.data[1, :, 2, :, 6], kv[1, 1])
    assert not cache.data[0].any()
    assert int(cache.data[1].count_nonzero()) == kv.numel()


def test_reading_a_slice_of_rows_copies_nothing() -> None:
    cache = filled(4, 8)
    keys, values = cache.read(1, slice(1, 3), 5)
    assert keys.shape == (2, 2, 5, 2)
    assert keys.untyped_storage().data_ptr() == cache.data.untyped_storage().data_ptr()
    chosen, _ = cache.read(1, torch.tensor([2, 1]), 5)
    assert torch.equal(chosen, keys.flip(0))
    assert torch.equal(values, cache.data[1, 1, 1:3, :, :5])


@given(
    rows=st.integers(0, 5),
    slots=st.integers(0, 40),
    more=st.integers(0, 9),
    longer=st.integers(0, 700),
)
@settings(deadline=None, max_examples=30)
def test_growing_keeps_what_is_there(rows: int, slots: int, more: int, longer: int) -> None:
    cache = filled(rows, slots)
    before = cache.data.clone()
    cache.reserve(rows + more, slots + longer)
    assert cache.rows >= rows + more
    assert cache.slots >= slots + longer
    assert torch.equal(cache.data[:, :, :rows, :, :slots], before)


def test_exchanging_rows_swaps_what_counts() -> None:
    cache = filled(3, 8)
    first, last = cache.take(0, 0, 3), cache.take(2, 0, 5)
    cache.exchange(0, 2, 3, 5)
    assert torch.equal(cache.take(2, 0, 3), first)
    assert torch.equal(cache.take(0, 0, 5), last)


def test_what_is_taken_is_a_copy_and_can_be_put_elsewhere() -> None:
    cache = filled(2, 8)
    kept = cache.take(0, 2, 6)
    cache.data[:, :, 0] = 0
    cache.put(1, 1, kept)
    assert kept.any()
    assert torch.equal(cache.take(1, 1, 5), kept)


def test_a_slot_takes_the_bytes_that_are_told() -> None:
    cache = KVCache(CONFIG, 1, 16)
    assert slot_bytes(CONFIG, torch.float32) * 16 == cache.data.nbytes


def test_a_mask_over_more_slots_than_there_are_is_refused(golden: Callable[[str], Any]) -> None:
    model = golden("ar_llama").model
    cache = KVCache(model.config, 1, 8)
    mask = torch.ones(1, 1, 1, 9, dtype=torch.bool)
    with pytest.raises(ValueError, match="9 slots for a cache of 8"):
        model(torch.tensor([[1]]), torch.tensor([[8]]), mask, cache)


@pytest.mark.parametrize(("rows", "slots"), [(6, 16), (2, 16), (6, 3), (1, 1), (4, 8), (0, 0)])
def test_a_cache_takes_the_shape_it_is_told_and_keeps_what_fits(rows: int, slots: int) -> None:
    cache = filled(4, 8)
    before = cache.data.clone()
    cache.resize(rows, slots)
    assert (cache.rows, cache.slots) == (rows, slots)
    kept_rows, kept = min(rows, 4), min(slots, 8)
    assert torch.equal(cache.data[:, :, :kept_rows, :, :kept], before[:, :, :kept_rows, :, :kept])
    assert not cache.data[:, :, 4:].any()
    assert not cache.data[:, :, :, :, 8:].any()


def test_a_blank_row_holds_zeros_and_the_others_what_they_held() -> None:
    cache = filled(3, 4)
    before = cache.data.clone()
    cache.data[:, :, 1, :, 2] = float("nan")
    cache.blank(1)
    assert not cache.data[:, :, 1].any()
    assert torch.equal(cache.data[:, :, ::2], before[:, :, ::2])


def test_a_pass_that_keeps_nothing_may_go_beyond_the_last_slot() -> None:
    config = LlamaConfig(16, 8, 8, 1, 2, 1, 4, 2048)
    model, cache = Llama.random(config, spread=0.3), KVCache(config, 1, 1024)
    tokens, positions = torch.full((1, 8), 5), 1020 + torch.arange(8)[None]
    mask = beside_cache(torch.tensor([1020]), 8, 8, 1020)
    roomy = KVCache(config, 1, 1280)
    wanted = model(tokens, positions, mask, roomy, keep=False)
    torch.testing.assert_close(model(tokens, positions, mask, cache, keep=False), wanted)
