"""The benchmark of the diffusion engine runs from end to end on a tiny model, and leaves what it has."""

import argparse
import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import tokenizers
from safetensors.torch import save_file
from tokenizers import decoders, models, pre_tokenizers, trainers

from benchmarks import gpu
from benchmarks.diffusion.__main__ import SMALL
from benchmarks.diffusion.calls import chains, crowd, kinds
from benchmarks.diffusion.decoders import Told
from benchmarks.diffusion.run import ASSUMED_TOKENS_PER_PASS, Plan, measured, tokens_per_pass
from benchmarks.diffusion.tables import tables
from benchmarks.diffusion.timing import Budget, Results, Taken, best
from benchmarks.diffusion.work import KINDS, Ask, chain
from carrara.engines.local import LocalModel
from carrara.engines.model.config import LlamaConfig
from carrara.engines.model.llama import Llama
from carrara.engines.model.load import targets
from carrara.engines.model.pace import Made
from tests.runtime.conftest import VirtualLoop

T = TypeVar("T")

CONFIG = {
    "model_type": "llama",
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "eos_token_id": 1,
}
CONTROLS = ["<|im_start|>", "<|im_end|>", "<mask>", "<pad>"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=CONTROLS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(['{"number": null, "street": "x"}'] * 3, trainer)
    inner.save(str(folder / "tokenizer.json"))
    config = {**CONFIG, "mask_token_id": 2, "slot_pad_token_id": 3}
    (folder / "config.json").write_text(json.dumps(config))
    words = {"eos_token": "<|im_end|>", "bos_token": "<|im_start|>"}
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    (folder / "tokenizer_config.json").write_text(json.dumps(words | {"chat_template": template}))
    model = Llama.random(LlamaConfig.from_dict(config), spread=0.3)
    weights = {name: tensor.contiguous() for name, tensor in targets(model).items()}
    save_file(weights, folder / "model.safetensors")
    return folder


def options(tiny: Path, out: Path) -> argparse.Namespace:
    words = ["--out", str(out), "--model", str(tiny), "--device", "cpu", "--threads", "1"]
    return gpu.arguments().parse_args(words)


def rehearsed(tiny: Path, out: Path, plan: Plan, minutes: float = 5.0) -> dict[str, object]:
    chosen = options(tiny, out)
    chosen.minutes = minutes
    results = Results(out / "found.json", {})
    profile = asyncio.run(gpu.run(chosen, plan, results))
    assert "plain" in profile
    assert "recorded" in profile
    found: dict[str, object] = json.loads((out / "found.json").read_text())
    return found


def test_the_script_for_a_gpu_runs_through_on_a_small_machine(tiny: Path, tmp_path: Path) -> None:
    found = rehearsed(tiny, tmp_path, replace(SMALL, batches=(1,), records=2))
    assert {part: value["error"] for part, value in found.items() if "error" in value} == {}  # type: ignore[index, operator]
    assert {"machine", *gpu.ORDER} == set(found)
    text = tables(found)
    assert "| extract | 1 | diffusion |" in text
    assert "| fixed_steps | 1 | 4 |" in text
    assert "| llada-8b, widths / 64, 2 layers |" in text
    assert "Not measured" not in text


def test_a_run_without_time_says_what_it_left_out(tiny: Path, tmp_path: Path) -> None:
    found = rehearsed(tiny, tmp_path, SMALL, minutes=0.0)
    assert found == {part: {"error": "no time was left for it"} for part in gpu.ORDER}


def test_a_budget_notes_what_it_does_not_allow() -> None:
    now = [0.0]
    budget = Budget(10.0, lambda: now[0])
    assert budget.allows("one")
    now[0] = 10.0
    assert not budget.allows("two")
    assert budget.left_out == ["two"]


def test_tables_say_what_was_not_measured_and_show_both_clocks() -> None:
    clocks = {"wall_ms": 30.0, "cpu_ms": 6.0}
    line = {"batch": 1, "canvas": 16, "prompt": 32, "pass": clocks, "few": clocks}
    line |= {"times_floor_few": 15.0, "times_floor_few_cpu": 3.0}
    text = tables(
        {
            "calls": {"left_out": ["extract, batch 1", "choose, batch 8"]},
            "chain": {"error": "ValueError: none"},
            "shapes": {
                "divided_by": 1,
                "llada-8b": {
                    "weights": "int8",
                    "floor_ms": 2.0,
                    "lines": [line],
                    "left_out": ["batch 4"],
                },
            },
        }
    )
    assert "| llada-8b | int8 | 1 | 16 | 32 | 30.0 | 30.0 | 6.0 | 2.0 | 15.0 | 3.0 |" in text
    assert text.endswith(
        "Not measured:\n- calls: no time was left for extract, batch 1; choose, batch 8\n"
        "- chain: failed: ValueError: none\n- shapes, llada-8b: no time was left for batch 4"
    )


def test_a_kind_of_call_without_time_asks_nobody_anything() -> None:
    budget = Budget(0.0)
    found = asyncio.run(kinds([Unasked()], ["extract"], 1, [1, 8], 1, budget, lambda now: None))
    assert found == {"left_out": ["extract, batch 1", "extract, batch 8"]}


class Unasked:
    """A decoder that must not be asked."""

    name = "unasked"

    async def answer(self, ask: Ask) -> Told:
        raise AssertionError(f"asked {ask.prompt!r}")

    def cpu_s(self) -> float:
        return 0.0

    def made(self) -> None:
        return None


@dataclass
class Scripted:
    """A decoder that takes `each_s` for an answer, one after the other; `ended` counts calls that are over."""

    name: str
    each_s: float
    gate: asyncio.Lock = field(default_factory=asyncio.Lock)
    passes: int = 0
    ended: int = 0

    async def answer(self, ask: Ask) -> Told:
        try:
            async with self.gate:
                await asyncio.sleep(self.each_s)
            self.passes += 2
            return Told("{}", 5, 100, 80, 2)
        finally:
            self.ended += 1

    def cpu_s(self) -> float:
        return 0.0

    def made(self) -> Made:
        return Made(self.passes, self.passes, self.passes)


def in_virtual_time(work: Callable[[Budget], Coroutine[Any, Any, T]], seconds: float) -> T:
    """What a part gives that may take so many seconds, of a clock that does not wait."""

    async def whole() -> T:
        return await work(Budget(seconds, asyncio.get_running_loop().time))

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(whole())


def test_a_crowd_counts_what_ends_in_time_and_cancels_the_rest() -> None:
    slow, quick = Scripted("slow", 10.0), Scripted("quick", 0.01)
    seen: list[list[str]] = []
    found = in_virtual_time(
        lambda budget: crowd([slow, quick], 256, 1, budget, lambda now: seen.append(list(now))),
        75.0,
    )
    assert found["slow"] == {
        "done": 3,
        "cancelled": 253,
        "took_s": 37.5,
        "records_per_s": 0.08,
        "records_per_cpu_s": 3e9,
        "tokens_per_s": 0.4,
        "cached_share_of_prompts": 0.8,
        "passes": 6,
        "answers_per_pass": 1.0,
    }
    assert (found["quick"]["done"], found["quick"]["cancelled"]) == (256, 0)
    assert found["quick"]["records_per_s"] == 100.0
    assert (slow.ended, quick.ended) == (256, 256)
    assert seen == [["records", "slow"], ["records", "slow", "quick"]]
    assert "| 256 at once | slow | 3 | 253 | 37.5 | 0.08 |" in tables({"crowd": found})


def test_a_round_of_calls_ends_with_the_time_of_its_part() -> None:
    slow, quick = Scripted("slow", 100.0), Scripted("diffusion", 0.5)
    found = in_virtual_time(
        lambda budget: kinds([slow, quick], ["extract"], 1, [8], 1, budget, lambda now: None), 30.0
    )
    line = found["extract"]["8"]["diffusion"]
    assert (line["wall_ms"], line["cancelled"]) == (500.0, 0)
    assert found["left_out"] == ["extract, batch 8 with slow"]
    assert "slow" not in tables({"calls": found}).partition("Not measured")[0]


def test_a_batch_that_is_cut_short_tells_of_the_calls_that_ended() -> None:
    decoder = Scripted("diffusion", 10.0)
    found = in_virtual_time(
        lambda budget: kinds([decoder], ["extract"], 3, [8], 1, budget, lambda now: None), 45.0
    )
    line = found["extract"]["8"]["diffusion"]
    assert (line["rounds"], line["cancelled"]) == (1, 5)
    assert line["wall_ms"] == pytest.approx(35_000 / 3, abs=0.001)


def test_a_chain_that_does_not_end_in_time_is_left_out() -> None:
    decoders = [Scripted("slow", 10.0), Scripted("diffusion", 1.0)]
    found = in_virtual_time(
        lambda budget: chains(decoders, 10, 1, 1, budget, lambda now: None), 60.0
    )
    assert found["lines"]["diffusion"]["wall_ms"] == 10_000.0
    assert (list(found["lines"]), found["left_out"]) == (["diffusion"], ["chain 1 with slow"])


def test_a_call_that_fails_ends_the_others() -> None:
    class Failing(Scripted):
        async def answer(self, ask: Ask) -> Told:
            if self.ended == 2:
                raise RuntimeError("refused")
            return await super().answer(ask)

    failing = Failing("diffusion", 1.0)

    async def work(budget: Budget) -> None:
        await crowd([failing], 2, 1, budget, lambda now: None)
        await crowd([failing], 8, 1, budget, lambda now: None)

    with pytest.raises(RuntimeError, match="refused"):
        in_virtual_time(work, 60.0)


def test_a_part_that_fails_leaves_what_it_had(tiny: Path, tmp_path: Path) -> None:
    chosen, results = options(tiny, tmp_path), Results(tmp_path / "found.json", {})
    plan = replace(SMALL, parts=("calls",), kinds=("extract", "unknown"), batches=(1,))

    async def work() -> None:
        async with LocalModel.open(str(tiny), device="cpu", threads=1) as local:
            await measured(chosen, plan, results, local)

    asyncio.run(work())
    found = json.loads((tmp_path / "found.json").read_text())["calls"]
    assert found["error"] == "KeyError: 'unknown'"
    assert found["extract"]["1"]["diffusion"]["rounds"] == 1


def test_results_are_whole_at_any_time(tmp_path: Path) -> None:
    results = Results(tmp_path / "deep" / "found.json", {})
    for number in range(3):
        results.put(f"part {number}", {"n": number})
        assert len(json.loads((tmp_path / "deep" / "found.json").read_text())) == number + 1
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["found.json"]


def test_no_two_calls_are_the_same_and_all_are_answered_by_their_contract() -> None:
    for ever in KINDS.values():
        fresh = ever(1)
        asks = [next(fresh) for _ in range(40)]
        assert len({ask.prompt for ask in asks}) == 40
        assert all(ask.request(True).output == ask.contract for ask in asks)
    assert all("{before}" in ask.prompt for ask in chain(1, 10))
    drafted = next(KINDS["repair"](1))
    assert drafted.request(True).draft is not None
    assert drafted.request(False).draft is None
    assert drafted.draft is not None
    assert drafted.draft in drafted.with_draft
    assert Ask("choose", "?").schema["enum"]


def test_the_best_of_both_clocks_is_told() -> None:
    found = best([Taken(2.0, 0.5), Taken(1.0, 0.75), Taken(3.0, 1.0)], per=2)
    assert found == {"wall_ms": 500.0, "median_wall_ms": 1000.0, "cpu_ms": 250.0}


def test_tokens_a_pass_are_those_measured_or_assumed() -> None:
    line = {"diffusion": {"tokens_per_pass": 7.5}}
    assert tokens_per_pass({"calls": {"extract": {"1": line}}}) == 7.5
    assert tokens_per_pass({"calls": {"error": "none"}}) == ASSUMED_TOKENS_PER_PASS


def test_parts_measured_before_stay_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    Results.at(path).put("calls", {"n": 1})
    Results.at(path).put("chain", {"n": 2})
    assert json.loads(path.read_text()) == {"calls": {"n": 1}, "chain": {"n": 2}}
    assert Results.at(None).found == {}
