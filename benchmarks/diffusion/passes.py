"""Part 1: milliseconds a denoising pass, and how far that is from merely reading the weights once.

A pass here is all of it: the canvas behind a cached prompt through the layers, the head over every position of the
canvas, the best token and its probability at each, and those on the host. "few" wants four positions, as late
passes do. The floor is the weights' bytes at the measured bandwidth of a copy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from benchmarks.diffusion.shapes import weight_bytes
from benchmarks.diffusion.timing import Budget, Taken, best
from carrara.engines.diffusion.canvas import Site, View
from carrara.engines.diffusion.reader import MaskTable
from carrara.engines.diffusion.together import Glance, read_together, tile_rows
from carrara.engines.model.buckets import BucketPasses, Canvases, recorder
from carrara.engines.model.kv import KVCache
from carrara.engines.model.llama import Llama


@dataclass(frozen=True, slots=True)
class Sizes:
    """What to go through; `repeats` measurements of `inner` passes each."""

    batches: tuple[int, ...] = (1, 4, 16)
    canvases: tuple[int, ...] = (32, 64)
    prompts: tuple[int, ...] = (512, 2048)
    repeats: int = 5
    inner: int = 10


def bandwidth(device: torch.device, size: int) -> float:
    """Bytes a second that a copy moves, read and written: the best of seven copies of `size` bytes."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    found = [Taken.by(lambda: target.copy_(source), device) for _ in range(7)]
    return 2 * size / min(t.wall_s for t in found)


def passes(model: Llama, sizes: Sizes, copy_bandwidth: float, budget: Budget) -> dict[str, Any]:
    """The table of one model, a line for each batch, canvas and prompt."""
    small = model.small is not None
    floor_ms = weight_bytes(model, small) / copy_bandwidth * 1000
    lines = []
    for prompt in sizes.prompts:
        for canvas in sizes.canvases:
            for batch in sizes.batches:
                what = f"batch {batch}, canvas {canvas}, prompt {prompt}"
                if prompt + canvas > model.config.max_positions or not budget.allows(what):
                    continue
                try:
                    lines.append(_line(model, sizes, batch, canvas, prompt, floor_ms, budget))
                except torch.OutOfMemoryError as error:
                    lines.append(
                        {"batch": batch, "canvas": canvas, "prompt": prompt, "error": str(error)}
                    )
    return {
        "weight_bytes": weight_bytes(model, small),
        "weights": model.small or str(model.dtype).removeprefix("torch."),
        "floor_ms": round(floor_ms, 4),
        "lines": lines,
        "left_out": budget.left_out,
    }


def one_pass(
    model: Llama, batch: int, canvas: int, prompt: int, wanted: int, recorded: bool
) -> tuple[Callable[[], None], BucketPasses]:
    """A function that does one whole pass, and what it runs on."""
    record = recorder(model.device) if recorded else None
    buckets = BucketPasses(model, record)
    rows = list(range(batch))
    places = list(range(wanted))
    end = prompt + canvas
    given = Canvases(
        rows,
        [[7] * canvas] * batch,
        [list(range(prompt, end))] * batch,
        [end] * batch,
        [places] * batch,
    )
    cache = KVCache(model.config, batch, buckets.room(given), model.dtype, model.device)
    view = View((7,) * canvas, tuple(Site(at, None) for at in places), ())
    tile = tile_rows(model.device, model.config.vocab_size)
    table = MaskTable(model.device)

    def work() -> None:
        hidden = buckets.run(given, cache)
        glances = [Glance(view, hidden[row, :wanted]) for row in rows]
        read_together(
            glances, lambda x: model.logits(x[None], "canvas")[0], model.head, table, tile
        )

    return work, buckets


def _line(
    model: Llama,
    sizes: Sizes,
    batch: int,
    canvas: int,
    prompt: int,
    floor_ms: float,
    budget: Budget,
) -> dict[str, Any]:
    device = model.device
    found: dict[str, Any] = {"batch": batch, "canvas": canvas, "prompt": prompt}
    for name, wanted in (("few", min(4, canvas)), ("pass", canvas)):
        found[name] = best(_times(model, sizes, batch, canvas, prompt, wanted, budget), sizes.inner)
    if device.type == "cuda":
        times = _times(model, sizes, batch, canvas, prompt, canvas, budget, recorded=False)
        found["not_recorded"] = best(times, sizes.inner)
    found["times_floor"] = round(found["pass"]["wall_ms"] / floor_ms, 2)
    found["times_floor_few"] = round(found["few"]["wall_ms"] / floor_ms, 2)
    if device.type == "cpu":  # what a quiet machine would take, with one thread
        found["times_floor_few_cpu"] = round(found["few"]["cpu_ms"] / floor_ms, 2)
    return found


def _times(
    model: Llama,
    sizes: Sizes,
    batch: int,
    canvas: int,
    prompt: int,
    wanted: int,
    budget: Budget,
    recorded: bool = True,
) -> list[Taken]:
    """`repeats` times of `inner` passes each, after some that are not counted (the second is recorded). Once there is
    no time left, one of them has to do."""
    work, buckets = one_pass(model, batch, canvas, prompt, wanted, recorded)
    for _ in range(3 if model.device.type == "cuda" else 1):
        work()
    if buckets.refused:
        raise RuntimeError(f"a pass could not be recorded: {list(buckets.refused.values())}")
    several = partial(_repeated, work, sizes.inner)
    found = [Taken.by(several, model.device)]
    while len(found) < sizes.repeats and not budget.is_spent:
        found.append(Taken.by(several, model.device))
    return found


def _repeated(work: Callable[[], None], times: int) -> None:
    for _ in range(times):
        work()


def beside_ar(
    model: Llama, batches: tuple[int, ...], sizes: Sizes, tokens_per_pass: float, budget: Budget
) -> dict[str, Any]:
    """One AR step (a token of each row, its logits, the best one) and one denoising pass over a canvas, same weights.

    Tokens a second of diffusion are those of a pass that settles `tokens_per_pass`, as measured on the embedded model.
    """
    canvas, prompt = sizes.canvases[-1], sizes.prompts[0]
    clock = "cpu_ms" if model.device.type == "cpu" else "wall_ms"
    found: dict[str, Any] = {"canvas": canvas, "prompt": prompt, "tokens_per_pass": tokens_per_pass}
    for batch in batches:
        if not budget.allows(f"beside AR, batch {batch}"):
            continue
        try:
            ar, denoising = (
                best(
                    _times(model, sizes, batch, width, prompt, max(1, width // 2), budget),
                    sizes.inner,
                )
                for width in (1, canvas)
            )
        except torch.OutOfMemoryError as error:
            found[str(batch)] = {"error": str(error)}
            continue
        found[str(batch)] = {
            "ar_step": ar,
            "pass": denoising,
            "ar_tokens_per_s": round(batch / ar[clock] * 1000, 1),
            "diffusion_tokens_per_s": round(batch * tokens_per_pass / denoising[clock] * 1000, 1),
            "tokens_per_pass_to_equal_ar": round(denoising[clock] / ar[clock], 2),
        }
    return found
