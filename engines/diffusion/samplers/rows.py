"""Prompts of different lengths as rows of one batch, with masks where the answer will stand.

Legend: B rows, T columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from carrara.engines.diffusion.block_canvas import Block

Prompts = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class Rows:
    """Tokens [B, T] int64 and which of them are no padding, [B, T] bool. `prompts` [B]: prompts' lengths."""

    tokens: Tensor
    real: Tensor
    prompts: Tensor


def padded_left(
    prompts: Prompts, new: int, mask_id: int, pad_id: int, device: torch.device, multiple: int = 1
) -> Rows:
    """Prompts end in one column, the first multiple of `multiple` with room for all, and `new` masks follow."""
    width = -(-max(map(len, prompts)) // multiple) * multiple
    tokens = [[pad_id] * (width - len(prompt)) + [*prompt] + [mask_id] * new for prompt in prompts]
    real = [[False] * (width - len(prompt)) + [True] * (len(prompt) + new) for prompt in prompts]
    return _rows(tokens, real, prompts, device)


def padded_right(
    prompts: Prompts, new: int, mask_id: int, pad_id: int, device: torch.device
) -> Rows:
    """Prompts begin in column 0, `new` masks follow each, and padding fills the row."""
    width = max(map(len, prompts)) + new
    tokens, real = [], []
    for prompt in prompts:
        size = len(prompt) + new
        tokens.append([*prompt] + [mask_id] * new + [pad_id] * (width - size))
        real.append([True] * size + [False] * (width - size))
    return _rows(tokens, real, prompts, device)


def blocks_behind(starts: Tensor, new: int, size: int) -> list[Block]:
    """Blocks of `size` over `new` columns that begin where each row's prompt ends, the last one shorter."""
    first, last = int(starts.min()), int(starts.max())
    found = []
    for begin in range(0, new, size):
        end = min(begin + size, new)
        found.append(Block(first + begin, last + end, starts + end))
    return found


def whole_blocks(prompt: int, new: int, size: int) -> tuple[int, list[Block]]:
    """Blocks counted from column 0 that cover prompt and answer: how many columns hold whole blocks of the
    prompt, and the blocks from there on."""
    context = prompt // size * size
    total = -(-(prompt + new) // size) * size
    return context, [Block(start, start + size) for start in range(context, total, size)]


def blank(
    prompt: Sequence[int], blocks: Sequence[Block], mask_id: int, device: torch.device
) -> Tensor:
    """One row of the prompt and masks up to the end of the blocks, [1, T]."""
    total = max([len(prompt), *(block.stop for block in blocks)])
    return torch.tensor([[*prompt, *[mask_id] * (total - len(prompt))]], device=device)


def check_one_length(prompts: Prompts) -> None:
    """Raises ValueError where prompts of one batch differ in length."""
    lengths = sorted({len(prompt) for prompt in prompts})
    if len(lengths) > 1:
        raise ValueError(
            f"prompts of one batch must be of one length here, not {', '.join(map(str, lengths))}. "
            "Decode them in batches of equal length."
        )


def _rows(
    tokens: list[list[int]], real: list[list[bool]], prompts: Prompts, device: torch.device
) -> Rows:
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    return Rows(torch.tensor(tokens, device=device), torch.tensor(real, device=device), lengths)
