"""Memory of loading a checkpoint in shards: how much more of the host than the model itself it takes at its peak.

    python benchmarks/loading.py [--shard-mib 256] [--shards 4] [--device cpu] [--dtype float32] [--folder F]

Without `--folder` it writes an SDAR-shaped checkpoint of random bfloat16 weights into a temporary folder
and loads that. Loading runs in a process of its own. Its peak is the high-water mark of its resident
memory, mapped pages of the shard included, less what was resident before and, on a CPU, less the bytes of
the model. Prints one JSON object; `ratio` is that peak over the largest shard, `seconds` includes reading
files that the system has cached. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from carrara.engines.model.llama import Llama
from carrara.engines.model.load import load_config, load_model, targets
from carrara.engines.weights.folder import weight_files

HIDDEN, VOCABULARY = 1024, 8192


def write_checkpoint(folder: Path, shard_mib: int, shards: int) -> None:
    """An SDAR-shaped checkpoint of random weights in about `shards` shards of at most `shard_mib` MiB."""
    config: dict[str, Any] = {
        "model_type": "sdar",
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": 3 * HIDDEN,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "head_dim": 64,
        "tie_word_embeddings": False,
        "block_size": 4,
    }
    layer = HIDDEN * (HIDDEN * 2 + 2 * 256 + 9 * HIDDEN)
    rest = 2 * VOCABULARY * HIDDEN
    config["num_hidden_layers"] = max(1, (shard_mib * shards * 2**19 - rest) // layer)
    (folder / "config.json").write_text(json.dumps(config))
    with torch.device("meta"):
        shapes = {
            name: target.shape
            for name, target in targets(Llama(load_config(folder), torch.bfloat16)).items()
        }
    index: dict[str, str] = {}
    shard: dict[str, torch.Tensor] = {}
    size, number = 0, 0

    def close() -> None:
        file = f"model-{number:05}.safetensors"
        save_file(shard, folder / file)
        index.update(dict.fromkeys(shard, file))
        shard.clear()

    for name, shape in shapes.items():
        needed = 2 * math.prod(shape)
        if shard and size + needed > shard_mib * 2**20:
            close()
            size, number = 0, number + 1
        shard[name] = torch.randn(shape).to(torch.bfloat16) * 0.02
        size += needed
    close()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))


def resident(field: str) -> int:
    """A line of /proc/self/status in bytes: VmRSS is resident now, VmHWM was at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def load(folder: Path, device: str, dtype: torch.dtype) -> dict[str, Any]:
    """Load the checkpoint in this process and say what it took."""
    torch.zeros(1, device=device)  # what the device needs at first use is not the loader's
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # begin a new high-water mark
    begun = time.perf_counter()
    model = load_model(folder, dtype, device)
    seconds = time.perf_counter() - begun
    held = sum(weight.nbytes for weight in model.parameters())
    peak = resident("VmHWM") - before - (held if device == "cpu" else 0)
    largest = max(path.stat().st_size for path in weight_files(folder))
    return {
        "model_bytes": held,
        "largest_shard_bytes": largest,
        "shards": len(weight_files(folder)),
        "peak_host_bytes_beyond_model": peak,
        "ratio": round(peak / largest, 3),
        "seconds": round(seconds, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shard-mib", type=int, default=256)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--in-this-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_this_process:
        found = load(options.folder, options.device, getattr(torch, options.dtype))
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if options.folder is None:
            torch.manual_seed(0)
            write_checkpoint(folder, options.shard_mib, options.shards)
        command = [sys.executable, __file__, "--in-this-process", "--folder", str(folder)]
        command += ["--device", options.device, "--dtype", options.dtype]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    machine = {
        "machine": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": options.device,
        "dtype": options.dtype,
        "seed": 0,
    }
    print(json.dumps({**machine, **json.loads(done.stdout)}, indent=2))


if __name__ == "__main__":
    main()
