"""Every family's checkpoint is read as published; what is not computed here is refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from carrara.engines.errors import LoadingError
from carrara.engines.model.config import Denoising, LlamaConfig
from carrara.engines.model.families import FAMILIES
from carrara.engines.model.llama import Llama
from carrara.engines.model.load import load_model, projections, targets
from carrara.engines.model.lora import attach, detach, load_adapter, merge
from carrara.engines.weights.folder import check_folder

GOLDENS = Path(__file__).parents[2] / "goldens"


def config_of(family: str, **changed: Any) -> LlamaConfig:
    found = json.loads((GOLDENS / family / "config.json").read_text())
    return LlamaConfig.from_dict(found | changed, "x/config.json")


def test_how_a_checkpoint_denoises_is_read_from_its_config() -> None:
    assert config_of("ar_llama").denoising is None
    assert config_of("llada").denoising == Denoising("full", None, 300)
    assert config_of("dream").denoising == Denoising("full", None, 303, shifted=True)
    assert config_of("sdar").denoising == Denoising("block", 4, 306)
    assert config_of("llada21").denoising == Denoising("block", 32, None)
    assert config_of("a2d_llama").denoising == Denoising()  # it may be either
    assert config_of("a2d_llama", block_size=32).denoising == Denoising("block", 32)


def test_a_null_is_a_field_that_is_not_there() -> None:
    nulls = {"rms_norm_eps": None, "max_sequence_length": None, "n_kv_heads": None}
    found = config_of("llada", **nulls)
    assert (found.rms_eps, found.max_positions, found.kv_heads) == (1e-5, 1024, 4)


def test_variants_of_the_families_are_arguments_of_one_model() -> None:
    dream, sdar, moe = config_of("dream"), config_of("sdar"), config_of("llada21")
    assert (dream.attention_bias, dream.output_bias, dream.tied) == (True, False, False)
    assert (sdar.qk_norm, sdar.head_dim * sdar.heads, sdar.hidden_size) == (True, 96, 64)
    assert (moe.head_dim, moe.turned, moe.qk_norm) == (16, 8, True)
    assert moe.experts is not None
    assert [moe.has_experts(layer) for layer in range(3)] == [False, True, True]
    shared = config_of("llada21", num_shared_experts=2, n_group=None, topk_group=None).experts
    assert shared is not None
    assert (shared.shared_hidden, shared.groups) == (48, 1)
    assert config_of("llada", embedding_size=384, n_kv_heads=2).vocab_size == 384


@pytest.mark.parametrize(
    ("family", "change", "words"),
    [
        ("llada", {"model_type": "bert"}, "model_type 'bert' is not supported, only llama, a2d-"),
        ("llada", {"model_type": "bert"}, ".*, llada2_moe, diffusion_gemma. Use a checkpoint"),
        (
            "llada",
            {"model_type": "diffusion_gemma"},
            ".* is computed by transformers",
        ),
        ("llada", {"alibi": True}, "alibi True is not supported, only False"),
        ("llada", {"block_type": "sequential"}, "block_type 'sequential'"),
        ("llada", {"layer_norm_type": "default"}, "layer_norm_type 'default'"),
        ("llada", {"d_model": None}, "lacks d_model"),
        ("llada", {"n_kv_heads": 3}, "4 attention heads cannot share 3"),
        ("llada", {"n_heads": "four"}, "n_heads is 'four', it must be a whole number of at least"),
        ("llada", {"n_heads": 0}, "n_heads is 0, it must be a whole number of at least 1"),
        ("llada", {"n_layers": -1}, "n_layers is -1"),
        ("llada", {"n_layers": True}, "n_layers is True"),
        ("llada", {"rms_norm_eps": "small"}, "rms_norm_eps is 'small'"),
        ("llada", {"rope_theta": "x"}, "rope_theta is 'x', it must be a number above 0"),
        ("llada", {"rope_theta": float("nan")}, "rope_theta is nan"),
        ("llada", {"max_sequence_length": 0}, "max_sequence_length is 0"),
        ("llada", {"mask_token_id": 5000}, "mask_token_id is 5000, .* from 0 to 319"),
        ("dream", {"mask_token_id": -1}, "mask_token_id is -1"),
        ("sdar", {"block_size": 0}, "block_size is 0, it must be a whole number of at least 1"),
        ("a2d_llama", {"block_size": 0}, "block_size is 0"),
        ("a2d_llama", {"block_size": "32"}, "block_size is '32'"),
        ("llada21", {"partial_rotary_factor": 3}, "partial_rotary_factor is 3, it must be a num"),
        ("llada21", {"partial_rotary_factor": 0.2}, "partial_rotary_factor is 0.2, .* even number"),
        ("llada21", {"topk_group": 5}, "topk_group is 5, it must be a whole number from 1 to 4"),
        ("llada21", {"use_qk_norm": 1}, "use_qk_norm is 1, it must be true or false"),
        ("llada21", {"num_experts": None}, "lacks num_experts"),
        ("llada21", {"score_function": "softmax"}, "score_function 'softmax'"),
        ("llada21", {"num_experts_per_tok": 9}, "9 of 16 experts cannot be chosen from 2 of 4"),
        ("sdar", {"use_sliding_window": True}, "use_sliding_window True"),
        ("sdar", {"rope_scaling": {"rope_type": "yarn"}}, "rope type 'yarn'"),
        (
            "sdar",
            {"quantization_config": {"quant_method": "awq"}},
            "weights quantised by 'awq' are not",
        ),
        (
            "llada",
            {"quantization_config": {"quant_method": "gptq"}},
            "weights quantised by 'gptq' are not",
        ),
    ],
)
def test_what_is_not_computed_here_is_refused(
    family: str, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(LoadingError, match=f"x/config.json: {words}"):
        config_of(family, **change)


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a golden checkpoint that may be damaged."""
    for path in (GOLDENS / request.param).iterdir():
        if path.name.startswith(("model", "config")):
            shutil.copyfile(path, tmp_path / path.name)
    return tmp_path


