"""Models to time passes of: the embedded one, and 8B shapes with random weights (timing does not depend on them)."""

from __future__ import annotations

from dataclasses import replace

import torch

from carrara.engines.model.config import LlamaConfig
from carrara.engines.model.llama import Llama

LLADA_8B = LlamaConfig(
    vocab_size=126464,
    hidden_size=4096,
    intermediate_size=12288,
    layers=32,
    heads=32,
    kv_heads=32,
    head_dim=128,
    max_positions=4096,
    rope_theta=500000.0,
)
SDAR_8B = LlamaConfig(
    vocab_size=151936,
    hidden_size=4096,
    intermediate_size=12288,
    layers=36,
    heads=32,
    kv_heads=8,
    head_dim=128,
    max_positions=32768,
    rope_theta=1000000.0,
    qk_norm=True,
)
SHAPES = {"llada-8b": LLADA_8B, "sdar-8b": SDAR_8B}


def scaled_down(config: LlamaConfig, by: int) -> LlamaConfig:
    """The same shape with all widths a `by`-th and two layers, for a machine without a GPU."""
    return replace(
        config,
        vocab_size=config.vocab_size // by,
        hidden_size=config.hidden_size // by,
        intermediate_size=config.intermediate_size // by,
        layers=2,
        heads=max(1, config.heads // by),
        kv_heads=max(1, config.kv_heads // by),
    )


@torch.no_grad()
def random_model(config: LlamaConfig, device: torch.device, dtype: torch.dtype, seed: int) -> Llama:
    """Weights made on the device itself: 16 GB of them take seconds there."""
    with torch.device(device):
        model = Llama(config, dtype)
    generator = torch.Generator(device).manual_seed(seed)
    for weight in model.parameters():
        if weight.dim() == 1:
            weight.fill_(1.0)
        else:
            weight.normal_(0.0, 0.02, generator=generator)
    return model.eval()


def weight_bytes(model: Llama, quick: bool) -> int:
    """Bytes of weights that a pass reads: all but an embedding of which it takes single rows.

    `quick`: in the int8 copies, norms apart.
    """
    names = {id(model.embedding)} if not model.config.tied else set()
    read = [w for w in model.parameters() if id(w) not in names]
    if not quick:
        return sum(w.nbytes for w in read)
    return sum(w.numel() if w.dim() > 1 else w.nbytes for w in read)
