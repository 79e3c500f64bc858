"""The engine as a caller meets it: batches, limits, refusals, streams, cancellation, constraints."""

import asyncio
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from carrara.engines.autoregressive.batch import BatchLimits
from carrara.engines.autoregressive.local import AutoregressiveEngine
from carrara.engines.autoregressive.rounds import Rounds
from carrara.engines.contract import Choice, Column, Contract, Json, Outline, Regex, Table, Text
from carrara.engines.engine import Engine
from carrara.engines.errors import ContextOverflow, EngineBusy, EngineFailed, EngineRefused
from carrara.engines.facts import EngineFacts
from carrara.engines.local import LocalModel
from carrara.engines.model.kv import KVCache
from carrara.engines.request import (
    Completion,
    Draft,
    Limits,
    Message,
    Progress,
    Request,
    Sampling,
)

With = Callable[..., None]
SCHEMA = Json.of(
    {
        "type": "object",
        "properties": {
            "on": {"type": "boolean"},
            "n": {"type": "integer"},
            "c": {"enum": ["x", "yy"]},
        },
        "required": ["on", "n", "c"],
    }
)
CONTRACTS: list[Contract] = [
    Text(),
    SCHEMA,
    Choice(("other", "another", "town")),
    Table((Column("n", "integer"), Column("b", "boolean")), 1, 2),
    Outline(2, 1, 2),
    Regex(r"[a-c]{3}-\d{2}"),
]


def ask(
    text: str = "hello", output: Contract | None = None, most: int = 24, **options: Any
) -> Request:
    limits = Limits(max_tokens=most, deadline_s=options.pop("deadline_s", None))
    return Request((Message("user", text),), output or Text(), limits, **options)


def gold(local: LocalModel, request: Request, most: int) -> list[int]:
    """What plain greedy decoding writes: one row, one token a pass, no batch, no grammar."""
    model, tokens = local.model, local.tokenizer.encode_chat(request.messages)
    cache = KVCache(model.config, 1, len(tokens) + most)
    written = enumerate(local.tokenizer.vocabulary)
    banned = [i for i, piece in written if not piece and i not in local.tokenizer.eos_ids]
    new: list[int] = []
    fed = 0
    while len(new) < most:
        part = (tokens + new)[fed:]
        positions = fed + torch.arange(len(part))[None]
        logits = model(torch.tensor([part]), positions, None, cache)[0, -1].clone()
        logits[banned] = -torch.inf
        fed += len(part)
        new.append(int(logits.argmax()))
        if new[-1] in local.tokenizer.eos_ids:
            return new[:-1]
    return new


def test_it_is_an_engine(with_engine: With) -> None:
    async def body(engine: AutoregressiveEngine) -> None:
        assert isinstance(engine, Engine)
        assert engine.name == "ar"
        assert {
            "schema",
            "choice",
            "regex",
            "table",
            "outline",
            "infill",
            "logprobs",
            "stream",
        } == engine.can
        assert engine.context_tokens == 512
        assert engine.facts == EngineFacts(device="cpu")
        assert engine.fingerprint.startswith("ar-")
        assert engine.health().ready

    with_engine(body)


def test_greedy_text_is_what_plain_decoding_of_the_model_gives(with_engine: With) -> None:
    async def body(engine: AutoregressiveEngine) -> None:
        for text in ("hello", "a", "the town " * 30):
            request = ask(text, most=40)
            found = await engine.complete(request)
            wanted = await engine.local.run(gold, engine.local, request, 40)
            assert found.text == engine.local.tokenizer.decode(wanted)
            assert found.usage.completion_tokens in (len(wanted), len(wanted) + 1)

    with_engine(body, quick=False, dtype=torch.float32)


def test_a_text_with_a_bound_is_the_beginning_of_the_one_without(with_engine: With) -> None:
    async def body(engine: AutoregressiveEngine) -> None:
        free = await engine.complete(ask(most=40))
        assert len(free.value) > 9
        bounded = await engine.complete(ask(output=Text(9), most=40))
        assert bounded.value == bounded.text.strip() == free.text.lstrip()[:9].strip()
        assert bounded.stop == "length"
        assert bounded.usage.passes < free.usage.passes
        wide = await engine.complete(ask(output=Text(10_000), most=40))
        assert (wide.text, wide.stop) == (free.text, free.stop)

    with_engine(body)


