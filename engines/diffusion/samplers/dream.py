"""Dream's samplers (arXiv 2508.15487) and Fast-dLLM's for it (arXiv 2505.22618). Logits are shifted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from carrara.engines.diffusion.block_canvas import BlockCanvas, after, when_settled
from carrara.engines.diffusion.commit import (
    Carried,
    CommitRule,
    at_random,
    confidence_threshold,
    falling,
    in_order,
)
from carrara.engines.diffusion.measure import Measure, margin, negative_entropy, probability
from carrara.engines.diffusion.passes import Passes, Sight, Trace, full_sight
from carrara.engines.diffusion.propose import SHIFTED, Proposer, looking
from carrara.engines.diffusion.quotas import falls
from carrara.engines.diffusion.refine import refine
from carrara.engines.diffusion.samplers.llada import steps_a_block
from carrara.engines.diffusion.samplers.rows import Prompts, Rows, blocks_behind, padded_left
from carrara.engines.model.llama import Llama

Order = Literal["origin", "maskgit_plus", "topk_margin", "entropy"]
MEASURES: dict[Order, Measure] = {
    "origin": probability,
    "maskgit_plus": probability,
    "topk_margin": margin,
    "entropy": negative_entropy,
}


def generate(
    model: Llama,
    prompts: Prompts,
    *,
    mask_id: int,
    pad_id: int,
    new: int,
    steps: int,
    order: Order = "entropy",
    eps: float = 1e-3,
    proposer: Proposer = SHIFTED,
    draw: Callable[[int], Tensor] = torch.rand,
    trace: Trace | None = None,
) -> Tensor:
    """Exactly `steps` passes over the whole canvas; the surest by `order`, or at random with "origin". [B, T]."""
    shares = falls(steps, eps)
    rule = at_random(shares, draw) if order == "origin" else falling(shares)
    rows = padded_left(prompts, new, mask_id, pad_id, model.device)
    return _one_block(model, rows, new, mask_id, rule, lambda: steps, proposer, trace)


def carried_threshold(
    model: Llama,
    prompt: list[int],
    *,
    mask_id: int,
    new: int,
    steps: int,
    threshold: float,
    proposer: Proposer = SHIFTED,
    trace: Trace | None = None,
) -> Tensor:
    """One row: equal quotas for `steps` passes, what is not sure enough carried over. [1, T].

    Raises:
        ValueError: the new tokens are no multiple of the steps.
    """
    if new % steps:
        raise ValueError(f"{new} new tokens are no multiple of {steps} steps")
    rule = Carried(new, steps, threshold)
    rows = padded_left([prompt], new, mask_id, mask_id, model.device)
    return _one_block(model, rows, new, mask_id, rule, lambda: rule.steps, proposer, trace)


def blocks(
    model: Llama,
    prompts: Prompts,
    *,
    mask_id: int,
    new: int,
    block: int,
    steps: int,
    cache: Literal["prefix", "dual"],
    threshold: float | None = None,
    eps: float = 1e-3,
    proposer: Proposer | None = None,
    trace: Trace | None = None,
) -> Tensor:
    """Block by block with a cache. A block's first pass commits its first position, the others what is at
    least `threshold` sure, or with None the surest by entropy in the time that is left. [B, T].

    Raises:
        ValueError: the answer is no whole number of blocks, or the steps no multiple of their number.
    """
    each = steps_a_block(new, block, steps)
    measure = negative_entropy if threshold is None else probability
    rows = padded_left(prompts, new, mask_id, mask_id, model.device)
    parts = blocks_behind(rows.prompts, new, block)
    if threshold is None:
        rule, ends = falling(falls(each, eps)[1:]), when_settled(2, max(2, each))
    else:
        rule, ends = confidence_threshold(threshold), when_settled(2)
    canvas = BlockCanvas(rows.tokens, mask_id, parts, ends, context=parts[0].start)
    passes = Passes(model, full_sight(rows.real), cache, trace=trace)
    proposer = proposer or Proposer(measure, shifted=True)
    refine(canvas, looking(passes, proposer), _first_position_first(rule))
    return canvas.tokens


def _one_block(
    model: Llama,
    rows: Rows,
    new: int,
    mask_id: int,
    rule: CommitRule,
    steps: Callable[[], int],
    proposer: Proposer,
    trace: Trace | None,
) -> Tensor:
    starts = torch.full_like(rows.prompts, rows.tokens.shape[1] - new)
    parts = blocks_behind(starts, new, new)
    canvas = BlockCanvas(
        rows.tokens, mask_id, parts, lambda now: after(steps())(now), context=parts[0].start
    )
    passes = Passes(model, counted_sight(rows.real), "whole", trace=trace)
    refine(canvas, looking(passes, proposer), rule)
    return canvas.tokens


def counted_sight(real: Tensor) -> Sight:
    """Everything sees everything but padding; positions count what is real, padding stands at 1."""
    positions = torch.where(real, real.cumsum(1) - 1, 1)
    return full_sight(real, positions)


def _first_position_first(rule: CommitRule) -> CommitRule:
    first = in_order([1])

    def rest(confidence: Tensor, undecided: Tensor, step: int) -> Tensor:
        return rule(confidence, undecided, step - 1) if step else first(confidence, undecided, 0)

    return rest
