"""What is trained is what is decoded: packed rows give the logits that the engine's own passes give."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from carrara.engines.adapt.attention import BySegments, whole
from carrara.engines.adapt.export import export
from carrara.engines.adapt.job import settings_of
from carrara.engines.adapt.network import Batch, LowRank, Network, joined_layers
from carrara.engines.adapt.pack import PackedRow, pack
from carrara.engines.adapt.train import Training
from carrara.engines.model.attention import full
from carrara.engines.model.kv import KVCache
from carrara.engines.model.llama import Llama
from carrara.engines.model.load import load_model
from carrara.engines.model.lora import WEIGHTS_FILE, load_adapter, merge


def some_rows(training: Training, shift: bool = True) -> list[PackedRow]:
    maker = training.feed.maker
    drawn = [maker.examples.draw(row, 5, random.Random(n)) for n, row in enumerate(maker.rows)]
    return pack(drawn, 220, shift)


def test_segment_by_segment_is_the_same_as_all_at_once(make: Callable[..., Training]) -> None:
    training = make()
    rows = some_rows(training)
    batch = Batch.of(rows, torch.device("cpu"))
    size = batch.tokens.shape[1]
    q = torch.randn(len(rows), 6, size, 16)
    k, v = torch.randn(2, len(rows), 2, size, 16)
    mask = batch.mask()
    assert bool(mask.any(-1).all())
    by_parts = BySegments(batch.lengths, mask, torch.float32)(q, k, v)
    torch.testing.assert_close(by_parts, whole(q, k, v, mask), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_packed_row_gives_the_logits_of_the_decoding_passes(
    make: Callable[..., Training], tiny_folder: Path
) -> None:
    training, model = make(), load_model(tiny_folder)
    checked = 0
    for row in some_rows(training):
        hidden = training.network(Batch.of([row], torch.device("cpu")))[0]
        logits = training.network.logits(hidden)
        for number in sorted(set(row.canvases) - {0}):
            where = [at for at, canvas in enumerate(row.canvases) if canvas == number]
            expected = canvas_pass(model, row, where)
            torch.testing.assert_close(logits[where], expected, atol=2e-4, rtol=1e-3)
            checked += 1
        for segment in range(1, row.examples + 1):
            where = [
                at
                for at in range(len(row))
                if row.segments[at] in (0, segment) and not row.canvases[at]
            ]
            expected = model(
                torch.tensor([[row.tokens[at] for at in where]]), torch.arange(len(where))[None]
            )[0]
            torch.testing.assert_close(logits[where], expected, atol=2e-4, rtol=1e-3)
    assert checked > 8


def canvas_pass(model: Llama, row: PackedRow, where: list[int]) -> torch.Tensor:
    """The engine's way: the text before the canvas causally into the cache, then one pass in both directions."""
    segment, start = row.segments[where[0]], row.positions[where[0]]
    before = [
        token
        for token, own, canvas, position in zip(
            row.tokens, row.segments, row.canvases, row.positions, strict=True
        )
        if own in (0, segment) and not canvas and position < start
    ]
    assert len(before) == start
    cache = KVCache(model.config, 1, start + len(where), torch.float32, torch.device("cpu"))
    model(torch.tensor([before]), torch.arange(start)[None], None, cache)
    end = start + len(where)
    tokens = torch.tensor([[row.tokens[at] for at in where]])
    mask = full(torch.tensor([end]), len(where), end)
    found: torch.Tensor = model(tokens, torch.arange(start, end)[None], mask, cache)[0]
    return found


def disturbed(network: Network) -> Network:
    """With something to say: a fresh addition is zero."""
    for module in network.low_rank.values():
        assert isinstance(module, LowRank)
        torch.nn.init.normal_(module.up, std=0.05)
    return network


@torch.no_grad()
def test_an_exported_adapter_merged_gives_the_logits_of_the_training(
    make: Callable[..., Training], tiny_folder: Path, tmp_path: Path
) -> None:
    training = make()
    network = disturbed(training.network)
    out = tmp_path / "adapter"
    export(network, tiny_folder, out, "mine", settings_of(network.recipe), (4, 3))
    model = load_model(tiny_folder)
    merge(model, load_adapter(out))
    tokens = torch.randint(5, 300, (1, 20))
    row = PackedRow(
        tokens[0].tolist(), list(range(20)), [1] * 20, [0] * 20, list(range(20)), examples=1
    )
    ours = network.logits(network(Batch.of([row], torch.device("cpu"))))
    # the adapter is stored in bfloat16
    torch.testing.assert_close(model(tokens, torch.arange(20)[None]), ours, atol=0.05, rtol=0.05)
    plain = load_model(tiny_folder)(tokens, torch.arange(20)[None])
    assert (ours - plain).abs().max() > 0.5


def test_an_adapter_holds_bfloat16_under_the_names_of_peft(
    make: Callable[..., Training], tiny_folder: Path, tmp_path: Path
) -> None:
    training = make()
    export(
        training.network,
        tiny_folder,
        tmp_path / "a",
        "m",
        settings_of(training.network.recipe),
        (4, 3),
    )
    tensors = load_file(tmp_path / "a" / WEIGHTS_FILE)
    assert all(tensor.dtype == torch.bfloat16 for tensor in tensors.values())
    assert "base_model.model.model.layers.1.self_attn.k_proj.lora_B.weight" in tensors
    assert len(tensors) == 2 * 7 * 2


def test_losses_of_many_positions_are_those_of_few(
    make: Callable[..., Training], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = disturbed(make().network)
    hidden = torch.randn(50, network.model.config.hidden_size, requires_grad=True)
    tokens = torch.randint(0, 300, (50,))
    network.losses(hidden, tokens).sum().backward()
    whole_gradient, hidden.grad = hidden.grad, None
    monkeypatch.setattr("carrara.engines.adapt.network.HEAD_ROWS", 16)
    losses = network.losses(hidden, tokens)
    losses.sum().backward()
    assert losses.shape == (50,)
    torch.testing.assert_close(hidden.grad, whole_gradient)


def test_gradients_of_the_summed_weights_are_those_of_the_two_halves(
    make: Callable[..., Training],
) -> None:
    network = disturbed(make().network)
    scale = network.recipe.alpha / network.recipe.rank
    for name, layer in list(joined_layers(network.model))[:4]:
        added = network.low_rank[name.replace(".", "/")]
        assert isinstance(added, LowRank)
        x = torch.randn(2, 7, layer.weight.shape[1], requires_grad=True)
        wanted = torch.randn(2, 7, layer.weight.shape[0])
        bias = None if layer.bias is None else layer.bias
        apart = F.linear(x, layer.weight, bias) + scale * F.linear(
            F.linear(x, added.down), added.up
        )
        inputs = (x, added.down, added.up)
        expected = torch.autograd.grad((apart * wanted).sum(), inputs)
        together = network._linear(layer, x)
        found = torch.autograd.grad((together * wanted).sum(), inputs)
        torch.testing.assert_close(together, apart, atol=1e-4, rtol=1e-4)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_a_step_of_the_optimiser_is_seen_by_the_next_pass(make: Callable[..., Training]) -> None:
    network = disturbed(make().network)
    _, layer = next(joined_layers(network.model))
    x = torch.randn(3, layer.weight.shape[1])
    before = network._linear(layer, x)
    for parameter in network.trained().values():
        parameter.mul_(0.0)
    torch.testing.assert_close(network._linear(layer, x), F.linear(x, layer.weight, layer.bias))
    assert not torch.allclose(before, network._linear(layer, x))
