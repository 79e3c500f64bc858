"""llama.cpp for real, with the embedded weights: in this process, and its own HTTP server through the remote engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

import carrara
from carrara.engines.contract import Choice, Column, Json, Regex, Table, Text
from carrara.engines.errors import AccessDenied, ContextOverflow, EngineFailed, LoadingError
from carrara.engines.llamacpp.engine import LlamacppEngine
from carrara.engines.llamacpp.line import Size
from carrara.engines.remote.engine import RemoteEngine
from carrara.engines.remote.keys import Key
from carrara.engines.remote.preset import presets
from carrara.engines.remote.probe import probe
from carrara.engines.request import Draft, Limits, Message, Request
from carrara.engines.scripted import ScriptedEngine
from carrara.engines.weights.gguf_export import ensure_gguf

PERSON = Json.of(
    {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
    }
)
ADA = "Ada Lovelace is 36 years old. Extract her name and age."
KEY = "a-key-of-the-test-0123456789"


def asking(text: str, output: Any = None, most: int = 40, **more: Any) -> Request:
    return Request((Message("user", text),), output or Text(), Limits(max_tokens=most), **more)


async def begun_and_cancelled(engine: Any) -> bool:
    """Cancel a long answer when its first words have come; whether it ended by that."""
    begun = asyncio.Event()
    request = asking("Tell a long story.", most=900)
    task = asyncio.create_task(engine.complete(request, lambda progress: begun.set()))
    await begun.wait()
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False


@pytest.fixture(scope="module")
def engine(smollm2_folder: Path) -> Iterator[Callable[[Any], Any]]:
    """`engine(work)` awaits `work(engine)` with the engine `llamacpp`, opened once, on one event loop."""
    found, stack = (
        LlamacppEngine("smollm2", size=Size(slots=4, context_tokens=1024, threads=1)),
        AsyncExitStack(),
    )
    with asyncio.Runner() as runner:
        runner.run(stack.enter_async_context(found))
        try:
            yield lambda work: runner.run(work(found))
        finally:
            runner.run(stack.aclose())


@pytest.fixture(scope="module")
def server(smollm2_folder: Path) -> Iterator[str]:
    """The base URL of llama.cpp's own server on the plain weights."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(ensure_gguf("smollm2"))
    params.n_ctx, params.n_parallel, params.port = 2048, 2, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.hostnames, params.api_keys = ["127.0.0.1"], [KEY]
    params.warmup, params.verbosity = False, -1
    running = xllamacpp.Server(params)
    yield f"{running.listening_address}/v1"
    del running


@pytest.mark.weights
def test_both_decoders_of_the_weights_give_one_answer(
    engine: Callable[[Any], Any], embedded: Callable[[Any], Any]
) -> None:
    here = engine(lambda llamacpp: llamacpp.complete(asking(ADA, PERSON)))
    there = embedded(lambda engines: engines["ar"].complete(asking(ADA, PERSON)))
    assert here.value == there.value == {"name": "Ada Lovelace", "age": 36}
    assert set(here.confidence.fields) == {"/name", "/age"}
    assert min(here.confidence.fields.values()) > 0.8
    assert here.engine == "llamacpp"


@pytest.mark.weights
def test_contracts_are_held_by_the_grammars_of_ar(engine: Callable[[Any], Any]) -> None:
    table = Table((Column("fruit"), Column("price", "number")), 1, 2)
    outputs = (Choice(("positive", "negative")), table, Regex(r"[a-f]{3}-\d{2}"))

    async def work(llamacpp: Any) -> list[Any]:
        asked = (
            asking("Is 'I love it' positive or negative?", outputs[0]),
            asking("Two fruits.", table, 60),
        )
        return await asyncio.gather(
            *map(llamacpp.complete, (*asked, asking("A code.", outputs[2])))
        )

    choice, fruits, code = engine(work)
    assert choice.value == "positive"
    assert 0 < choice.confidence.fields[""] <= 1
    assert len(fruits.value) in (1, 2)
    assert "/0/fruit" in fruits.confidence.fields
    assert outputs[2].parse(code.text) == code.value


