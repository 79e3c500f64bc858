"""A picture of a frontier: what accuracy costs in time."""

from __future__ import annotations

from pathlib import Path

from carrara.workflows.calibration.calibrate import Calibrated
from carrara.workflows.places import PlaceError

ENDINGS = (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp")
_NAMES = {"accuracy": "exact match", "f1": "field F1"}


def check_place(out: Path) -> None:
    """Called before the rows are asked, so that a long calibration does not end on it.

    Raises:
        PlaceError: the file's ending is none of a picture.
    """
    if out.suffix.lower() not in ENDINGS:
        raise PlaceError(
            f"cannot draw {out}: a picture's name ends with {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}"
        )
    if out.is_dir():
        raise PlaceError(f"cannot draw {out}: it is a folder. Name a file in it")


def draw(found: Calibrated, out: Path) -> Path | None:
    """Draw to a picture, of the kind that its ending names. None where matplotlib is not installed (extra
    `calibrate`)."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(point.named for point in found.points):
        points = sorted((p for p in found.points if p.named == name), key=lambda p: p.ms)
        axes.scatter(
            [p.ms for p in points], [p.value for p in points], s=14, alpha=0.55, label=name
        )
    for point in found.single:
        [drawn] = axes.plot(point.ms, point.value, "D", markersize=7)
        axes.annotate(
            f"only {point.named}",
            (point.ms, point.value),
            xytext=(6, -12),
            textcoords="offset points",
            color=drawn.get_color(),
        )
    chosen = found.chosen
    axes.plot(chosen.ms, chosen.value, "o", markersize=13, mfc="none", mec="black", label="chosen")
    if found.trial is not None:
        trial = found.trial
        spread = [[trial.value - trial.low], [trial.high - trial.value]]
        axes.errorbar(
            trial.ms, trial.value, yerr=spread, fmt="ks", capsize=4, label="on other rows, 95 %"
        )
    wanted = found.target.value
    if wanted is None:
        wanted = max(point.value for point in found.single)
    axes.axhline(wanted, color="tab:gray", linestyle=":", label="target")
    axes.set_xlabel("mean milliseconds a row")
    axes.set_ylabel(_NAMES[found.target.metric])
    axes.set_xlim(left=0)
    axes.legend(loc="lower right")
    figure.savefig(out, dpi=120)
    return out


__all__ = ["ENDINGS", "check_place", "draw"]
