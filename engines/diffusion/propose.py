"""From the logits of a batch to proposals: the best token at each position, and how sure the model is of it.

Legend: B rows, N positions of one pass, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from carrara.engines.diffusion.block_canvas import BlockView, Proposal
from carrara.engines.diffusion.measure import Measure, probability
from carrara.engines.diffusion.passes import Passes


@dataclass(frozen=True, slots=True)
class Proposer:
    """How logits become proposals.

    shifted: the logits at position i-1 predict the token at i. suppressed: tokens never proposed.
    begin_suppressed: tokens left out when confidence is measured, but not when tokens are chosen, which
    lowers the confidence of such a token to 0 (dllm's `begin_suppress_tokens`). narrowed: what is done to
    the logits before confidence is measured (temperature, `measure.filtered`), for samplers that measure
    it among the tokens they would draw from; the token is the best one in any case.
    """

    measure: Measure = probability
    shifted: bool = False
    suppressed: Sequence[int] = ()
    begin_suppressed: Sequence[int] = ()
    narrowed: Callable[[Tensor], Tensor] | None = None

    def propose(self, start: int, logits: Tensor, before: Tensor | None) -> Proposal:
        """logits [B, N, V] of columns `start` on; `before` [B, V] are those of the column in front of them."""
        logits = logits.float()
        if self.shifted:
            first = logits[:, :1] if before is None else before.float()[:, None]
            logits = torch.cat((first, logits[:, :-1]), dim=1)
        logits = without(logits, self.suppressed)
        tokens = logits.argmax(-1)
        logits = without(logits, self.begin_suppressed)
        if self.narrowed is not None:
            logits = self.narrowed(logits)
        return Proposal(start, tokens, self.measure(logits.softmax(-1), tokens))


PLAIN = Proposer()
SHIFTED = Proposer(shifted=True)


def looking(
    passes: Passes, proposer: Proposer = PLAIN
) -> Callable[[Sequence[int], BlockView], Proposal]:
    """A look for `refine`: one pass, read."""

    def look(clean: Sequence[int], view: BlockView) -> Proposal:
        start, logits = passes.look(clean, view)
        return proposer.propose(start, logits, passes.after)

    return look


def without(logits: Tensor, tokens: Sequence[int]) -> Tensor:
    """The logits with those of `tokens` at -inf."""
    if not tokens:
        return logits
    where = torch.tensor(list(tokens), device=logits.device)
    return logits.index_fill(-1, where, -torch.inf)
