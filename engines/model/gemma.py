"""DiffusionGemma as transformers computes it: loading, and the two kinds of passes.

The model is an encoder that reads clean tokens causally into a cache and a decoder that sees that cache and
the whole canvas; both share their weights. transformers is the extra `gemma`; it is imported when a model is
loaded. `carrara.engines.diffusion.gemma` decodes as published, `gemma_decode` there for the engine.

Legend: B rows, N positions of the canvas, T clean tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carrara.engines.errors import LoadingError
from carrara.engines.fields import COUNT, NOT_NEGATIVE, Fields
from carrara.engines.model.config import Denoising, LlamaConfig, UniformNoise
from carrara.engines.model.families import (
    DIFFUSION_GEMMA,
    check_heads,
    check_unquantised,
)
from carrara.engines.model.shards import check_headers
from carrara.engines.weights.folder import read_object

MODEL_TYPE = DIFFUSION_GEMMA
HOW_TO_INSTALL = "pip install 'carrara[gemma]'"
_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "head_dim",
)


class NotInstalled(LoadingError):
    """transformers, or one that knows DiffusionGemma, is not installed; the text says how to get it."""


@dataclass(frozen=True, slots=True)
class GemmaSettings(UniformNoise):
    """How its checkpoint says that a canvas is denoised; behind one of `eos_ids` an answer is `pad_id`."""

    pad_id: int = 0
    eos_ids: tuple[int, ...] = ()

    @classmethod
    def of_folder(cls, folder: Path) -> GemmaSettings:
        """Read `generation_config.json`; without the file, the defaults.

        Raises:
            LoadingError: it cannot be read as JSON, or a field is not what it must be.
        """
        path = folder / "generation_config.json"
        if not path.is_file():
            return cls()
        found, plain = Fields(read_object(path), str(path)), cls()
        return cls(
            found.whole("max_denoising_steps", plain.steps),
            found.part("sampler_config").number("entropy_bound", plain.entropy_bound, NOT_NEGATIVE),
            found.number("t_min", plain.t_min, NOT_NEGATIVE),
            found.number("t_max", plain.t_max),
            found.whole("stability_threshold", plain.stable, COUNT),
            found.number("confidence_threshold", plain.sure, NOT_NEGATIVE),
            found.whole("pad_token_id", 0, COUNT),
            found.tokens("eos_token_id", None),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Gemma:
    """A loaded model as `LocalModel` holds it: transformers' `network` and what is known of it in our words."""

    network: Any
    config: LlamaConfig
    settings: GemmaSettings

    @property
    def device(self) -> torch.device:
        found: torch.device = self.network.device
        return found

    @property
    def dtype(self) -> torch.dtype:
        found: torch.dtype = self.network.dtype
        return found

    @property
    def is_quick(self) -> bool:
        """int8 copies are not made of it."""
        return False


def open_gemma(folder: Path, dtype: torch.dtype, device: torch.device) -> Gemma:
    """The model in `folder` with its sizes and settings.

    Raises:
        LoadingError: as `load_gemma` and `read_gemma`.
    """
    path, settings = folder / "config.json", GemmaSettings.of_folder(folder)
    config = read_gemma(read_object(path), str(path), settings)
    return Gemma(load_gemma(folder, dtype, device), config, settings)


def read_gemma(found: Mapping[str, Any], where: str, settings: UniformNoise) -> LlamaConfig:
    """Its sizes. They say how long and how large a canvas is; transformers reads config.json by itself to compute.

    Raises:
        LoadingError: another model, quantised weights, or a size is missing.
    """
    text = _text_config(found, where)
    noise = UniformNoise(
        settings.steps,
        settings.entropy_bound,
        settings.t_min,
        settings.t_max,
        settings.stable,
        settings.sure,
    )
    heads = text.size("num_attention_heads")
    return LlamaConfig(
        vocab_size=text.size("vocab_size"),
        hidden_size=text.size("hidden_size"),
        intermediate_size=text.size("intermediate_size"),
        layers=text.size("num_hidden_layers"),
        heads=heads,
        kv_heads=text.whole("num_key_value_heads", heads),
        head_dim=text.size("head_dim"),
        max_positions=text.whole("max_position_embeddings", 131072),
        tied=True,
        model_type=MODEL_TYPE,
        denoising=Denoising("block", Fields(found, where).whole("canvas_length", 256), noise=noise),
    )


