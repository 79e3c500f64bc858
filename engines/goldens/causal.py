"""Greedy decoding of plain autoregressive models, one row at its own position beside another."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from carrara.engines.model.kv import KVCache
from carrara.engines.model.llama import Llama


def greedy(
    model: Llama, prompts: Sequence[Sequence[int]], new: int, ends: Collection[int], pad_id: int
) -> tuple[Tensor, Tensor]:
    """Tokens [B, N] behind each prompt and the logits [B, N, V] they were chosen from; N passes were made.

    A row is padded behind its first end; decoding stops when all rows have ended, N = `new` at most.
    """
    width = max(map(len, prompts))
    cache = KVCache(model.config, len(prompts), width + new)
    tokens = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in prompts])
    starts = torch.zeros(len(prompts), 1, dtype=torch.int64)
    lengths = torch.tensor([[len(prompt)] for prompt in prompts])
    last, done = lengths - 1, torch.zeros(len(prompts), dtype=torch.bool)
    written: list[Tensor] = []
    logits: list[Tensor] = []
    while len(written) < new and not bool(done.all()):
        positions = starts + torch.arange(tokens.shape[1])
        found = model(tokens, positions, None, cache, pick=last)[:, 0]
        best = torch.where(done, pad_id, found.argmax(-1))
        done |= torch.isin(best, torch.tensor(list(ends)))
        written.append(best)
        logits.append(found)
        tokens, starts, last = best[:, None], lengths.clone(), torch.zeros_like(last)
        lengths += 1
    return torch.stack(written, 1), torch.stack(logits, 1)
