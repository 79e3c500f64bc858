"""Which device and which precision to compute with, where the user names none."""

from __future__ import annotations

import torch

from carrara.engines.errors import LoadingError


def pick_device(wanted: str | None) -> torch.device:
    """The named device, else CUDA where there is one, else the CPU.

    Raises:
        LoadingError: torch knows no such device, or has no way to it here.
    """
    if wanted is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise LoadingError(f"device {wanted!r} cannot be used here: {error}") from error
    return device


def pick_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where it is fast, else float32.

    On a CPU without bfloat16 instructions it is 3-5 times slower than float32 for everything but single
    tokens.
    """
    if device.type == "cuda":
        return torch.bfloat16
    return torch.bfloat16 if device.type == "cpu" and _has_fast_bfloat16() else torch.float32


def _has_fast_bfloat16() -> bool:
    if not hasattr(torch.cpu, "get_capabilities"):  # torch before 2.12
        return False
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
