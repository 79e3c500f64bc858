"""Passes over a batch of plain canvases: who sees whom, which columns are fed, what a cache keeps.

A cache here is one of a few functions of the block: which columns the next pass feeds. All of them work on
the same `KVCache`, whose slots are the columns of the batch:

- `whole`: everything each time, nothing kept. Exact.
- `prefix`: a block's first pass feeds everything; the others the block and what is behind it. Approximate
  under full attention, as what lies before the block does not see it change (arXiv 2505.22618).
- `dual`: as prefix, but the others feed the block alone and see what is behind it as it was.
- `blockwise`: blocks see what is before them and themselves, so settled columns are computed once. Exact
  under block-causal attention.

Legend: B rows, T columns, N columns of one pass, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from carrara.engines.diffusion.block_canvas import BlockView
from carrara.engines.model.kv import KVCache
from carrara.engines.model.llama import Llama

Kind = Literal["whole", "up to block", "prefix", "dual", "blockwise", "again"]
"""How much is computed again. "up to block" is "whole" without what is behind the block; "again" is
"blockwise", but all before a block is computed once more when it begins, as dllm does."""


@dataclass(frozen=True, slots=True)
class Call:
    """One forward pass as published traces describe it: `rows` fed from column `start` on, `length` each, onto
    `past` cached columns. `replaces`: into the middle of them. `keeps`: clean tokens that stay cached."""

    rows: int
    start: int
    length: int
    past: int
    replaces: bool = False
    keeps: bool = False
    unconditional: bool = False


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass as it happened: all tokens before it [B, T], of which `exist` columns exist yet and those in
    `real` [B, T] are no padding, and the raw logits [rows, length, V]."""

    call: Call
    tokens: Tensor
    logits: Tensor
    exist: int
    real: Tensor


Trace = Callable[[Pass], None]


@dataclass(frozen=True, slots=True)
class Sight:
    """Rotary positions [B, T] int64, who sees whom, [B, T, T] bool (query, key), and what is no padding."""

    positions: Tensor
    seen: Tensor
    real: Tensor


def full_sight(real: Tensor, positions: Tensor | None = None) -> Sight:
    """Everything sees everything but padding. real [B, T] bool. Positions None: the columns."""
    columns = torch.arange(real.shape[1], device=real.device).expand_as(real)
    seen = real[:, None, :].expand(-1, real.shape[1], -1)
    return Sight(columns if positions is None else positions, _with_self(seen), real)


def block_sight(real: Tensor, block: int) -> Sight:
    """Columns see their own and earlier blocks of `block`, counted from column 0, but no padding.

    Positions count what is real, so padding in front shifts nothing.
    """
    positions = (real.cumsum(1) - 1).clamp_min(0)
    blocks = torch.arange(real.shape[1], device=real.device) // block
    seen = (blocks[:, None] >= blocks[None]) & real[:, None, :]
    return Sight(positions, _with_self(seen), real)


@dataclass(frozen=True, slots=True)
class Guidance:
    """Classifier-free guidance: logits are drawn away, `scale` times as far, from those of a batch in which the
    `given` [B, T] are masked."""

    scale: float
    given: Tensor
    mask_id: int