def load_gemma(
    folder: Path, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Any:
    """The `DiffusionGemmaForBlockDiffusion` in `folder`, in `dtype` on `device`, ready for inference.

    Raises:
        NotInstalled: no transformers, or one that does not know the model, or no accelerate.
        LoadingError: names the file, and the field or the tensor: another model, quantised weights, a file that is
        missing or damaged, tensors that are missing, unknown or of another shape.
    """
    try:
        import accelerate  # noqa: F401 - transformers says so late, and less clearly
        from transformers import DiffusionGemmaConfig, DiffusionGemmaForBlockDiffusion
    except ImportError as error:
        raise NotInstalled(
            f"{folder}: DiffusionGemma is computed by transformers, which is not installed, not whole or too "
            f"old ({error}). Install it: {HOW_TO_INSTALL}"
        ) from error
    path = folder / "config.json"
    found = read_object(path)
    _text_config(found, str(path))
    try:
        with torch.device("meta"):
            empty = DiffusionGemmaForBlockDiffusion(DiffusionGemmaConfig.from_dict(dict(found)))
    except Exception as error:  # whatever their checks of config.json raise
        raise LoadingError(f"{path}: transformers cannot build this model: {error}") from error
    _check_weights(folder, empty)
    try:
        model, report = DiffusionGemmaForBlockDiffusion.from_pretrained(
            folder,
            dtype=dtype,
            device_map={"": torch.device(device)},  # straight to the device; this needs accelerate
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:  # whatever may go wrong in there
        raise LoadingError(
            f"{folder}: cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if missing := sorted(report["missing_keys"]):
        raise LoadingError(
            f"{folder}: {len(missing)} tensors are missing: {', '.join(missing[:3])}"
        )
    return model.eval()


def _text_config(found: Mapping[str, Any], where: str) -> Fields:
    """The sizes of the text model, checked as other families' are."""
    if (kind := found.get("model_type")) != MODEL_TYPE:
        raise LoadingError(f"{where}: model_type {kind!r} is not {MODEL_TYPE!r}")
    check_unquantised(found, where)
    whole = Fields(found, where)
    whole.need("text_config")
    text = whole.part("text_config")
    check_unquantised(text.found, f"{where}: text_config")
    text.need(*_SIZES)
    heads, hidden, head = (
        text.size(name) for name in ("num_attention_heads", "hidden_size", "head_dim")
    )
    for name in ("num_key_value_heads", "num_global_key_value_heads"):
        check_heads(heads, text.whole(name, heads), hidden, head, f"{where}: text_config")
    return text


def _check_weights(folder: Path, empty: Any) -> None:
    """Compare the headers with a model without weights. Encoder, decoder and head share most of theirs, and are
    saved once."""
    empty.tie_weights()
    names: dict[int, list[str]] = {}
    tensors: dict[str, Tensor] = empty.state_dict(keep_vars=True)
    for name, tensor in tensors.items():
        names.setdefault(id(tensor), []).append(name)
    shared = {
        name: min(group, key=lambda one: not one.startswith("model.decoder."))
        for group in names.values()
        for name in group
    }
    check_headers(folder, {name: t.shape for name, t in tensors.items()}, shared=shared)


class GemmaCache:
    """Clean tokens of a batch as the decoder sees them: the cache, and which tokens are no padding [B, T]."""

    def __init__(self, model: Any) -> None:
        from transformers import DynamicCache

        self._model = model
        self.cache = DynamicCache(config=model.config.get_text_config(decoder=True))
        self.real = torch.ones(0, 0, dtype=torch.bool)

    @property
    def length(self) -> int:
        return self.real.shape[1]

    @property
    def device(self) -> torch.device:
        found: torch.device = self._model.device
        return found

    @property
    def kept(self) -> list[int]:
        """How many tokens each layer still sees: layers with a window forget the others."""
        return [layer.keys.shape[-2] for layer in self.cache.layers]

    @torch.inference_mode()
    def encode(self, tokens: Tensor, real: Tensor) -> Tensor:
        """Read clean tokens [B, N]; what the encoder made of them [B, N, hidden]. Positions count padding."""
        start, batch = self.length, len(tokens)
        self.real = real if not start else torch.cat((self.real, real), 1)
        positions = torch.arange(start, self.length, device=tokens.device)[None]
        masks = self._model.model.encoder.create_masks_for_generate(
            config=self._model.config,
            inputs_embeds=torch.empty(
                batch, tokens.shape[1], 0, dtype=self._model.dtype, device=tokens.device
            ),
            attention_mask=self.real,
            past_key_values=self.cache,
            position_ids=positions,
        )
        out = self._model.model.encoder(
            input_ids=tokens,
            attention_mask=masks,
            past_key_values=self.cache,
            position_ids=positions,
        )
        hidden: Tensor = out.last_hidden_state
        return hidden

    @torch.inference_mode()
    def denoise(self, canvas: Tensor, said: Tensor | None) -> Tensor:
        """Logits [B, N, V] float32 of a canvas behind the clean tokens. `said` [B, N, V] conditions on them."""
        batch, length = canvas.shape
        beside = torch.ones(batch, length, dtype=torch.bool, device=canvas.device)
        out = self._model(
            decoder_input_ids=canvas,
            self_conditioning_logits=None if said is None else said.to(self._model.dtype),
            decoder_attention_mask=torch.cat((self.real, beside), 1),
            decoder_position_ids=torch.arange(
                self.length, self.length + length, device=canvas.device
            )[None],
            past_key_values=self.cache,
        )
        logits: Tensor = out.logits
        return logits
