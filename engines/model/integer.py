"""Products of int8 weights with int8 activations: for passes over many tokens on a CPU.

Such passes are bound by arithmetic. Measured with one thread of a processor with AVX2 alone: half the time of
float32 at 84 tokens, a third at 16, and five times the speed of `linear.QuickWeight`, which is for single
tokens and keeps the activations in bfloat16.

- Weights have 7 bits and one scale an output. Two products of 8 and 8 bits overflow the 16 bits in which
  processors without VNNI add them; 7 and 8 bits do not, and give the same sums on every processor.
- Activations have 8 bits and one scale a row. The operator takes one scale for all rows, from their least
  and greatest value: every row is divided by its own peak first, and one more row holds -1 and 1.

Sums of integers are exact, so the result for a row does not depend on how many rows are computed together,
to the last bit. What it costs in accuracy is in `docs/diffusion.md`.
"""

from __future__ import annotations

import warnings
from functools import cache

import torch
from torch import Tensor

_TOP = 63


class IntegerWeight:
    """A 7-bit copy of a weight [outputs, inputs], symmetric, one scale an output."""

    def __init__(self, weight: Tensor) -> None:
        low, high = weight.aminmax(dim=1)
        scale = torch.maximum(-low, high).double().clamp_min(1e-30) / _TOP
        values = (weight / scale.float()[:, None]).round_().clamp_(-_TOP, _TOP).to(torch.int8)
        with warnings.catch_warnings():
            # torch 2.13 deprecates the type of the argument, there is no other way to the operator yet.
            warnings.simplefilter("ignore")
            quantised = torch._make_per_channel_quantized_tensor(
                values, scale, torch.zeros(len(scale), dtype=torch.int64), 0
            )
        self._packed = torch.ops.quantized.linear_prepack(quantised, None)
        self.outputs = len(weight)

    def __call__(self, x: Tensor) -> Tensor:
        """x [..., inputs] -> [..., outputs] in the dtype of x."""
        flat = x.reshape(-1, x.shape[-1]).float()
        rows = len(flat)
        peak = torch.maximum(flat.amax(1, keepdim=True), -flat.amin(1, keepdim=True))
        peak = peak.clamp_min_(1e-30)
        scaled = flat.new_empty(rows + 1, flat.shape[1])
        torch.div(flat, peak, out=scaled[:rows])
        if not bool(peak.isfinite().all()):
            scaled.nan_to_num_(
                0.0
            )  # a row without numbers has none after it either, and harms no other
        scaled[rows] = 0.0
        scaled[rows, 0], scaled[rows, 1] = 1.0, -1.0
        found: Tensor = torch.ops.quantized.linear_dynamic(scaled, self._packed, False)
        y = found[:rows].mul_(peak)
        return y.to(x.dtype).view(*x.shape[:-1], self.outputs)


@cache
def can_be_integer(device: torch.device) -> bool:
    """Whether this build of torch computes integer weights on `device`, and does it right: on x86 CPUs."""
    if device.type != "cpu" or torch.backends.quantized.engine not in ("x86", "fbgemm"):
        return False
    signs = torch.tensor([1.0, -1.0]).repeat(32)
    both = torch.stack((signs, -2 * signs))
    try:
        found = IntegerWeight(both)(both)
    except (RuntimeError, AttributeError):
        return False
    return torch.allclose(found, both @ both.T, rtol=0.01)