class Passes:
    """The passes of one batch under one kind of cache; `look` is what `propose.looking` builds on.

    `after` [B, V] are the logits of the last column before the block, where a pass computed them: with
    shifted logits they predict the block's first token. None under full attention, where they change.
    `resight` makes the sight anew from all tokens when a block begins, None: it stays.
    """

    after: Tensor | None

    def __init__(
        self,
        model: Llama,
        sight: Sight,
        kind: Kind,
        guidance: Guidance | None = None,
        trace: Trace | None = None,
        resight: Callable[[Tensor], Sight] | None = None,
    ) -> None:
        self._model, self._sight, self._kind = model, sight, kind
        self._resight = resight
        self._guidance, self._trace = guidance, trace
        rows, columns = sight.positions.shape
        self._rows, self.after = rows, None
        self._cache: KVCache | None = None
        if kind not in ("whole", "up to block"):
            copies = rows if guidance is None else 2 * rows
            self._cache = KVCache(model.config, copies, columns, model.dtype, model.device)

    def look(self, clean: Sequence[int], view: BlockView) -> tuple[int, Tensor]:
        """Logits [B, N, V] of the columns fed, and the first of them."""
        block, tokens = view.block, view.tokens
        end = tokens.shape[1]
        if view.first and self._resight is not None:
            self._sight = self._resight(tokens)
        match self._kind:
            case "whole":
                return 0, self._fed(tokens, 0, end, end)
            case "up to block":
                return 0, self._fed(tokens, 0, block.stop, block.stop)
            case "prefix" | "dual" if view.first:
                return 0, self._fed(tokens, 0, end, end)
            case "prefix":
                return block.start, self._fed(tokens, block.start, end, end)
            case "dual":
                return block.start, self._fed(tokens, block.start, block.stop, end, replaces=True)
            case "blockwise":
                self.keep(clean, tokens)
            case "again" if view.first and block.start:
                self.after = self._fed(tokens, 0, block.start, block.start, keeps=True)[:, -1]
        return block.start, self._fed(tokens, block.start, block.stop, block.stop)

    def keep(self, clean: Sequence[int], tokens: Tensor) -> None:
        """Bring settled columns into the cache, in order."""
        if clean:
            stop = clean[-1] + 1
            self.after = self._fed(tokens, clean[0], stop, stop, keeps=True)[:, -1]

    def _fed(
        self,
        tokens: Tensor,
        start: int,
        stop: int,
        sees: int,
        *,
        replaces: bool = False,
        keeps: bool = False,
    ) -> Tensor:
        """Feed columns `start` to `stop`, which see those before `sees`; guided logits [B, N, V]."""
        exist = stop if self._kind == "again" else tokens.shape[1]
        past = sees if replaces else start
        call = Call(self._rows, start, stop - start, past, replaces, keeps)

        def run(batch: Tensor, call: Call, rows: slice) -> Tensor:
            logits = self._pass(batch, call, sees, rows)
            if self._trace is not None:
                self._trace(Pass(call, tokens, logits, exist, self._sight.real))
            return logits

        guide, first = self._guidance, slice(0, self._rows)
        if guide is None:
            return run(tokens, call, first)
        hidden = tokens.masked_fill(guide.given, guide.mask_id)
        if self._cache is None:
            both = replace(call, rows=2 * self._rows)
            logits, free = run(torch.cat((tokens, hidden)), both, first).chunk(2)
        else:
            logits = run(tokens, call, first)
            other = replace(call, unconditional=True)
            free = run(hidden, other, slice(self._rows, 2 * self._rows))
        return free + (guide.scale + 1) * (logits - free)

    def _pass(self, batch: Tensor, call: Call, sees: int, rows: slice) -> Tensor:
        fed = slice(call.start, call.start + call.length)
        again = batch.shape[0] // self._rows
        positions = self._sight.positions[:, fed].repeat(again, 1)
        mask = self._sight.seen[:, None, fed, :sees].repeat(again, 1, 1, 1)
        slots = torch.arange(fed.start, fed.stop, device=batch.device).expand_as(positions)
        last = slots.new_full((len(batch), 1), call.length - 1)
        logits: Tensor = self._model(
            batch[:, fed],
            positions,
            mask,
            self._cache,
            rows=None if self._cache is None else rows,
            # Of columns that are only kept, at most the last one's logits are used.
            pick=last if call.keeps and self._trace is None else None,
            slots=slots,
        )
        return logits


def _with_self(seen: Tensor) -> Tensor:
    """A column that sees nothing sees itself: padding must not come out as NaN, which would spread."""
    own = torch.eye(seen.shape[-1], dtype=torch.bool, device=seen.device)
    return seen | (own & ~seen.any(-1, keepdim=True))
