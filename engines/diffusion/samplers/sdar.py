"""SDAR's sampler (arXiv 2510.06303): blocks counted from the start of the prompt, settled ones cached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from carrara.engines.diffusion.block_canvas import Block, BlockCanvas, when_settled
from carrara.engines.diffusion.commit import (
    CommitRule,
    fixed_steps,
    in_order,
    threshold_or_quota,
)
from carrara.engines.diffusion.passes import Passes, Trace, block_sight
from carrara.engines.diffusion.propose import PLAIN, Proposer, looking
from carrara.engines.diffusion.quotas import even
from carrara.engines.diffusion.refine import refine
from carrara.engines.diffusion.samplers.rows import blank, whole_blocks
from carrara.engines.model.llama import Llama

Order = Literal["low_confidence_static", "low_confidence_dynamic", "sequential"]


def generate(
    model: Llama,
    prompt: Sequence[int],
    *,
    mask_id: int,
    new: int,
    block: int,
    steps: int,
    order: Order = "low_confidence_dynamic",
    threshold: float = 0.85,
    stop_ids: Sequence[int] = (),
    proposer: Proposer = PLAIN,
    trace: Trace | None = None,
) -> Tensor:
    """One row, up to the end of the block in which the last new token stands. [1, T].

    At most `steps` passes a block. Later blocks stay masked once one of `stop_ids` stands behind the prompt.
    """
    quotas = even(block, steps)
    rules: dict[Order, CommitRule] = {
        "low_confidence_static": fixed_steps(torch.tensor([quotas])),
        "low_confidence_dynamic": threshold_or_quota(threshold, quotas),
        "sequential": in_order(quotas),
    }
    context, blocks = whole_blocks(len(prompt), new, block)
    tokens = blank(prompt, blocks, mask_id, model.device)

    def stops(tokens: Tensor, now: Block, over: bool) -> bool:
        return over and not set(stop_ids).isdisjoint(tokens[0, len(prompt) :].tolist())

    canvas = BlockCanvas(tokens, mask_id, blocks, when_settled(most=steps), stops, context=context)
    sight = block_sight(torch.ones_like(tokens, dtype=torch.bool), block)
    passes = Passes(model, sight, "blockwise", trace=trace)
    refine(canvas, looking(passes, proposer), rules[order])
    passes.keep(canvas.take_clean(), canvas.tokens)
    return canvas.tokens