@pytest.mark.parametrize("quick", [False, True])
def test_an_answer_does_not_depend_on_who_shares_the_batch(with_engine: With, quick: bool) -> None:
    requests = [
        ask(f"{word} {n} " * (1 + 5 * (n % 4)), contract, most=30 + n, sampling=sampling)
        for n, (word, contract) in enumerate(
            zip(["the", "town", "and", "other", "one", "in"], CONTRACTS, strict=True)
        )
        for sampling in (Sampling(), Sampling(1.0, 0.9, seed=n))
    ]

    async def body(engine: AutoregressiveEngine) -> None:
        alone = [await engine.complete(request) for request in requests]
        engine.local.prefix_cache.clear()
        together = await asyncio.gather(*map(engine.complete, requests))
        for one, other in zip(alone, together, strict=True):
            assert (one.text, one.value, one.stop) == (other.text, other.value, other.stop)
            if quick:  # int8 products give the same bits in every batch, float32 ones almost
                assert one.confidence == other.confidence
            assert one.confidence.tokens == pytest.approx(other.confidence.tokens, abs=1e-4)

    with_engine(body, BatchLimits(rows=5, chunk=20, quiet_chunk=40), quick=quick)


def test_a_seed_repeats_a_warm_answer_and_no_seed_does_not(with_engine: With) -> None:
    async def body(engine: AutoregressiveEngine) -> None:
        seeded = [await engine.complete(ask(sampling=Sampling(1.0, seed=4))) for _ in range(2)]
        assert seeded[0].text == seeded[1].text
        free = {(await engine.complete(ask(sampling=Sampling(1.0)))).text for _ in range(4)}
        assert len(free) > 1

    with_engine(body)


@pytest.mark.parametrize("contract", CONTRACTS[1:], ids=lambda c: c.kind)
@pytest.mark.parametrize("most", [1, 3, 8, 20, 300])
def test_a_contract_is_held_or_the_limit_cut_it(
    with_engine: With, contract: Contract, most: int
) -> None:
    async def body(engine: AutoregressiveEngine) -> None:
        for sampling in (Sampling(), *(Sampling(1.5, seed=seed) for seed in range(4))):
            found = await engine.complete(ask("go", contract, most, sampling=sampling))
            assert found.usage.completion_tokens <= most + 1
            if found.value is None:
                assert found.stop == "length"
            else:
                assert contract.parse(found.text) == found.value
                assert found.stop == "end"
                assert found.confidence.fields
                assert all(0 <= chance <= 1 for chance in found.confidence.fields.values())

    with_engine(body)


def test_forced_tokens_cost_no_pass_of_their_own(with_engine: With) -> None:
    contract = Json.of(
        {"type": "object", "properties": {"number": {"type": "boolean"}}, "required": ["number"]}
    )

    async def body(engine: AutoregressiveEngine) -> None:
        found = await engine.complete(ask("go", contract))
        assert found.value is not None
        assert found.usage.passes < found.usage.completion_tokens / 2
        assert len(found.confidence.tokens) <= 2
        assert list(found.confidence.fields) == ["/number"]

    with_engine(body)


def test_an_answer_without_a_decision_takes_no_pass(with_engine: With) -> None:
    async def body(engine: AutoregressiveEngine) -> None:
        found = await engine.complete(ask("go", Choice(("the town",))))
        assert (found.value, found.stop, found.usage.passes) == ("the town", "end", 0)
        assert found.confidence.fields == {"": 1.0}

    with_engine(body)


def test_a_string_that_reached_our_bound_is_reported_as_cut(with_engine: With) -> None:
    contract = Json.of({"type": "string"})

    async def body(engine: AutoregressiveEngine) -> None:
        found = await engine.complete(ask("go", contract, most=200))
        if isinstance(found.value, str):
            assert (len(found.value) == 400) == (found.stop == "length")
        else:
            assert found.stop == "length"

    with_engine(body)


