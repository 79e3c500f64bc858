"""What a decoder did, pass by pass, as golden files record it.

Legend: P passes, B rows, T columns.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from carrara.engines.diffusion.passes import Call, Pass
from carrara.engines.goldens.compare import close, same
from carrara.engines.goldens.folder import Case, Differs

_NAMES = {
    "rows": "rows",
    "q_start": "start",
    "q_len": "length",
    "past_len": "past",
    "replace": "replaces",
    "store_kv": "keeps",
    "uncond": "unconditional",
}


@dataclass(slots=True)
class Record:
    """Give it as `trace` to a sampler, then `check` it."""

    passes: list[Pass] = field(default_factory=list)
    canvases: list[Tensor] = field(default_factory=list)

    def __call__(self, made: Pass) -> None:
        seen = made.tokens.clone()
        seen[:, made.exist :] = -1
        self.passes.append(made)
        self.canvases.append(seen)

    def check(self, case: Case, end: Tensor) -> None:
        """Compare all passes with those of the case. `end` [B, T] is the canvas afterwards.

        Raises:
            Differs: names the pass and what differs in it.
        """
        same(len(self.passes), case.facts["nfe"], "forward passes")
        for number, (made, wanted) in enumerate(zip(self.passes, case.facts["calls"], strict=True)):
            same(_as_recorded(made.call, wanted), wanted, f"call {number}")
        width = case.arrays["canvas"].shape[-1]
        canvas = torch.stack([*(seen[:, :width] for seen in self.canvases), end[:, :width]])
        same(canvas, case.arrays["canvas"], "canvas [pass, row, column]")
        same(_commit_pass(canvas), case.arrays["commit_pass"], "commit_pass [row, column]")
        for number, made in enumerate(self.passes):
            self._check_logits(number, made, case)

    def _check_logits(self, number: int, made: Pass, case: Case) -> None:
        """What padding computes is nobody's business and differs between implementations."""
        fed = slice(made.call.start, made.call.start + made.call.length)
        real = made.real[:, fed]
        shares, best = made.logits[: len(real)].double().softmax(-1).max(-1)
        top1, conf = case.arrays["top1"][number], case.arrays["conf"][number]
        same(best[real], top1[:, fed][real], f"top1 of pass {number}")
        close(shares[real], conf[:, fed][real], f"conf of pass {number}")
        outside = torch.ones(top1.shape[1], dtype=torch.bool)
        outside[fed] = False
        if bool((top1[:, outside] != -1).any()):
            raise Differs(f"pass {number} computed columns {fed.start} to {fed.stop} only")
        if (wanted := case.arrays.get(f"logits_{number}")) is not None:
            again = real.repeat(len(made.logits) // len(real), 1)
            close(made.logits, wanted, f"logits of pass {number}", again)


def _as_recorded(call: Call, wanted: dict[str, Any]) -> dict[str, Any]:
    """The call in the recorded words: all that are recorded, and any further one that is true of it."""
    facts = asdict(call)
    found = {theirs: facts[ours] for theirs, ours in _NAMES.items()}
    # Only some sets say which passes leave keys and values behind.
    return {
        name: value
        for name, value in found.items()
        if name in wanted or (value and name in ("replace", "uncond"))
    }


def _commit_pass(canvas: Tensor) -> Tensor:
    """The last pass that changed a position, -1 if none did. canvas [P + 1, B, T] -> [B, T]."""
    changed = (canvas[1:] != canvas[:-1]) & (canvas[:-1] != -1)
    numbers = torch.arange(len(changed))[:, None, None].expand_as(changed)
    return torch.where(changed, numbers, -1).amax(0)
