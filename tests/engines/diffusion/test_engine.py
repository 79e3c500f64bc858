"""The engine on a tiny model of random weights: contracts hold, batches share, drafts are refined."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from carrara.engines.contract import (
    Choice,
    Column,
    Contract,
    Hole,
    Json,
    Outline,
    Regex,
    Table,
    Text,
)
from carrara.engines.diffusion import decode
from carrara.engines.diffusion.batch import BatchLimits
from carrara.engines.diffusion.engine import ABILITIES, DiffusionEngine
from carrara.engines.diffusion.settings import PLAIN, Settings
from carrara.engines.engine import Engine
from carrara.engines.errors import (
    ContextOverflow,
    EngineBusy,
    EngineFailed,
    EngineRefused,
    LoadingError,
)
from carrara.engines.local import LocalModel
from carrara.engines.model.integer import can_be_integer
from carrara.engines.occupancy import Occupancy
from carrara.engines.request import (
    Completion,
    Draft,
    Limits,
    Message,
    Progress,
    Request,
    Rule,
    Sampling,
    Watch,
    infill,
)
from tests.engines.finality import hold

T = TypeVar("T")
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": ["integer", "null"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "sure": {"type": "boolean"},
    },
    "required": ["name", "age", "tags", "sure"],
}
CONTRACTS: tuple[Contract, ...] = (
    Json.of(PERSON),
    Text(),
    Choice(("one", "two", "three")),
    Table((Column("a"), Column("n", "integer"))),
    Outline(),
    Regex("[a-c]{3,9}"),
    Json.of({"type": "array", "items": {"type": "number"}}),
)
FAST = Settings(block_tokens=48, threshold=0.3, slot_tokens=6)


def request(output: Contract, prompt: str = "the cat", tokens: int = 80, **more: Any) -> Request:
    return Request((Message("user", prompt),), output, Limits(tokens), **more)


@pytest.fixture
def run(tiny_folder: Path) -> Callable[..., Any]:
    """Open an engine on the tiny model and do something with it."""

    def opened(work: Callable[[DiffusionEngine], Awaitable[T]], **options: Any) -> T:
        async def main() -> T:
            local = LocalModel.open(tiny_folder, dtype=torch.float32, device="cpu", threads=1)
            options.setdefault("settings", FAST)
            async with DiffusionEngine(local, **options) as engine:
                return await work(engine)

        return asyncio.run(main())

    return opened


def test_every_contract_holds_and_says_how_it_went(run: Callable[..., Any]) -> None:
    async def work(engine: DiffusionEngine) -> list[Completion]:
        assert isinstance(engine, Engine)
        assert engine.can == ABILITIES
        assert engine.facts.device == "cpu"
        return [await engine.complete(request(contract)) for contract in CONTRACTS]

    for contract, found in zip(CONTRACTS, run(work), strict=True):
        assert contract.parse(found.text) == found.value
        assert found.usage.passes >= 1
        assert found.usage.completion_tokens >= 1
        assert found.engine == "diffusion"
        assert found.confidence.overall is not None
        assert 0 <= found.confidence.overall <= 1
        assert all(0 <= value <= 1 for value in found.confidence.fields.values())
    json_answer = run(work)[0]
    assert {"/name", "/tags", "/sure"} <= set(json_answer.confidence.fields)


def test_an_answer_does_not_depend_on_who_shares_the_batch(run: Callable[..., Any]) -> None:
    requests = [
        request(contract, "the cat sat on the mat " * number, priority=float(number % 3))
        for number, contract in enumerate(CONTRACTS * 3)
    ]

    async def work(engine: DiffusionEngine) -> tuple[list[Completion], list[Completion]]:
        alone = [await engine.complete(one) for one in requests]
        return alone, list(await asyncio.gather(*map(engine.complete, requests)))

    alone, together = run(work, limits=BatchLimits(rows=5, chunk=32))
    for one, other in zip(alone, together, strict=True):
        assert one.text == other.text
        assert one.usage.passes == other.usage.passes
        assert one.confidence.tokens == pytest.approx(other.confidence.tokens, abs=1e-5)


@pytest.mark.parametrize(("options", "passes"), [(("one", "two"), 0), (("a b", "a c"), 1)])
def test_a_choice_told_by_its_first_token_needs_no_pass_over_a_canvas(
    run: Callable[..., Any], options: tuple[str, ...], passes: int
) -> None:
    async def work(engine: DiffusionEngine) -> tuple[Completion, int]:
        return await engine.complete(request(Choice(options))), engine.local.pace.made(
            "canvas"
        ).passes

    found, made = run(work)
    assert found.value in options
    assert made == passes
    assert found.usage.passes == 1  # the look at its prompt counts


@pytest.mark.skipif(
    not can_be_integer(torch.device("cpu")), reason="this build of torch has no integer products"
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_end_of_a_prompt_and_its_canvas_are_one_pass_with_the_bits_of_two(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    mat = "the cat sat on the mat " * 5
    asks = [request(contract, mat + more) for contract in CONTRACTS for more in ("", "again")]

    async def found(forwards: list[int]) -> list[Completion]:
        local = LocalModel.open(tiny_folder, dtype=dtype, device="cpu", threads=1, quick=True)
        async with DiffusionEngine(local, settings=FAST) as engine:
            plain = local.model.forward

            def noted(tokens: Tensor, *given: Any, **named: Any) -> Tensor:
                forwards.append(tokens.shape[1])
                return plain(tokens, *given, **named)

            monkeypatch.setattr(local.model, "forward", noted)
            return [await engine.complete(ask) for ask in asks]

    one: list[int] = []
    two: list[int] = []
    joined = asyncio.run(found(one))
    monkeypatch.setattr(decode, "_MOST_JOINED", 0)
    apart = asyncio.run(found(two))
    assert len(one) < len(two)
    for a, b in zip(joined, apart, strict=True):
        assert (a.text, a.confidence) == (b.text, b.confidence)
        assert (a.usage.passes, a.usage.cached_tokens) == (b.usage.passes, b.usage.cached_tokens)


def test_prompts_share_the_prefix_cache(run: Callable[..., Any]) -> None:
    async def work(engine: DiffusionEngine) -> list[int]:
        first = request(Choice(("a", "b")), "the cat sat on the mat " * 5)
        second = request(Choice(("a", "b")), "the cat sat on the mat " * 5 + "again")
        return [(await engine.complete(r)).usage.cached_tokens for r in (first, second, second)]

    found = run(work)
    assert found[0] == 0
    assert found[1] > 16
    assert found[2] > 16


def test_a_cancelled_request_leaves_and_the_others_go_on(run: Callable[..., Any]) -> None:
    async def work(engine: DiffusionEngine) -> tuple[str, str, str]:
        alone = (await engine.complete(request(Text(), tokens=64))).text
        seen = asyncio.Event()
        gone = asyncio.create_task(
            engine.complete(request(Text(), "cancel me", 200), lambda progress: seen.set())
        )
        stays = asyncio.create_task(engine.complete(request(Text(), tokens=64)))
        await seen.wait()
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        other = (await stays).text
        again = (await engine.complete(request(Text(), tokens=64))).text
        assert "0 canvases, 0 waiting" in engine.health().line
        return alone, other, again

    alone, other, again = run(work)
    assert alone == other == again


def test_a_text_with_a_bound_ends_there(run: Callable[..., Any]) -> None:
    async def work(engine: DiffusionEngine) -> list[Completion]:
        return [await engine.complete(request(text)) for text in (Text(), Text(9), Text(3))]

    free, nine, three = run(work)
    assert len(free.value) > 9
    assert nine.value == free.text.lstrip()[:9].strip()
    assert nine.stop == "length"
    assert len(three.value) <= 3  # at most 13 positions: another canvas
    assert three.usage.passes < free.usage.passes


def test_a_full_queue_is_busy(run: Callable[..., Any]) -> None:
    async def work(engine: DiffusionEngine) -> list[Any]:
        calls = [engine.complete(request(Text(), f"number {n}", 40)) for n in range(6)]
        return list(await asyncio.gather(*calls, return_exceptions=True))

    found = run(work, limits=BatchLimits(rows=1, waiting=2))
    busy = [one for one in found if isinstance(one, EngineBusy)]
    assert busy
    assert busy[0].engine == "diffusion"
    assert any(isinstance(one, Completion) for one in found)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (request(Text(), "the cat " * 400), "its context holds 512"),
        (request(Text(), "x" * 10**6), "its context holds 512"),
        (request(Text(), tokens=10**12), "its context holds 512"),
        (request(Text(10**12), tokens=10**12), "its context holds 512"),
        (infill(["Tel: ", Hole(10**8), "."]), "its context holds 512"),
        (request(Text(), tokens=40.5), "max_tokens is 40.5"),  # type: ignore[arg-type]
        (request(Text(), tokens="9"), "max_tokens is '9'"),  # type: ignore[arg-type]
        (request(Text(), priority="x"), "priority is 'x'"),
        (request(Text(), draft=Draft("x", strength="x")), "strength is 'x'"),  # type: ignore[arg-type]
        (request(Json.of(PERSON), tokens=10), "max_tokens is 10"),
        (request(Json.of({"not": {}})), "no scaffold holds"),
        (request(Text(), tokens=0), "at least 1"),
        (request(Text(), adapter="other"), "no adapter 'other'"),
        (request(Json.of(PERSON), draft=Draft("{")), "cannot be read"),
        (request(Json.of(PERSON), draft=Draft("{}", ("/nome",))), "/nome"),
        (request(Text(), draft=Draft("x", ("/a",))), "no fields"),
        (request(Json.of(PERSON), draft=Draft("{}", ("name",))), "no JSON pointer: write '/name'"),
        (request(Json.of(PERSON), draft=Draft("{}", ("zzz",))), "no JSON pointer: write '/zzz'"),
        (request(Text(), "x" * 10**6, rule=Rule("nope")), "unknown commit rule 'nope'"),
        (request(Text(), "x" * 10**6, adapter="other"), "no adapter 'other'"),
        (
            infill(["Tel: ", Hole(1, Regex(r"\d{3}-\d{4}")), "."]),
            "hole 1 takes . tokens, max_tokens is 1",
        ),
        (request(Text(), draft=Draft("x", strength=0)), "strength"),
    ],
)
def test_what_can_never_succeed_is_refused(
    bad: Request, told: str, run: Callable[..., Any]
) -> None:
    with pytest.raises(EngineRefused, match=told) as error:
        run(lambda engine: engine.complete(bad))
    assert error.value.engine == "diffusion"
    assert isinstance(error.value, ContextOverflow) == ("holds 512" in told)


def test_a_deadline_ends_a_request(run: Callable[..., Any]) -> None:
    now = iter(range(10**6))
    late = Request((Message("user", "x"),), Text(), Limits(300, deadline_s=20.0))
    with pytest.raises(EngineFailed, match="the deadline of a request passed"):
        run(lambda engine: engine.complete(late), clock=lambda: float(next(now)))


def test_drafts_are_published_after_each_pass(run: Callable[..., Any]) -> None:
    seen: list[Progress] = []
    found = run(lambda engine: engine.complete(request(Json.of(PERSON)), seen.append))
    assert [one.step for one in seen] == list(range(1, found.usage.passes + 1))
    assert seen[-1].text == found.text
    assert seen[-1].settled == 1
    assert "·" in seen[0].text


def test_drafts_of_free_text_call_nothing_final_that_the_answer_lacks(
    run: Callable[..., Any],
) -> None:
    async def work(engine: DiffusionEngine) -> None:
        for seed in range(12):
            seen: list[Progress] = []
            asked = Request(
                (Message("user", f"the cat {seed}"),),
                Text(None if seed % 3 else 20),
                Limits(40),
                Sampling(1.2, seed=seed),
                stop=("a", "\n")[: seed % 2],
                rule=Rule("threshold", {"threshold": 0.05}),
            )
            found = await engine.complete(asked, seen.append)
            for draft in seen:
                hold(draft, found.text)

    run(work)


def test_a_watcher_that_fails_fails_its_request_only(run: Callable[..., Any]) -> None:
    def broken(progress: Progress) -> None:
        raise RuntimeError("no screen")

    async def work(engine: DiffusionEngine) -> Completion:
        with pytest.raises(EngineFailed, match="no screen"):
            await engine.complete(request(Text()), broken)
        return await engine.complete(request(Choice(("a", "b"))))

    assert run(work).value in ("a", "b")


def test_only_the_named_fields_of_a_draft_change(run: Callable[..., Any]) -> None:
    value = {"name": "keep", "age": 7, "tags": ["a", "b"], "sure": True}
    draft = Draft(json.dumps(value), ("/age", "/tags/1"))
    found = run(lambda engine: engine.complete(request(Json.of(PERSON), draft=draft)))
    assert found.value["name"] == "keep"
    assert found.value["sure"] is True
    assert found.value["tags"][0] == "a"
    assert len(found.value["tags"]) == 2
    assert set(found.confidence.fields) <= {"/age", "/tags/1"}


def test_what_a_draft_lacks_is_filled_in(run: Callable[..., Any]) -> None:
    draft = Draft('{"name": "keep", "tags": 5}', ("/age",))
    found = run(lambda engine: engine.complete(request(Json.of(PERSON), draft=draft)))
    assert found.value["name"] == "keep"
    assert set(found.value) == {"name", "age", "tags", "sure"}


@pytest.mark.parametrize(
    ("contract", "text"),
    [
        (Json.of(PERSON), json.dumps({"name": "the cat sat", "age": 7, "tags": [], "sure": True})),
        (Table((Column("a"), Column("n", "integer"))), "| a | n |\n| --- | --- |\n| one | 1 |"),
        (Text(), "the cat sat on the mat"),
    ],
)
def test_a_whole_draft_is_refined_lightly(
    contract: Contract, text: str, run: Callable[..., Any]
) -> None:
    wanted = request(contract, draft=Draft(text, strength=0.2))

    async def work(engine: DiffusionEngine) -> list[Completion]:
        return [await engine.complete(wanted) for _ in range(2)]

    first, second = run(work)
    assert first.text == second.text
    assert first.usage.passes <= 12


@pytest.mark.parametrize(
    "contract",
    [
        Choice(("one", "two")),
        Text(9),
        Json.of({"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3}),
        Json.of({"type": "object", "properties": {"k": {"type": "boolean"}}, "required": ["k"]}),
    ],
)
def test_an_answer_needs_no_more_of_the_context_than_it_can_take(
    contract: Contract, run: Callable[..., Any]
) -> None:
    """The limit is 512 by default, and so is this model's context."""
    found = run(lambda engine: engine.complete(Request((Message("user", "the cat"),), contract)))
    assert contract.parse(found.text) == found.value


