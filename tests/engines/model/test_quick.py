"""Quick passes: close to the exact ones, and the same to the last bit whoever shares them."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor

from carrara.engines.model.config import LlamaConfig
from carrara.engines.model.kv import KVCache
from carrara.engines.model.linear import QuickWeight, can_be_quick
from carrara.engines.model.llama import Llama
from carrara.engines.model.load import load_model
from tests.engines.steadiness import products_are_steady

pytestmark = pytest.mark.skipif(
    not can_be_quick(torch.device("cpu")), reason="this build of torch has no int8 products"
)

CONFIG = LlamaConfig(512, 64, 128, 2, 6, 2, 32, 1024)


@pytest.fixture(scope="module")
def model() -> Llama:
    made = Llama.random(CONFIG, spread=0.15)
    made.quicken()
    return made


def test_int8_weights_are_as_close_as_their_step() -> None:
    weight = torch.randn(48, 64)
    quick = QuickWeight(weight)
    back = quick.values.float() * quick.scale.float()[:, None]
    step = weight.abs().amax(1, keepdim=True) / 127
    assert bool(((back - weight).abs() <= 0.52 * step).all())
    assert int(quick.values.abs().max()) <= 127


def test_a_weight_of_odd_size_is_multiplied_like_others() -> None:
    weight, x = torch.randn(24, 72), torch.randn(5, 72)
    quick = QuickWeight(weight)
    close = x.to(torch.bfloat16).float() @ weight.T
    assert (quick(x) - close).abs().max() < 0.05 * close.abs().max()


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 16, 33])
def test_an_int8_product_does_not_depend_on_its_neighbours(rows: int) -> None:
    quick, x = QuickWeight(torch.randn(96, 64)), torch.randn(40, 64)
    assert torch.equal(quick(x[4 : 4 + rows]), quick(x)[4 : 4 + rows])


def test_quick_logits_are_close_and_the_best_ones_exact(model: Llama) -> None:
    tokens, positions = torch.randint(0, 512, (2, 6)), torch.arange(6).expand(2, -1)
    exact = model(tokens, positions)
    head_only = model(tokens, positions, quick="head")
    assert torch.equal(head_only.argmax(-1), exact.argmax(-1))
    top = exact.topk(3).indices
    torch.testing.assert_close(
        head_only.gather(-1, top), exact.gather(-1, top), atol=1e-4, rtol=1e-4
    )
    cache = KVCache(CONFIG, 2, 64)
    quick = model(tokens, positions, None, cache, quick=True)
    assert (quick - exact).abs().max() < 0.1 * exact.abs().max()


def test_only_allowed_tokens_have_logits(model: Llama) -> None:
    tokens, positions = torch.randint(0, 512, (2, 3)), torch.arange(3).expand(2, -1)
    allowed = torch.zeros(2, 3, 512, dtype=torch.bool)
    allowed[0, :, 7], allowed[1, :, 100:110] = True, True
    for quick in (False, "head"):
        logits = model(tokens, positions, allowed=allowed, quick=quick)
        assert torch.equal(logits.isfinite(), allowed)
    picked = model(tokens, positions, pick=torch.tensor([[2], [0]]), allowed=allowed[:, :1])
    assert picked.shape == (2, 1, 512)
    assert model(tokens, positions, pick=torch.zeros(2, 0, dtype=torch.int64)).shape == (2, 0, 512)


def test_prompts_get_the_same_bits_however_they_are_cut_and_packed(model: Llama) -> None:
    prompts_are_steady(model, length=90)


def test_answer_tokens_get_the_same_bits_in_every_batch(model: Llama) -> None:
    answers_are_steady(model, length=70)


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=str)
def embedded_layers(request: pytest.FixtureRequest, smollm2_folder: Path) -> Llama:
    """The embedded model with its first layers only: all have the same shapes."""
    made = load_model(smollm2_folder, request.param)
    made.layers = made.layers[:4]
    made.config = replace(made.config, layers=4)
    made.quicken()
    return made


@pytest.mark.weights
@pytest.mark.parametrize("threads", [1, 2])
def test_the_embedded_model_is_steady_too(embedded_layers: Llama, threads: int) -> None:
    torch.set_num_threads(threads)
    same = torch.equal if products_are_steady(embedded_layers) else nearly
    prompts_are_steady(embedded_layers, length=37, same=same)
    answers_are_steady(embedded_layers, length=37)


def nearly(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, atol=1e-3, rtol=1e-2)


def prompts_are_steady(
    model: Llama,
    length: int,
    quick: Literal["head", "canvas"] = "head",
    same: Callable[[Tensor, Tensor], bool] = torch.equal,
) -> None:
    tokens = torch.randint(5, 500, (1, length))
    cache = KVCache(model.config, 4, 256, model.dtype)

    def feed(row: int, start: int, stop: int, width: int) -> Tensor:
        part = torch.zeros(1, max(width, 16), dtype=torch.int64)
        part[0, : stop - start] = tokens[0, start:stop]
        positions = start + torch.arange(part.shape[1])[None]
        pick = torch.tensor([[stop - start - 1]])
        return model(part, positions, None, cache, rows=slice(row, row + 1), pick=pick, quick=quick)

    logits, kv = feed(0, 0, length, length), cache.take(0, 0, length)
    for cuts in ([0, 16, length], [0, 16, 32, length], [0, length]):
        found = [feed(2, *part, width=length + 3) for part in itertools.pairwise(cuts)]
        assert same(found[-1], logits)
        assert same(cache.take(2, 0, length), kv)
    both = torch.cat((tokens.flip(1), tokens))
    positions, pick = torch.arange(length).expand(2, -1), torch.full((2, 1), length - 1)
    found = model(both, positions, None, cache, rows=slice(1, 3), pick=pick, quick=quick)
    assert same(found[1:], logits)
    assert same(cache.take(2, 0, length), kv)


def answers_are_steady(model: Llama, length: int) -> None:
    start, tokens = torch.randn(*shape_of(model, length)), [5, 17, 300, 41]
    alone = KVCache(model.config, 1, 256, model.dtype)
    alone.put(0, 0, start)
    wanted = [
        model(torch.tensor([[token]]), torch.tensor([[length + n]]), None, alone, quick=True)[0, 0]
        for n, token in enumerate(tokens)
    ]
    for batch, row in ((2, 1), (4, 0), (4, 3)):
        cache = KVCache(model.config, 4, 256, model.dtype)
        cache.data.normal_()
        cache.put(row, 0, start)
        for n, token in enumerate(tokens):
            others, positions = torch.randint(5, 500, (batch, 1)), torch.randint(1, 250, (batch, 1))
            others[row], positions[row] = token, length + n
            found = model(others, positions, None, cache, rows=slice(0, batch), quick=True)
            assert torch.equal(found[row, 0], wanted[n])
    cache = KVCache(model.config, 4, 256, model.dtype)
    cache.put(1, 0, start)
    several = torch.randint(5, 500, (3, 4))
    several[1] = torch.tensor(tokens)
    positions = torch.tensor([[9], [length], [140]]) + torch.arange(4)
    found = model(several, positions, None, cache, rows=slice(0, 3), quick=True)
    assert all(torch.equal(found[1, n], wanted[n]) for n in range(4))


def shape_of(model: Llama, length: int) -> tuple[int, ...]:
    config = model.config
    return config.layers, 2, config.kv_heads, length, config.head_dim


def test_a_random_model_is_the_same_for_the_same_seed() -> None:
    one, two = Llama.random(CONFIG, 3), Llama.random(CONFIG, 3)
    assert torch.equal(one.layers[1].down.weight, two.layers[1].down.weight)
    assert not torch.equal(one.embedding, Llama.random(CONFIG, 4).embedding)
