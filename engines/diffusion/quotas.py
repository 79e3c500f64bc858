"""How many positions each denoising step commits, where a schedule fixes it beforehand.

Legend: B canvases, T positions.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor


def even(total: int, steps: int) -> list[int]:
    """`total` in `steps` equal parts, the first ones larger by one where it does not divide."""
    each, more = divmod(total, steps)
    return [each + (step < more) for step in range(steps)]


def rounded(masked: int, steps: int) -> list[int]:
    """How many of `masked` positions each of `steps` steps commits; steps without any are left out.

    The linear schedule of masked diffusion as dllm rounds it: of what is left, the share by which the mask
    rate falls. The rate, one minus the share that is unmasked, is taken in single precision as published
    samplers do: halves are rounded by it.
    """
    unmasked = 1 - torch.arange(steps, -1, -1, dtype=torch.float32) / steps
    rates = (1 - unmasked).tolist()
    falls = [1 - _single(after / before) for before, after in pairwise(rates)]
    found, left = [], masked
    for fall in falls:
        share = round(left * fall)
        if share:
            found.append(share)
        left -= share
    return found


def _single(value: float) -> float:
    return torch.tensor(value, dtype=torch.float32).item()


def falls(steps: int, eps: float = 1e-3) -> list[float]:
    """The share of the undecided that each of `steps` steps commits as time falls from 1 to `eps`; the last
    commits all.

    In single precision, as Dream's sampler computes it: shares are truncated later, and with `steps` equal
    to the number of tokens it is this rounding that lets the first step commit nothing.
    """
    times = torch.linspace(1, eps, steps + 1)
    return [*(1 - times[1:-1] / times[:-2]).tolist(), 1.0]


def plan(shares: Callable[[int, int], list[int]], steps: int) -> Callable[[Tensor], Tensor]:
    """For `commit.scheduled`: the shares of each canvas by its own masks. undecided [B, T] -> [B, steps]."""

    def quotas(undecided: Tensor) -> Tensor:
        rows = [shares(masked, steps) for masked in undecided.sum(1).tolist()]
        width = max(map(len, rows))
        return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], dtype=torch.int64)

    return quotas
