"""Loading takes little more of the host's memory than the model and one shard."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from carrara.engines.model.config import LlamaConfig
from carrara.engines.model.llama import Llama
from carrara.engines.model.load import targets

CONFIG = {
    "model_type": "llada",
    "vocab_size": 8192,
    "d_model": 512,
    "n_heads": 8,
    "n_layers": 16,
    "mlp_hidden_size": 2048,
}
MEASURE = """
import json, sys
from pathlib import Path
import torch
from carrara.engines.model.load import load_model

def resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))

before = resident("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
model = load_model(Path(sys.argv[1]), torch.float32)
held = sum(weight.nbytes for weight in model.parameters())
print(json.dumps([held, resident("VmHWM") - before - held]))
"""


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK),
    reason="needs the high-water mark in Linux's /proc",
)
def test_the_peak_beyond_the_model_is_about_one_shard(tmp_path: Path) -> None:
    """Four bfloat16 shards of 38 MB, loaded as float32; see benchmarks/loading.py for larger ones."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with torch.device("meta"):
        wanted = targets(Llama(LlamaConfig.from_dict(CONFIG)))
    index, largest = {}, 0
    names = sorted(wanted)
    for number in range(4):
        file = f"model-{number}.safetensors"
        held = {
            name: torch.zeros(wanted[name].shape, dtype=torch.bfloat16) for name in names[number::4]
        }
        save_file(held, tmp_path / file)
        index.update(dict.fromkeys(held, file))
        largest = max(largest, (tmp_path / file).stat().st_size)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, tmp_path], capture_output=True, text=True, check=True
    )
    model_bytes, beyond = json.loads(done.stdout)
    assert model_bytes > 6 * largest  # four shards, twice as wide in memory
    assert beyond < 1.3 * largest
