"""A linear layer that may hold several projections of a checkpoint at once, with three companions.

Query, key and value projections read the same input, and so do gate and up: their weights are stored
joined, one product each instead of three and two. Beside the weight may stand

- a low-rank *adapter*, weighed for each row of the batch;
- a *small* copy of the weight for passes over many tokens (see `integer`, `float8`), made at its first use;
- a *quick* copy of the weight: int8 with one scale an output, for passes over a few tokens on a CPU.
  Those are bound by the bytes of weights they read: 17 ms instead of 42 a token for all of SmolLM2 (2
  cores, AVX2, float32). The activations are rounded to bfloat16. Its result for a row does not depend on
  how many rows are computed together, to the last bit, which a matrix product does not promise; a test
  holds that.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carrara.engines.model.small import Small, SmallWeight, small_weight

Quick = bool | Literal["canvas"]
"""False: the weight as it is. True: its quick copy. "canvas": its small copy."""


class JoinedLinear(nn.Module):
    """`parts` maps a checkpoint's projection name to its number of output features, in stored order."""

    adapter_down: Tensor | None
    adapter_up: Tensor | None
    quick: QuickWeight | None
    small: SmallWeight | None

    def __init__(self, inputs: int, parts: dict[str, int], bias: bool, dtype: torch.dtype) -> None:
        super().__init__()
        outputs = sum(parts.values())
        self.parts = dict(parts)
        self.weight = nn.Parameter(torch.empty(outputs, inputs, dtype=dtype), requires_grad=False)
        self.bias = (
            nn.Parameter(torch.empty(outputs, dtype=dtype), requires_grad=False) if bias else None
        )
        self.register_buffer("adapter_down", None, persistent=False)
        self.register_buffer("adapter_up", None, persistent=False)
        self.quick = self.small = None
        self.small_kind: Small | None = None
        self.peaks: Tensor | None = None

    def rows_of(self, part: str | None) -> slice:
        """Where the outputs of `part` lie among all outputs; None stands for all of them."""
        if part is None:
            return slice(0, self.weight.shape[0])
        start = 0
        for name, size in self.parts.items():
            if name == part:
                return slice(start, start + size)
            start += size
        raise KeyError(part)

    def forward(self, x: Tensor, switch: Tensor | None = None, quick: Quick = False) -> Tensor:
        """x [B, T, inputs] -> [B, T, outputs]. `switch` [B, 1, 1] weighs the adapter for each row."""
        copy = self._copy(quick)
        if copy is None:
            y = F.linear(x, self.weight, self.bias)
        else:
            y = copy(x) if self.bias is None else copy(x) + self.bias
        if switch is not None and self.adapter_down is not None and self.adapter_up is not None:
            down = F.linear(x.to(self.adapter_down.dtype), self.adapter_down)
            y = y + F.linear(down * switch, self.adapter_up)
        return y

    def _copy(self, quick: Quick) -> QuickWeight | SmallWeight | None:
        if quick != "canvas":
            return self.quick if quick else None
        if self.small is None and self.small_kind is not None:
            self.small = small_weight(self.small_kind, self.weight, self.peaks)
        return self.small


class QuickWeight:
    """An int8 copy of a weight [outputs, inputs], symmetric, one bfloat16 scale an output."""

    def __init__(self, weight: Tensor) -> None:
        # The scale is rounded (a little up, so that nothing exceeds 127) before it is divided by:
        # rounding it costs no accuracy.
        low, high = weight.aminmax(dim=1, keepdim=True)
        peak = torch.maximum(-low, high).float().clamp_min(1e-30)
        scale = (peak / 127 * (1 + 2**-8)).to(torch.bfloat16)
        # With AVX-512 the operator reads inputs 16 at a time, also beyond the end of the last row: torch
        # 2.13 crashed on 72 inputs.
        self._padding = -weight.shape[1] % 32
        values = (weight / scale.float()).round_().to(torch.int8)
        self.values = F.pad(values, (0, self._padding)) if self._padding else values
        self.scale = scale[:, 0].contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        """x [..., inputs] -> [..., outputs] in the dtype of x."""
        flat = x.reshape(-1, x.shape[-1]).to(torch.bfloat16)
        if self._padding:
            flat = F.pad(flat, (0, self._padding))
        y = torch._weight_int8pack_mm(flat, self.values, self.scale)
        return y.to(x.dtype).view(*x.shape[:-1], -1)


def can_be_quick(device: torch.device) -> bool:
    """Whether this build of torch computes quick weights on `device`: on CPUs, if the operator is there."""
    if device.type != "cpu" or not hasattr(torch, "_weight_int8pack_mm"):
        return False
    try:
        QuickWeight(torch.ones(32, 64))(torch.ones(1, 64))
    except RuntimeError:
        return False
    return True
