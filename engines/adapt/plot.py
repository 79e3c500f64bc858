"""A picture of a training: losses and throughput over the steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def draw(log: Path, out: Path) -> Path | None:
    """Draw the log of a training to a PNG. None where matplotlib is not installed (extra `adapt`)."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    steps = [line for line in lines if "denoised_loss" in line]
    if not steps:
        return None
    figure = Figure(figsize=(8, 5), layout="constrained")
    losses, speed = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    at = [line["step"] for line in steps]
    for key, label in (("denoised_loss", "denoising loss"), ("causal_loss", "causal (AR) loss")):
        values = [line[key] for line in steps]
        [drawn] = losses.plot(at, values, alpha=0.25, linewidth=0.8)
        losses.plot(at, smoothed(values), color=drawn.get_color(), label=label)
    losses.set_yscale("log")
    losses.set_ylabel("loss a token")
    losses.legend()
    speed.plot(at, smoothed([line["positions_per_s"] for line in steps]), color="tab:gray")
    speed.set_ylabel("positions/s")
    speed.set_ylim(bottom=0)
    speed.set_xlabel("step")
    figure.savefig(out, dpi=120)
    return out


def smoothed(values: list[Any], weight: float = 0.95) -> list[float]:
    """An exponential mean that begins unbiased."""
    found, total, count = [], 0.0, 0.0
    for value in values:
        total, count = weight * total + value, weight * count + 1
        found.append(total / count)
    return found
