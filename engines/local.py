"""One model in this process, shared by every engine that decodes it: weights, tokenizer, prefix cache,
one thread.

Engines that are given the same `LocalModel` share all of it. Torch work runs on its single thread
(`run`), so passes of different engines take turns and the event loop never waits for one.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Self, TypeVar
from weakref import WeakKeyDictionary

from carrara.engines.errors import CarraraError, EngineRefused, LoadingError
from carrara.engines.prefix_cache import PrefixCache
from carrara.engines.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch

    from carrara.engines.model.config import LlamaConfig
    from carrara.engines.model.llama import Llama
    from carrara.engines.model.lora import Adapter

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_SOURCE = "smollm2"
BASE = "base"
"""`Request.adapter` of a row that goes without the adapter, where it can be switched."""

_EMBEDDED = Path(__file__).parent / "embedded"
_CPU_CACHE_BYTES = 512 << 20
_GPU_CACHE_BYTES = 4 << 30


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
class _Loaded:
    model: Llama
    tokenizer: Tokenizer
    prefix_cache: PrefixCache[torch.Tensor]
    adapter: AdapterInfo | None
    fingerprint: str


class LocalModel:
    """A model that loads when the first `async with` enters and is freed when the last one leaves."""

    def __init__(
        self,
        source: str | Path,
        adapter: str | Path | None,
        dtype: torch.dtype | None,
        device: str | None,
        *,
        switchable: bool,
        quick: bool | None,
        threads: int | None,
        prefix_cache_bytes: int | None,
    ) -> None:
        self.source = str(source)
        self._adapter_source = adapter
        self._dtype, self._device = dtype, device
        self._switchable, self._quick = switchable, quick
        self._threads, self._cache_bytes = threads, prefix_cache_bytes
        self._users = 0
        self._gates: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = (
            WeakKeyDictionary()
        )
        self._thread: ThreadPoolExecutor | None = None
        self._loaded: _Loaded | None = None

    @classmethod
    def open(
        cls,
        source: str | Path = DEFAULT_SOURCE,
        adapter: str | Path | Literal["auto"] | None = "auto",
        dtype: torch.dtype | None = None,
        device: str | None = None,
        *,
        switchable: bool = False,
        quick: bool | None = None,
        threads: int | None = None,
        prefix_cache_bytes: int | None = None,
    ) -> LocalModel:
        """Name a model; nothing is read before it is entered.

        `source` is a name of the catalogue or a Hugging Face folder. `adapter` is a folder in peft's
        layout, None for none, "auto" for the one that lies in engines/embedded/ when the model is the
        default one. It is merged into the weights, or with `switchable` kept beside them so that
        requests choose (10-20 % slower). `dtype` None: bfloat16 on CUDA and on CPUs with fast bfloat16,
        else float32. `device` None: CUDA where there is one. `quick` None: int8 copies of the weights
        for answer tokens where the CPU computes them. `threads` for one operation on a CPU, None for
        torch's own choice. `prefix_cache_bytes` None: 512 MiB on a CPU, 4 GiB on a GPU.
        """
        return cls(
            source,
            adapter,
            dtype,
            device,
            switchable=switchable,
            quick=quick,
            threads=threads,
            prefix_cache_bytes=prefix_cache_bytes,
        )

    @property
    def is_loaded(self) -> bool:
        return self._loaded is not None

    @property
    def model(self) -> Llama:
        return self._now.model

    @property
    def config(self) -> LlamaConfig:
        return self._now.model.config

    @property
    def tokenizer(self) -> Tokenizer:
        return self._now.tokenizer

    @property
    def prefix_cache(self) -> PrefixCache[torch.Tensor]:
        """Payloads are `KVCache.take` of one block; keys are `prefix_key`."""
        return self._now.prefix_cache

    @property
    def device(self) -> torch.device:
        return self._now.model.device

    @property
    def dtype(self) -> torch.dtype:
        return self._now.model.dtype

    @property
    def adapter(self) -> AdapterInfo | None:
        """The adapter in use, None for the plain model."""
        return self._now.adapter

    @property
    def fingerprint(self) -> str:
        """Changes with weights, tokenizer, adapter, precision and kind of device."""
        return self._now.fingerprint

    @property
    def line(self) -> str:
        """Model, device and adapter in a few words, for health lines."""
        if self._loaded is None:
            return f"{self.source}, not loaded"
        quick = " with int8 decoding" if self.model.is_quick else ""
        adapter = f", adapter {self.adapter.name}" if self.adapter else ""
        return f"{self.source} on {self.device} in {_name(self.dtype)}{quick}{adapter}"

    def uses_adapter(self, name: str | None) -> bool:
        """Whether a request with `Request.adapter` = `name` goes through an adapter.

        Raises:
            EngineRefused: no such adapter here, or the merged one cannot be switched off.
        """
        info = self.adapter
        if name is None or (info is not None and name == info.name):
            return info is not None
        if name != BASE:
            here = f"only {info.name!r}" if info else "none"
            raise EngineRefused(f"no adapter {name!r} is loaded, {here}")
        if info is not None and info.merged:
            raise EngineRefused(
                f"adapter {info.name!r} is merged into the weights; "
                "open the model with switchable=True to go without it"
            )
        return False

    def prefix_key(self, uses_adapter: bool) -> str:
        """The key of the prefix cache for prompts computed with or without the adapter."""
        return self.adapter.fingerprint if uses_adapter and self.adapter else BASE

    async def run(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `fn` on the model's thread and give its result. What is running there is not interrupted
        by cancelling this call.

        Raises:
            CarraraError: the model is not open.
        """
        if self._thread is None:
            raise CarraraError(f"model {self.source!r} is not open: enter it with `async with`")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: fn(*args, **kwargs))

    async def __aenter__(self) -> Self:
        async with self._gate:
            if self._users == 0:
                await self._load()
            self._users += 1
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        async with self._gate:
            self._users -= 1
            if self._users == 0:
                await self._free()

    @property
    def _now(self) -> _Loaded:
        if self._loaded is None:
            raise CarraraError(f"model {self.source!r} is not loaded: enter it with `async with`")
        return self._loaded

    @property
    def _gate(self) -> asyncio.Lock:
        return self._gates.setdefault(asyncio.get_running_loop(), asyncio.Lock())

    async def _load(self) -> None:
        thread = ThreadPoolExecutor(1, thread_name_prefix="carrara-model")
        try:
            loop = asyncio.get_running_loop()
            self._loaded = await loop.run_in_executor(thread, self._read)
        except BaseException:
            thread.shutdown(wait=False)
            raise
        self._thread = thread

    async def _free(self) -> None:
        thread, self._thread, self._loaded = self._thread, None, None
        if thread is not None:
            await asyncio.to_thread(thread.shutdown)

    def _read(self) -> _Loaded:
        """On the model's thread: read all files and build the model."""
        # Threads of one operation sleep while they wait for each other. Spinning, torch's habit, gains
        # nothing measurable for a quiet machine and costs up to ten times the time on a busy one: the
        # spinner takes the core from the thread it waits for. It is read once, when torch is first
        # imported.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        import torch

        from carrara.engines.model.device import pick_device, pick_dtype
        from carrara.engines.model.linear import can_be_quick
        from carrara.engines.model.load import load_model
        from carrara.engines.weights.store import ensure

        if self._threads is not None:
            torch.set_num_threads(self._threads)
        folder = ensure(self.source)
        device = pick_device(self._device)
        model = load_model(folder, self._dtype or pick_dtype(device), device)
        adapter = self._use_adapter(model)
        if can_be_quick(device) if self._quick is None else self._quick:
            model.quicken()
        settings = adapter.settings if adapter else {}
        tokenizer = Tokenizer.from_folder(
            folder,
            mask_id=settings.get("mask_token_id"),
            slot_pad_id=settings.get("slot_pad_token_id"),
        )
        _check_vocabulary(tokenizer, model, folder)
        tokenizer.vocabulary  # noqa: B018 - made now, so that no request waits for it
        budget = _GPU_CACHE_BYTES if device.type == "cuda" else _CPU_CACHE_BYTES
        return _Loaded(
            model,
            tokenizer,
            PrefixCache(self._cache_bytes if self._cache_bytes is not None else budget, _size),
            adapter,
            _fingerprint(folder, model, tokenizer, adapter),
        )

    def _use_adapter(self, model: Llama) -> AdapterInfo | None:
        from carrara.engines.model.lora import attach, load_adapter, merge

        folder = self._adapter_folder()
        if folder is None:
            return None
        adapter: Adapter = load_adapter(folder)
        (attach if self._switchable else merge)(model, adapter)
        return AdapterInfo(
            adapter.name, folder, adapter.fingerprint, not self._switchable, adapter.settings
        )

    def _adapter_folder(self) -> Path | None:
        if self._adapter_source is None:
            return None
        if self._adapter_source != "auto":
            return Path(self._adapter_source)
        has_one = self.source == DEFAULT_SOURCE and (_EMBEDDED / "adapter_config.json").is_file()
        return _EMBEDDED if has_one else None


def _check_vocabulary(tokenizer: Tokenizer, model: Llama, folder: Path) -> None:
    if tokenizer.vocab_size != model.config.vocab_size:
        raise LoadingError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} ids, the model {model.config.vocab_size}"
        )


def _fingerprint(
    folder: Path, model: Llama, tokenizer: Tokenizer, adapter: AdapterInfo | None
) -> str:
    from carrara.engines.model.load import weight_files
    from carrara.engines.weights import manifest

    known = manifest.read(folder)
    stored = known.files if known else {}
    weights = [
        stored[path.name].sha256 if path.name in stored else manifest.sha256(path)
        for path in [folder / "config.json", *weight_files(folder)]
    ]
    computed = [_name(model.dtype), str(model.is_quick), model.device.type]
    adapters = [adapter.fingerprint, str(adapter.merged)] if adapter else []
    parts = "\n".join([*weights, tokenizer.fingerprint, *computed, *adapters])
    return hashlib.blake2b(parts.encode(), digest_size=8).hexdigest()


def _size(payload: torch.Tensor) -> int:
    return payload.nbytes


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