@pytest.mark.weights
def test_requests_in_flight_share_the_slots_and_cancelling_frees_one(
    engine: Callable[[Any], Any],
) -> None:
    async def work(llamacpp: Any) -> list[Any]:
        ended = await asyncio.gather(*(begun_and_cancelled(llamacpp) for _ in range(4)))
        asked = [asking(f"Bob is {age} years old. Extract.", PERSON) for age in range(30, 36)]
        return [ended, await asyncio.gather(*map(llamacpp.complete, asked))]

    ended, answers = engine(work)
    assert ended == [True] * 4
    assert [answer.value["age"] for answer in answers] == list(range(30, 36))
    assert sum(answer.usage.cached_tokens for answer in answers) > 0


@pytest.mark.weights
def test_free_text_is_streamed_and_too_long_a_prompt_is_refused(
    engine: Callable[[Any], Any],
) -> None:
    seen: list[str] = []

    async def work(llamacpp: Any) -> Any:
        watch = lambda progress: seen.append(progress.text)  # noqa: E731
        found = await llamacpp.complete(asking("Say hello.", most=12), watch)
        with pytest.raises(ContextOverflow, match="1024"):
            await llamacpp.complete(asking("word " * 2000))
        return found

    found = engine(work)
    assert len(seen) > 3
    assert seen[-1] == found.text
    assert found.usage.completion_tokens == 12
    assert found.stop == "length"


@pytest.mark.weights
def test_a_chain_falls_back_from_diffusion_to_llama_cpp(
    engine: Callable[[Any], Any], tmp_path: Path
) -> None:
    (tmp_path / "p.yaml").write_text(
        'steps:\n  mood: {llm: "Is it glad or sad: I laugh.", returns: {one_of: [glad, sad]}}\n'
        'outputs: {mood: "{{ mood }}"}\n'
    )

    async def work(llamacpp: Any) -> Any:
        unsure = ScriptedEngine("diffusion", ["sad"], confidence=0.1)
        engines = {"diffusion": unsure, "llamacpp": llamacpp}
        workflow = carrara.load_workflow(str(tmp_path / "p.yaml"))
        return await carrara.run(workflow, engines=engines, journal=tmp_path / "runs.db")

    assert engine(work).value["mood"] in ("glad", "sad")


@pytest.mark.weights
def test_its_own_server_is_asked_over_http(server: str) -> None:
    preset = presets()["llamacpp-server"].but({"base_url": server}, "t")

    async def main() -> Any:
        with pytest.raises(AccessDenied):
            async with RemoteEngine("far", preset, key=Key("wrong")) as refused:
                await refused.complete(asking("x"))
        async with RemoteEngine("far", preset, key=Key(KEY)) as far:
            typed = await far.complete(asking(ADA, PERSON))
            seen: list[str] = []
            text = await far.complete(asking("Say hello.", most=8), lambda p: seen.append(p.text))
            assert await begun_and_cancelled(far)
            again = await far.complete(asking("A code.", Regex(r"[a-f]{3}-\d{2}")))
            with pytest.raises(ContextOverflow):
                await far.complete(asking("word " * 3000))
            return typed, text, seen, again

    typed, text, seen, again = asyncio.run(main())
    assert typed.value == {"name": "Ada Lovelace", "age": 36}
    assert set(typed.confidence.fields) == {"/name", "/age"}
    assert (seen[-1], text.usage.completion_tokens) == (text.text, 8)
    assert again.value is not None


@pytest.mark.weights
def test_probing_finds_out_what_it_can_do(server: str) -> None:
    base = presets()["ollama"].but({"base_url": server, "schema": "none", "logprobs": False}, "t")
    found = asyncio.run(probe(base, Key(KEY))).preset
    assert (found.schema, found.pattern, found.logprobs, found.seed) == (
        "full",
        "schema",
        True,
        True,
    )
    assert (found.stream, found.cached_usage, found.decisions) == (True, True, False)
    assert (found.context_tokens, found.checked) == (1024, "probed")
    assert found.model


def test_a_file_that_is_none_is_an_error_of_loading(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"not a model")

    async def enter(source: Path) -> None:
        async with LlamacppEngine(source):
            pass

    with pytest.raises(LoadingError, match="cannot load it"):
        asyncio.run(enter(tmp_path / "x.gguf"))
    with pytest.raises(LoadingError, match="does not exist"):
        asyncio.run(enter(tmp_path / "gone.gguf"))


def test_an_engine_that_is_not_open_says_so() -> None:
    with pytest.raises(EngineFailed, match="not open"):
        asyncio.run(LlamacppEngine("x.gguf").complete(asking("x", draft=Draft("y"))))