def rewrite(path: Path, name: str, value: torch.Tensor | None) -> None:
    tensors = load_file(path)
    if value is None:
        del tensors[name]
    else:
        tensors[name] = value
    save_file(tensors, path)


SECOND = "model-00002-of-00002.safetensors"
DAMAGES: list[tuple[str, Callable[[Path], Any], str]] = [
    (
        "sdar",
        lambda f: rewrite(f / SECOND, "model.norm.weight", None),
        rf"{SECOND}: 1 tensors are missing: model.norm.weight",
    ),
    (
        "sdar",
        lambda f: rewrite(f / SECOND, "model.norm.weight", torch.ones(63)),
        rf"{SECOND}: tensor 'model.norm.weight' has shape \[63\], config.json asks for \[64\]",
    ),
    (
        "sdar",
        lambda f: rewrite(f / SECOND, "model.norm.weight", torch.ones(64, dtype=torch.int8)),
        rf"{SECOND}: tensor 'model.norm.weight' holds int8; quantised weights are not supported",
    ),
    (
        "sdar",
        lambda f: rewrite(f / SECOND, "model.norm.weight", torch.ones(64).to(torch.float8_e4m3fn)),
        rf"{SECOND}: tensor 'model.norm.weight' holds float8_e4m3fn; quantised",
    ),
    (
        "sdar",
        lambda f: rewrite(f / SECOND, "model.layers.1.self_attn.q_proj.bias", torch.ones(96)),
        rf"{SECOND}: tensor 'model.layers.1.self_attn.q_proj.bias' is not part of this model",
    ),
    (
        "llada21",
        lambda f: rewrite(
            f / "model.safetensors", "model.layers.2.mlp.experts.7.up_proj.weight", None
        ),
        r"model.safetensors: 1 tensors are missing: model.layers.2.mlp.experts.7.up_proj.weight",
    ),
    (
        "llada21",
        lambda f: rewrite(
            f / "model.safetensors", "model.layers.1.mlp.gate.expert_bias", torch.ones(8)
        ),
        r"'model.layers.1.mlp.gate.expert_bias' has shape \[8\], config.json asks for \[16\]",
    ),
    (
        "llada",
        lambda f: rewrite(
            f / "model.safetensors", "model.transformer.blocks.1.ff_proj.weight", None
        ),
        r"model.safetensors: 1 tensors are missing: model.transformer.blocks.1.ff_proj.weight",
    ),
    (
        "dream",
        lambda f: rewrite(f / "model.safetensors", "model.layers.0.self_attn.k_proj.bias", None),
        r"model.safetensors: 1 tensors are missing: model.layers.0.self_attn.k_proj.bias",
    ),
]


