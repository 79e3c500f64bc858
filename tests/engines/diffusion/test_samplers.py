"""The loop gives what published samplers give, step by step.

The cases were computed with the reference code that `decode.json` names, on a model of random weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from carrara.engines.diffusion.commit import quotas
from carrara.engines.diffusion.samplers import Blocks, block_diffusion, masked_diffusion
from carrara.engines.model.llama import Llama
from carrara.engines.model.load import load_model

FOLDER = Path(__file__).parents[2] / "goldens" / "a2d_llama"
GOLDEN = json.loads((FOLDER / "decode.json").read_text())


@pytest.fixture(scope="module")
def model() -> Llama:
    return load_model(FOLDER)


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["name"])
def test_every_step_is_that_of_the_reference(case: dict[str, Any], model: Llama) -> None:
    torch.set_num_threads(1)
    mask, eos, seen = GOLDEN["mask_token_id"], GOLDEN["eos_token_id"], []
    prompt, new = case["prompt"], case["max_new_tokens"]
    blocks = Blocks(case["block_size"], case["steps_per_block"], mask, case["shifted"])
    if case["algorithm"] == "bd3lm":
        block_diffusion(model, prompt, new, blocks, eos, seen.append)
    else:
        masked_diffusion(
            model, [*prompt, *[mask] * new], len(prompt) if new else 0, blocks, seen.append
        )
    assert seen == case["trace"]


@pytest.mark.parametrize(("key", "wanted"), GOLDEN["quotas"].items())
def test_quotas_round_as_the_reference_does(key: str, wanted: list[int]) -> None:
    masked, steps = map(int, key.split(","))
    assert quotas(masked, steps) == wanted
