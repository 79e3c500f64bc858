"""Comparing what came out with what was recorded: logits within a tolerance, everything else exactly."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from carrara.engines.goldens.folder import Differs

ATOL, RTOL = 1e-3, 1e-4


def same(found: Any, wanted: Any, what: str) -> None:
    """Raises `Differs` unless both are equal."""
    if isinstance(wanted, Tensor):
        found = torch.as_tensor(found)
        if found.shape != wanted.shape:
            raise Differs(f"{what}: shape {list(found.shape)}, recorded {list(wanted.shape)}")
        if not torch.equal(found, wanted):
            at = (found != wanted).nonzero()[0].tolist()
            raise Differs(
                f"{what} at {at}: {found[tuple(at)].item()}, recorded {wanted[tuple(at)].item()}"
            )
    elif found != wanted:
        raise Differs(f"{what}: {found!r}, recorded {wanted!r}")


def close(found: Tensor, wanted: Tensor, what: str, where: Tensor | None = None) -> None:
    """Raises `Differs` unless both are equal within the tolerance; NaN equals NaN. `where` selects places."""
    if found.shape != wanted.shape:
        raise Differs(f"{what}: shape {list(found.shape)}, recorded {list(wanted.shape)}")
    if where is not None:
        found, wanted = found[where], wanted[where]
    found, wanted = found.float().cpu(), wanted.float().cpu()
    for one, other, said in ((found, wanted, "NaN"), (wanted, found, "recorded as NaN")):
        if (alone := one.isnan() & ~other.isnan()).any():
            at = alone.nonzero()[0].tolist()
            raise Differs(
                f"{what}: {int(alone.sum())} of {alone.numel()} are {said}, at first {at}"
            )
    if not torch.allclose(found, wanted, atol=ATOL, rtol=RTOL, equal_nan=True):
        gap = (found - wanted).abs()
        raise Differs(f"{what}: off by {gap[~gap.isnan()].max().item():.4g}")