@pytest.mark.parametrize(("folder", "damage", "words"), DAMAGES, indirect=["folder"])
def test_a_wrong_or_missing_tensor_is_named_with_its_file(
    folder: Path, damage: Callable[[Path], Any], words: str
) -> None:
    damage(folder)
    with pytest.raises(LoadingError, match=words):
        load_model(folder)


@pytest.mark.parametrize("folder", ["sdar"], indirect=True)
def test_a_truncated_shard_is_named_with_the_first_tensor_that_is_cut_off(folder: Path) -> None:
    path = folder / SECOND
    path.write_bytes(path.read_bytes()[:-1000])  # the last tensor stored ends there
    with pytest.raises(LoadingError, match=rf"{SECOND}: damaged or cut off from tensor '\S+' on"):
        load_model(folder)


@pytest.mark.parametrize("folder", ["sdar"], indirect=True)
def test_a_tensor_that_no_shard_of_the_index_holds_is_named_with_the_index(folder: Path) -> None:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    del index["weight_map"]["model.norm.weight"]
    path.write_text(json.dumps(index))
    rewrite(folder / SECOND, "model.norm.weight", None)
    with pytest.raises(LoadingError, match=r"index.json: 1 tensors are missing: model.norm"):
        load_model(folder)


OUTSIDE = "../model.safetensors"


@pytest.mark.parametrize("folder", ["sdar"], indirect=True)
@pytest.mark.parametrize("name", [3, None, "", OUTSIDE])
def test_an_index_names_files_beside_it(folder: Path, name: Any) -> None:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["model.norm.weight"] = name
    path.write_text(json.dumps(index))
    told = (
        "lies outside"
        if name == OUTSIDE
        else "weight_map.model.norm.weight is .* the name of a file"
    )
    with pytest.raises(LoadingError, match=f"index.json: .*{told}"):
        check_folder(folder)


