"""Whatever breaks in a pass falls on those whom it concerns; the others get the answers that they got before."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor, nn

from carrara.engines.contract import Choice, Json, Text
from carrara.engines.diffusion.batch import BatchLimits
from carrara.engines.diffusion.engine import DiffusionEngine
from carrara.engines.diffusion.settings import Settings
from carrara.engines.errors import EngineBusy, EngineFailed, EngineRefused
from carrara.engines.faults import in_parts, is_device_lost, is_out_of_memory
from carrara.engines.local import LocalModel
from carrara.engines.model.kv import KVCache
from carrara.engines.request import Completion, Draft, Limits, Message, Request
from carrara.engines.watchdog import Watchdog

T = TypeVar("T")
FAST = Settings(block_tokens=32, text_block_tokens=8, threshold=0.3, slot_tokens=4)
CHOICE = Choice(("one", "two", "three"))
NESTED = Json.of(
    {
        "type": "object",
        "properties": {"inner": {"type": "array", "items": {"$ref": "#"}}},
        "required": ["inner"],
    }
)
NUMBERS = Json.of({"type": "array", "items": {"type": "integer"}, "maxItems": 3})


def ask(
    prompt: str, contract: Any = CHOICE, tokens: int = 24, priority: float = 0.0, **limits: Any
) -> Request:
    message = Message("user", prompt)
    return Request((message,), contract, Limits(tokens, **limits), priority=priority)


FEW = [
    ask("the cat sat on the mat " * 3),
    ask("the dog", NUMBERS),
    ask("a bird", Text(), 10),
    ask("the cat", NUMBERS),
]


async def until(come: Callable[[], bool]) -> None:
    """Let the loop go around until something has come about, and twice more."""
    rounds_left = 2
    while rounds_left:
        await asyncio.to_thread(lambda: None)
        rounds_left -= come()


@pytest.fixture
def run(tiny_folder: Path) -> Callable[..., Any]:
    def opened(work: Callable[[DiffusionEngine], Awaitable[T]], **options: Any) -> T:
        async def main() -> T:
            local = LocalModel.open(tiny_folder, dtype=torch.float32, device="cpu", threads=1)
            async with DiffusionEngine(local, settings=FAST, **options) as engine:
                return await asyncio.wait_for(work(engine), 60)

        return asyncio.run(main())

    return opened


@contextmanager
def before_each_pass(engine: DiffusionEngine, fault: Callable[[Tensor], None]) -> Iterator[None]:
    """Call `fault` with the tokens [B, T] of every forward pass."""

    def hook(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        fault(given[0])

    handle = engine.local.model.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


async def together(engine: DiffusionEngine, requests: list[Request]) -> list[Any]:
    return list(await asyncio.gather(*map(engine.complete, requests), return_exceptions=True))


def texts(found: list[Any]) -> list[str]:
    return [one.text if isinstance(one, Completion) else repr(one) for one in found]


def marked(engine: DiffusionEngine, tokens: Tensor, word: str) -> Tensor:
    """Which rows hold the token of a word that only one prompt has."""
    [token] = engine.local.tokenizer.encode(word)
    return (tokens == token).any(1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_logits_that_are_no_numbers_fail_their_row_alone(
    bad: float, run: Callable[..., Any]
) -> None:
    async def work(engine: DiffusionEngine) -> None:
        before = texts(await together(engine, FEW))
        calls = 0

        def spoil(module: nn.Module, given: Any, logits: Tensor) -> Tensor:
            nonlocal calls
            if logits.shape[1] < 2 or calls or logits.shape[0] < 2:
                return logits
            calls += 1
            spoilt = logits.clone()
            spoilt[1] = bad
            return spoilt

        handle = engine.local.model.register_forward_hook(spoil)
        found = await together(engine, FEW)
        handle.remove()
        failed = [one for one in found if isinstance(one, Exception)]
        assert len(failed) == 1 == calls
        assert isinstance(failed[0], EngineFailed)
        assert "no finite logits" in str(failed[0])
        others = [(a, b) for a, b in zip(texts(found), before, strict=True) if "no finite" not in a]
        assert len(others) == 3
        assert all(a == b for a, b in others)
        assert texts(await together(engine, FEW)) == before

    run(work)


def test_a_prompt_that_overflows_fails_alone_and_leaves_nothing_behind(
    run: Callable[..., Any],
) -> None:
    odd = ask("~ the cat sat on the mat and sat and sat and sat")

    async def work(engine: DiffusionEngine) -> None:
        before = texts(await together(engine, FEW))
        model, overflowing = engine.local.model, [torch.zeros(0, dtype=torch.bool)]

        def notice(tokens: Tensor) -> None:
            overflowing[0] = marked(engine, tokens, "~")

        def overflow(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
            return (given[0].masked_fill(overflowing[0][:, None, None], torch.inf), *given[1:])

        handle = model.layers[0].register_forward_pre_hook(overflow)
        with before_each_pass(engine, notice):
            for rows in (FEW, FEW[::-1]):
                *found, last = await together(engine, [*rows, odd])
                assert isinstance(last, EngineFailed)
                assert "no finite numbers for its prompt" in str(last)
                assert texts(found) == (before if rows is FEW else before[::-1])
        handle.remove()
        assert isinstance(await engine.complete(odd), Completion)
        assert texts(await together(engine, FEW)) == before

    run(work, limits=BatchLimits(rows=3))


def test_a_poisoned_cache_entry_is_dropped_and_its_readers_begin_anew(
    run: Callable[..., Any],
) -> None:
    long = ask("the cat sat on the mat " * 6)

    async def work(engine: DiffusionEngine) -> None:
        clean = (await engine.complete(long)).text
        cache = engine.local.prefix_cache
        key = engine.local.prefix_key(False)
        tokens = engine.local.tokenizer.encode_chat(long.messages)
        hit = cache.find(key, tokens)
        assert hit.tokens >= 32
        hit.payloads[1][:, :, :, 3] = float("nan")
        found = await together(engine, [long, ask("the dog"), long])
        assert [found[0].text, found[2].text] == [clean, clean]
        assert all(p.isfinite().all() for p in cache.find(key, tokens).payloads)
        assert (await engine.complete(long)).usage.cached_tokens >= 32

    run(work)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_pass_without_memory_is_halved_until_it_fits(rows: int, run: Callable[..., Any]) -> None:
    sizes = []

    def tight(tokens: Tensor) -> None:
        sizes.append(len(tokens))
        if len(tokens) > rows:
            raise torch.OutOfMemoryError("out of memory: tried to allocate 20.00 MiB")

    async def work(engine: DiffusionEngine) -> None:
        before = texts(await together(engine, FEW))
        with before_each_pass(engine, tight):
            assert texts(await together(engine, FEW * 2)) == before * 2
            assert "ran out of memory" in engine.health().line
            late = len(sizes)
            assert texts(await together(engine, FEW * 2)) == before * 2
        assert max(sizes[:late]) > rows
        assert max(sizes[late:]) <= rows  # it has learnt

    run(work, limits=BatchLimits(patience=1000))


def test_whom_there_is_no_memory_for_fails_with_that_and_alone(run: Callable[..., Any]) -> None:
    huge = ask("~ too much")

    async def work(engine: DiffusionEngine) -> None:
        def tight(tokens: Tensor) -> None:
            if marked(engine, tokens, "~").any():
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 GB")

        before = texts(await together(engine, FEW))
        with before_each_pass(engine, tight):
            *found, last = await together(engine, [*FEW, huge])
        assert texts(found) == before
        assert isinstance(last, EngineFailed)
        assert "no memory for its pass" in str(last)

    run(work)


def test_without_memory_for_the_cache_fewer_sit_together(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = KVCache.resize

    def tight(cache: KVCache, rows: int, slots: int) -> None:
        if rows > 2:
            raise torch.OutOfMemoryError("out of memory")
        plain(cache, rows, slots)

    async def work(engine: DiffusionEngine) -> None:
        before = texts(await together(engine, FEW))
        monkeypatch.setattr(KVCache, "resize", tight)
        assert texts(await together(engine, FEW)) == before
        monkeypatch.setattr(KVCache, "resize", lambda *_: tight(_[0], 3, 0))
        found = await together(engine, FEW)
        assert all(isinstance(one, EngineBusy) for one in found)
        assert "no memory for its cache" in str(found[0])
        monkeypatch.setattr(KVCache, "resize", plain)
        assert texts(await together(engine, FEW)) == before

    run(work)


def test_a_request_with_which_every_pass_breaks_fails_alone(run: Callable[..., Any]) -> None:
    odd = ask("~ breaks it")

    async def work(engine: DiffusionEngine) -> None:
        def broken(tokens: Tensor) -> None:
            if marked(engine, tokens, "~").any():
                raise IndexError("index out of range in self")

        before = texts(await together(engine, FEW))
        with before_each_pass(engine, broken):
            found = await together(engine, [FEW[0], odd, *FEW[1:]])
        failed = found.pop(1)
        assert texts(found) == before
        assert isinstance(failed, EngineFailed)
        assert "its pass broke: index out of range" in str(failed)
        assert failed.engine == "diffusion"

    run(work)


def test_a_lost_device_fails_everybody_and_the_engine_says_that_it_is_down(
    run: Callable[..., Any],
) -> None:
    def lost(tokens: Tensor) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    async def work(engine: DiffusionEngine) -> None:
        with before_each_pass(engine, lost):
            found = await together(engine, FEW)
        for one in found:
            assert isinstance(one, EngineFailed)
            assert "is down: the device was lost (CUDA error: an illegal memory" in str(one)
        health = engine.health()
        assert not health.ready
        assert "start the process again" in health.line
        with pytest.raises(EngineFailed, match="is down"):
            await engine.complete(FEW[0])

    run(work)


def test_a_pass_that_does_not_come_back_is_reported_and_nobody_waits_for_it(
    run: Callable[..., Any],
) -> None:
    now, released, held = [0.0], threading.Event(), threading.Event()
    looks: asyncio.Queue[None] = asyncio.Queue()

    async def sleep(seconds: float) -> None:
        await looks.get()

    def hang(tokens: Tensor) -> None:
        held.set()
        assert released.wait(50)

    async def work(engine: DiffusionEngine) -> None:
        before = texts(await together(engine, FEW))
        with before_each_pass(engine, hang):
            waiting = [asyncio.create_task(engine.complete(one)) for one in FEW[:2]]
            late = asyncio.create_task(engine.complete(ask("late", deadline_s=5.0)))
            assert await asyncio.to_thread(held.wait, 50)
            now[0] = 9.0
            looks.put_nowait(None)
            with pytest.raises((EngineFailed, EngineBusy), match="deadline"):
                await late
            assert engine.health().ready
            assert not any(task.done() for task in waiting)
            now[0] = 12.0
            looks.put_nowait(None)
            for task in waiting:
                with pytest.raises(EngineFailed, match="a pass has been running for 12 s"):
                    await task
            assert not engine.health().ready
            assert "it may take 10 s" in engine.health().line
            with pytest.raises(EngineBusy, match="is stuck"):
                await engine.complete(FEW[0])
            released.set()
            await engine.local.run(lambda: None)  # behind the pass that hung
        await asyncio.sleep(0)
        assert texts(await together(engine, FEW)) == before
        assert engine.health().ready

    run(work, clock=lambda: now[0], sleep=sleep, pass_bound_s=10.0)


def test_a_canvas_that_takes_too_long_to_make_is_waited_for_and_reported(
    run: Callable[..., Any],
) -> None:
    """The model's thread makes it, so that nobody else is answered meanwhile."""
    now, released = [0.0], threading.Event()
    looks: asyncio.Queue[None] = asyncio.Queue()

    async def sleep(seconds: float) -> None:
        await looks.get()

    async def work(engine: DiffusionEngine) -> None:
        await together(engine, FEW)
        busy = asyncio.create_task(engine.local.run(released.wait, 50))
        asked = [asyncio.create_task(engine.complete(ask(text, NUMBERS))) for text in "ab"]
        await until(lambda: "0 canvases, 2 waiting" in engine.health().line)
        now[0] = 12.0
        looks.put_nowait(None)
        for task in asked:
            with pytest.raises(EngineFailed, match="making of a canvas has been running for 12 s"):
                await task
        assert not engine.health().ready
        released.set()
        await busy
        await until(lambda: engine.health().ready)
        assert texts(await together(engine, FEW[:1]))

    run(work, clock=lambda: now[0], sleep=sleep, pass_bound_s=10.0)


