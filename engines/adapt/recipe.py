"""The numbers of a training, and how they change on the way: pure functions of the step."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from carrara.engines.errors import CarraraError
from carrara.engines.nearest import nearest

Method = Literal["lora", "full"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a training does. All of it goes into the checkpoint: a training is resumed with the recipe it began with.

    steps: optimiser steps; step_tokens: positions in each. row_tokens: positions packed into one row; longer
    examples stand alone up to most_tokens, and what is longer still is left out and counted. row_examples: examples
    of a row at most; they begin alike, so many of them make a small step one-sided.
    learning_rate rises over the first `warmup` share and falls along a cosine to a tenth.
    method, rank, alpha: low-rank adapters on all linear layers, or all weights.
    shift: the logits at i-1 predict the token at i, on the canvas as in the text.
    block_tokens: positions of a window onto a scaffold; windows: how many later windows of a long answer one example
    has, which share its clean text. text_block_tokens: of a block of free text, grown from 1
    during the first `growth` share of the steps, and mixed with shorter ones afterwards.
    least_noise: the least share of masked units of a noised canvas; all_noise: how often everything is masked.
    in_order: how often what is masked of a slot is its end, as where slots are decoded in order.
    later: how much more often the last unit is masked than the first (0: alike).
    edits: the share of visible answer tokens that are replaced by wrong ones, to be put right, in the last
    `edits_from` part of the steps. edits_from 1 means never.
    pad_weight, ar_weight: of the loss at pads, and of the causal loss beside the denoising loss.
    slot_tokens: the room that string slots begin with, drawn anew for each canvas between the two.
    """

    steps: int = 1000
    step_tokens: int = 2048
    row_tokens: int = 512
    row_examples: int = 8
    most_tokens: int = 1280
    learning_rate: float = 5e-4
    warmup: float = 0.03
    weight_decay: float = 0.0
    clip: float = 1.0
    method: Method = "lora"
    rank: int = 32
    alpha: float = 64.0
    shift: bool = True
    block_tokens: int = 128
    windows: int = 4
    text_block_tokens: int = 32
    growth: float = 0.15
    least_noise: float = 0.2
    all_noise: float = 0.4
    in_order: float = 0.6
    later: float = 0.5
    edits: float = 0.12
    edits_from: float = 0.8
    pad_weight: float = 0.3
    ar_weight: float = 0.5
    slot_tokens: tuple[int, int] = (6, 14)
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"steps": 1, "step_tokens": 16, "row_tokens": 16, "row_examples": 1}
        least |= {"rank": 1, "block_tokens": 8, "windows": 1}
        for name, number in least.items():
            if getattr(self, name) < number:
                raise CarraraError(f"{name} is at least {number}, not {getattr(self, name)}")
        shares = (
            "warmup",
            "growth",
            "least_noise",
            "all_noise",
            "in_order",
            "later",
            "edits",
            "edits_from",
        )
        for name in shares:
            if not 0 <= getattr(self, name) <= 1:
                raise CarraraError(f"{name} is a share from 0 to 1, not {getattr(self, name)}")
        if self.most_tokens < self.row_tokens:
            raise CarraraError(
                f"most_tokens ({self.most_tokens}) is below row_tokens ({self.row_tokens})"
            )
        if not 1 <= self.slot_tokens[0] <= self.slot_tokens[1]:
            raise CarraraError(f"slot_tokens is a range from 1 on, not {self.slot_tokens}")
        if self.method not in ("lora", "full"):
            raise CarraraError(f"method is 'lora' or 'full', not {self.method!r}")

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        rising = max(1, round(self.steps * self.warmup))
        if step < rising:
            return self.learning_rate * (step + 1) / rising
        done = (step - rising) / max(1, self.steps - rising)
        return self.learning_rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))

    def text_blocks(self, step: int) -> tuple[int, ...]:
        """The lengths of free-text blocks to draw from at a step: doubled from 1 while growing, then mixed."""
        sizes = [1]
        while sizes[-1] * 2 <= self.text_block_tokens:
            sizes.append(sizes[-1] * 2)
        done = step / max(1, self.steps)
        if done < self.growth:
            return (sizes[int(len(sizes) * done / self.growth)],)
        return tuple(sizes[-3:])

    def edits_at(self, step: int) -> float:
        """The share of visible answer tokens to corrupt at a step."""
        return self.edits if step >= self.steps * self.edits_from else 0.0

    @property
    def data(self) -> dict[str, Any]:
        return {**asdict(self), "slot_tokens": list(self.slot_tokens)}

    @classmethod
    def of(cls, data: dict[str, Any]) -> Recipe:
        """The inverse of `data`; keys that are missing have their defaults.

        Raises:
            CarraraError: an unknown key, or a value out of range.
        """
        usual = {field.name: field.default for field in fields(cls)}
        for name, value in data.items():
            if name not in usual:
                meant = nearest(name, usual)
                hint = f"Did you mean {meant!r}?" if meant else f"Known are {', '.join(usual)}."
                raise CarraraError(f"there is no {name!r}. {hint}")
            if not _fits(value, usual[name]):
                raise CarraraError(f"{name} is {_LIKE[type(usual[name])]}, not {value!r}")
        kept = dict(data)
        if "slot_tokens" in kept:
            kept["slot_tokens"] = tuple(kept["slot_tokens"])
        return cls(**kept)


_LIKE = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a word",
    tuple: "two whole numbers, [least, most]",
}


def _fits(value: Any, usual: Any) -> bool:
    """Whether `value` is of the kind of the default `usual`."""
    if isinstance(usual, tuple):
        is_pair = isinstance(value, list | tuple) and len(value) == len(usual)
        return is_pair and all(type(one) is int for one in value)
    if isinstance(usual, float):
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is type(usual)


def settings_of(words: Iterable[str]) -> dict[str, Any]:
    """`["rank=64", "method=full", …]` as a mapping; a value is JSON, or else a word.

    Raises:
        CarraraError: one of them has no name, or no value.
    """
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.strip():
            raise CarraraError(f"--set takes NAME=VALUE, not {word!r}")
        try:
            found[name.strip()] = json.loads(value)
        except ValueError:
            found[name.strip()] = value
    return found