@pytest.mark.parametrize("family", ["llada", "dream", "sdar", "llada21", "a2d_llama"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_family_loads_in_half_precision(family: str, dtype: torch.dtype) -> None:
    exact, half = load_model(GOLDENS / family), load_model(GOLDENS / family, dtype)
    tokens = torch.arange(20)[None]
    positions = torch.arange(20)[None]
    wanted, found = exact(tokens, positions), half(tokens, positions)
    assert found.dtype == dtype
    near = torch.nn.functional.cosine_similarity(wanted, found.float(), dim=-1)
    assert near.median() > 0.999  # rounding may choose another expert for a token


def naive_experts(model: Llama, layer: int, x: torch.Tensor) -> torch.Tensor:
    """Routed experts token by token in plain words, after the description of DeepSeek-V3's gate."""
    experts, config = model.layers[layer].experts, model.config.experts  # type: ignore[union-attr]
    assert config is not None
    out = torch.zeros_like(x)
    for number, token in enumerate(x):
        scores = (experts.router.weight @ token).sigmoid()
        ranked = scores if experts.router.bias is None else scores + experts.router.bias
        each = config.count // config.groups
        worth = [
            sum(sorted(ranked[g * each : (g + 1) * each].tolist())[-2:])
            for g in range(config.groups)
        ]
        groups = sorted(range(config.groups), key=lambda g: worth[g])[-config.chosen_groups :]
        allowed = [e for g in groups for e in range(g * each, (g + 1) * each)]
        chosen = sorted(allowed, key=lambda e: float(ranked[e]))[-config.chosen :]
        total = float(scores[chosen].sum()) if config.normalised else 1.0
        for expert in chosen:
            gate, up = (experts.gate_up[expert] @ token).chunk(2)
            weight = float(scores[expert]) / total * config.scale
            out[number] += weight * (experts.down[expert] @ (torch.nn.functional.silu(gate) * up))
    return out


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"n_group": 1, "topk_group": 1},
        {"norm_topk_prob": False, "routed_scaling_factor": 1.0},
        {"moe_router_enable_expert_bias": False},
        {"num_experts": 6, "n_group": 2, "topk_group": 1, "num_experts_per_tok": 3},
        {"num_experts": 4, "n_group": 4, "topk_group": 4, "num_experts_per_tok": 2},
    ],
)
def test_experts_give_what_the_plain_description_gives(change: dict[str, Any]) -> None:
    model = Llama.random(config_of("llada21", **change), seed=4, spread=0.3)
    for layer in (1, 2):
        bias = model.layers[layer].experts.router.bias  # type: ignore[union-attr]
        if bias is not None:
            bias.copy_(torch.linspace(-0.5, 0.5, len(bias)).roll(3))
        x = torch.randn(7, 64, generator=torch.Generator().manual_seed(layer))
        found = model.layers[layer].experts(x[None])[0]  # type: ignore[operator]
        torch.testing.assert_close(found, naive_experts(model, layer, x), atol=1e-4, rtol=1e-4)


def test_layers_without_shared_experts_have_none() -> None:
    model = Llama.random(config_of("llada21", num_shared_experts=0), spread=0.2)
    assert not any("shared_experts" in name for name in targets(model))
    model.quicken()
    tokens = torch.tensor([[3, 4, 5]])
    assert model(tokens, torch.arange(3)[None]).isfinite().all()


@pytest.mark.parametrize("family", ["llada", "sdar", "llada21"])
def test_an_adapter_names_projections_as_the_family_does(family: str, tmp_path: Path) -> None:
    model = load_model(GOLDENS / family)
    names = list(projections(model))
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for name in names:
        place = projections(model)[name]
        outputs = place.outputs.stop - place.outputs.start
        down = torch.randn(2, place.layer.weight.shape[1], generator=generator)
        tensors[f"base_model.model.{name}.lora_A.weight"] = down * 0.1
        up = torch.randn(outputs, 2, generator=generator)
        tensors[f"base_model.model.{name}.lora_B.weight"] = up * 0.1
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 4}))
    tokens, positions = torch.arange(9)[None], torch.arange(9)[None]
    plain = model(tokens, positions)
    adapter = load_adapter(tmp_path)
    attach(model, adapter)
    switched = model(tokens, positions, switch=torch.ones(1))
    assert torch.equal(model(tokens, positions), plain)
    detach(model)
    merge(model, adapter)
    merged = model(tokens, positions)
    assert not torch.allclose(merged, plain, atol=0.1)
    torch.testing.assert_close(merged, switched, atol=1e-3, rtol=1e-3)


def test_every_family_has_names_for_all_that_its_model_holds() -> None:
    for family in ("ar_llama", "llada", "sdar", "dream", "llada21"):
        model = Llama(config_of(family))
        named = sum(target.numel() for target in targets(model).values())
        assert named == sum(weight.numel() for weight in model.parameters())
    assert set(FAMILIES) >= {"a2d-qwen3", "qwen3"}
