"""The engine `vllm` against a stand-in for the module, of the shape that vLLM 0.33 has; vLLM itself is not run here."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest

from carrara.engines.contract import Choice, Column, Json, Regex, Table, Text
from carrara.engines.errors import ContextOverflow, EngineFailed, EngineRefused, LoadingError
from carrara.engines.request import Completion, Draft, Limits, Message, Progress, Request, Sampling
from carrara.engines.vllm.engine import VllmEngine, VllmSettings


@dataclass
class Logprob:
    logprob: float
    decoded_token: str


@dataclass
class Output:
    text: str
    token_ids: list[int]
    logprobs: list[dict[int, Logprob]]
    finish_reason: str | None = None
    stop_reason: Any = None


@dataclass
class Found:
    outputs: list[Output]
    finished: bool
    prompt_token_ids: list[int]
    num_cached_tokens: int = 4


@dataclass
class Params:
    given: dict[str, Any]


class Tokenizer:
    def apply_chat_template(self, turns: Any, **_: Any) -> Any:
        return {"input_ids": list(range(sum(len(turn["content"].split()) for turn in turns)))}


@dataclass
class Core:
    """`AsyncLLM`: writes `reply` character by character; counts what was aborted."""

    reply: str
    finish: str = "stop"
    grammarless: bool = False
    refusal: str = "Structured outputs are not yet supported for diffusion language models."
    hold: asyncio.Event | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    aborted: int = 0
    closed: int = 0
    errored: bool = False

    def get_tokenizer(self) -> Tokenizer:
        return Tokenizer()

    def shutdown(self) -> None:
        self.closed += 1

    async def generate(
        self, prompt: Any, params: Params, ticket: str, *, priority: int
    ) -> AsyncIterator[Found]:
        self.asked.append(
            {**params.given, "prompt": prompt, "ticket": ticket, "priority": priority}
        )
        if self.grammarless and "structured_outputs" in params.given:
            raise ValueError(self.refusal)
        try:
            ids = prompt["prompt_token_ids"]
            for end in range(1, len(self.reply) + 1):
                if self.hold is not None:
                    await self.hold.wait()
                text = self.reply[:end]
                chances = [{ord(c): Logprob(-0.1, c), 1: Logprob(-3.0, "z")} for c in text]
                last = end == len(self.reply)
                output = Output(
                    text, [ord(c) for c in text], chances, self.finish if last else None
                )
                yield Found([output], last, ids)
        except (asyncio.CancelledError, GeneratorExit):
            self.aborted += 1
            raise


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> Core:
    found = Core("")
    module, params = ModuleType("vllm"), ModuleType("vllm.sampling_params")
    arguments: dict[str, Any] = {}

    class AsyncLLMEngine:
        @staticmethod
        def from_engine_args(given: dict[str, Any]) -> Core:
            arguments.update(given)
            return found

    members = {
        "AsyncEngineArgs": dict,
        "AsyncLLMEngine": AsyncLLMEngine,
        "SamplingParams": lambda **given: Params(given),
        "TokensPrompt": dict,
        "__version__": "0.33.0",
    }
    for name, value in members.items():
        setattr(module, name, value)
    setattr(params, "StructuredOutputsParams", lambda **given: given)  # noqa: B010
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", params)
    return found


def ask(core: Core, reply: str, output: Any = None, **more: Any) -> tuple[Completion, Core]:
    core.reply = reply

    async def main() -> Completion:
        async with VllmEngine("/models/m", settings=VllmSettings(100)) as engine:
            watch = more.pop("watch", None)
            text = more.pop("text", "Say it.")
            request = Request((Message("user", text),), output or Text(), **more)
            return await engine.complete(request, watch)

    return asyncio.run(main()), core


def test_text_is_written_and_shown(core: Core) -> None:
    seen: list[Progress] = []
    found, _ = ask(
        core,
        "Hi!",
        watch=seen.append,
        limits=Limits(9),
        sampling=Sampling(0.5, 0.9, 3),
        stop=("x",),
        priority=2.0,
    )
    assert (found.text, found.stop, found.engine) == ("Hi!", "end", "vllm")
    assert [progress.text for progress in seen] == ["H", "Hi", "Hi!"]
    assert (
        found.usage.prompt_tokens,
        found.usage.cached_tokens,
        found.usage.completion_tokens,
    ) == (2, 4, 3)
    sent = core.asked[0]
    assert (sent["max_tokens"], sent["temperature"], sent["top_p"], sent["seed"]) == (
        9,
        0.5,
        0.9,
        3,
    )
    assert (sent["stop"], sent["priority"]) == (["x"], -2000)
    assert core.closed == 1


@pytest.mark.parametrize(
    ("output", "reply", "held"),
    [
        (Choice(("a", "b")), "b", {"choice": ["a", "b"]}),
        (Regex(r"\d+"), "42", {"regex": r"\d+"}),
        (Json.of({"type": "integer"}), "42", {"json": {"type": "integer"}}),
    ],
)
def test_contracts_go_as_structured_outputs(core: Core, output: Any, reply: str, held: Any) -> None:
    found, _ = ask(core, reply, output)
    assert (found.text, core.asked[0]["structured_outputs"]) == (reply, held)
    assert found.value == output.parse(reply)
    assert found.confidence.overall is not None


def test_a_table_comes_back_as_one(core: Core) -> None:
    found, _ = ask(core, '[{"a": "x"}]', Table((Column("a"),)))
    assert found.text == "| a |\n| --- |\n| x |"


def test_a_model_that_takes_no_grammar_is_asked_in_words(core: Core) -> None:
    core.grammarless = True
    found, _ = ask(core, "b", Choice(("a", "b")))
    assert found.value == "b"
    assert [("structured_outputs" in asked) for asked in core.asked] == [True, False]


@pytest.mark.parametrize("is_one", [True, False])
def test_one_grammar_that_is_refused_leaves_the_others(core: Core, is_one: bool) -> None:
    core.grammarless = True
    if is_one:
        core.refusal = "The JSON schema contains features not supported by xgrammar."

    async def main() -> Any:
        core.reply = "b"
        async with VllmEngine("/models/m") as engine:
            request = Request((Message("user", "x"),), Choice(("a", "b")))
            await engine.complete(request)
            await engine.complete(request)
            core.grammarless = False
            await engine.complete(Request((Message("user", "x"),), Choice(("b", "c"))))
            return engine.can

    can = asyncio.run(main())
    assert ["structured_outputs" in asked for asked in core.asked] == [True, False, False, is_one]
    assert ("choice" in can) == is_one


def test_a_cut_off_answer_has_no_value(core: Core) -> None:
    core.finish = "length"
    found, _ = ask(core, "12", Json.of({"type": "integer"}))
    assert (found.value, found.stop) == (None, "length")


def test_what_can_never_be_answered_is_refused(core: Core) -> None:
    with pytest.raises(ContextOverflow, match="120 prompt tokens"):
        ask(core, "x", text="word " * 120)
    with pytest.raises(EngineRefused, match="no draft"):
        ask(core, "x", draft=Draft("y"))


def test_cancelling_aborts_the_request(core: Core) -> None:
    async def main() -> None:
        core.reply, core.hold = "long", asyncio.Event()
        engine = VllmEngine("/models/m")
        async with engine:
            task = asyncio.create_task(engine.complete(Request((Message("user", "x"),))))
            while not core.asked:  # noqa: ASYNC110
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        with pytest.raises(EngineFailed, match="not open"):
            await engine.complete(Request((Message("user", "x"),)))

    asyncio.run(main())
    assert core.aborted == 1


def test_without_vllm_the_engine_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)

    async def main() -> None:
        async with VllmEngine("/models/m"):
            pass

    with pytest.raises(LoadingError, match="pip install vllm"):
        asyncio.run(main())
