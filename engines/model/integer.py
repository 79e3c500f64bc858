"""Products of int8 weights with int8 activations: for passes over many tokens on a CPU.

Such passes are bound by arithmetic. Measured with one thread of a processor with AVX2 alone: half the time of
float32 at 84 tokens, a third at 16, and five times the speed of `linear.QuickWeight`, which is for single
tokens and keeps the activations in bfloat16.

- Weights have 7 bits and one scale an output. Two products of 8 and 8 bits overflow the 16 bits in which
  processors without VNNI add them; 7 and 8 bits do not, and give the same sums on every processor.
- Activations have 8 bits and one scale a row: every row is divided by its own peak, and zero lies at 128.
- A few inputs of a trained model are many times as large as the others, in every row, and would take the steps away
  from all others (outlier features, LLM.int8(), arXiv 2208.07339). They are split into copies that add up to them
  (outlier channel splitting, arXiv 1901.09504), so that no copy is larger than the rest: the sums stay exact, and a
  twentieth more inputs takes most of the error away. `peaks` finds them.

The operator is oneDNN's, which torch's compiler emits for quantised models; it takes plain tensors of integers.
Sums of integers are exact, so the result for a row does not depend on how many rows are computed together,
to the last bit. What it costs in accuracy is in `docs/diffusion.md`.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

_TOP = 63
_PEAK, _ZERO = 127, 128
_MORE, _ALIGNED = 1 / 18, 32
"""How many more inputs splitting may make: a share of them, in whole groups."""


class IntegerWeight:
    """A 7-bit copy of a weight [outputs, inputs], symmetric, one scale an output.

    `peaks` [inputs]: the largest that each input was seen to hold. Without them no input is split.
    """

    def __init__(self, weight: Tensor, peaks: Tensor | None = None) -> None:
        low, high = weight.float().aminmax(dim=1)
        self.outputs = len(weight)
        scale = torch.maximum(-low, high).clamp_min(1e-30) / _TOP
        self._split = None if peaks is None else Split.of(peaks)
        values = weight / scale[:, None]
        self._middle = torch.tensor(_ZERO + 0.5)
        if self._split is None:
            values.round_()
        else:
            # The copies of a weight are rounded apart, too: their mean is as fine as their number.
            values = self._split.apart(values.mul_(self._split.parts))
            self._middle = _ZERO + self._split.offset
        values = values.clamp_(-_TOP, _TOP).to(torch.int8)
        self._scale = scale
        self._packed = torch.ops.onednn.qlinear_prepack(values, None)
        self._zeros = torch.zeros(len(weight), dtype=torch.int32)

    def __call__(self, x: Tensor) -> Tensor:
        """x [..., inputs] -> [..., outputs] in the dtype of x."""
        # Each of these operations costs about 2 us however few the rows are, 120 times a pass of 30 layers.
        flat = x.reshape(-1, x.shape[-1]).float()
        if self._split is not None:
            flat = self._split.shared(flat)
        # Of a row without numbers the step is none, either, and so is all that comes of it; no other row sees it.
        step = flat.abs().amax(1, keepdim=True).clamp_min_(1e-30).div_(_PEAK)
        # What is cut off behind the point rounds, as `_middle` is half a step more than zero; by way of int32, which
        # is twice as fast.
        steps = torch.addcdiv(self._middle, flat, step).int().to(torch.uint8)
        y = self._product(steps).mul_(step)
        return y.to(x.dtype).view(*x.shape[:-1], self.outputs)

    def _product(self, steps: Tensor) -> Tensor:
        """steps [rows, inputs] uint8, from _ZERO on -> [rows, outputs] float32."""
        weight = (self._packed, self._scale, self._zeros, None)
        plain: tuple[Any, ...] = (1.0, 0, torch.float32, "none", [], "")  # nothing after the sum
        found: Tensor = torch.ops.onednn.qlinear_pointwise(steps, 1.0, _ZERO, *weight, *plain)
        return found


@dataclass(frozen=True, slots=True)
class Split:
    """Into how many `parts` [inputs] each input is split. Beyond the first, a copy of each input in `source` follows.

    `share` and `offset` [inputs and copies]: of an input y in p parts, part k is floor(y / p + (k + 0.5) / p). They add
    up to floor(y + 0.5) (Hermite's identity), and are as even as they can be.
    """

    parts: Tensor
    source: Tensor
    share: Tensor
    offset: Tensor

    @classmethod
    def of(cls, peaks: Tensor) -> Split:
        """By the largest that each input [inputs] was seen to hold, so that the largest of all parts is least."""
        most = max(1, round(len(peaks) * _MORE / _ALIGNED)) * _ALIGNED
        parts = (peaks.float() / _bar(peaks.float(), most)).ceil_().clamp_min_(1)
        counts = [torch.arange(1.0, many) for many in parts.tolist() if many > 1]
        number = torch.cat([torch.zeros(len(peaks)), *counts])
        source = torch.arange(len(peaks)).repeat_interleave(parts.long() - 1)
        of_all = torch.cat((parts, parts[source]))
        return cls(parts, source, 1 / of_all, (number + 0.5) / of_all)

    def shared(self, values: Tensor) -> Tensor:
        """values [rows, inputs] -> [rows, inputs and copies], each a part of its input."""
        return torch.cat((values, values.index_select(1, self.source)), 1).mul_(self.share)

    def apart(self, values: Tensor) -> Tensor:
        """values [rows, inputs] -> whole numbers [rows, inputs and copies], which add up to the nearest whole ones."""
        return self.shared(values).add_(self.offset).floor_()


def _bar(peaks: Tensor, most: int) -> Tensor:
    """The lowest bar under which all `peaks` come with at most `most` copies more (bisection)."""
    low, high = torch.zeros(()), peaks.max().clamp_min(1e-30)
    for _ in range(30):
        middle = (low + high) / 2
        fits = ((peaks / middle).ceil_() - 1).clamp_min_(0).sum() <= most
        low, high = (low, middle) if fits else (middle, high)
    return high


@cache
def can_be_integer(device: torch.device) -> bool:
    """Whether this build of torch computes integer weights on `device`, and does it right: on x86 CPUs."""
    if device.type != "cpu" or platform.machine() not in ("x86_64", "AMD64"):
        return False
    signs = torch.tensor([1.0, -1.0]).repeat(32)
    both = torch.stack((signs, -2 * signs))
    try:
        found = IntegerWeight(both)(both)
    except (RuntimeError, AttributeError):
        return False
    return torch.allclose(found, both @ both.T, rtol=0.01)
