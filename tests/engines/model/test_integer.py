"""Integer products: close to exact ones, and the same to the last bit in any company."""

import pytest
import torch

from carrara.engines.model.attention import full
from carrara.engines.model.config import LlamaConfig
from carrara.engines.model.integer import IntegerWeight, can_be_integer
from carrara.engines.model.kv import KVCache
from carrara.engines.model.llama import Llama

pytestmark = pytest.mark.skipif(
    not can_be_integer(torch.device("cpu")), reason="this build of torch has no integer products"
)

CONFIG = LlamaConfig(512, 64, 128, 2, 6, 2, 32, 1024)


@pytest.fixture(scope="module")
def model() -> Llama:
    made = Llama.random(CONFIG, spread=0.15)
    made.shrink("int8")
    return made


@pytest.mark.parametrize("spread", [1e-6, 1.0, 1e6])
def test_a_product_is_as_close_as_its_steps(spread: float) -> None:
    weight, x = torch.randn(48, 64), spread * torch.randn(9, 64)
    exact, found = x @ weight.T, IntegerWeight(weight)(x)
    assert 0 < (found - exact).norm() < 0.03 * exact.norm()


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 16, 33])
def test_a_row_does_not_depend_on_its_neighbours(rows: int) -> None:
    weight, x = IntegerWeight(torch.randn(96, 64)), torch.randn(40, 64)
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


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_row_without_numbers_harms_no_other(bad: float) -> None:
    weight, x = IntegerWeight(torch.randn(96, 64)), torch.randn(5, 64)
    wanted = weight(x)
    x[2, 7] = bad
    found = weight(x)
    assert found[2].isnan().all()
    others = [0, 1, 3, 4]
    assert torch.equal(found[others], wanted[others])


def test_canvas_passes_are_close_to_exact_ones(model: Llama) -> None:
    tokens, positions = torch.randint(0, 512, (2, 24)), torch.arange(24).expand(2, -1)
    mask = full(torch.tensor([24, 24]), 24, 24)
    exact = model(tokens, positions, mask, KVCache(CONFIG, 2, 64))
    found = model(tokens, positions, mask, KVCache(CONFIG, 2, 64), quick="canvas")
    assert 0 < (found - exact).norm() < 0.1 * exact.norm()


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
