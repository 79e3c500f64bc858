"""The engine `llamacpp`: the local model written out as GGUF once, answered by llama.cpp in this process.

The adapter is merged into the file, so that this decoder and the others are one model. Where the adapter has unlearnt
free text, that is written by a second file without it, which is opened when it is first needed.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import cached_property
from pathlib import Path

from carrara.engines.contract import Contract, Text
from carrara.engines.engine import Ability, Health
from carrara.engines.errors import EngineFailed, LoadingError
from carrara.engines.facts import EngineFacts
from carrara.engines.fields import Fields
from carrara.engines.infill_text import no_holes
from carrara.engines.llamacpp.line import LlamaLine, Size
from carrara.engines.remote.engine import RemoteEngine
from carrara.engines.remote.preset import Preset
from carrara.engines.remote.questions import Questions
from carrara.engines.request import Completion, Request, Watch
from carrara.engines.shared import Shared
from carrara.engines.weights.folder import read_object

PRESET = Preset(
    "llamacpp",
    "llama.cpp in this process",
    "",
    model="local",
    key_required=False,
    context_tokens=2048,
    schema="llguidance",
    pattern="schema",
    logprobs=True,
    top_logprobs=10,
    seed=True,
    tools=True,
    cached_usage=True,
    checked="run in the tests",
)
_EMBEDDED = Path(__file__).parents[1] / "embedded"


def llamacpp_engine(source: str | Path, adapter: str | Path | None = "auto") -> LlamacppEngine:
    """The engine on a model of the catalogue, a Hugging Face folder, or a .gguf file as it is.

    Raises:
        ImportError: xllamacpp is not installed.
    """
    import xllamacpp  # noqa: F401 - found missing here, not at the first call

    return LlamacppEngine(source, adapter)


class LlamacppEngine(Shared):
    """See `carrara.engines.engine.Engine`."""

    def __init__(
        self,
        source: str | Path,
        adapter: str | Path | None = "auto",
        name: str = "llamacpp",
        size: Size | None = None,
    ) -> None:
        super().__init__()
        self._name, self._size, self._source = name, size or Size(), str(source)
        self._adapter = self._adapter_folder(adapter)
        self._engine: RemoteEngine | None = None
        self._plain: RemoteEngine | None = None
        self._stack = AsyncExitStack()
        self._file = ""

    @property
    def name(self) -> str:
        return self._name

    @property
    def facts(self) -> EngineFacts:
        return EngineFacts(device="cpu")

    @property
    def can(self) -> frozenset[Ability]:
        return Questions(self._preset).can

    @property
    def fingerprint(self) -> str:
        """Of the exported file, whose name changes with weights and adapter; before it is open, of the source."""
        return f"llamacpp-{self._file or self._source}"

    @property
    def context_tokens(self) -> int:
        return self._size.context_tokens

    def refusal(self, contract: Contract) -> str | None:
        return no_holes(self._name, contract)

    def health(self) -> Health:
        if self._engine is None:
            return Health(False, f"{self._name}: {self._source}, not loaded")
        return Health(True, f"{self._name}: {self._file} on llama.cpp, {self._size.slots} slots")

    async def complete(self, request: Request, watch: Watch | None = None) -> Completion:
        """Complete one request; see the protocol."""
        if self._engine is None:
            raise EngineFailed(
                f"engine {self._name!r} is not open: enter it with `async with`", engine=self._name
            )
        if isinstance(request.output, Text) and not self._writes_free_text:
            return await (await self._opened_plain()).complete(request, watch)
        return await self._engine.complete(request, watch)

    async def _begin(self) -> None:
        self._engine = await self._opened(self._adapter)

    async def _end(self) -> None:
        self._engine = self._plain = None
        await self._stack.aclose()

    @property
    def _preset(self) -> Preset:
        return PRESET.but({"context_tokens": self._size.context_tokens}, "llamacpp")

    @cached_property
    def _writes_free_text(self) -> bool:
        if self._adapter is None:
            return True
        path = self._adapter / "adapter_config.json"
        return Fields(read_object(path), str(path)).flag("free_text", True)

    async def _opened_plain(self) -> RemoteEngine:
        async with self._gate:
            if self._plain is None:
                self._plain = await self._opened(None)
            return self._plain

    async def _opened(self, adapter: Path | None) -> RemoteEngine:
        path = await asyncio.to_thread(self._gguf, adapter)
        if adapter == self._adapter:
            self._file = path.stem
        engine = RemoteEngine(
            self._name, self._preset, line=LlamaLine(self._name, path, self._size)
        )
        return await self._stack.enter_async_context(engine)

    def _gguf(self, adapter: Path | None) -> Path:
        if self._source.endswith(".gguf"):
            path = Path(self._source).expanduser()
            if not path.is_file():
                raise LoadingError(f"{path} does not exist")
            return path
        from carrara.engines.weights.gguf_export import ensure_gguf

        return ensure_gguf(self._source, adapter)

    def _adapter_folder(self, adapter: str | Path | None) -> Path | None:
        if adapter is None or self._source.endswith(".gguf"):
            return None
        if adapter != "auto":
            return Path(adapter)
        from carrara.engines.weights.catalog import DEFAULT

        has_one = self._source == DEFAULT and (_EMBEDDED / "adapter_config.json").is_file()
        return _EMBEDDED if has_one else None


__all__ = ["PRESET", "LlamacppEngine", "llamacpp_engine"]
