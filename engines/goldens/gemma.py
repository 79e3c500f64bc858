"""Golden cases of DiffusionGemma: recorded noise is played back to our loop over transformers' model.

Legend: P passes, B rows, N positions of the canvas.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from carrara.engines.diffusion.gemma import GemmaPass, generate
from carrara.engines.goldens.compare import close, same
from carrara.engines.goldens.folder import Case, Folder, Malformed, Skip
from carrara.engines.goldens.params import Params
from carrara.engines.model.gemma import GemmaCache, GemmaSettings, NotInstalled, load_gemma

Check = Callable[[Case], None]

_PARAMS = Params.of(
    "max_denoising_steps entropy_bound t_min t_max stability_threshold confidence_threshold max_new_tokens greedy?"
)


def gemma_checks(folder: Folder) -> tuple[Check, Check]:
    """How forward and decoding cases are checked; without transformers both skip, and say how to install it."""
    try:
        model = load_gemma(folder.path)
    except NotInstalled as error:
        reason = str(error)

        def skip(case: Case) -> None:
            raise Skip(reason)

        return skip, skip
    return (
        lambda case: _check_forward(model, case),
        lambda case: _check_decode(model, case, folder),
    )


def _check_forward(model: Any, case: Case) -> None:
    case.check_tokens(model.config.text_config.vocab_size)
    real = case.arrays["attention_mask"].bool()
    cache = GemmaCache(model)
    hidden = cache.encode(case.arrays["input_ids"], real)
    close(hidden, case.arrays["encoder_hidden"], "encoder_hidden", real)
    same(cache.kept, case.facts["kv_kept_per_layer"], "kv_kept_per_layer")
    canvas, said = case.arrays["canvas"], case.arrays["self_conditioning_logits"]
    close(cache.denoise(canvas, None), case.arrays["logits_no_selfcond"], "logits_no_selfcond")
    close(cache.denoise(canvas, said), case.arrays["logits_selfcond"], "logits_selfcond")


def _check_decode(model: Any, case: Case, folder: Folder) -> None:
    if case.facts["algorithm"] != "diffusion_gemma_generate":
        raise Malformed(f"{case.where}: algorithm {case.facts['algorithm']!r} is not known")
    case.check_params(_PARAMS)
    case.check_tokens(model.config.text_config.vocab_size)
    params, eos = case.params, folder.facts["eos_token_id"]
    settings = GemmaSettings(
        params["max_denoising_steps"],
        params["entropy_bound"],
        params["t_min"],
        params["t_max"],
        params["stability_threshold"],
        params["confidence_threshold"],
        folder.facts["pad_token_id"],
        tuple(eos) if isinstance(eos, list) else (eos,),
    )
    noise = Played(case, bool(params.get("greedy")))
    passes: list[GemmaPass] = []
    written = generate(
        model, case.prompts, params["max_new_tokens"], settings, noise, passes.append
    )
    _check_passes(passes, case)
    same(written.encoded, case.facts["encoder_passes"], "encoder_passes")
    same(written.tokens, case.arrays["sequences"], "sequences")
    new = written.tokens[:, max(map(len, case.prompts)) :]
    rate = (new != settings.pad_id).sum(1) / written.passes
    close(rate, torch.tensor(case.facts["tokens_per_forward"]), "tokens_per_forward")


def _check_passes(passes: list[GemmaPass], case: Case) -> None:
    same(len(passes), case.facts["decoder_passes"], "decoder_passes")
    same([p.start for p in passes], case.facts["canvas_start_position"], "canvas_start_position")
    same([int(p.before.logits is not None) for p in passes], case.facts["selfcond"], "selfcond")
    found = {
        "canvas_in": [p.before.tokens for p in passes],
        "denoiser": [p.said.drawn for p in passes],
        "argmax": [p.said.best for p in passes],
        "accepted": [p.accepted.long() for p in passes],
        "finished": [p.finished.long() for p in passes],
    }
    for name, values in found.items():
        same(torch.stack(values), case.arrays[name], f"{name} [pass, row, position]")
    # A finished row stays as it is, but the recorded canvas_out shows what the pass computed for it.
    out = [
        torch.where(p.accepted, p.said.drawn, random)
        for p, random in zip(passes, case.arrays["random"], strict=True)
    ]
    same(torch.stack(out), case.arrays["canvas_out"], "canvas_out [pass, row, position]")
    close(torch.stack([p.said.entropy for p in passes]), case.arrays["entropy"], "entropy")
    if "logits" in case.arrays:
        close(torch.stack([p.raw for p in passes]), case.arrays["logits"], "logits")


@dataclass(slots=True)
class Played:
    """Recorded noise, in the recorded order."""

    case: Case
    greedy: bool
    _canvases: int = field(init=False, default=0)
    _draws: int = field(init=False, default=0)
    _noises: int = field(init=False, default=0)

    def canvas(self) -> Tensor:
        self._canvases += 1
        return self.case.arrays["initial_canvases"][self._canvases - 1]

    def renoise(self) -> Tensor:
        self._noises += 1
        return self.case.arrays["random"][self._noises - 1]

    def draw(self, shares: Tensor) -> Tensor:
        self._draws += 1
        return shares.argmax(-1) if self.greedy else self.case.arrays["denoiser"][self._draws - 1]
