"""Integer products: close to exact ones, and the same to the last bit in any company."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from carrara.engines.model.attention import full
from carrara.engines.model.config import LlamaConfig
from carrara.engines.model.integer import IntegerWeight, Split, can_be_integer
from carrara.engines.model.kv import KVCache
from carrara.engines.model.linear import JoinedLinear
from carrara.engines.model.llama import Llama
from tests.engines.model.test_quick import prompts_are_steady

pytestmark = pytest.mark.skipif(
    not can_be_integer(torch.device("cpu")), reason="this build of torch has no integer products"
)

CONFIG = LlamaConfig(512, 64, 128, 2, 6, 2, 32, 1024)


@pytest.fixture(scope="module")
def model() -> Llama:
    made = Llama.random(CONFIG, spread=0.15)
    made.shrink("int8")
    return made


PEAKS = torch.tensor([30.0, 1.0, 9.0, *([1.0] * 61)])
"""Two inputs of 64 are outliers."""


@pytest.mark.parametrize("spread", [1e-6, 1.0, 1e6])
def test_a_product_is_as_close_as_its_steps(spread: float) -> None:
    weight, x = torch.randn(48, 64), spread * torch.randn(9, 64)
    exact, found = x @ weight.T, IntegerWeight(weight)(x)
    assert 0 < (found - exact).norm() < 0.03 * exact.norm()


def test_outliers_take_no_steps_away_from_the_others() -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(48, 64), torch.randn(200, 64) * PEAKS / 3
    exact = x @ weight.T
    plain, split = IntegerWeight(weight)(x) - exact, IntegerWeight(weight, PEAKS)(x) - exact
    assert split.norm() < plain.norm() / 3
    assert split.norm() < 0.01 * exact.norm()
    louder = x.clone()
    louder[:, 5] *= 50  # an outlier that the peaks do not know costs accuracy, and is not cut off
    wanted = louder @ weight.T
    assert (IntegerWeight(weight, PEAKS)(louder) - wanted).norm() < 0.05 * wanted.norm()


@given(
    st.lists(st.floats(0, 100, width=32), min_size=32, max_size=80),
    st.lists(st.floats(-1, 1, width=32), min_size=80, max_size=80),
)
def test_copies_add_up_and_are_even(peaks: list[float], shares: list[float]) -> None:
    split = Split.of(torch.tensor(peaks))
    values = torch.tensor(shares[: len(peaks)]) * 127 * split.parts
    parts = split.apart(values[None])[0]
    assert parts.abs().max() <= 127
    assert parts.shape == (len(peaks) + len(split.source),)
    assert split.parts.min() >= 1
    assert len(split.source) <= 32
    for number, (many, value) in enumerate(zip(split.parts.int(), values, strict=True)):
        own = torch.cat((parts[number : number + 1], parts[len(peaks) :][split.source == number]))
        assert len(own) == many
        assert abs(own.sum() - value) < 0.501
        assert own.max() - own.min() <= 1


@pytest.mark.parametrize("peaks", [None, PEAKS])
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 16, 33])
def test_a_row_does_not_depend_on_its_neighbours(rows: int, peaks: torch.Tensor | None) -> None:
    weight, x = IntegerWeight(torch.randn(96, 64), peaks), torch.randn(40, 64)
    x[0] *= 1000  # a louder neighbour must not take the others' steps away
    assert torch.equal(weight(x[4 : 4 + rows]), weight(x)[4 : 4 + rows])


def test_the_largest_values_do_not_overflow() -> None:
    ones = torch.ones(4, 1024)
    torch.testing.assert_close(
        IntegerWeight(ones)(ones), torch.full((4, 4), 1024.0), rtol=0.01, atol=0
    )


def test_rows_of_nothing_stay_nothing() -> None:
    found = IntegerWeight(torch.zeros(8, 64))(torch.zeros(2, 64))
    assert torch.equal(found, torch.zeros(2, 8))


@pytest.mark.parametrize("peaks", [None, PEAKS])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_row_without_numbers_harms_no_other(bad: float, peaks: torch.Tensor | None) -> None:
    weight, x = IntegerWeight(torch.randn(96, 64), peaks), torch.randn(5, 64)
    wanted = weight(x)
    x[2, 7] = bad
    found = weight(x)
    assert not found[2].isfinite().any()
    others = [0, 1, 3, 4]
    assert torch.equal(found[others], wanted[others])


def test_canvas_passes_are_close_to_exact_ones(model: Llama) -> None:
    tokens, positions = torch.randint(0, 512, (2, 24)), torch.arange(24).expand(2, -1)
    mask = full(torch.tensor([24, 24]), 24, 24)
    exact = model(tokens, positions, mask, KVCache(CONFIG, 2, 64))
    found = model(tokens, positions, mask, KVCache(CONFIG, 2, 64), quick="canvas")
    assert 0 < (found - exact).norm() < 0.1 * exact.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_prompts_in_int8_get_the_same_bits_however_they_are_cut_and_packed(
    dtype: torch.dtype,
) -> None:
    made = Llama.random(CONFIG, dtype=dtype, spread=0.15)
    made.shrink("int8", torch.randint(0, 512, (1, 64)))
    prompts_are_steady(made, 90, "canvas")


def test_a_sample_finds_how_large_inputs_get() -> None:
    torch.manual_seed(1)
    found = Llama.random(CONFIG, spread=0.15)
    for layer in found.layers:
        layer.norm_attention[3] = 40.0
    plain, split = (copy.deepcopy(found) for _ in range(2))
    plain.shrink("int8")
    split.shrink("int8", torch.randint(0, 512, (1, 64)))
    for module in split.modules():
        if isinstance(module, JoinedLinear):
            assert module.peaks is not None
            assert module.peaks.shape == (module.weight.shape[1],)
    assert all(layer.qkv.peaks.argmax() == 3 for layer in split.layers)
    tokens, positions = torch.randint(0, 512, (1, 12)), torch.arange(12)[None]
    exact = found(tokens, positions)
    far, near = (model(tokens, positions, quick="canvas") - exact for model in (plain, split))
    assert near.norm() < far.norm() / 2


def test_a_model_that_was_not_shrunk_computes_canvases_exactly() -> None:
    plain = Llama.random(CONFIG, spread=0.15)
    tokens, positions = torch.randint(0, 512, (1, 8)), torch.arange(8)[None]
    assert torch.equal(plain(tokens, positions, quick="canvas"), plain(tokens, positions))


@pytest.mark.parametrize("quick", [False, "canvas"])
def test_the_head_apart_gives_the_same_logits(model: Llama, quick: bool) -> None:
    tokens, positions = torch.randint(0, 512, (2, 8)), torch.arange(8).expand(2, -1)
    pick = torch.tensor([[1, 5], [7, 0]])
    whole = model(tokens, positions, quick=quick, pick=pick)
    hidden = model(tokens, positions, quick=quick, pick=pick, head=False)
    assert hidden.shape == (2, 2, 64)
    torch.testing.assert_close(model.logits(hidden, quick), whole)
    parts = [model.logits(hidden[:, n : n + 1], quick) for n in range(2)]
    torch.testing.assert_close(torch.cat(parts, 1), whole)
