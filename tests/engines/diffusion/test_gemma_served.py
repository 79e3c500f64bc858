"""DiffusionGemma behind the engine: contracts and text by noise instead of masks, like any other family."""

from __future__ import annotations

import asyncio
import copy
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from carrara.engines.autoregressive.local import AutoregressiveEngine
from carrara.engines.contract import Choice, Column, Contract, Json, Outline, Table, Text
from carrara.engines.diffusion.batch import BatchLimits
from carrara.engines.diffusion.canvas import Reading, View
from carrara.engines.diffusion.engine import DiffusionEngine
from carrara.engines.diffusion.gemma import Drawn, generate
from carrara.engines.diffusion.noise_canvas import NoiseCanvas
from carrara.engines.diffusion.reader import MaskTable, read
from carrara.engines.diffusion.refine import refine
from carrara.engines.diffusion.rule_table import RULES
from carrara.engines.diffusion.rules import ruling
from carrara.engines.diffusion.settings import Settings
from carrara.engines.errors import LoadingError
from carrara.engines.local import LocalModel
from carrara.engines.model.config import UniformNoise
from carrara.engines.model.gemma import GemmaCache, GemmaSettings, load_gemma
from carrara.engines.request import Completion, Draft, Limits, Message, Progress, Request, Rule

CANVAS = 24
TEXT_CONFIG = {
    "model_type": "diffusion_gemma_text",
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "global_head_dim": 16,
    "num_global_key_value_heads": 1,
    "sliding_window": 8,
    "layer_types": ["sliding_attention", "full_attention"],
    "num_experts": 4,
    "top_k_experts": 2,
    "moe_intermediate_size": 16,
    "max_position_embeddings": 512,
}
VISION_CONFIG = {
    "model_type": "gemma4_vision",
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "patch_size": 4,
    "position_embedding_size": 8,
}
PERSON = Json.of(
    {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": ["integer", "null"]},
            "tags": {"type": "array", "items": {"enum": ["cat", "mat", "dog"]}},
        },
        "required": ["name", "age", "tags"],
    }
)
CONTRACTS: tuple[Contract, ...] = (
    PERSON,
    Text(),
    Choice(("one", "two", "three")),
    Table((Column("a"), Column("n", "integer"))),
    Outline(),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A whole folder: random weights as transformers saves them, and the tiny tokenizer."""
    from transformers import DiffusionGemmaConfig, DiffusionGemmaForBlockDiffusion

    path = tmp_path_factory.mktemp("gemma")
    config = DiffusionGemmaConfig(
        canvas_length=CANVAS,
        eos_token_id=[2],
        text_config=copy.deepcopy(TEXT_CONFIG),
        vision_config=copy.deepcopy(VISION_CONFIG),
    )
    torch.manual_seed(3)
    model = DiffusionGemmaForBlockDiffusion(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.3)
    model.save_pretrained(path)
    for file in tiny_folder.glob("tokenizer*"):
        shutil.copyfile(file, path / file.name)
    sampler = {"_cls_name": "EntropyBoundSamplerConfig", "entropy_bound": 0.5}
    how = {"max_denoising_steps": 6, "eos_token_id": [2], "sampler_config": sampler}
    (path / "generation_config.json").write_text(json.dumps(how))
    return path


def ask(output: Contract, words: str = "the cat sat", **more: Any) -> Request:
    return Request((Message("user", words),), output, Limits(60), **more)


def answers(
    folder: Path, requests: Sequence[Request], together: bool = False, **options: Any
) -> list[Completion]:
    async def main() -> list[Completion]:
        local = LocalModel.open(folder, dtype=torch.float32, device="cpu", threads=1)
        async with DiffusionEngine(local, **options) as engine:
            if together:
                return list(await asyncio.gather(*map(engine.complete, requests)))
            return [await engine.complete(request) for request in requests]

    return asyncio.run(main())


def test_every_contract_holds_alone_in_company_and_again(folder: Path) -> None:
    requests = [
        ask(contract, "the mat " * n)
        for contract, n in zip(CONTRACTS, (70, 1, 2, 9, 5), strict=True)
    ]
    alone = answers(folder, requests)
    limits = BatchLimits(rows=3, chunk=16, quiet_chunk=16)
    together = answers(folder, requests, together=True, limits=limits)
    for request, one, other in zip(requests, alone, together, strict=True):
        assert request.output.parse(one.text) == one.value
        assert (one.text, one.usage.passes) == (other.text, other.usage.passes)
        assert one.usage.passes >= 1


def test_every_rule_and_a_draft_are_taken(folder: Path) -> None:
    requests = [ask((PERSON, Text())[n % 2], rule=Rule(name)) for n, name in enumerate(RULES)]
    draft = Draft('{"name": "the cat", "age": 12, "tags": ["mat"]}', ("/age",))
    *found, redone = answers(folder, [*requests, ask(PERSON, draft=draft)], together=True)
    for request, one in zip(requests, found, strict=True):
        assert request.output.parse(one.text) == one.value
    assert redone.value["name"] == "the cat"
    assert redone.value["tags"] == ["mat"]


def test_settings_are_those_of_the_folder(folder: Path) -> None:
    async def main() -> tuple[Settings, str]:
        async with DiffusionEngine(LocalModel.open(folder, threads=1)) as engine:
            return engine.checked_settings(), engine.health().line

    found, line = asyncio.run(main())
    assert found.rule == Rule("entropy_bounded", {"bound": 0.5})
    assert found.noise == UniformNoise(steps=6, entropy_bound=0.5)
    assert (found.block_tokens, found.logit_shift) == (CANVAS, False)
    assert "poor denoiser" not in line


def test_it_cannot_be_read_as_an_autoregressive_model_nor_adapted(folder: Path) -> None:
    async def main() -> None:
        async with AutoregressiveEngine(LocalModel.open(folder, threads=1)):
            pass

    with pytest.raises(LoadingError, match="was trained to denoise and predicts no next token"):
        asyncio.run(main())

    async def adapted() -> None:
        async with LocalModel.open(folder, adapter=folder, threads=1):
            pass

    with pytest.raises(LoadingError, match="adapters are not supported on DiffusionGemma"):
        asyncio.run(adapted())


def test_a_missing_size_is_named(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        shutil.copyfile(file, tmp_path / file.name)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["text_config"]["head_dim"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(LoadingError, match=r"config.json: lacks text_config.head_dim"):
        answers(tmp_path, [ask(Text())])


def test_text_is_that_of_the_published_sampler(folder: Path) -> None:
    """The same noise through the canvas of the engine and through the loop that the references are proven on."""
    model, settings = load_gemma(folder), GemmaSettings.of_folder(folder)
    prompt, mask = [5, 17, 99, 40, 33, 12, 50, 61, 7], 3
    for seed in range(3):
        wanted = generate(model, [prompt], CANVAS, settings, noise(seed))
        cache, source = GemmaCache(model), noise(seed)
        fed = torch.tensor([prompt])
        cache.encode(fed, torch.ones_like(fed, dtype=torch.bool))
        canvas = NoiseCanvas([mask] * CANVAS, CANVAS, mask, how=settings)
        how = ruling(Rule("entropy_bounded", {"bound": settings.entropy_bound}), mask)
        said: list[Tensor] = []

        def look(
            clean: Sequence[int],
            view: View,
            source: Drawn = source,
            cache: GemmaCache = cache,
            said: list[Tensor] = said,
            judge: Any = how.judge,
        ) -> Reading:
            shown = torch.tensor([view.tokens])
            full = torch.where(shown == mask, source.renoise(), shown)
            left = (settings.steps - len(said)) / settings.steps
            raw = cache.denoise(full, said[-1] if said else None)
            said.append(raw / (settings.t_min + (settings.t_max - settings.t_min) * left))
            return read(said[-1][0], view, MaskTable(), judge=judge)

        made = refine(canvas, look, how.commit)
        assert canvas.tokens == wanted.tokens[0, len(prompt) :].tolist()
        assert made.passes == int(wanted.passes[0])


def noise(seed: int) -> Drawn:
    return Drawn(1, CANVAS, 320, torch.Generator().manual_seed(seed), greedy=True)


def test_what_is_not_accepted_is_noise_again_and_the_best_tokens_stay() -> None:
    canvas = NoiseCanvas([9, 9, 9], 3, 9, how=UniformNoise(steps=5, stable=1, sure=0.5))
    shown = []

    def look(clean: Sequence[int], view: View) -> Reading:
        shown.append(view.tokens)
        sure = [[0.99, 0.3, 0.2], [0.3, 0.99, 0.4], [0.9, 0.9, 0.9]][min(len(shown) - 1, 2)]
        best = [1, 2, 3] if len(shown) > 1 else [1, 2, 4]
        return Reading(best, sure, sure, ())

    made = refine(canvas, look, ruling(Rule("threshold", {"threshold": 0.95}), 9).commit)
    assert shown == [(9, 9, 9), (1, 9, 9), (9, 2, 9)]
    assert (made.passes, canvas.tokens) == (3, [1, 2, 3])
    assert canvas.sure == [0.9, 0.9, 0.9]


def test_drafts_show_text_coming_out_of_noise(folder: Path) -> None:
    seen: list[Progress] = []

    async def main() -> Completion:
        local = LocalModel.open(folder, dtype=torch.float32, device="cpu", threads=1)
        async with DiffusionEngine(local) as engine:
            return await engine.complete(ask(PERSON), watch=seen.append)

    found = asyncio.run(main())
    assert len(seen) == found.usage.passes
    assert seen[-1].text == found.text
