"""One adaptation from beginning to end: read the data, train, decode the dev rows, write the adapter."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from carrara.engines.adapt import checkpoint
from carrara.engines.adapt.evaluate import decode_rows
from carrara.engines.adapt.examples import Examples
from carrara.engines.adapt.export import export
from carrara.engines.adapt.feed import Feed, PoolMaker
from carrara.engines.adapt.network import Network
from carrara.engines.adapt.plot import draw
from carrara.engines.adapt.recipe import Recipe
from carrara.engines.adapt.rows import Row, read_rows
from carrara.engines.adapt.start import begin_with
from carrara.engines.adapt.train import Log, Training, log_to
from carrara.engines.contract import Text
from carrara.engines.diffusion.settings import Settings
from carrara.engines.errors import CarraraError
from carrara.engines.model.device import pick_device, pick_dtype
from carrara.engines.model.load import load_model
from carrara.engines.tokenizer import Tokenizer
from carrara.engines.weights.store import ensure

TRAINING = "training"
"""The folder inside the result in which checkpoint, log and plot lie."""

_TRIAL_ROWS = 64


@dataclass(frozen=True, slots=True)
class Order:
    """What to adapt, to what, and how.

    base: a model of the catalogue or a Hugging Face folder. data, dev: files of labelled rows (`rows`); dev rows are
    decoded at the end, `dev_rows` of each task. out: the adapter's folder, or the model's for method "full".
    resume: go on from the checkpoint in it; without, one that is there is an error. minutes: stop and save after so
    long. start: the folder of an adapter to begin with. workers: processes that prepare data, None for what suits the
    device. group_tokens: positions that go through the model at once, None for what suits the device.
    """

    base: str
    data: Path
    out: Path
    recipe: Recipe = field(default_factory=Recipe)
    dev: Path | None = None
    dev_rows: int = 40
    name: str | None = None
    resume: bool = False
    minutes: float | None = None
    start: Path | None = None
    device: str | None = None
    workers: int | None = None
    group_tokens: int | None = None
    save_every_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Result:
    """`done`: the last step was reached; else `resume` goes on. `scores` by task, empty without dev rows."""

    out: Path
    done: bool
    steps: int
    files: tuple[Path, ...]
    scores: Mapping[str, Mapping[str, float]]


def adapt(order: Order, log: Log = lambda line: None) -> Result:
    """Carry out an order. Everything that is logged also goes to `out`/training/log.jsonl.

    Raises:
        LoadingError: data, model or checkpoint cannot be used; names file and line.
        CarraraError: there is a checkpoint and `resume` is not set, or nothing to resume.
    """
    folder = order.out / TRAINING
    found = to_resume(order.out) if order.resume else None
    if found is None and _checkpoint(order.out) is not None:
        raise CarraraError(
            f"{folder}: holds the checkpoint of an earlier training. Resume it, or choose another folder."
        )
    recipe = order.recipe if found is None else Recipe.of(checkpoint.read_state(found)["recipe"])
    base, device = ensure(order.base), pick_device(order.device)
    tokenizer = Tokenizer.from_folder(base)
    rows = list(read_rows(order.data))
    dev = _some(read_rows(order.dev), order.dev_rows) if order.dev else []
    examples = Examples(tokenizer, recipe)
    for row in (*rows, *dev):
        examples.check(row)
    folder.mkdir(parents=True, exist_ok=True)
    write = log_to(folder / "log.jsonl")

    def tell(line: Mapping[str, Any]) -> None:
        write(line)
        log(line)

    training = _training(order, recipe, base, device, examples, rows, found, tell)
    if found is not None:
        training.resume(found)
    tell({"event": "begin", **_about(order, recipe, device, len(rows), training.progress.step)})
    try:
        done = training.run()
    except KeyboardInterrupt:
        training.save()
        raise
    feed = training.feed
    if feed.left_out or feed.unfit:
        tell(
            {
                "event": "left out",
                "too_long": len(feed.left_out),
                "unfit": len(feed.unfit),
                "problem": feed.problem,
            }
        )
    ids = (tokenizer.mask_id, tokenizer.slot_pad_id)
    name = order.name or order.out.resolve().name
    has_text = any(isinstance(row.contract, Text) for row in rows)
    settings = settings_of(recipe)
    files = export(training.network, base, order.out, name, settings, ids, has_text)
    plot = draw(folder / "log.jsonl", folder / "losses.png")
    scores = decode_rows(base, order.out, recipe.method, dev) if dev else {}
    if scores:
        tell({"event": "decoded", "tasks": scores})
    tell({"event": "end", "done": done, "step": training.progress.step})
    written = (*files, *([plot] if plot else []))
    return Result(order.out, done, training.progress.step, written, scores)


def settings_of(recipe: Recipe) -> Settings:
    """How a model that was trained with a recipe wants to be decoded."""
    low, high = recipe.slot_tokens
    return Settings(
        logit_shift=recipe.shift,
        block_tokens=recipe.block_tokens,
        text_block_tokens=recipe.text_block_tokens,
        slot_tokens=(low + high) // 2,
        slots_grow=True,
        slots_in_order=True,
    )


def to_resume(out: Path) -> Path:
    """The checkpoint in the folder `out` of an adapter.

    Raises:
        CarraraError: there is none.
    """
    if (found := _checkpoint(out)) is None:
        raise CarraraError(
            f"{out / TRAINING}: there is no checkpoint to resume; leave out --resume"
        )
    return found


def _checkpoint(out: Path) -> Path | None:
    return checkpoint.find(out / TRAINING / "checkpoint")


def _training(
    order: Order,
    recipe: Recipe,
    base: Path,
    device: torch.device,
    examples: Examples,
    rows: list[Row],
    found: Path | None,
    log: Log,
) -> Training:
    dtype = pick_dtype(device)
    stored = torch.float32 if recipe.method == "full" else dtype
    network = Network(load_model(base, stored, device), recipe, dtype)
    if order.start is not None and not order.resume:
        begin_with(network, order.start)
    maker = PoolMaker(rows, examples, recipe)
    maker = PoolMaker(rows, examples, recipe, _step_examples(maker))
    workers = order.workers
    if workers is None:
        workers = max(1, (os.cpu_count() or 2) - 2) if device.type == "cuda" else 0
    ids = (examples.tokenizer.mask_id, examples.tokenizer.slot_pad_id)
    feed = Feed(maker, order.data, base, ids, workers)
    clock = time.monotonic
    return Training(
        network,
        feed,
        order.out / TRAINING,
        group_tokens=order.group_tokens or (65536 if device.type == "cuda" else 1),
        save_every_s=order.save_every_s,
        deadline_s=None if order.minutes is None else clock() + 60 * order.minutes,
        log=log,
        clock=clock,
        notes={
            "base": order.base,
            "data": order.data.name,
            "start": str(order.start) if order.start else _begun_with(found),
        },
    )


def _begun_with(found: Path | None) -> str | None:
    """The adapter that a training which goes on has begun with, None if with none."""
    return None if found is None else checkpoint.read_state(found).get("start")


def _step_examples(maker: PoolMaker) -> float:
    """About how many examples a step takes, from a first small pool; the same for the same data and recipe."""
    trial = PoolMaker(maker.rows[:_TRIAL_ROWS], maker.examples, maker.recipe).pool(0)
    positions = sum(map(len, trial.rows))
    return max(1.0, trial.examples * maker.recipe.step_tokens / max(1, positions))


def _some(rows: Any, count: int) -> list[Row]:
    """The first `count` rows of each task."""
    kept: dict[str, list[Row]] = {}
    for row in rows:
        found = kept.setdefault(row.task, [])
        if len(found) < count:
            found.append(row)
    return [row for found in kept.values() for row in found]


def _about(
    order: Order, recipe: Recipe, device: torch.device, rows: int, step: int
) -> dict[str, Any]:
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {
        "base": order.base,
        "rows": rows,
        "step": step,
        "recipe": recipe.data,
        "device": hardware,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
