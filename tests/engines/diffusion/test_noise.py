"""Models of uniform noise: no mask is ever shown to them, and contracts, holes and spans hold as with masks."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from carrara.engines.contract import (
    Choice,
    Column,
    Contract,
    Hole,
    Infill,
    Json,
    Regex,
    Table,
    Text,
)
from carrara.engines.diffusion.canvas import View
from carrara.engines.diffusion.commit import confidence_threshold
from carrara.engines.diffusion.decode import Decoder
from carrara.engines.diffusion.engine import DiffusionEngine
from carrara.engines.diffusion.gemma_model import GemmaCache
from carrara.engines.diffusion.gemma_scaffold import gemma_forward
from carrara.engines.diffusion.noise import Uniform
from carrara.engines.diffusion.prepare import CanvasMaker
from carrara.engines.diffusion.reader import looking
from carrara.engines.diffusion.refine import refine
from carrara.engines.diffusion.scaffold import read
from carrara.engines.diffusion.scaffold.lexicon import Lexicon
from carrara.engines.diffusion.settings import Settings
from carrara.engines.local import LocalModel
from carrara.engines.request import Completion, Draft, Limits, Message, Request

UNIFORM = Settings(block_tokens=32, threshold=0.3, slot_tokens=6, noise="uniform")
HOLES = Infill(("Dear ", Hole(4), ", it is ", Hole(3, Choice(("late", "early"))), ".\n"))
PERSON = Json.of(
    {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "tags": {"type": "array", "items": {"type": "integer"}},
        },
        "required": ["name", "tags"],
    }
)
CONTRACTS: tuple[Contract, ...] = (
    PERSON,
    HOLES,
    Choice(("one", "two", "three")),
    Table((Column("a"), Column("n", "integer")), 1, 2),
    Regex("[a-c]{3,9}"),
)
DRAFT = Draft('{"name": "Ann of Rome", "tags": [1, 2]}', spans=((10, 13),))


def requests() -> list[Request]:
    ask = (Message("user", "the cat"),)
    made = [Request(ask, contract, Limits(90)) for contract in CONTRACTS]
    letter = Draft("Dear Ann, the cat sat.", spans=((5, 8),))
    return [
        *made,
        Request(ask, PERSON, Limits(90), draft=DRAFT),
        Request(ask, Text(), draft=letter),
    ]


def test_the_engine_denoises_from_random_tokens(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[list[int]] = []
    inputs = Decoder._inputs

    def seen(self: Decoder, tokens: Any, *rest: Any) -> Any:
        shown.extend(list(row) for row in tokens)
        return inputs(self, tokens, *rest)

    monkeypatch.setattr(Decoder, "_inputs", seen)

    async def main() -> tuple[list[Completion], list[Completion], int]:
        local = LocalModel.open(tiny_folder, dtype=torch.float32, device="cpu", threads=1)
        async with DiffusionEngine(local, settings=UNIFORM) as engine:
            alone = [await engine.complete(one) for one in requests()]
            together = list(await asyncio.gather(*map(engine.complete, requests())))
            return alone, together, local.tokenizer.mask_id

    alone, together, mask = asyncio.run(main())
    assert [one.text for one in alone] == [one.text for one in together]
    assert shown
    assert (
        sum(mask in row for row in shown) < len(shown) / 4
    )  # drawn like any other token, now and then
    for one, asked in zip(alone, requests(), strict=True):
        assert asked.output.parse(one.text) == one.value or isinstance(asked.output, Text)
    assert alone[-2].text.startswith('{"name": "')
    assert alone[-2].text.endswith(' of Rome", "tags": [1, 2]}')
    assert alone[-1].text.startswith("Dear ")
    assert alone[-1].text.endswith(", the cat sat.")


def test_noise_is_fresh_in_each_pass_and_clamps_the_rest() -> None:
    view = View((5, 1, 7, 1, 1), (), ())
    noise = Uniform(1, 1000, random.Random(0))
    first, second = noise.over(view), noise.over(view)
    assert first.tokens[0] == second.tokens[0] == 5
    assert first.tokens[2] == second.tokens[2] == 7
    assert first.tokens[1:5:2] != second.tokens[1:5:2]
    assert all(0 <= token < 1000 for token in first.tokens)


def test_diffusion_gemma_holds_contracts(lexicon: Lexicon) -> None:
    pytest.importorskip("transformers")
    from transformers import DiffusionGemmaConfig, DiffusionGemmaForBlockDiffusion

    size = len(lexicon.tokenizer.vocabulary)
    torch.manual_seed(3)
    text = {
        **{"model_type": "diffusion_gemma_text", "vocab_size": size, "hidden_size": 32},
        **{"intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2},
        **{"num_key_value_heads": 1, "head_dim": 16, "global_head_dim": 16},
        **{"num_global_key_value_heads": 1, "sliding_window": 8, "num_experts": 4},
        **{"layer_types": ["sliding_attention", "full_attention"], "top_k_experts": 2},
        **{"moe_intermediate_size": 16, "max_position_embeddings": 256},
    }
    config = DiffusionGemmaConfig(canvas_length=32, text_config=text, vision_config=VISION)
    model = DiffusionGemmaForBlockDiffusion(config).eval()
    maker = CanvasMaker.of(lexicon)
    for seed, asked in enumerate(requests()[:-1]):
        cache = GemmaCache(model)
        prompt = torch.tensor([lexicon.spell("the cat")])
        cache.encode(prompt, torch.ones_like(prompt, dtype=torch.bool))
        canvas = maker.canvas(maker.roomy(asked), UNIFORM)
        noise = Uniform(lexicon.mask_id, size, random.Random(seed))
        look = looking(gemma_forward(cache, noise))
        done = refine(canvas, look, confidence_threshold(0.3))
        assert done.passes >= 1
        asked.output.parse(read.text(canvas.tree.root))  # type: ignore[union-attr]


VISION: dict[str, Any] = {
    **{"model_type": "gemma4_vision", "hidden_size": 8, "intermediate_size": 8},
    **{"num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1},
    **{"head_dim": 8, "patch_size": 4, "position_embedding_size": 8},
}
