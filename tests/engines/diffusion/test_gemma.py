"""DiffusionGemma decodes as transformers itself does, with the same noise."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from carrara.engines.diffusion.gemma import Drawn, GemmaPass, generate
from carrara.engines.errors import LoadingError
from carrara.engines.local import LocalModel
from carrara.engines.model.gemma import GemmaSettings, NotInstalled, load_gemma

CONFIG: dict[str, Any] = {
    "model_type": "diffusion_gemma",
    "architectures": ["DiffusionGemmaForBlockDiffusion"],
    "canvas_length": 8,
    "eos_token_id": [1, 6],
    "text_config": {
        "model_type": "diffusion_gemma_text",
        "vocab_size": 64,
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
        "max_position_embeddings": 128,
    },
    "vision_config": {
        "model_type": "gemma4_vision",
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "patch_size": 4,
        "position_embedding_size": 8,
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with random weights, as transformers saves it."""
    from transformers import DiffusionGemmaConfig, DiffusionGemmaForBlockDiffusion

    path = tmp_path_factory.mktemp("gemma")
    torch.manual_seed(3)
    model = DiffusionGemmaForBlockDiffusion(DiffusionGemmaConfig(**CONFIG))
    for weight in model.parameters():
        weight.data = torch.randn_like(weight) * (0.3 if weight.dim() > 1 else 0.05) + (
            0.0 if weight.dim() > 1 else 1.0
        )
    model.save_pretrained(path)
    (path / "generation_config.json").write_text(
        json.dumps({"max_denoising_steps": 6, "eos_token_id": [1, 6], "pad_token_id": 0,
                    "sampler_config": {"_cls_name": "EntropyBoundSamplerConfig", "entropy_bound": 2.0}})
    )  # fmt: skip
    return path


@pytest.mark.parametrize("greedy", [False, True])
def test_nothing_is_drawn_by_shares_that_are_no_numbers(greedy: bool) -> None:
    shares = torch.full((1, 2, 4), 0.25)
    assert Drawn(1, 2, 4, greedy=greedy).draw(shares).shape == (1, 2)
    shares[0, 1, 2] = torch.nan
    with pytest.raises(FloatingPointError, match="no finite logits"):
        Drawn(1, 2, 4, greedy=greedy).draw(shares)


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return load_gemma(folder)


class InOrder:
    """Draws from torch's generator in the order in which transformers does."""

    def __init__(self, rows: int) -> None:
        self._noise = Drawn(rows, 8, 64)

    def canvas(self) -> Tensor:
        return self._noise.canvas()

    def renoise(self) -> Tensor:
        return self._noise.renoise()

    def draw(self, shares: Tensor) -> Tensor:
        return self._noise.draw(shares)


