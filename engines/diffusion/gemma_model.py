"""DiffusionGemma as transformers computes it: loading, and the two kinds of passes.

The model is an encoder that reads clean tokens causally into a cache and a decoder that sees that cache and
the whole canvas; both share their weights. transformers is the extra `gemma`; it is imported when a model is
loaded. `gemma` decodes.

Legend: B rows, N positions of the canvas, T clean tokens, V vocabulary.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carrara.engines.errors import LoadingError

HOW_TO_INSTALL = "pip install 'carrara[gemma]'"


class NotInstalled(LoadingError):
    """transformers, or one that knows DiffusionGemma, is not installed; the text says how to get it."""


def load_gemma(
    folder: Path, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Any:
    """The `DiffusionGemmaForBlockDiffusion` in `folder`, in `dtype` on `device`, ready for inference.

    Raises:
        NotInstalled: no transformers, or one that does not know the model, or no accelerate.
        LoadingError: a file is missing or damaged, or tensors are missing or of another shape.
    """
    try:
        import accelerate  # noqa: F401 - transformers says so late, and less clearly
        from transformers import DiffusionGemmaForBlockDiffusion
    except ImportError as error:
        raise NotInstalled(
            f"{folder}: DiffusionGemma is computed by transformers, which is not installed, not whole or too "
            f"old ({error}). Install it: {HOW_TO_INSTALL}"
        ) from error
    try:
        model, report = DiffusionGemmaForBlockDiffusion.from_pretrained(
            folder,
            dtype=dtype,
            device_map={"": torch.device(device)},  # straight to the device; this needs accelerate
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise LoadingError(f"{folder}: cannot be loaded: {error}") from error
    if missing := sorted(report["missing_keys"]):
        raise LoadingError(
            f"{folder}: {len(missing)} tensors are missing: {', '.join(missing[:3])}"
        )
    return model.eval()


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
