"""The forward pass with gradients: the same maths as `model.llama.Llama`, without a cache and with what is trained.

Legend: B rows, T positions, D hidden, E head size, N positions asked, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from carrara.engines.adapt.attention import Attend, BySegments, whole
from carrara.engines.adapt.pack import PADDING, SHARED, PackedRow
from carrara.engines.adapt.recipe import Recipe
from carrara.engines.model.layer import Layer
from carrara.engines.model.linear import JoinedLinear
from carrara.engines.model.llama import Llama
from carrara.engines.model.rope import rotate

HEAD_ROWS = 4096
"""Positions whose logits exist at a time; more are computed in turns, and once more for their gradients."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows on the device, [B, T] each; see `pack.PackedRow`. `lengths`: of the segments of each row, in order; the
    first is what all share."""

    tokens: Tensor
    positions: Tensor
    segments: Tensor
    canvases: Tensor
    limits: Tensor
    lengths: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, rows: Sequence[PackedRow], device: torch.device, width: int = 0) -> Batch:
        """Rows padded to the longest of them, or to `width`."""
        width = max(width, *(len(row) for row in rows))

        def stack(name: str, fill: int) -> Tensor:
            padded = [getattr(row, name) + [fill] * (width - len(row)) for row in rows]
            return torch.tensor(padded, device=device)

        return cls(
            stack("tokens", 0),
            stack("positions", 0),
            stack("segments", PADDING),
            stack("canvases", 0),
            stack("limits", 0),
            tuple(_lengths(row, width) for row in rows),
        )

    def mask(self) -> Tensor:
        """Who sees whom, [B, 1, T, T] bool; every position sees something."""
        segment, canvas = self.segments[:, :, None], self.canvases[:, :, None]
        keys, own = self.segments[:, None], self.canvases[:, None]
        near = (keys == segment) | (keys == SHARED)
        before = (own == 0) & (self.positions[:, None] <= self.limits[:, :, None])
        return (near & (before | ((own == canvas) & (canvas > 0))))[:, None]


class LowRank(nn.Module):
    """What is added to one joined layer: scale * up(down(x)), float32 at rest.

    Products are taken with the sum of both weights, in the dtype of the activations, as the engines hold it: one
    product instead of three on the way forward. The sum is made anew when what it is made of has changed.
    """

    def __init__(self, layer: JoinedLinear, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        outputs, inputs = layer.weight.shape
        start = torch.rand(rank, inputs, generator=generator) * 2 - 1
        self.down = nn.Parameter((start / math.sqrt(inputs)).to(layer.weight.device))
        self.up = nn.Parameter(torch.zeros(outputs, rank, device=layer.weight.device))
        self._sum: tuple[tuple[object, ...], Tensor] | None = None

    def summed(self, weight: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
        """weight + scale * up @ down, [outputs, inputs] of `dtype`, without gradients."""
        state = (self.down._version, self.up._version, weight._version, scale, dtype)
        if self._sum is None or self._sum[0] != state:
            with torch.no_grad():
                whole = torch.addmm(weight.float(), self.up, self.down, alpha=scale)
                self._sum = (state, whole.to(dtype))
        return self._sum[1]


class _Summed(torch.autograd.Function):
    """x @ summed.T (+ bias) with gradients for x and for the two low-rank halves of `summed`."""

    @staticmethod
    def forward(
        context: Any,
        x: Tensor,
        summed: Tensor,
        bias: Tensor | None,
        down: Tensor,
        up: Tensor,
        scale: float,
    ) -> Tensor:
        context.save_for_backward(x, summed, down, up)
        context.scale = scale
        return F.linear(x, summed, bias)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, summed, down, up = context.saved_tensors
        behind = gradients[0].flatten(0, -2)
        before = x.flatten(0, -2)
        inner = behind @ (up * context.scale).to(x.dtype)
        for_down = (inner.T @ before).to(down.dtype)
        for_up = (behind.T @ F.linear(before, (down * context.scale).to(x.dtype))).to(up.dtype)
        for_x = (behind @ summed).view_as(x) if context.needs_input_grad[0] else None
        return for_x, None, None, for_down, for_up, None


class Network(nn.Module):
    """A model and what is trained of it: low-rank additions to all linear layers, or all weights.

    `dtype` is that of activations and products; for method "full" the model itself is float32.
    """

    def __init__(self, model: Llama, recipe: Recipe, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.recipe, self.dtype = model, recipe, dtype
        self.low_rank = nn.ModuleDict()
        if recipe.method == "lora":
            generator = torch.Generator().manual_seed(recipe.seed)
            for name, layer in joined_layers(model):
                self.low_rank[name.replace(".", "/")] = LowRank(layer, recipe.rank, generator)
        else:
            for parameter in model.parameters():
                parameter.requires_grad_(True)
        self._names = {id(layer): name.replace(".", "/") for name, layer in joined_layers(model)}

    @property
    def device(self) -> torch.device:
        return self.model.device

    def trained(self) -> dict[str, nn.Parameter]:
        """Every tensor that is trained, by a name that stays the same between runs."""
        module = self.low_rank if self.recipe.method == "lora" else self.model
        return dict(module.named_parameters())

    def name_of(self, layer: JoinedLinear) -> str:
        """The name under which `low_rank` holds what is added to a layer."""
        return self._names[id(layer)]

    def forward(self, batch: Batch) -> Tensor:
        """What stands behind the last layer and its norm, [B, T, D]."""
        model, config = self.model, self.model.config
        x = F.embedding(batch.tokens, model.embedding).to(self.dtype)
        highest = int(batch.positions.max())
        cos, sin = model._turns.at(batch.positions, self.dtype, highest)
        attend = self._attention(batch)
        for layer in model.layers:
            assert isinstance(layer, Layer)
            x = self._layer(layer, x, cos, sin, attend)
        return self._norm(x, model.norm, config.rms_eps)

    def _attention(self, batch: Batch) -> Attend:
        """On a CPU segment by segment, which skips most pairs that do not see each other; else all at once."""
        mask = batch.mask()
        if self.device.type == "cpu":
            return BySegments(batch.lengths, mask, self.dtype)
        return lambda q, k, v: whole(q, k, v, mask)

    def losses(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Cross entropy of `tokens` [N] after `hidden` [N, D], float32 [N]."""
        parts = []
        for at in range(0, len(tokens), HEAD_ROWS):
            part = (hidden[at : at + HEAD_ROWS], tokens[at : at + HEAD_ROWS])
            if len(tokens) <= HEAD_ROWS or not hidden.requires_grad:
                parts.append(self._entropy(*part))
            else:
                parts.append(checkpoint(self._entropy, *part, use_reentrant=False))
        return torch.cat(parts) if parts else hidden.new_zeros(0, dtype=torch.float32)

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.model.head.to(hidden.dtype))

    def _entropy(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        return F.cross_entropy(self.logits(hidden).float(), tokens, reduction="none")

    def _layer(self, layer: Layer, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        batch, width, _ = x.shape
        joined = self._linear(layer.qkv, self._norm(x, layer.norm_attention, layer.eps))
        joined = joined.view(batch, width, -1, layer.size)
        turned = rotate(joined[:, :, : layer.heads + layer.kv_heads], cos, sin)
        q, k = turned[:, :, : layer.heads], turned[:, :, layer.heads :]
        v = joined[:, :, layer.heads + layer.kv_heads :]
        seen = attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        x = x + self._linear(layer.out, seen.transpose(1, 2).reshape(batch, width, -1))
        gate, up = self._linear(layer.gate_up, self._norm(x, layer.norm_mlp, layer.eps)).chunk(
            2, dim=-1
        )
        return x + self._linear(layer.down, F.silu(gate) * up)

    def _linear(self, layer: JoinedLinear, x: Tensor) -> Tensor:
        bias = None if layer.bias is None else layer.bias.to(x.dtype)
        name = self.name_of(layer)
        if name not in self.low_rank:
            return F.linear(x, layer.weight.to(x.dtype), bias)
        added = self.low_rank[name]
        assert isinstance(added, LowRank)
        scale = self.recipe.alpha / self.recipe.rank
        summed = added.summed(layer.weight, scale, x.dtype)
        result = _Summed.apply(x, summed, bias, added.down, added.up, scale)  # type: ignore[no-untyped-call]
        assert isinstance(result, Tensor)
        return result

    def _norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), weight.to(x.dtype), eps)


def _lengths(row: PackedRow, width: int) -> tuple[int, ...]:
    """How long the segments of a row are, its padding last."""
    counts = [0] * (row.examples + 1)
    for segment in row.segments:
        counts[segment] += 1
    return (*counts, width - len(row))


def joined_layers(model: Llama) -> Iterator[tuple[str, JoinedLinear]]:
    """Every linear layer of the stack by its name in the model, e.g. `layers.3.qkv`."""
    for name, module in model.named_modules():
        if isinstance(module, JoinedLinear):
            yield name, module


__all__ = ["Batch", "LowRank", "Network", "joined_layers"]
