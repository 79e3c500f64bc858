"""LLaDA's sampler (arXiv 2502.09992) and Fast-dLLM's for it (arXiv 2505.22618)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from carrara.engines.diffusion.block_canvas import BlockCanvas, after, when_settled
from carrara.engines.diffusion.commit import confidence_threshold, scheduled
from carrara.engines.diffusion.passes import Guidance, Kind, Passes, Trace, full_sight
from carrara.engines.diffusion.propose import looking
from carrara.engines.diffusion.quotas import even, plan
from carrara.engines.diffusion.refine import refine
from carrara.engines.diffusion.samplers.rows import (
    Prompts,
    blocks_behind,
    check_one_length,
    padded_left,
)
from carrara.engines.model.llama import Llama


def generate(
    model: Llama,
    prompts: Prompts,
    *,
    mask_id: int,
    pad_id: int,
    new: int,
    block: int,
    steps: int,
    guidance: float = 0.0,
    trace: Trace | None = None,
) -> Tensor:
    """`steps` passes in equal parts for each block, needed or not; the whole canvas each time. [B, T].

    Raises:
        ValueError: the answer is no whole number of blocks, or the steps no multiple of their number.
    """
    each = steps_a_block(new, block, steps)
    rows = padded_left(prompts, new, mask_id, pad_id, model.device)
    given = rows.tokens != mask_id
    guide = Guidance(guidance, given, mask_id) if guidance > 0 else None
    starts = torch.full_like(rows.prompts, rows.tokens.shape[1] - new)
    blocks = blocks_behind(starts, new, block)
    canvas = BlockCanvas(rows.tokens, mask_id, blocks, after(each), context=blocks[0].start)
    passes = Passes(model, full_sight(rows.real), "whole", guide, trace)
    refine(canvas, looking(passes), scheduled(plan(even, each)))
    return canvas.tokens


def fast(
    model: Llama,
    prompts: Prompts,
    *,
    mask_id: int,
    new: int,
    block: int,
    steps: int,
    cache: Literal["none", "prefix", "dual"] = "none",
    threshold: float | None = None,
    trace: Trace | None = None,
) -> Tensor:
    """As `generate`, but a block ends once it is settled; with `threshold`, what is that sure is committed
    and `steps` counts for nothing. With a cache, each block takes two passes at least.

    Rows have no padding: prompts must be of one length.

    Raises:
        ValueError: see `generate`; or prompts of several lengths.
    """
    each = steps_a_block(new, block, steps)
    check_one_length(prompts)
    rows = padded_left(prompts, new, mask_id, mask_id, model.device)
    blocks = blocks_behind(rows.prompts, new, block)
    ends = when_settled(least=0 if cache == "none" else 2)
    canvas = BlockCanvas(rows.tokens, mask_id, blocks, ends, context=blocks[0].start)
    passes = Passes(model, full_sight(rows.real), kind_of(cache), trace=trace)
    rule = scheduled(plan(even, each)) if threshold is None else confidence_threshold(threshold)
    refine(canvas, looking(passes), rule)
    return canvas.tokens


def kind_of(cache: Literal["none", "prefix", "dual"]) -> Kind:
    return "whole" if cache == "none" else cache


def steps_a_block(new: int, block: int, steps: int) -> int:
    """How many steps each block has.

    Raises:
        ValueError: something does not divide.
    """
    if new % block or steps % (new // block):
        raise ValueError(
            f"{new} new tokens must be whole blocks of {block}, and {steps} steps a multiple of their number"
        )
    return steps // (new // block)
