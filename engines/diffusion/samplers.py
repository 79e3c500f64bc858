"""The published samplers of adapted Llama models, written with the loop of this engine: same steps, same answers.

For checkpoints that were trained for them, and as the proof that loop and rules are exact. Greedy, one row.

Legend: T positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from carrara.engines.diffusion.canvas import Canvas, View
from carrara.engines.diffusion.commit import fixed_steps, quotas
from carrara.engines.diffusion.free_canvas import FreeCanvas
from carrara.engines.diffusion.refine import refine
from carrara.engines.model.attention import block_causal, full
from carrara.engines.model.kv import KVCache
from carrara.engines.model.llama import Llama

Trace = Callable[[list[int]], None]
"""Sees all tokens after each pass."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks of `size`, `steps` passes each. `shifted`: logits at i-1 predict the token at i."""

    size: int
    steps: int
    mask_id: int
    shifted: bool = False


def masked_diffusion(
    model: Llama,
    tokens: Sequence[int],
    start: int,
    blocks: Blocks,
    trace: Trace = lambda tokens: None,
) -> list[int]:
    """Fill the masks among `tokens` from `start` on, block after block, everything in sight of everything (MDLM).

    A block without masks costs nothing. After LLaDA (arXiv 2502.09992) as adapted models use it.
    """
    found = list(tokens)
    for begin in range(start, len(found), blocks.size):
        end = min(begin + blocks.size, len(found))

        def forward(clean: list[int], view: View, begin: int = begin) -> Tensor:
            whole = [*found[:begin], *view.tokens, *found[begin + len(view.tokens) :]]
            logits = _everywhere(model, whole)
            if blocks.shifted:
                logits = torch.cat((logits[:1], logits[:-1]))
            return logits[[begin + offset for offset in view.offsets]]

        block = found[begin:end]
        found[begin:end] = _filled(block, blocks, forward, _tracer(trace, found, begin))
    return found


def block_diffusion(
    model: Llama,
    prompt: Sequence[int],
    new_tokens: int,
    blocks: Blocks,
    eos_id: int | None = None,
    trace: Trace = lambda tokens: None,
) -> list[int]:
    """Write up to `new_tokens` behind `prompt` in blocks that see what is before them and themselves (BD3LM).

    Prompt and settled blocks are encoded once, block-causally, with borders that lie on the prompt's end. A block
    with `eos_id` is the last one. After block diffusion (arXiv 2503.09573) as adapted models use it.
    """
    found = list(prompt)
    cache = KVCache(model.config, 1, len(prompt) + new_tokens, model.dtype, model.device)
    cached, last = 0, torch.empty(0)
    padding = -len(prompt) % blocks.size
    while (room := len(prompt) + new_tokens - len(found)) > 0:
        last = _encode(model, cache, found, cached, blocks.size, -padding)
        cached = len(found)

        def forward(
            clean: list[int], view: View, cached: int = cached, last: Tensor = last
        ) -> Tensor:
            end = cached + len(view.tokens)
            mask = full(_row(model, [end])[0], len(view.tokens), end)
            positions = _row(model, range(cached, end))
            logits: Tensor = model(_row(model, view.tokens), positions, mask, cache)
            logits = logits[0]
            if blocks.shifted:
                logits = torch.cat((last[None], logits[:-1]))
            return logits[view.offsets]

        block = [blocks.mask_id] * min(blocks.size, room)
        found += block
        found[cached:] = _filled(block, blocks, forward, _tracer(trace, found, cached))
        if eos_id is not None and eos_id in found[cached:]:
            break
    return found


def _filled(
    block: list[int],
    blocks: Blocks,
    forward: Callable[[list[int], View], Tensor],
    watch: Callable[[Canvas, int], None],
) -> list[int]:
    """Refine one block by the linear schedule of its masks."""
    canvas = FreeCanvas(block, len(block), blocks.mask_id)
    shares = torch.tensor([quotas(block.count(blocks.mask_id), blocks.steps)])
    refine(canvas, forward, fixed_steps(shares), watch=watch)
    return canvas.tokens


def _everywhere(model: Llama, tokens: Sequence[int]) -> Tensor:
    """Logits [T, V] under full attention."""
    size = len(tokens)
    mask = full(_row(model, [size])[0], size, size)
    logits: Tensor = model(_row(model, tokens), _row(model, range(size)), mask)
    return logits[0]


def _encode(
    model: Llama, cache: KVCache, tokens: list[int], start: int, block: int, first: int
) -> Tensor:
    """Bring the tokens from `start` on into the cache, block-causally with blocks from `first` on; the logits [V]
    of the last one."""
    positions = _row(model, range(start, len(tokens)))
    mask = block_causal(positions, len(tokens), block, first, _row(model, [len(tokens)])[0])
    pick = _row(model, [len(tokens) - start - 1])
    logits: Tensor = model(_row(model, tokens[start:]), positions, mask, cache, pick=pick)
    return logits[0, 0]


def _row(model: Llama, values: Sequence[int]) -> Tensor:
    """Integers as a batch of one row on the model's device, [1, T]."""
    return torch.tensor([list(values)], device=model.device)


def _tracer(trace: Trace, tokens: list[int], begin: int) -> Callable[[Canvas, int], None]:
    def watch(canvas: Canvas, passes: int) -> None:
        assert isinstance(canvas, FreeCanvas)
        end = begin + len(canvas.tokens)
        trace([*tokens[:begin], *canvas.tokens, *tokens[end:]])

    return watch