def test_a_stop_string_ends_free_text_before_it(with_engine: With) -> None:
    async def body(engine: AutoregressiveEngine) -> None:
        whole = (await engine.complete(ask())).text
        stop = whole[7:10]
        assert stop
        found = await engine.complete(ask(stop=(stop, "never this")))
        assert (found.text, found.stop) == (whole[: whole.index(stop)], "stop")
        assert (await engine.complete(ask(output=SCHEMA, most=200, stop=('"', "{")))).stop != "stop"

    with_engine(body)


def test_a_watcher_sees_the_text_grow_and_nothing_taken_back(with_engine: With) -> None:
    async def body(engine: AutoregressiveEngine) -> None:
        seen: list[Progress] = []
        found = await engine.complete(ask(most=40), seen.append)
        assert len(seen) > 5
        assert seen[-1].text == found.text
        for earlier, later in itertools.pairwise(seen):
            assert later.text.startswith(earlier.text)
            assert later.settled == 1.0
        await engine.complete(ask(most=2), seen.append)

    with_engine(body)


def test_a_watcher_that_fails_fails_its_request_alone(with_engine: With) -> None:
    def broken(progress: Progress) -> None:
        raise RuntimeError("screen gone")

    async def body(engine: AutoregressiveEngine) -> None:
        other = asyncio.create_task(engine.complete(ask("other")))
        with pytest.raises(EngineFailed, match="screen gone") as caught:
            await engine.complete(ask(), broken)
        assert isinstance(caught.value.__cause__, RuntimeError)
        assert caught.value.engine == "ar"
        assert (await other).text

    with_engine(body)


def test_a_cancelled_request_gives_its_row_to_the_next(with_engine: With) -> None:
    async def body(engine: AutoregressiveEngine) -> None:
        begun = asyncio.Event()
        long = asyncio.create_task(engine.complete(ask(most=400), lambda progress: begun.set()))
        await begun.wait()
        next_one = asyncio.create_task(engine.complete(ask("next", most=3)))
        long.cancel()
        with pytest.raises(asyncio.CancelledError):
            await long
        assert (await next_one).usage.completion_tokens <= 3

    with_engine(body, BatchLimits(rows=1))


def test_a_full_queue_is_busy_and_says_how_full(with_engine: With) -> None:
    async def body(engine: AutoregressiveEngine) -> None:
        begun = asyncio.Event()
        first = asyncio.create_task(engine.complete(ask(most=300), lambda progress: begun.set()))
        await begun.wait()
        second = asyncio.create_task(engine.complete(ask("b", most=2)))
        await asyncio.sleep(0)
        with pytest.raises(EngineBusy, match="1 requests answering and 1 waiting") as caught:
            await engine.complete(ask("c", most=2))
        assert caught.value.engine == "ar"
        first.cancel()
        await second

    with_engine(body, BatchLimits(rows=1, waiting=1))


def test_a_higher_priority_is_answered_first(with_engine: With) -> None:
    async def body(engine: AutoregressiveEngine) -> None:
        order: list[str] = []

        async def one(name: str, priority: float) -> None:
            await engine.complete(ask(name, most=3, priority=priority))
            order.append(name)

        begun = asyncio.Event()
        first = asyncio.create_task(engine.complete(ask(most=20), lambda progress: begun.set()))
        await begun.wait()
        async with asyncio.TaskGroup() as group:
            for name, priority in (("low", 0.0), ("lower", -1.0), ("high", 2.0)):
                group.create_task(one(name, priority))
        await first
        assert order == ["high", "low", "lower"]

    with_engine(body, BatchLimits(rows=1))


