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
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carrara.engines.adapt import checkpoint
from carrara.engines.adapt.checkpoint import Progress
from carrara.engines.adapt.feed import Feed
from carrara.engines.adapt.network import Batch, Network
from carrara.engines.adapt.pack import PackedRow, Targets

Log = Callable[[Mapping[str, Any]], None]


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
        while step < recipe.steps:
            if self.deadline_s is not None and self.clock() >= self.deadline_s:
                break
            started = self.clock()
            rows = next(steps)
            waited = self.clock() - started
            numbers = self._step(rows, step)
            step += 1
            positions += sum(map(len, rows))
            now = self.clock()
            self.progress = Progress(step, self.feed.place, before.seconds + now - begun, positions)
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

    def _step(self, rows: Sequence[PackedRow], step: int) -> dict[str, float]:
        recipe = self.network.recipe
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = recipe.rate(step)
        totals = {
            name: sum(sum(getattr(row, name).weights) for row in rows)
            for name in ("causal", "denoised")
        }
        sums = {"causal": 0.0, "denoised": 0.0}
        for group in self._groups(rows):
            losses = self._losses(group)
            loss = sum(
                (recipe.ar_weight if name == "causal" else 1.0) * found / max(totals[name], 1e-9)
                for name, found in losses.items()
            )
            assert isinstance(loss, Tensor)
            loss.backward()  # type: ignore[no-untyped-call]
            for name, found in losses.items():
                sums[name] += found.item()
        norm = torch.nn.utils.clip_grad_norm_(self.network.trained().values(), recipe.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        means = {f"{name}_loss": sums[name] / max(totals[name], 1e-9) for name in sums}
        return {**{k: round(v, 4) for k, v in means.items()}, "gradient": round(norm.item(), 4)}

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