def test_a_canvas_that_breaks_while_it_is_made_fails_its_request_alone(
    run: Callable[..., Any],
) -> None:
    async def work(engine: DiffusionEngine) -> None:
        deep = Draft('{"inner": [' * 400 + "]}" * 400)
        with pytest.raises(EngineFailed, match="could make no canvas: RecursionError") as told:
            await engine.complete(replace(ask("nest", NESTED, 9000), draft=deep))
        assert told.value.engine == "diffusion"
        assert texts(await together(engine, FEW))

    run(work)


@pytest.mark.parametrize(
    ("passes", "line"),
    [
        (1, "a pass has been running for 12 s, it may take 10 s"),
        (2, "2 passes have been running for 24 s, they may take 20 s"),
    ],
)
def test_a_watchdog_reports_a_pass_once(passes: int, line: str) -> None:
    now, told = [0.0], []

    async def main() -> None:
        turns = iter(range(8))

        async def sleep(seconds: float) -> None:
            assert seconds == 2.5
            now[0] += 4.0
            if next(turns, None) is None:
                raise asyncio.CancelledError
            await asyncio.sleep(0)

        dog = Watchdog(10.0, lambda: now[0], sleep)
        dog.begin(passes)
        with pytest.raises(asyncio.CancelledError):
            await dog.run(lambda: None, told.append)
        dog.end()
        assert dog.overdue_s is None

    asyncio.run(main())
    assert told == [line]