def test_a_deadline_ends_a_running_answer_and_a_waiting_one(with_engine: With, clock: Any) -> None:
    async def body(engine: AutoregressiveEngine) -> None:
        def pass_time(progress: Progress) -> None:
            clock.now += 10

        running = asyncio.create_task(engine.complete(ask(most=400, deadline_s=100), pass_time))
        waiting = asyncio.create_task(engine.complete(ask("b", deadline_s=50)))
        with pytest.raises(EngineFailed, match=r"deadline.*100.0 s after.*of at most 400 tokens"):
            await running
        with pytest.raises(EngineBusy, match="deadline of a request passed in the queue"):
            await waiting

    with_engine(body, BatchLimits(rows=1))


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (ask("x" * 2000), r"[\d,]+ prompt tokens and 24 tokens of answer, its context holds 512"),
        (ask("x" * 10**6), "refused a prompt of 1,000,000 characters and 24 .* holds 512"),
        (ask(most=0), "max_tokens is 0"),
        (ask(output=Regex(r"(a)\1")), "as a grammar"),
        (ask(draft=Draft("x")), "takes no draft"),
        (ask(adapter="mine"), "no adapter 'mine' is loaded"),
        (ask(sampling=Sampling(-1)), "temperature is -1, it must be a number of at least 0"),
        (ask(sampling=Sampling(float("nan"))), "temperature is nan"),
        (ask(most=40.5), "max_tokens is 40.5, it must be a whole number"),  # type: ignore[arg-type]
        (ask(draft=Draft("x", spans=((0, 1),), strength=2)), "strength is 2"),
        (
            ask(sampling=Sampling(1, top_p=0)),
            "top_p is 0, it must be a number above 0 and at most 1",
        ),
    ],
)
def test_what_can_never_succeed_is_refused_with_the_reason(
    with_engine: With, request_: Request, words: str
) -> None:
    async def body(engine: AutoregressiveEngine) -> None:
        with pytest.raises(EngineRefused, match=words) as caught:
            await engine.complete(request_)
        assert caught.value.engine == "ar"
        assert isinstance(caught.value, ContextOverflow) == ("holds 512" in words)

    with_engine(body)


def test_contracts_that_cannot_be_held_are_known_beforehand(with_engine: With) -> None:
    async def body(engine: AutoregressiveEngine) -> None:
        assert all(engine.refusal(contract) is None for contract in CONTRACTS)
        assert "as a grammar" in (engine.refusal(Regex(r"a(?=b)")) or "")

    with_engine(body)


def test_a_shared_beginning_is_computed_once(with_engine: With) -> None:
    async def body(engine: AutoregressiveEngine) -> None:
        system = Message("system", "the other one in the town " * 4)
        texts = [
            await engine.complete(Request((system, Message("user", word)), limits=Limits(8)))
            for word in ("a", "b", "a")
        ]
        assert texts[0].usage.cached_tokens == 0
        assert texts[1].usage.cached_tokens >= 32
        assert texts[2].usage.cached_tokens >= texts[1].usage.cached_tokens
        assert texts[0].text == texts[2].text

    with_engine(body)


def test_a_prompt_that_is_known_in_full_is_still_answered(with_engine: With) -> None:
    async def body(engine: AutoregressiveEngine) -> None:
        size = len(engine.local.tokenizer.encode_chat([Message("user", "")]))
        request = ask("x" * (16 - size % 16))
        first, second = [await engine.complete(request) for _ in range(2)]
        assert first.usage.prompt_tokens % 16 == 0
        assert second.usage.cached_tokens == first.usage.prompt_tokens - 16
        assert first.text == second.text

    with_engine(body)


def test_times_and_counts_are_told(with_engine: With, clock: Any) -> None:
    async def body(engine: AutoregressiveEngine) -> None:
        def tick(progress: Progress) -> None:
            clock.now += 1

        found = await engine.complete(ask(most=10), tick)
        assert (
            found.usage.passes
            == found.usage.completion_tokens - 1
            == len(found.confidence.tokens) - 1
        )
        assert found.timings.queued_s == 0
        assert found.timings.decode_s > 0
        assert (found.engine, found.model) == ("ar", engine.local.source)
        assert found.stop == "length"

    with_engine(body)


