"""dllm's samplers for models adapted to diffusion (arXiv 2602.22661): masked diffusion, infilling and block
diffusion (arXiv 2503.09573); and its port of Fast-dLLM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from carrara.engines.diffusion.block_canvas import Block, BlockCanvas, when_settled
from carrara.engines.diffusion.commit import CommitRule, scheduled
from carrara.engines.diffusion.passes import Guidance, Passes, Sight, Trace, block_sight, full_sight
from carrara.engines.diffusion.propose import PLAIN, Proposer, looking
from carrara.engines.diffusion.quotas import plan, rounded
from carrara.engines.diffusion.refine import refine
from carrara.engines.diffusion.samplers.llada import kind_of
from carrara.engines.diffusion.samplers.rows import (
    Prompts,
    blocks_behind,
    check_one_length,
    padded_left,
    padded_right,
)
from carrara.engines.model.llama import Llama


@dataclass(frozen=True, slots=True)
class Guide:
    """Classifier-free guidance of strength `scale`; tokens of `kept` stay in the unconditional rows, too."""

    scale: float = 0.0
    kept: Sequence[int] = ()

    def over(self, tokens: Tensor, real: Tensor, mask_id: int) -> Guidance | None:
        if self.scale <= 0:
            return None
        given = (tokens != mask_id) & real
        if self.kept:
            given &= ~torch.isin(tokens, torch.tensor(list(self.kept), device=tokens.device))
        return Guidance(self.scale, given, mask_id)


UNGUIDED = Guide()


def masked_diffusion(
    model: Llama,
    prompts: Prompts,
    *,
    mask_id: int,
    pad_id: int,
    new: int,
    block: int,
    steps: int,
    proposer: Proposer = PLAIN,
    guide: Guide = UNGUIDED,
    cache: Literal["none", "prefix", "dual"] = "none",
    rule: CommitRule | None = None,
    trace: Trace | None = None,
) -> Tensor:
    """`new` tokens behind each prompt, block after block, everything in sight of everything. [B, T].

    `rule` None: the linear schedule's quotas, at most ceil(steps / blocks) passes a block. Another one
    takes as many passes as it needs, with the dual cache at most so many.

    Raises:
        ValueError: a cache for prompts of several lengths, whose blocks lie in different columns.
    """
    if cache != "none":
        check_one_length(prompts)
    rows = padded_right(prompts, new, mask_id, pad_id, model.device)
    blocks = blocks_behind(rows.prompts, new, block)
    each = -(-steps // len(blocks))
    most = each if rule is None or cache == "dual" else None
    canvas = BlockCanvas(
        rows.tokens, mask_id, blocks, when_settled(most=most), context=blocks[0].start
    )
    guidance = guide.over(rows.tokens, rows.real, mask_id)
    passes = Passes(model, full_sight(rows.real), kind_of(cache), guidance, trace)
    refine(canvas, looking(passes, proposer), rule or scheduled(plan(rounded, each)))
    return canvas.tokens


def infill(
    model: Llama,
    texts: Prompts,
    *,
    mask_id: int,
    pad_id: int,
    block: int | None,
    steps: int,
    proposer: Proposer = PLAIN,
    guide: Guide = UNGUIDED,
    trace: Trace | None = None,
) -> Tensor:
    """Fill the masks in `texts`, in blocks (None: one) from column 0 on. Blocks without masks cost nothing."""
    rows = padded_right(texts, 0, mask_id, pad_id, model.device)
    width = rows.tokens.shape[1]
    size = block or width
    blocks = [Block(at, min(at + size, width)) for at in range(0, width, size)]
    each = -(-steps // len(blocks))
    canvas = BlockCanvas(rows.tokens, mask_id, blocks, when_settled(most=each))
    guidance = guide.over(rows.tokens, rows.real, mask_id)
    passes = Passes(model, full_sight(rows.real), "whole", guidance, trace)
    refine(canvas, looking(passes, proposer), scheduled(plan(rounded, each)))
    return canvas.tokens


def block_diffusion(
    model: Llama,
    prompts: Prompts,
    *,
    mask_id: int,
    pad_id: int,
    eos_id: int,
    new: int,
    block: int,
    steps_a_block: int,
    proposer: Proposer = PLAIN,
    guide: Guide = UNGUIDED,
    hides_written_pads: bool = False,
    trace: Trace | None = None,
) -> Tensor:
    """`new` tokens behind each prompt in blocks that see what is before them and themselves. [B, T].

    Ends after the block in which the last of the rows has written `eos_id`. Each block begins with one
    pass over all that is before it. The reference takes any `pad_id` in a prompt or a settled block for
    padding; `hides_written_pads` does so, too.
    """
    rows = padded_left(prompts, new, mask_id, pad_id, model.device, multiple=block)
    start = rows.tokens.shape[1] - new
    blocks = blocks_behind(torch.full_like(rows.prompts, start), new, block)

    def stops(tokens: Tensor, now: Block, over: bool) -> bool:
        return over and bool((tokens[:, start : now.stop] == eos_id).any(1).all())

    ends = when_settled(most=steps_a_block)
    canvas = BlockCanvas(rows.tokens, mask_id, blocks, ends, stops, context=start)
    real = rows.tokens != pad_id if hides_written_pads else rows.real
    guidance = guide.over(rows.tokens, real, mask_id)

    def resight(tokens: Tensor) -> Sight:
        return block_sight(tokens != pad_id, block)

    passes = Passes(
        model,
        block_sight(real, block),
        "again",
        guidance,
        trace,
        resight if hides_written_pads else None,
    )
    refine(canvas, looking(passes, proposer), scheduled(plan(rounded, steps_a_block)))
    return canvas.tokens[:, : canvas.reached]