@pytest.mark.parametrize("prompts", [[[5, 9, 33, 2]], [[5, 9, 33, 2], list(range(10, 23)), [7]]])
@pytest.mark.parametrize(("stable", "sure"), [(0, 1.5), (1, 2.0), (2, 0.005)])
def test_the_same_noise_gives_the_tokens_of_the_reference(
    model: Any,
    prompts: list[list[int]],
    stable: int,
    sure: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A mark for compiled samplers; it would import torch's compiler, which takes seconds and warns.
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: None)
    width = max(map(len, prompts))
    tokens = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    real = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    torch.manual_seed(11)
    wanted = model.generate(
        tokens, attention_mask=real, max_new_tokens=20, max_denoising_steps=6, t_min=0.3, t_max=0.9,
        stability_threshold=stable, confidence_threshold=sure, eos_token_id=[1, 6], pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(11)
    settings = GemmaSettings(6, 2.0, 0.3, 0.9, stable, sure, 0, (1, 6))
    found = generate(model, prompts, 20, settings, InOrder(len(prompts)))
    assert found.tokens.tolist() == wanted.sequences.tolist()
    new = (found.tokens[:, width:] != 0).sum(1)
    assert torch.allclose(new / found.passes, wanted.tokens_per_forward)


def test_the_same_seed_gives_the_same_text_and_each_pass_can_be_watched(model: Any) -> None:
    settings = GemmaSettings(5, 1.0, eos_ids=())

    def run(seed: int) -> tuple[list[int], list[GemmaPass]]:
        seen: list[GemmaPass] = []
        noise = Drawn(1, 8, 64, torch.Generator().manual_seed(seed))
        written = generate(model, [[4, 5]], 16, settings, noise, seen.append)
        return written.tokens[0].tolist(), seen

    text, seen = run(1)
    assert run(1)[0] == text != run(2)[0]
    assert [p.start for p in seen] == [2] * 5 + [10] * 5
    assert all(bool(p.accepted.any()) for p in seen)  # at least one token a pass
    kept = seen[0].accepted
    assert torch.equal(seen[1].before.tokens[kept], seen[0].said.drawn[kept])


def test_settings_are_read_from_the_checkpoint(folder: Path, tmp_path: Path) -> None:
    found = GemmaSettings.of_folder(folder)
    assert (found.steps, found.entropy_bound, found.eos_ids, found.pad_id) == (6, 2.0, (1, 6), 0)
    assert (found.t_min, found.sure) == (0.4, 0.005)
    assert GemmaSettings.of_folder(tmp_path) == GemmaSettings()
    for field, wrong in (("max_denoising_steps", "x"), ("t_max", 0), ("eos_token_id", ["a"])):
        (tmp_path / "generation_config.json").write_text(json.dumps({field: wrong}))
        with pytest.raises(LoadingError, match=f"generation_config.json: {field} is "):
            GemmaSettings.of_folder(tmp_path)
    (tmp_path / "generation_config.json").write_text("{")
    with pytest.raises(LoadingError, match=r"generation_config.json: cannot be read"):
        GemmaSettings.of_folder(tmp_path)


def rewrite(folder: Path, tensors: dict[str, Tensor | None]) -> None:
    """Put tensors into the second shard of a checkpoint; None takes one out."""
    from safetensors.torch import load_file, save_file

    found: dict[str, Any] = {**load_file(folder / SECOND), **tensors}
    kept = {name: tensor for name, tensor in found.items() if tensor is not None}
    save_file(kept, folder / SECOND, metadata={"format": "pt"})


def edit(folder: Path, part: str | None = None, **fields: Any) -> None:
    """Change fields of config.json, or of a part of it; None takes one out."""
    path = folder / "config.json"
    whole = json.loads(path.read_text())
    found = whole if part is None else whole[part]
    found |= fields
    for name in [name for name, value in fields.items() if value is None]:
        del found[name]
    path.write_text(json.dumps(whole))


SECOND = "model-00002-of-00002.safetensors"
NORM = "model.decoder.norm.weight"


@pytest.fixture
def sharded(folder: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint in two shards, that may be changed."""
    from safetensors.torch import load_file, save_file

    path = tmp_path / "sharded"
    path.mkdir()
    (path / "config.json").write_text((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    shards = {
        "model-00001-of-00002.safetensors": sorted(tensors)[:40],
        SECOND: sorted(tensors)[40:],
    }
    for shard, names in shards.items():
        save_file({name: tensors[name] for name in names}, path / shard, metadata={"format": "pt"})
    where = {name: shard for shard, names in shards.items() for name in names}
    assert where[NORM] == SECOND
    index = {"metadata": {}, "weight_map": where}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    load_gemma(path)
    return path


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: rewrite(f, {NORM: None}), f"{SECOND}: 1 tensors are missing: {NORM}"),
        (
            lambda f: rewrite(f, {"model.foo.weight": torch.ones(3)}),
            f"{SECOND}: tensor 'model.foo.weight' is not part of this model",
        ),
        (
            lambda f: rewrite(f, {NORM: torch.ones(31)}),
            rf"{SECOND}: tensor '{NORM}' has shape \[31\], config.json asks for \[32\]",
        ),
        (
            lambda f: rewrite(f, {NORM: torch.ones(32, dtype=torch.int8)}),
            f"{SECOND}: tensor '{NORM}' holds int8; quantised weights are not supported",
        ),
        (
            lambda f: (f / SECOND).write_bytes((f / SECOND).read_bytes()[:20000]),
            rf"{SECOND}: damaged or cut off from tensor '\S+' on",
        ),
        (lambda f: (f / SECOND).write_bytes(b""), f"{SECOND}: damaged or cut off"),
        (lambda f: (f / SECOND).unlink(), f"{SECOND} does not exist; the checkpoint is incomplete"),
        (lambda f: edit(f, model_type="foo"), "config.json: model_type 'foo' is not 'diffusion_g"),
        (lambda f: edit(f, model_type=None), "config.json: model_type None is not 'diffusion_g"),
        (
            lambda f: edit(f, quantization_config={"quant_method": "gptq", "bits": 4}),
            "config.json: weights quantised by 'gptq' are not supported",
        ),
        (
            lambda f: edit(f, "text_config", num_hidden_layers=None),
            "config.json: lacks text_config.num_hidden_layers",
        ),
        (
            lambda f: edit(f, "text_config", num_attention_heads=0),
            "config.json: text_config.num_attention_heads is 0",
        ),
        (lambda f: edit(f, text_config=None), "config.json: lacks text_config"),
        (
            lambda f: edit(f, "text_config", layer_types=["odd", "full_attention"]),
            "config.json: transformers cannot build this model: .*odd",
        ),
        (lambda f: (f / "config.json").write_text("{"), "config.json: cannot be read as JSON"),
    ],
)
def test_what_is_not_computed_is_refused_with_the_file_and_the_field_or_tensor(
    sharded: Path, damage: Callable[[Path], Any], words: str
) -> None:
    damage(sharded)
    with pytest.raises(LoadingError, match=f"(?s){words}"):
        load_gemma(sharded)


def test_a_quantised_checkpoint_is_refused_by_a_local_model(sharded: Path) -> None:
    (sharded / "tokenizer.json").write_text("{}")  # is not looked at before
    edit(sharded, quantization_config={"quant_method": "gptq", "bits": 4})

    async def enter() -> None:
        async with LocalModel.open(sharded):
            pass

    with pytest.raises(LoadingError, match=r"config.json: weights quantised by 'gptq'"):
        asyncio.run(enter())


def test_without_transformers_the_error_says_how_to_install_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(NotInstalled, match=r"pip install 'carrara\[gemma\]'"):
        load_gemma(folder)


def test_without_transformers_golden_cases_are_skipped_with_the_reason(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file

    from carrara.engines.goldens.run import run_folder

    case = {"name": "one", "algorithm": "diffusion_gemma_generate", "arrays": {}}
    found = {"format": "goldens-1", "family": "diffusion_gemma", "forward": [], "decode": [case]}
    (tmp_path / "cases.json").write_text(json.dumps(found))
    save_file({"x": torch.zeros(1)}, tmp_path / "cases.safetensors")
    monkeypatch.setitem(sys.modules, "transformers", None)
    summary = run_folder(tmp_path)
    assert (summary.passed, summary.failed, summary.skipped) == (0, 0, 1)
    assert "pip install 'carrara[gemma]'" in summary.skips["one"]


def test_a_damaged_golden_folder_fails_by_itself(sharded: Path) -> None:
    from safetensors.torch import save_file

    from carrara.engines.goldens.run import run_folder

    case = {"name": "one", "algorithm": "diffusion_gemma_generate"}
    found = {"format": "goldens-1", "family": "diffusion_gemma", "forward": [], "decode": [case]}
    (sharded / "cases.json").write_text(json.dumps(found))
    save_file({"x": torch.zeros(1)}, sharded / "cases.safetensors")
    lacking = run_folder(sharded)
    assert lacking.failures == {"one": f"{sharded / 'cases.json'}: lacks eos_token_id"}
    (sharded / SECOND).write_bytes((sharded / SECOND).read_bytes()[:20000])
    cut = run_folder(sharded)
    assert (cut.passed, cut.failed) == (0, 1)
    assert f"{sharded / SECOND}: damaged or cut off from tensor" in cut.failures["folder"]
