"""Between two adapters: what a training taught, without all that it made the model forget.

    python -m carrara.engines.adapt.blend START TRAINED OUT --share 0.75

OUT gets every value at `share` of the way from START to TRAINED, an adapter whose training began with START. Between
two states of one training a straight line loses little of either (arXiv 2109.01903, there of whole weights).
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from carrara.engines.diffusion.settings import FILE as DIFFUSION_FILE
from carrara.engines.errors import CarraraError, LoadingError
from carrara.engines.model.lora import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    Adapter,
    load_adapter,
    tensor_names,
)


def blend(start: Path, trained: Path, out: Path, share: float) -> None:
    """Write the adapter at `share` (0: start, 1: trained) to the folder `out`, with the settings of `trained`.

    Raises:
        LoadingError: a folder that is no adapter, or adapters of other tensors or scales.
        CarraraError: `share` is not from 0 to 1.
    """
    if not 0 <= share <= 1:
        raise CarraraError(f"share is from 0 to 1, not {share}")
    first, second = load_adapter(start), load_adapter(trained)
    if _shape_of(first) != _shape_of(second):
        raise LoadingError(
            f"{trained}: its tensors are not those of {start}, or of another shape or scale"
        )
    between = {
        name: one.float().lerp(other.float(), share).to(other.dtype)
        for target, pair in first.pairs.items()
        for name, one, other in zip(tensor_names(target), pair, second.pairs[target], strict=True)
    }
    out.mkdir(parents=True, exist_ok=True)
    save_file(between, out / WEIGHTS_FILE, metadata={"format": "pt"})
    for name in (CONFIG_FILE, DIFFUSION_FILE):
        if (trained / name).is_file() and not (out / name).is_file():
            shutil.copy(trained / name, out / name)


def _shape_of(adapter: Adapter) -> tuple[float, dict[str, tuple[torch.Size, torch.Size]]]:
    return adapter.scale, {name: (a.shape, b.shape) for name, (a, b) in adapter.pairs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("start", type=Path)
    parser.add_argument("trained", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--share", type=float, required=True)
    options = parser.parse_args()
    try:
        blend(options.start, options.trained, options.out, options.share)
    except CarraraError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
