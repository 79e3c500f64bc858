"""The engine refines answers on every family: contracts hold, and passes are those of the family's own decoding."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from carrara.engines.autoregressive.local import AutoregressiveEngine
from carrara.engines.contract import Choice, Column, Contract, Json, Regex, Table, Text
from carrara.engines.diffusion.batch import BatchLimits
from carrara.engines.diffusion.block_canvas import Block, BlockCanvas, when_settled
from carrara.engines.diffusion.commit import confidence_threshold
from carrara.engines.diffusion.engine import DiffusionEngine
from carrara.engines.diffusion.passes import Kind, Passes, block_sight, full_sight
from carrara.engines.diffusion.propose import Proposer, looking
from carrara.engines.diffusion.refine import refine
from carrara.engines.diffusion.samplers.rows import whole_blocks
from carrara.engines.diffusion.settings import PLAIN, Settings
from carrara.engines.errors import CarraraError, LoadingError
from carrara.engines.local import LocalModel
from carrara.engines.model.config import Denoising, LlamaConfig
from carrara.engines.model.llama import Llama
from carrara.engines.model.load import targets
from carrara.engines.request import Completion, Limits, Message, Request, Rule, Sampling
from carrara.engines.tokenizer import Tokenizer
from carrara.engines.verified.engine import VerifiedEngine

GOLDENS = Path(__file__).parents[2] / "goldens"
FAMILIES = ["llada", "dream", "sdar", "llada21", "a2d_llama", "a2d_qwen3"]
QWEN3: dict[str, Any] = {
    "model_type": "a2d-qwen3",
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
PERSON = Json.of(
    {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": ["integer", "null"]},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["name", "age", "tags"],
    }
)
SLOTS = Json.of(
    {
        "type": "object",
        "properties": {
            "s": {"type": "string", "maxLength": 5},
            "t": {"type": ["string", "null"], "maxLength": 5},
            "d": {"type": "string", "format": "date"},
            "n": {"type": "integer"},
        },
        "required": ["s", "t", "d", "n"],
    }
)
CONTRACTS: tuple[Contract, ...] = (
    PERSON,
    Text(),
    Choice(("one", "two", "three")),
    Table((Column("a"), Column("n", "integer"))),
)


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest, tiny_folder: Path, tmp_path: Path) -> Path:
    """A whole folder of the family: its golden weights, or random ones, and the tiny tokenizer."""
    if request.param == "a2d_qwen3":
        (tmp_path / "config.json").write_text(json.dumps(QWEN3))
        model = Llama.random(LlamaConfig.from_dict(QWEN3), seed=7, spread=0.3)
        weights = {name: tensor.clone() for name, tensor in targets(model).items()}
        save_file(weights, tmp_path / "model.safetensors")
    else:
        for path in (GOLDENS / request.param).iterdir():
            if path.name.startswith(("model", "config")):
                shutil.copyfile(path, tmp_path / path.name)
    for path in tiny_folder.glob("tokenizer*"):
        shutil.copyfile(path, tmp_path / path.name)
    return tmp_path


def request(output: Contract, prompt: str = "the cat", tokens: int = 60) -> Request:
    return Request((Message("user", prompt),), output, Limits(tokens))


def complete(
    folder: Path, requests: Sequence[Request], together: bool = False, **options: Any
) -> tuple[list[Completion], str]:
    async def main() -> tuple[list[Completion], str]:
        local = LocalModel.open(folder, dtype=torch.float32, device="cpu", threads=1, quick=False)
        async with DiffusionEngine(local, **options) as engine:
            line = engine.health().line
            if together:
                return list(await asyncio.gather(*map(engine.complete, requests))), line
            return [await engine.complete(one) for one in requests], line

    return asyncio.run(main())


def test_every_contract_holds_on_every_family(family: Path) -> None:
    found, line = complete(family, [request(contract) for contract in CONTRACTS])
    for contract, answer in zip(CONTRACTS, found, strict=True):
        assert contract.parse(answer.text) == answer.value
        assert answer.usage.passes >= 1
    assert "poor denoiser" not in line


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_every_contract_holds_on_every_family_under_edits(family: Path, temperature: float) -> None:
    rules = [Rule("edit", {"edit_threshold": sure}) for sure in (0.1, 0.5, 0.9)]
    requests = [
        replace(
            request(contract, f"p{number}", tokens=110),
            rule=rules[number % 3],
            sampling=Sampling(temperature, seed=number),
        )
        for number in range(4)
        for contract in (SLOTS, Regex("ab|cd|ef"), Text())
    ]
    try:
        found, _ = complete(family, requests, together=True)
    except CarraraError as error:  # a traceback with the tensors in it would take minutes to print
        pytest.fail(str(error), pytrace=False)
    for asked, answer in zip(requests, found, strict=True):
        assert asked.output.parse(answer.text) == answer.value


def test_company_does_not_change_an_answer(family: Path) -> None:
    requests = [
        request(contract, "the cat sat on the mat " * number, tokens=40)
        for number, contract in enumerate(CONTRACTS * 2)
    ]
    alone, _ = complete(family, requests)
    together, _ = complete(
        family, requests, together=True, limits=BatchLimits(rows=3, chunk=20, quiet_chunk=20)
    )
    for one, other in zip(alone, together, strict=True):
        assert (one.text, one.usage.passes) == (other.text, other.usage.passes)


@pytest.mark.parametrize("passes", [1, 4])
def test_free_text_is_decoded_pass_by_pass_as_the_family_does(family: Path, passes: int) -> None:
    """The same threshold rule over the same blocks through `passes`, where the references are proven.

    Answers in which the end of text comes up are left out: the engine gives up what stands behind it.
    """
    tokenizer = Tokenizer.from_folder(family)
    asked = [request(Text(), f"the cat {words}", tokens=24) for words in ("", "on", "12", "inn it")]
    found = complete(family, asked, limits=BatchLimits(passes_per_sync=passes))[0]
    model, settings = asyncio.run(opened(family))
    compared = 0
    for one, answer in zip(asked, found, strict=True):
        prompt = tokenizer.encode_chat(one.messages)
        wanted, passes = refined(model, tokenizer, prompt, 24, settings)
        if tokenizer.eos_ids.isdisjoint(wanted):
            assert answer.text == Text().parse(tokenizer.decode(wanted))
            assert answer.usage.passes == passes
            compared += 1
    assert compared


async def opened(family: Path) -> tuple[Llama, Settings]:
    async with LocalModel.open(
        family, dtype=torch.float32, device="cpu", threads=1, quick=False
    ) as local:
        return local.model, Settings.of_checkpoint(local.config.denoising)


def refined(
    model: Llama, tokenizer: Tokenizer, prompt: list[int], new: int, settings: Settings
) -> tuple[list[int], int]:
    """The new tokens and the number of denoising passes."""
    end = len(prompt) + new
    tokens = torch.tensor([[*prompt, *[tokenizer.mask_id] * new]])
    real = torch.ones_like(tokens, dtype=torch.bool)
    kind: Kind
    if settings.attention == "block":
        size = settings.attention_block_tokens
        context, whole = whole_blocks(len(prompt), new, size)
        blocks = [Block(block.start, min(block.stop, end)) for block in whole]
        sight, kind = block_sight(real, size), "blockwise"
    else:  # the answer is one block: all that the engine shows is all there is
        context, blocks = len(prompt), [Block(len(prompt), end)]
        sight, kind = full_sight(real), "whole"
    silent = {i for i in range(tokenizer.vocab_size) if not tokenizer.token_bytes(i)}
    proposer = Proposer(shifted=settings.logit_shift, suppressed=sorted(silent - tokenizer.eos_ids))
    canvas = BlockCanvas(tokens, tokenizer.mask_id, blocks, when_settled(), context=context)
    look = looking(Passes(model, sight, kind), proposer)
    made = refine(canvas, look, confidence_threshold(settings.threshold))
    return tokens[0, len(prompt) :].tolist(), made.passes


def test_prompts_of_block_families_share_a_cache_of_whole_blocks(family: Path) -> None:
    long = "the cat sat on the mat " * 8
    requests = [request(Choice(("a", "b")), long), request(Choice(("a", "b")), long + "again")]
    found, _ = complete(family, requests)
    fresh = complete(family, requests[1:])[0][0]
    assert found[1].text == fresh.text  # with attention masks a last bit may differ
    assert found[1].confidence.overall == pytest.approx(fresh.confidence.overall, rel=1e-5)
    kind = family_of(family)
    cached = found[1].usage.cached_tokens
    match kind:
        case "sdar":
            assert cached >= 32
            assert cached % 16 == 0
        case "llada2_moe":
            assert cached >= 32
            assert cached % 32 == 0
        case _:  # full attention: every token depends on the answer
            assert cached == 0


def test_only_plain_weights_are_told_to_draft_poorly(family: Path, tiny_folder: Path) -> None:
    async def line(folder: Path) -> str:
        local = LocalModel.open(folder, dtype=torch.float32, device="cpu", threads=1, quick=False)
        async with VerifiedEngine(local) as engine:
            return engine.health().line

    assert "drafts are poor" in asyncio.run(line(tiny_folder))
    if family_of(family).startswith("a2d"):  # the others do not write from left to right
        assert "drafts are poor" not in asyncio.run(line(family))


def family_of(folder: Path) -> str:
    return str(json.loads((folder / "config.json").read_text())["model_type"])


def test_a_model_that_only_denoises_is_refused_by_the_autoregressive_engine(family: Path) -> None:
    async def main() -> str:
        local = LocalModel.open(family, dtype=torch.float32, device="cpu", threads=1, quick=False)
        async with AutoregressiveEngine(local) as engine:
            return (await engine.complete(request(Choice(("a", "b"))))).text

    if "a2d" in json.loads((family / "config.json").read_text())["model_type"]:
        assert asyncio.run(main()) in ("a", "b")  # adapted from an AR model, which it still is
    else:
        with pytest.raises(LoadingError, match="was trained to denoise and predicts no next token"):
            asyncio.run(main())


def test_settings_follow_the_checkpoint() -> None:
    assert Settings.of_checkpoint(None) == PLAIN
    dream = Settings.of_checkpoint(Denoising("full", shifted=True))
    assert (dream.attention, dream.logit_shift, dream.context_start(37)) == ("full", True, 0)
    sdar = Settings.of_checkpoint(Denoising("block", 4))
    assert (sdar.text_block_tokens, sdar.context_start(37), sdar.context_start(36)) == (4, 36, 36)
    assert Settings().context_start(37) == 37
