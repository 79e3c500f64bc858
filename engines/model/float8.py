"""Products of float8 weights and activations (e4m3): half the bytes of bfloat16 to read, on GPUs that have them.

A pass over a few canvases is bound by the bytes of weights that it reads. One scale an output for weights, one a row
for activations, sums in float32. An option, not the default: `LocalModel.open(quick=True)` on CUDA.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_TOP = 448.0
"""The largest number of e4m3."""

_STEP = 16
"""Inputs and outputs come in multiples of it."""

_ADA = (8, 9)


class Float8Weight:
    """A float8 copy of a weight [outputs, inputs], one scale an output."""

    def __init__(self, weight: Tensor) -> None:
        self.outputs = len(weight)
        self._padding = -weight.shape[1] % _STEP
        padded = F.pad(weight, (0, self._padding, 0, -self.outputs % _STEP)).float()
        scale = padded.abs().amax(1, keepdim=True).clamp_min_(1e-12) / _TOP
        self.values = (padded / scale).to(torch.float8_e4m3fn)
        self.scale = scale.T.contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        """x [..., inputs] -> [..., outputs] in the dtype of x."""
        flat = F.pad(x.reshape(-1, x.shape[-1]), (0, self._padding)).float()
        peak = flat.abs().amax(1, keepdim=True).clamp_min_(1e-12) / _TOP
        y = torch._scaled_mm(
            (flat / peak).to(torch.float8_e4m3fn),
            self.values.T,
            scale_a=peak,
            scale_b=self.scale,
            out_dtype=torch.bfloat16,
        )
        return y[:, : self.outputs].to(x.dtype).reshape(*x.shape[:-1], self.outputs)


def can_be_float8(device: torch.device) -> bool:
    """Whether `device` is a GPU with float8 products (Ada, Hopper and later), and torch computes them there."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < _ADA:
        return False
    try:
        Float8Weight(torch.ones(16, 16, device=device))(torch.ones(1, 16, device=device))
    except (RuntimeError, AttributeError, TypeError):
        return False
    return True
