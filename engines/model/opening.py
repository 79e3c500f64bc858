"""From a name to a model in memory: files, device, precision, adapter, tokenizer.

All of it runs on the model's thread and imports torch, which `carrara.engines.local` does not before
then.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carrara.engines.errors import LoadingError
from carrara.engines.fields import Fields
from carrara.engines.model.device import pick_device, pick_dtype
from carrara.engines.model.gemma import MODEL_TYPE as GEMMA
from carrara.engines.model.gemma import Gemma, open_gemma
from carrara.engines.model.linear import can_be_quick
from carrara.engines.model.llama import Llama
from carrara.engines.model.load import load_model
from carrara.engines.model.lora import CONFIG_FILE, attach, load_adapter, merge
from carrara.engines.model.pace import Pace
from carrara.engines.model.peaks import SAMPLE
from carrara.engines.model.small import small_kind
from carrara.engines.prefix_cache import BLOCK_TOKENS, PrefixCache
from carrara.engines.tokenizer import Tokenizer
from carrara.engines.weights import manifest
from carrara.engines.weights.folder import read_object, weight_files
from carrara.engines.weights.store import ensure

_CPU_CACHE_BYTES = 256 << 20
_GPU_CACHE_BYTES = 4 << 30


@dataclass(frozen=True, slots=True)
class Opening:
    """What to open and how; `LocalModel.open` explains the fields. `adapter` is a folder or None here."""

    source: str
    adapter: Path | None
    dtype: torch.dtype | None
    device: str | None
    switchable: bool
    quick: bool | None
    threads: int | None
    prefix_cache_bytes: int | None
    check_prefixes: bool = False


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """The adapter in use. `merged` into the weights it cannot be switched off for a request.

    `settings` is its whole adapter_config.json, where other keys of ours may stand.
    """

    name: str
    folder: Path
    fingerprint: str
    merged: bool
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Loaded:
    """Everything that `LocalModel` shares, while it is open. `folder` holds its files."""

    folder: Path
    model: Llama | Gemma
    tokenizer: Tokenizer
    prefix_cache: PrefixCache[Tensor]
    pace: Pace
    adapter: AdapterInfo | None
    fingerprint: str


def load(opening: Opening) -> Loaded:
    """Read all files and build the model.

    Raises:
        LoadingError: names the file that is missing, damaged or does not fit the others.
    """
    if opening.threads is not None:
        torch.set_num_threads(opening.threads)
    folder = ensure(opening.source)
    device = pick_device(opening.device)
    model, adapter = _model(folder, opening, device)
    tokenizer = _tokenizer(folder, model, adapter)
    measured = adapter is not None and adapter.settings.get("quick") is True
    small = small_kind(device, opening.quick, measured)
    if small is not None and isinstance(model, Llama):
        model.shrink(small, torch.tensor([tokenizer.encode(SAMPLE)], device=device))
    budget = opening.prefix_cache_bytes
    if budget is None:
        budget = _GPU_CACHE_BYTES if device.type == "cuda" else _CPU_CACHE_BYTES
    return Loaded(
        folder,
        model,
        tokenizer,
        PrefixCache(
            budget,
            lambda payload: payload.nbytes,
            _prefix_block(model),
            _seal if opening.check_prefixes else None,
        ),
        Pace(torch.get_num_threads() if device.type == "cpu" and opening.threads is None else 1),
        adapter,
        _fingerprint(folder, model, tokenizer, adapter),
    )


def _model(
    folder: Path, opening: Opening, device: torch.device
) -> tuple[Llama | Gemma, AdapterInfo | None]:
    dtype = opening.dtype or pick_dtype(device)
    if read_object(folder / "config.json").get("model_type") == GEMMA:
        if opening.adapter is not None:
            raise LoadingError(
                f"{opening.adapter}: adapters are not supported on DiffusionGemma. Open {folder} without one."
            )
        return open_gemma(folder, dtype, device), None
    model = load_model(folder, dtype, device)
    adapter = _use_adapter(model, opening)
    if opening.quick is not False and can_be_quick(device):
        model.quicken()
    return model, adapter


def _prefix_block(model: Llama | Gemma) -> int:
    """Tokens in a block of the prefix cache: whole blocks of the model, where it attends in blocks."""
    how = model.config.denoising
    return math.lcm(BLOCK_TOKENS, how.block) if how is not None and how.block else BLOCK_TOKENS


def _seal(payload: Tensor) -> bytes:
    """A hash of the bits of a payload."""
    raw = payload.detach().contiguous().cpu().view(torch.uint8)
    return hashlib.blake2b(raw.numpy().tobytes(), digest_size=16).digest()


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _use_adapter(model: Llama, opening: Opening) -> AdapterInfo | None:
    if opening.adapter is None:
        return None
    adapter = load_adapter(opening.adapter)
    (attach if opening.switchable else merge)(model, adapter)
    merged = not opening.switchable
    return AdapterInfo(adapter.name, opening.adapter, adapter.fingerprint, merged, adapter.settings)


def _tokenizer(folder: Path, model: Llama | Gemma, adapter: AdapterInfo | None) -> Tokenizer:
    size = model.config.vocab_size
    named = Fields({}, "")
    if adapter is not None:
        named = Fields(adapter.settings, str(adapter.folder / CONFIG_FILE))
    tokenizer = Tokenizer.from_folder(
        folder,
        mask_id=named.token("mask_token_id", size),
        slot_pad_id=named.token("slot_pad_token_id", size),
    )
    if tokenizer.vocab_size != size:
        raise LoadingError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} ids, the model {size}"
        )
    tokenizer.vocabulary  # noqa: B018 - made now, so that no request waits for it
    return tokenizer


def _fingerprint(
    folder: Path, model: Llama | Gemma, tokenizer: Tokenizer, adapter: AdapterInfo | None
) -> str:
    known = manifest.read(folder)
    stored = known.files if known else {}
    weights = [
        stored[path.name].sha256 if path.name in stored else manifest.sha256(path)
        for path in [folder / "config.json", *weight_files(folder)]
    ]
    computed = [dtype_name(model.dtype), str(model.is_quick), model.device.type]
    small = getattr(model, "small", None)
    if small is not None:
        computed.append("int8 prompts and canvases" if small == "int8" else f"{small} canvases")
    adapters = [adapter.fingerprint, str(adapter.merged)] if adapter else []
    parts = "\n".join([*weights, tokenizer.fingerprint, *computed, *adapters])
    return hashlib.blake2b(parts.encode(), digest_size=8).hexdigest()
