"""Rotary position embedding, half-split as Llama checkpoints store it: dimension i turns with i + E/2.

Some families turn only the first R dimensions of a head; the rest pass through.

Legend: B batch, T positions, N heads, E head size, R turned dimensions. After arXiv 2104.09864; the
`llama3` stretch follows the Llama 3.1 release (low frequencies divided by the factor, high ones kept, a
ramp between).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from carrara.engines.model.config import LlamaConfig, RopeScaling


def inverse_frequencies(config: LlamaConfig) -> Tensor:
    """Turns per position of each of the R/2 dimension pairs, [R/2] float32."""
    even = torch.arange(0, config.turned, 2, dtype=torch.float32)
    plain = 1.0 / (config.rope_theta ** (even / config.turned))
    match config.rope_scaling:
        case None:
            return plain
        case RopeScaling("linear", factor):
            return plain / factor
        case RopeScaling(_, factor, low, high, trained):
            wavelength = 2 * math.pi / plain
            ramp = ((trained / wavelength - low) / (high - low)).clamp(0, 1)
            return plain / factor * (1 - ramp) + plain * ramp


class Turns:
    """Cosines and signed sines of every position, made once in steps of STEP positions.

    The sign of the first half is folded into the sines, so that rotating is one roll and two products.
    """

    STEP = 1024

    def __init__(self, config: LlamaConfig) -> None:
        with torch.device("cpu"):  # a model may be built elsewhere, this is computed here
            self._frequencies = inverse_frequencies(config)
            self._table = torch.empty(2, 0, config.turned)

    def at(self, positions: Tensor, dtype: torch.dtype, highest: int) -> tuple[Tensor, Tensor]:
        """For `rotate`: two of [B, T, 1, R], computed in float32. No position is above `highest`."""
        if highest >= self._table.shape[1] or self._table.device != positions.device:
            blocks = range(0, highest + 1, self.STEP)
            self._table = torch.cat([self._block(start) for start in blocks], dim=1).to(
                positions.device
            )
        cos, sin = self._table[:, positions].to(dtype)
        return cos[:, :, None], sin[:, :, None]

    def _block(self, start: int) -> Tensor:
        positions = torch.arange(start, start + self.STEP, dtype=torch.float32, device="cpu")
        turns = positions[:, None] * self._frequencies
        cos, sin = turns.cos(), turns.sin()
        return torch.stack((torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn every head of x [B, T, N, E] by its angles [B, T, N or 1, R]."""
    turned = cos.shape[-1]
    if turned < x.shape[-1]:
        return torch.cat((rotate(x[..., :turned], cos, sin), x[..., turned:]), dim=-1)
    return torch.addcmul(x * cos, x.roll(turned // 2, dims=-1), sin)
