"""The training loop: steps over packed rows, checkpoints, evaluations, one line of JSON for each.

The objective: every example is encoded once, as clean text read causally and as canvases that see the text before
them and themselves in both directions (block diffusion with a clean context, arXiv 2503.09573). The clean stream has
a next-token loss, so the weights stay an AR model; the canvases have a cross entropy at what is masked, divided by the
root of their number. Complementary maskings come in pairs (arXiv 2509.26328).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carrara.engines.adapt import checkpoint
from carrara.engines.adapt.checkpoint import Progress
from carrara.engines.adapt.feed import Feed
from carrara.engines.adapt.lanes import Spread, lanes
from carrara.engines.adapt.network import Batch, Network
from carrara.engines.adapt.pack import PackedRow, Targets

Log = Callable[[Mapping[str, Any]], None]
_Share = tuple[tuple[Tensor | None, ...], dict[str, float]]
"""What some rows add to the gradients, one for each trained tensor, and to the losses."""


@dataclass(slots=True)
class Training:
    """One training, whether fresh or resumed. `folder` holds its checkpoint and its log.

    group_tokens: positions that go through the model together, at most; the rest of a step follows and gradients add
    up. A checkpoint is written every `save_every_s` seconds and at the end. `deadline_s`: the clock time at which to
    stop and save. `notes` are kept in the checkpoint.
    """

    network: Network
    feed: Feed
    folder: Path
    group_tokens: int = 1024
    save_every_s: float = 300.0
    deadline_s: float | None = None
    log: Log = lambda line: None
    clock: Callable[[], float] = time.monotonic
    optimizer: torch.optim.Optimizer = field(init=False)
    progress: Progress = field(init=False)
    notes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        recipe = self.network.recipe
        self.optimizer = torch.optim.AdamW(
            self.network.trained().values(),
            lr=recipe.learning_rate,
            betas=(0.9, 0.95),
            weight_decay=recipe.weight_decay,
        )
        self.progress = Progress(0, self.feed.place, 0.0, 0)

    @property
    def path(self) -> Path:
        return self.folder / "checkpoint"

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            LoadingError: it is damaged, or of another training.
        """
        self.progress = checkpoint.restore(path, self.network.trained(), self.optimizer)
        self.feed.place = self.progress.place

    def run(self) -> bool:
        """Train to the last step or the deadline; whether the last step was reached."""
        recipe, begun, saved = self.network.recipe, self.clock(), self.clock()
        before = self.progress
        step, positions = before.step, before.positions
        steps = self.feed.steps()
        with lanes(self.network.device) as spread:
            while step < recipe.steps:
                if self.deadline_s is not None and self.clock() >= self.deadline_s:
                    break
                started = self.clock()
                rows = next(steps)
                waited = self.clock() - started
                numbers = self._step(rows, step, spread)
                step += 1
                positions += sum(map(len, rows))
                now = self.clock()
                self.progress = Progress(
                    step, self.feed.place, before.seconds + now - begun, positions
                )
                self.log(
                    {
                        "step": step,
                        **numbers,
                        "examples": sum(row.examples for row in rows),
                        "positions": sum(map(len, rows)),
                        "positions_per_s": round(sum(map(len, rows)) / max(now - started, 1e-9)),
                        "waited_s": round(waited, 3),
                        "elapsed_s": round(self.progress.seconds, 1),
                    }
                )
                if now - saved >= self.save_every_s:
                    self.save()
                    saved = now
        self.save()
        return step >= recipe.steps

    def save(self) -> None:
        checkpoint.save(
            self.path,
            self.network.recipe,
            self.progress,
            self.network.trained(),
            self.optimizer,
            self.notes,
        )

    def _step(self, rows: Sequence[PackedRow], step: int, spread: Spread) -> dict[str, float]:
        recipe = self.network.recipe
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = recipe.rate(step)
        totals = {
            name: max(sum(sum(getattr(row, name).weights) for row in rows), 1e-9)
            for name in ("causal", "denoised")
        }
        sums = {"causal": 0.0, "denoised": 0.0}
        trained = list(self.network.trained().values())
        for gradients, found in spread(partial(self._share, totals), list(self._groups(rows))):
            for parameter, gradient in zip(trained, gradients, strict=True):
                if parameter.grad is None:
                    parameter.grad = gradient
                elif gradient is not None:
                    parameter.grad += gradient
            for name, loss in found.items():
                sums[name] += loss
        norm = torch.nn.utils.clip_grad_norm_(trained, recipe.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        means = {f"{name}_loss": sums[name] / totals[name] for name in sums}
        return {**{k: round(v, 4) for k, v in means.items()}, "gradient": round(norm.item(), 4)}

    def _share(self, totals: Mapping[str, float], group: Sequence[PackedRow]) -> _Share:
        found = self._losses(group)
        loss = found["denoised"] / totals["denoised"]
        loss = loss + self.network.recipe.ar_weight * found["causal"] / totals["causal"]
        trained = self.network.trained().values()
        gradients = torch.autograd.grad(loss, tuple(trained), allow_unused=True)
        return gradients, {name: part.item() for name, part in found.items()}

    def _groups(self, rows: Sequence[PackedRow]) -> Iterable[list[PackedRow]]:
        """Rows of similar length together, as many as `group_tokens` allow with their padding."""
        group: list[PackedRow] = []
        for row in sorted(rows, key=len):
            if group and (len(group) + 1) * len(row) > self.group_tokens:
                yield group
                group = []
            group.append(row)
        if group:
            yield group

    def _losses(self, rows: Sequence[PackedRow]) -> dict[str, Tensor]:
        """Weighted sums of the causal and of the denoising loss over some rows."""
        device = self.network.device
        batch = Batch.of(rows, device)
        hidden = self.network(batch).flatten(0, 1)
        width = batch.tokens.shape[1]
        found = {}
        for name in ("causal", "denoised"):
            sources, tokens, weights = _gathered([getattr(row, name) for row in rows], width)
            if sources:
                entropy = self.network.losses(
                    hidden[torch.tensor(sources, device=device)],
                    torch.tensor(tokens, device=device),
                )
                found[name] = (entropy * torch.tensor(weights, device=device)).sum()
            else:
                found[name] = hidden.sum() * 0.0
        return found


def _gathered(targets: Sequence[Targets], width: int) -> tuple[list[int], list[int], list[float]]:
    """The targets of several rows of `width` positions, with sources counted through all of them."""
    sources: list[int] = []
    tokens: list[int] = []
    weights: list[float] = []
    for number, target in enumerate(targets):
        sources += [number * width + source for source in target.sources]
        tokens += target.tokens
        weights += target.weights
    return sources, tokens, weights


def log_to(path: Path) -> Log:
    """Append each line to a file of JSON lines."""

    def log(line: Mapping[str, Any]) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    return log
