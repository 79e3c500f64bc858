"""The samplers of LLaDA 2.0 and of LLaDA 2.1, which edits what stands in the current block already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from carrara.engines.diffusion.block_canvas import (
    Block,
    BlockCanvas,
    Stops,
    never,
    when_settled,
    when_unedited,
)
from carrara.engines.diffusion.commit import above, threshold_or_quota
from carrara.engines.diffusion.passes import Kind, Passes, Sight, Trace, block_sight
from carrara.engines.diffusion.propose import looking
from carrara.engines.diffusion.quotas import even
from carrara.engines.diffusion.refine import refine
from carrara.engines.diffusion.samplers.rows import Prompts, blank, check_one_length, whole_blocks
from carrara.engines.model.llama import Llama


@dataclass(frozen=True, slots=True)
class Written:
    """The new tokens, and all tokens [1, T] as they were when decoding stopped."""

    answer: list[int]
    canvas: Tensor


def generate(
    model: Llama,
    prompt: Sequence[int],
    *,
    mask_id: int,
    eos_id: int,
    new: int,
    block: int,
    steps: int,
    threshold: float,
    least_a_step: int = 1,
    stops_early: bool = False,
    looks_at_prompt: bool = False,
    kind: Kind = "up to block",
    trace: Trace | None = None,
) -> Written:
    """The new tokens of one row, up to and with the first `eos_id`.

    At most min(steps, new // least_a_step) passes a block. `stops_early` ends the answer as soon as all up to
    the first `eos_id` is settled, otherwise it ends with the block. The reference looks for that first one
    in the prompt, too, and returns nothing where it finds one; `looks_at_prompt` does the same. `kind`
    "blockwise" computes settled blocks once, with the same result.
    """
    start, known = len(prompt), 0

    def first_end(tokens: Tensor) -> int | None:
        found = (tokens[0, start:] == eos_id).nonzero()
        return start + int(found[0]) if len(found) else None

    def stops(tokens: Tensor, now: Block, over: bool) -> bool:
        nonlocal known
        before, known = known, int((tokens[0, start:] == eos_id).sum())
        if over or not stops_early or known <= before:
            return over and known > 0
        end = first_end(tokens)
        in_prompt = looks_at_prompt and eos_id in prompt
        return in_prompt or bool((tokens[0, start:end] != mask_id).all())

    most = min(steps, new // least_a_step)
    tokens = _decoded(model, [prompt], mask_id, new, block, most, threshold, stops, kind, trace)
    end = first_end(tokens)
    if looks_at_prompt and stops_early and end is not None and eos_id in prompt:
        return Written([], tokens)
    last = start + new if end is None else min(end + 1, start + new)
    return Written(tokens[0, start:last].tolist(), tokens)


def sample(
    model: Llama,
    prompts: Prompts,
    *,
    mask_id: int,
    new: int,
    block: int,
    steps: int,
    threshold: float,
    least_a_step: int = 1,
    kind: Kind = "up to block",
    trace: Trace | None = None,
) -> Tensor:
    """As `generate` for prompts of one length, without regard to ends of text: whole rows, [B, T].

    Raises:
        ValueError: prompts of several lengths.
    """
    check_one_length(prompts)

    most = min(steps, new // least_a_step)
    return _decoded(model, prompts, mask_id, new, block, most, threshold, never, kind, trace)


def edit(
    model: Llama,
    prompt: Sequence[int],
    *,
    mask_id: int,
    eos_id: int,
    new: int,
    block: int,
    threshold: float,
    editing_threshold: float,
    most_more: int = 16,
    least: int = 1,
    stops_early: bool = False,
    kind: Kind = "up to block",
    trace: Trace | None = None,
) -> Written:
    """LLaDA 2.1: the new tokens of one row, up to and with the first `eos_id`.

    Each pass commits masks surer than `threshold`, or the `least` surest, and replaces what stands in the
    block by what is surer than `editing_threshold`. A block without masks is looked at again until nothing
    is edited, `most_more` times at most.
    """
    start = len(prompt)
    context, blocks = whole_blocks(start, new, block)
    tokens = blank(prompt, blocks, mask_id, model.device)
    given = torch.arange(tokens.shape[1], device=tokens.device)[None] < start

    def stops(tokens: Tensor, now: Block, over: bool) -> bool:
        answer = tokens[0, start : now.stop]
        return stops_early and over and bool((answer == eos_id).any() and (answer != mask_id).all())

    canvas = BlockCanvas(
        tokens,
        mask_id,
        blocks,
        when_unedited(most_more),
        stops,
        above(editing_threshold),
        given,
        context,
    )
    passes = Passes(model, _sight(tokens, block), kind, trace=trace)
    refine(canvas, looking(passes), threshold_or_quota(threshold, [least]))
    answer: list[int] = canvas.tokens[0, start : start + new].tolist()
    return Written(
        answer[: answer.index(eos_id) + 1] if eos_id in answer else answer, canvas.tokens
    )


def _decoded(
    model: Llama,
    prompts: Prompts,
    mask_id: int,
    new: int,
    block: int,
    steps: int,
    threshold: float,
    stops: Stops,
    kind: Kind,
    trace: Trace | None,
) -> Tensor:
    context, blocks = whole_blocks(len(prompts[0]), new, block)
    tokens = torch.cat([blank(prompt, blocks, mask_id, model.device) for prompt in prompts])
    canvas = BlockCanvas(tokens, mask_id, blocks, when_settled(most=steps), stops, context=context)
    passes = Passes(model, _sight(tokens, block), kind, trace=trace)
    refine(canvas, looking(passes), threshold_or_quota(threshold, even(block, steps)))
    return canvas.tokens


def _sight(tokens: Tensor, block: int) -> Sight:
    return block_sight(torch.ones_like(tokens, dtype=torch.bool), block)