def test_a_pass_that_breaks_fails_its_requests_and_not_the_engine(
    with_engine: With, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(engine: AutoregressiveEngine) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(engine.local.model, "forward", lambda *a, **k: 1 / 0)
            found = await asyncio.gather(
                *(engine.complete(ask(n)) for n in "ab"), return_exceptions=True
            )
        assert all(isinstance(error, EngineFailed) for error in found)
        assert "division by zero" in str(found[0])
        assert (await engine.complete(ask())).text

    with_engine(body)


def test_closing_the_engine_ends_what_is_in_flight(tiny_folder: Path) -> None:
    async def main() -> None:
        engine = AutoregressiveEngine(LocalModel.open(tiny_folder))
        begun = asyncio.Event()
        async with engine:
            async with engine:
                task = asyncio.create_task(
                    engine.complete(ask(most=400), lambda progress: begun.set())
                )
                await begun.wait()
            assert engine.health().ready
        with pytest.raises(EngineFailed, match="was closed"):
            await task
        assert not engine.health().ready
        with pytest.raises(EngineFailed, match="not open"):
            await engine.complete(ask())
        async with engine:
            assert (await engine.complete(ask(most=2))).text is not None

    asyncio.run(main())


def test_nothing_is_left_running_or_kept_after_the_last_answer(
    with_engine: With, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carrara.engines.rounds._KEPT_CACHE_BYTES", 0)

    async def body(engine: AutoregressiveEngine) -> None:
        await asyncio.gather(*(engine.complete(ask(n, most=5)) for n in "abc"))
        await engine.local.run(int)  # behind what the loop may still have asked of the thread
        await asyncio.sleep(0)
        await engine.local.run(int)
        rounds = engine._open.rounds if engine._open else None
        assert isinstance(rounds, Rounds)
        assert (rounds.seated, rounds.waiting, rounds._decoder.cache_bytes) == (0, 0, 0)

    with_engine(body)


def adapter_in(folder: Path, **settings: Any) -> Path:
    """A random LoRA adapter for the tiny model."""
    from safetensors.torch import save_file

    name = "base_model.model.model.layers.1.mlp.down_proj"
    generator = torch.Generator().manual_seed(0)
    tensors = {
        f"{name}.lora_A.weight": torch.randn(4, 192, generator=generator),
        f"{name}.lora_B.weight": torch.randn(72, 4, generator=generator),
    }
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    known = {"r": 4, "lora_alpha": 4, "target_modules": ["down_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(known | settings))
    return folder


def test_an_adapter_is_switched_for_each_request(tiny_folder: Path, tmp_path: Path) -> None:
    folder = adapter_in(tmp_path / "mine")

    async def answers(
        adapter: Path | None, names: list[str | None], **options: Any
    ) -> list[Completion]:
        local = LocalModel.open(tiny_folder, adapter, quick=False, **options)
        async with AutoregressiveEngine(local) as engine:
            return await asyncio.gather(*(engine.complete(ask(most=12, adapter=n)) for n in names))

    async def main() -> None:
        plain = (await answers(None, [None]))[0].text
        merged = (await answers(folder, [None]))[0].text
        mixed = await answers(folder, [None, "base", "mine"], switchable=True)
        assert plain != merged
        assert [found.text for found in mixed] == [merged, plain, merged]

    asyncio.run(main())


def test_free_text_goes_without_an_adapter_that_has_unlearnt_it(
    tiny_folder: Path, tmp_path: Path
) -> None:
    both = adapter_in(tmp_path / "both")
    forms = adapter_in(tmp_path / "forms", free_text=False)
    requests = [
        ask(most=12),
        ask("again", most=12),
        ask(output=Choice(("one", "other")), most=12),
        ask(output=Json.of({"type": "string"}), most=12),
    ]

    async def answers(adapter: Path | None) -> list[str]:
        local = LocalModel.open(tiny_folder, adapter, quick=False, dtype=torch.float32)
        async with AutoregressiveEngine(local) as engine:
            found = await asyncio.gather(*map(engine.complete, requests))
            assert {one.engine for one in found} == {"ar"}
        assert not local.is_loaded
        return [one.text for one in found]

    async def main() -> None:
        plain, adapted, apart = [await answers(adapter) for adapter in (None, both, forms)]
        assert plain[0] != adapted[0]
        assert apart == [*plain[:2], *adapted[2:]]

    asyncio.run(main())
