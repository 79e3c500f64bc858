"""Products of int8 weights with int8 activations: for passes over many tokens on a CPU.

Such passes are bound by arithmetic. Measured with one thread of a processor with AVX2 alone: half the time of
float32 at 84 tokens, a third at 16, and five times the speed of `linear.QuickWeight`, which is for single
tokens and keeps the activations in bfloat16.

- Weights have 7 bits and one scale an output. Two products of 8 and 8 bits overflow the 16 bits in which
  processors without VNNI add them; 7 and 8 bits do not, and give the same sums on every processor.
- Activations have 8 bits and one scale a row: every row is divided by its own peak, and zero lies at 128.

The operator is oneDNN's, which torch's compiler emits for quantised models; it takes plain tensors of integers.
Sums of integers are exact, so the result for a row does not depend on how many rows are computed together,
to the last bit. What it costs in accuracy is in `docs/diffusion.md`.
"""

from __future__ import annotations

import platform
from functools import cache
from typing import Any

import torch
from torch import Tensor

_TOP = 63
_PEAK, _ZERO = 127, 128


class IntegerWeight:
    """A 7-bit copy of a weight [outputs, inputs], symmetric, one scale an output."""

    def __init__(self, weight: Tensor) -> None:
        low, high = weight.aminmax(dim=1)
        self._scale = torch.maximum(-low, high).clamp_min(1e-30) / _TOP
        values = (weight / self._scale[:, None]).round_().clamp_(-_TOP, _TOP).to(torch.int8)
        self._packed = torch.ops.onednn.qlinear_prepack(values, None)
        self._zeros = torch.zeros(len(weight), dtype=torch.int32)
        self.outputs = len(weight)

    def __call__(self, x: Tensor) -> Tensor:
        """x [..., inputs] -> [..., outputs] in the dtype of x."""
        flat = x.reshape(-1, x.shape[-1]).float()
        peak = torch.maximum(flat.amax(1, keepdim=True), -flat.amin(1, keepdim=True))
        peak = peak.clamp_min_(1e-30)
        scaled = flat / peak
        if not bool(peak.isfinite().all()):
            scaled.nan_to_num_(
                0.0
            )  # a row without numbers has none after it either, and harms no other
        steps = scaled.mul_(_PEAK).round_().add_(_ZERO).to(torch.uint8)
        y = self._product(steps).mul_(peak)
        return y.to(x.dtype).view(*x.shape[:-1], self.outputs)

    def _product(self, steps: Tensor) -> Tensor:
        """steps [rows, inputs] uint8, each 1 / _PEAK, from _ZERO on -> [rows, outputs] float32."""
        weight = (self._packed, self._scale, self._zeros, None)
        plain: tuple[Any, ...] = (1.0, 0, torch.float32, "none", [], "")  # nothing after the sum
        found: Tensor = torch.ops.onednn.qlinear_pointwise(steps, 1 / _PEAK, _ZERO, *weight, *plain)
        return found


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