def test_a_draft_needs_no_more_of_the_context_than_it_can_take(run: Callable[..., Any]) -> None:
    contract = Json.of({"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3})
    wanted = Request(
        (Message("user", "the cat"),), contract, draft=Draft('["a", "b", "a"]', ("/1",))
    )
    found = run(lambda engine: engine.complete(wanted))
    assert [found.value[0], found.value[2]] == ["a", "a"]


def test_a_prompt_without_room_for_the_answer_is_refused_with_what_the_answer_takes(
    run: Callable[..., Any],
) -> None:
    wanted = request(Choice(("a", "b")), "cat " * 500, tokens=400)
    with pytest.raises(EngineRefused, match=r"and 1 tokens of answer, .* Shorten the input\.$"):
        run(lambda engine: engine.complete(wanted))


def test_a_table_cell_of_a_draft_is_named_by_row_and_column(run: Callable[..., Any]) -> None:
    table = Table((Column("a"), Column("n", "integer")))
    draft = Draft("| a | n |\n| --- | --- |\n| one | 1 |\n| two | 2 |", ("/1/n",))
    found = run(lambda engine: engine.complete(request(table, draft=draft)))
    assert [row["a"] for row in found.value] == ["one", "two"]
    assert found.value[0]["n"] == 1


def test_the_same_seed_gives_the_same_answer(run: Callable[..., Any]) -> None:
    def warm(seed: int) -> Request:
        return request(Json.of(PERSON), sampling=Sampling(temperature=1.5, top_p=0.9, seed=seed))

    async def work(engine: DiffusionEngine) -> list[str]:
        found = await asyncio.gather(*(engine.complete(warm(seed)) for seed in (1, 1, 2, 3)))
        return [one.text for one in found]

    first, second, *others = run(work)
    assert first == second
    assert any(text != first for text in others)


def test_few_steps_are_kept_to_and_the_answer_still_holds(run: Callable[..., Any]) -> None:
    async def work(engine: DiffusionEngine) -> list[Completion]:
        limits = [Limits(80, max_steps=steps) for steps in (1, 3)]
        prompt = (Message("user", "x"),)
        return [await engine.complete(Request(prompt, Json.of(PERSON), one)) for one in limits]

    one, three = run(work)
    assert one.usage.passes == 1
    assert one.stop == "steps"
    assert three.usage.passes <= 3


def test_free_text_stops_where_it_is_told(run: Callable[..., Any]) -> None:
    async def work(engine: DiffusionEngine) -> tuple[Completion, Completion]:
        whole = await engine.complete(request(Text(), tokens=64))
        stop = whole.text[3:5]
        return whole, await engine.complete(request(Text(), tokens=64, stop=(stop,)))

    whole, cut = run(work)
    assert cut.stop == "stop"
    assert cut.text == whole.text[: whole.text.index(whole.text[3:5])].strip()


def test_literal_special_tokens_in_a_prompt_are_text(run: Callable[..., Any]) -> None:
    async def work(engine: DiffusionEngine) -> Completion:
        tokenizer = engine.local.tokenizer
        prompt = tokenizer.encode_chat([Message("user", "<mask><|slot_pad|><|im_end|>")])
        assert tokenizer.mask_id not in prompt
        return await engine.complete(request(Choice(("a", "b")), "<mask><|slot_pad|><|im_end|>"))

    assert run(work).value in ("a", "b")


def test_without_an_adapter_health_says_so(run: Callable[..., Any]) -> None:
    async def work(engine: DiffusionEngine) -> tuple[str, str, int]:
        return engine.health().line, engine.fingerprint, engine.context_tokens

    line, fingerprint, context = run(work)
    assert "plain AR weights, a poor denoiser" in line
    assert context == 512
    assert run(work, settings=PLAIN)[1] != fingerprint


def adapter_in(folder: Path, tiny: Path, **settings: Any) -> Path:
    """A small random LoRA adapter for the tiny model, with its `diffusion.json`."""
    config = json.loads((tiny / "config.json").read_text())
    size, name = config["hidden_size"], "base_model.model.model.layers.0.mlp.gate_proj"
    draw = torch.Generator().manual_seed(3)
    weights = {
        f"{name}.lora_A.weight": torch.randn(2, size, generator=draw),
        f"{name}.lora_B.weight": torch.randn(config["intermediate_size"], 2, generator=draw),
    }
    save_file(weights, folder / "adapter_model.safetensors")
    lora = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["gate_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(lora | {"name": "carver"}))
    (folder / "diffusion.json").write_text(json.dumps(settings))
    return folder


def test_an_adapter_brings_its_settings_and_may_be_left_out(
    tiny_folder: Path, tmp_path: Path
) -> None:
    folder = adapter_in(tmp_path, tiny_folder, logit_shift=False, slots_grow=True, slot_tokens=4)

    async def main() -> None:
        local = LocalModel.open(
            tiny_folder, adapter=folder, switchable=True, dtype=torch.float32, device="cpu"
        )
        async with DiffusionEngine(local) as engine:
            assert "poor denoiser" not in engine.health().line
            assert "carver" in engine.health().line
            wanted = [request(Json.of(PERSON), adapter=name) for name in (None, "carver", "base")]
            alone = [await engine.complete(one) for one in wanted]
            together = await asyncio.gather(*map(engine.complete, wanted))
            assert [one.text for one in alone] == [one.text for one in together]
            assert alone[0].text == alone[1].text != alone[2].text

    asyncio.run(main())


def test_free_text_is_refused_where_the_adapter_has_not_seen_any(
    tiny_folder: Path, tmp_path: Path
) -> None:
    folder = adapter_in(tmp_path, tiny_folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "free_text": False}))

    async def main() -> None:
        async with DiffusionEngine(LocalModel.open(tiny_folder, adapter=folder)) as engine:
            assert "no free text" in (engine.refusal(Text()) or "")
            assert engine.refusal(Choice(("a", "b"))) is None
            with pytest.raises(EngineRefused, match="ask the engine 'ar'"):
                await engine.complete(request(Text()))

    asyncio.run(main())


def test_a_closed_engine_says_so(tiny_folder: Path) -> None:
    engine = DiffusionEngine(LocalModel.open(tiny_folder))
    assert not engine.health().ready
    with pytest.raises(EngineFailed, match="not open"):
        asyncio.run(engine.complete(request(Text())))


def test_ids_that_the_tokenizer_does_not_use_are_found_out(run: Callable[..., Any]) -> None:
    with pytest.raises(LoadingError, match="mask_token_id 99"):
        run(lambda engine: engine.complete(request(Text())), settings=Settings(mask_token_id=99))


def test_logits_that_are_no_numbers_fail_one_request(run: Callable[..., Any]) -> None:
    async def work(engine: DiffusionEngine) -> None:
        model = engine.local.model
        model.norm.fill_(float("nan"))
        with pytest.raises(EngineFailed, match="no finite logits"):
            await engine.complete(request(Json.of(PERSON)))
        model.norm.fill_(1.0)
        assert (await engine.complete(request(Choice(("a", "b"))))).value in ("a", "b")

    run(work)


def test_two_users_share_one_open_engine(tiny_folder: Path) -> None:
    async def main() -> None:
        engine = DiffusionEngine(LocalModel.open(tiny_folder, dtype=torch.float32), settings=FAST)
        async with engine:
            async with engine:
                await engine.complete(request(Choice(("a", "b"))))
            assert (await engine.complete(request(Choice(("a", "b"))))).text in ("a", "b")
        assert not engine.health().ready

    asyncio.run(main())


def test_the_first_round_seats_all_whose_canvas_is_being_made(run: Callable[..., Any]) -> None:
    async def work(engine: DiffusionEngine) -> Occupancy:
        assert engine.facts.seats == 4
        assert engine.facts.occupancy == Occupancy()
        after: list[Occupancy] = []
        asked = [request(Text(), f"the cat {number}") for number in range(6)]
        watch: Watch = lambda progress: after.append(engine.facts.occupancy)  # noqa: E731
        await asyncio.gather(*(engine.complete(one, watch) for one in asked))
        return after[0]

    first = run(work, limits=BatchLimits(rows=4, chunk=512))
    assert (first.rounds, first.seats, first.taken) == (1, 4, 4)


def test_seats_are_counted_round_by_round(run: Callable[..., Any]) -> None:
    async def work(engine: DiffusionEngine) -> tuple[Completion, Occupancy, str]:
        found = await engine.complete(request(Choice(("one", "two"))))
        return found, engine.facts.occupancy, engine.health().line

    found, counted, line = run(work, limits=BatchLimits(rows=4))
    assert counted.seats == 4 * counted.rounds
    assert counted.taken == counted.rounds  # it was alone
    assert counted.denoised == found.usage.passes
    assert counted.share == 0.25
    assert f"25% of 4 seats taken over {counted.rounds} rounds" in line
