"""The canvas of uniform-noise models: no mask token; what is not accepted becomes random tokens again.

Such models begin with random tokens everywhere. A pass proposes a token for each position; a rule accepts
some, and all others are *renoised*: replaced by fresh random tokens, also those accepted before.

Legend: B rows, N positions of the canvas, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from carrara.engines.diffusion.commit import CommitRule


@dataclass(frozen=True, slots=True)
class Denoised:
    """What a pass says: drawn and best tokens [B, N], entropies in nats [B, N], and the scaled logits [B, N, V]."""

    drawn: Tensor
    best: Tensor
    entropy: Tensor
    logits: Tensor


@dataclass(frozen=True, slots=True)
class Noisy:
    """The canvas [B, N], what its model said last (None in a first pass), and the number of the pass from 0."""

    tokens: Tensor
    logits: Tensor | None
    step: int


@dataclass(slots=True, eq=False)
class UniformCanvas:
    """`tokens` [B, N] start as noise; `renoise` gives fresh noise of the same shape.

    A row is finished once its best tokens were the same for `stable` passes more and their mean entropy is
    below `sure`; it then stays as it is. `best` [B, N] is the answer. At most `steps` passes.
    """

    tokens: Tensor
    renoise: Callable[[], Tensor]
    steps: int
    stable: int
    sure: float
    best: Tensor = field(init=False)
    finished: Tensor = field(init=False)
    accepted: Tensor = field(init=False)
    _logits: Tensor | None = field(init=False, default=None)
    _earlier: list[Tensor] = field(init=False, default_factory=list)
    _step: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.best = self.tokens
        self.finished = torch.zeros(len(self.tokens), dtype=torch.bool, device=self.tokens.device)
        self.accepted = torch.zeros_like(self.tokens, dtype=torch.bool)

    def view(self) -> Noisy | None:
        if self._step >= self.steps or bool(self.finished.all()):
            return None
        return Noisy(self.tokens, self._logits, self._step)

    def settle(self, reading: Denoised, rule: CommitRule, step: int) -> None:
        everywhere = torch.ones_like(self.accepted)
        self.accepted = rule(-reading.entropy, everywhere, step)
        tokens = torch.where(self.accepted, reading.drawn, self.renoise())
        still = self.finished[:, None]
        best = torch.where(still, self.best, reading.best)
        self.tokens = torch.where(still, self.tokens, tokens)
        entropy = reading.entropy
        if self._logits is None:
            self._logits = reading.logits
        else:
            self._logits = torch.where(still[..., None], self._logits, reading.logits)
        sure = torch.where(self.finished, True, entropy.mean(-1) < self.sure)
        self.finished = self.finished | (self._is_stable(best) & sure)
        self.best, self._step = best, self._step + 1

    def finish(self) -> None:
        """Leave the canvas as it is."""
        self._step = self.steps

    def take_clean(self) -> Sequence[int]:
        """Nothing is settled before the canvas is finished."""
        return ()

    @property
    def undecided(self) -> int:
        return 0 if self.view() is None else self.tokens.numel()

    def _is_stable(self, best: Tensor) -> Tensor:
        """Whether each row was the same in the last `stable` passes; there must have been so many."""
        if not self.stable:
            return torch.ones_like(self.finished)
        known = len(self._earlier) >= self.stable
        same = [(earlier == best).all(-1) for earlier in self._earlier[-self.stable :]]
        self._earlier = [*self._earlier[-self.stable :], best]
        return torch.stack(same).all(0) if known else torch.zeros_like(self.finished)
