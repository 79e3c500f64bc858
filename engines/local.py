"""One model in this process, shared by every engine that decodes it: weights, tokenizer, prefix cache,
one thread.

Engines that are given the same `LocalModel` share all of it. Torch work runs on its single thread
(`run`), so passes of different engines take turns and the event loop never waits for one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal, ParamSpec, TypeVar

from carrara.engines.errors import CarraraError, EngineRefused
from carrara.engines.shared import Shared

if TYPE_CHECKING:
    import torch

    from carrara.engines.model.config import LlamaConfig
    from carrara.engines.model.gemma import Gemma
    from carrara.engines.model.llama import Llama
    from carrara.engines.model.opening import AdapterInfo, Loaded
    from carrara.engines.model.pace import Pace
    from carrara.engines.prefix_cache import PrefixCache
    from carrara.engines.tokenizer import Tokenizer

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_SOURCE = "smollm2"
BASE = "base"
"""`Request.adapter` of a row that goes without the adapter, where it can be switched."""

_EMBEDDED = Path(__file__).parent / "embedded"


def adapter_folder(source: str, adapter: str | Path | None) -> Path | None:
    """Where the adapter of a model lies: `adapter` itself, or with "auto" the embedded one of the default model."""
    if adapter != "auto":
        return None if adapter is None else Path(adapter)
    has_one = source == DEFAULT_SOURCE and (_EMBEDDED / "adapter_config.json").is_file()
    return _EMBEDDED if has_one else None


class LocalModel(Shared):
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
        check_prefixes: bool = False,
    ) -> None:
        super().__init__()
        self.source = str(source)
        self._adapter_source = adapter
        self._dtype, self._device = dtype, device
        self._switchable, self._quick = switchable, quick
        self._threads, self._cache_bytes = threads, prefix_cache_bytes
        self._check_prefixes = check_prefixes
        self._thread: ThreadPoolExecutor | None = None
        self._loaded: Loaded | None = None

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
        check_prefixes: bool = False,
    ) -> LocalModel:
        """Name a model; nothing is read before it is entered.

        `source` is a name of the catalogue or a Hugging Face folder. `adapter` is a folder in peft's
        layout, None for none, "auto" for the one that lies in engines/embedded/ when the model is the
        default one. It is merged into the weights, or with `switchable` kept beside them so that
        requests choose, at some cost in speed. `dtype` None: bfloat16 on CUDA and on CPUs with fast
        bfloat16, else float32. `device` None: CUDA where there is one. `quick` None: int8 copies of the
        weights where the CPU computes them, for answer tokens, and for canvases and their prompts if the
        adapter says that it was measured so; True: for these in any case, and float8 ones on GPUs that have
        them; False: the weights as they are. `threads` for one operation on a CPU, None for torch's own choice.
        `prefix_cache_bytes` None: 256 MiB on a CPU, 4 GiB on a GPU. `check_prefixes` compares a checksum of
        what the prefix cache holds before it is used again, and computes anew what has changed; it reads all of it, so
        it is meant for tests and for finding faults.
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
            check_prefixes=check_prefixes,
        )

    @property
    def is_loaded(self) -> bool:
        return self._loaded is not None

    @property
    def model(self) -> Llama:
        """Raises CarraraError on a DiffusionGemma, which is `gemma`."""
        from carrara.engines.model.llama import Llama

        if not isinstance(self._now.model, Llama):
            raise CarraraError(f"model {self.source!r} is a DiffusionGemma, no Llama")
        return self._now.model

    @property
    def gemma(self) -> Gemma | None:
        """The model where it is a DiffusionGemma, None for all others."""
        from carrara.engines.model.gemma import Gemma

        return self._now.model if isinstance(self._now.model, Gemma) else None

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return self._now.folder

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
    def pace(self) -> Pace:
        """Every pass runs inside its `timed`, which finds out how many threads are good for it."""
        return self._now.pace

    @property
    def device(self) -> torch.device:
        return self._now.model.device

    @property
    def device_kind(self) -> str:
        """ "cpu", "cuda", …; before it is loaded that which was asked for, "cpu" where none was."""
        if self.is_loaded:
            return self.device.type
        return str(self._device or "cpu").partition(":")[0]

    @property
    def dtype(self) -> torch.dtype:
        return self._now.model.dtype

    @property
    def small_prompts(self) -> bool:
        """Whether canvases stand on prompts that were computed with the int8 copies of the weights, too."""
        return self.gemma is None and self.model.small == "int8"

    @property
    def computed(self) -> torch.dtype:
        """What lies between the products of a pass over canvases."""
        return self.model.computed if self.gemma is None else self.dtype

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
        from carrara.engines.model.opening import dtype_name

        quick = f"{' with int8 decoding' if self._now.model.is_quick else ''}{self._small_line}"
        adapter = f", adapter {self.adapter.name}" if self.adapter else ""
        return f"{self.source} on {self.device} in {dtype_name(self.dtype)}{quick}{adapter}"

    @property
    def _small_line(self) -> str:
        """What canvases are computed with, where that differs from the rest, or was asked for and is not to be had."""
        small = None if self.gemma else self.model.small
        if small is None:
            return " and exact canvases: quick ones are not to be had here" if self._quick else ""
        return f" and {small} canvases"

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

    @property
    def writes_free_text(self) -> bool:
        """Whether free text is written with the weights that are here: an adapter that was trained on contracts
        alone (`free_text` false in its configuration) has unlearnt it."""
        return self.adapter is None or bool(self.adapter.settings.get("free_text", True))

    def without_adapter(self) -> LocalModel:
        """The same model, opened the same way, as it is without the adapter."""
        return LocalModel(
            self.source,
            None,
            self._dtype,
            self._device,
            switchable=False,
            quick=self._quick,
            threads=self._threads,
            prefix_cache_bytes=self._cache_bytes,
            check_prefixes=self._check_prefixes,
        )

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

    @property
    def _now(self) -> Loaded:
        if self._loaded is None:
            raise CarraraError(f"model {self.source!r} is not loaded: enter it with `async with`")
        return self._loaded

    async def _begin(self) -> None:
        thread = ThreadPoolExecutor(1, thread_name_prefix="carrara-model")
        try:
            loop = asyncio.get_running_loop()
            self._loaded = await loop.run_in_executor(thread, self._read)
        except BaseException:
            thread.shutdown(wait=False)
            raise
        self._thread = thread

    async def _end(self) -> None:
        thread, self._thread, self._loaded = self._thread, None, None
        if thread is not None:
            await asyncio.to_thread(thread.shutdown)

    def _read(self) -> Loaded:
        from carrara.engines.model.opening import Opening, load

        return load(
            Opening(
                self.source,
                adapter_folder(self.source, self._adapter_source),
                self._dtype,
                self._device,
                self._switchable,
                self._quick,
                self._threads,
                self._cache_bytes,
                self._check_prefixes,
            )
        )
