"""Rotary position embedding, half-split as Llama checkpoints store it: dimension i turns with i + E/2.

Legend: B batch, T positions, N heads, E head size. After arXiv 2104.09864; the `llama3` stretch follows
the Llama 3.1 release (low frequencies divided by the factor, high ones kept, a ramp between).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from carrara.engines.model.config import LlamaConfig, RopeScaling


def inverse_frequencies(config: LlamaConfig) -> Tensor:
    """Turns per position of each of the E/2 dimension pairs, [E/2] float32."""
    even = torch.arange(0, config.head_dim, 2, dtype=torch.float32)
    plain = 1.0 / (config.rope_theta ** (even / config.head_dim))
    match config.rope_scaling:
        case None:
            return plain
        case RopeScaling("linear", factor):
            return plain / factor
        case RopeScaling(_, factor, low, high, trained):
            wavelength = 2 * math.pi / plain
            ramp = ((trained / wavelength - low) / (high - low)).clamp(0, 1)
            return plain / factor * (1 - ramp) + plain * ramp


def angles(frequencies: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines for `rotate`, each [B, T, 1, E] float32.

    The sign of the first half is folded into the sines, so that rotating is one roll and two products.
    """
    turns = positions[..., None].to(torch.float32) * frequencies
    cos, sin = turns.cos(), turns.sin()
    both_cos = torch.cat((cos, cos), dim=-1)
    both_sin = torch.cat((-sin, sin), dim=-1)
    return both_cos[:, :, None], both_sin[:, :, None]


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn every head of x [B, T, N, E] by its angles [B, T, N or 1, E]."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, dims=-1), sin)