def test_what_takes_more_memory_than_there_is_is_refused_with_the_numbers(
    run: Callable[..., Any],
) -> None:
    async def work(engine: DiffusionEngine) -> None:
        with pytest.raises(
            EngineRefused, match=r"take [\d.,]+ (KiB|MiB) even alone, and 200.0 KiB"
        ):
            await engine.complete(ask("the cat", Text(), 400))
        assert isinstance(await engine.complete(ask("x", tokens=8)), Completion)

    run(work, limits=BatchLimits(bytes=200 << 10))


@pytest.mark.parametrize("priority", [float("nan"), float("inf")])
def test_a_priority_must_be_a_number(priority: float, run: Callable[..., Any]) -> None:
    with pytest.raises(EngineRefused, match="finite number"):
        run(lambda engine: engine.complete(ask("x", priority=priority)))


@pytest.mark.parametrize(
    ("error", "full", "lost"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True, False),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] can't allocate memory"), True, False),
        (MemoryError(), True, False),
        (RuntimeError("CUDA error: device-side assert triggered"), False, True),
        (RuntimeError("CUDA error: out of memory"), False, True),
        (RuntimeError("HIP error: hipErrorNoDevice"), False, True),
        (RuntimeError("shape mismatch"), False, False),
        (ValueError("out of memory"), False, False),
    ],
)
def test_errors_are_told_apart(error: Exception, full: bool, lost: bool) -> None:
    assert (is_out_of_memory(error), is_device_lost(error)) == (full, lost)


def test_a_broken_item_costs_a_handful_of_passes() -> None:
    passes = []

    def work(part: Any) -> None:
        passes.append(list(part))
        if 11 in part:
            raise ValueError("eleven")

    found = in_parts(range(16), work, lambda: None)
    assert [(item, str(error)) for item, error in found.failed] == [(11, "eleven")]
    assert found.full_at is None
    assert len(passes) == 9
    done = [item for part in passes if 11 not in part for item in part]
    assert sorted([*done, 11]) == list(range(16))
