"""Commit rules: which positions become final in a denoising step.

A rule looks at numbers only: how sure the model is of its best token at each undecided position. New decoding
papers become new functions here.

Legend: B canvases, T positions (or other units of decision, such as gates).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

CommitRule = Callable[[Tensor, Tensor, int], Tensor]
"""(confidence [B, T] float, undecided [B, T] bool, step from 0) -> commit [B, T] bool."""


def confidence_threshold(threshold: float) -> CommitRule:
    """Commit what is at least `threshold` sure, and the surest position of each canvas in any case.

    The forced pick keeps every canvas moving: one with undecided positions settles in at most T steps.
    After the confidence threshold of arXiv 2505.22618.

    Raises:
        ValueError: threshold outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"a confidence threshold is above 0 and at most 1, not {threshold}")

    def rule(confidence: Tensor, undecided: Tensor, step: int) -> Tensor:
        ranked = confidence.masked_fill(~undecided, -torch.inf)
        best = torch.zeros_like(undecided).scatter(1, ranked.argmax(1, keepdim=True), True)
        return undecided & ((ranked >= threshold) | best)

    return rule


def fixed_steps(quotas: Tensor) -> CommitRule:
    """Commit the `quotas[b, step]` surest positions of canvas b, none once its quotas are spent.

    Shape: quotas [B, steps] int. After LLaDA (arXiv 2502.09992), low-confidence remasking.
    """

    def rule(confidence: Tensor, undecided: Tensor, step: int) -> Tensor:
        ranked = confidence.masked_fill(~undecided, -torch.inf)
        commit = torch.zeros_like(undecided)
        if step >= quotas.shape[1]:
            return commit
        for row, quota in enumerate(quotas[:, step].tolist()):
            if quota:
                commit[row, ranked[row].topk(min(quota, ranked.shape[1])).indices] = True
        return commit & undecided

    return rule


def at_least(rule: CommitRule, count: int) -> CommitRule:
    """What `rule` commits, and the surest further positions up to `count` of each canvas."""

    def wider(confidence: Tensor, undecided: Tensor, step: int) -> Tensor:
        commit = rule(confidence, undecided, step)
        ranked = confidence.masked_fill(~undecided, -torch.inf).masked_fill(commit, torch.inf)
        best = ranked.topk(min(count, ranked.shape[1]), dim=1).indices
        return undecided & commit.scatter(1, best, True)

    return wider


def quotas(masked: int, steps: int) -> list[int]:
    """How many of `masked` positions each of `steps` steps commits; steps without any are left out.

    The linear schedule of masked diffusion: of what is left, the share by which the mask rate falls. The rate,
    one minus the share that is unmasked, is taken in single precision as published samplers do: halves are
    rounded by it.
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
