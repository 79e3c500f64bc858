"""Recorded runs of SDAR and LLaDA 2, whose blocks see what is before them."""

from __future__ import annotations

import torch
from torch import Tensor

from carrara.engines.diffusion.measure import filtered
from carrara.engines.diffusion.propose import Proposer
from carrara.engines.diffusion.samplers import llada2, sdar
from carrara.engines.goldens.folder import Case
from carrara.engines.goldens.record import Record
from carrara.engines.goldens.runs import Algorithm, Facts, algorithm, only_prompt
from carrara.engines.model.llama import Llama


def _sdar(model: Llama, case: Case, facts: Facts, record: Record) -> tuple[Tensor, Tensor]:
    params = case.params
    settings = {}
    if (threshold := params.get("confidence_threshold")) is not None:
        settings["threshold"] = threshold
    rows = sdar.generate(
        model,
        only_prompt(case),
        mask_id=facts["mask_token_id"],
        new=params["gen_length"],
        block=params["block_length"],
        steps=params["denoising_steps"],
        order=params["remasking_strategy"],
        stop_ids=params.get("stopping_criteria_idx") or (),
        proposer=Proposer(
            narrowed=lambda logits: filtered(
                logits / params["temperature"], params.get("top_k"), params.get("top_p")
            )
        ),
        trace=record,
        **settings,
    )
    return rows, rows


def _llada2(model: Llama, case: Case, facts: Facts, record: Record) -> tuple[Tensor, Tensor]:
    params, prompt = case.params, only_prompt(case)
    new, block = params["gen_length"], params["block_length"]
    written = llada2.generate(
        model,
        prompt,
        mask_id=facts["mask_token_id"],
        eos_id=facts["eos_token_id"],
        new=new,
        block=block,
        steps=params["steps"],
        threshold=params["threshold"],
        least_a_step=params["minimal_topk"],
        stops_early=params["eos_early_stop"],
        looks_at_prompt=True,
        trace=record,
    )
    return torch.tensor([written.answer], dtype=torch.int64), written.canvas


def _llada2_sampler(
    model: Llama, case: Case, facts: Facts, record: Record
) -> tuple[Tensor, Tensor]:
    params = case.params
    rows = llada2.sample(
        model,
        case.prompts,
        mask_id=facts["mask_token_id"],
        new=params["max_new_tokens"],
        block=params["block_size"],
        steps=params["steps_per_block"],
        least_a_step=params.get("minimal_topk", 1),
        threshold=params["threshold"],
        trace=record,
    )
    return rows, rows


def _llada21(model: Llama, case: Case, facts: Facts, record: Record) -> tuple[Tensor, Tensor]:
    params = case.params
    written = llada2.edit(
        model,
        only_prompt(case),
        mask_id=facts["mask_token_id"],
        eos_id=facts["eos_token_id"],
        new=params.get("gen_length") or params["max_new_tokens"],
        block=params.get("block_length") or params["block_size"],
        threshold=params["threshold"],
        editing_threshold=params["editing_threshold"],
        most_more=params["max_post_steps"],
        least=params["num_to_transfer"],
        stops_early=params["eos_early_stop"],
        trace=record,
    )
    if case.facts["algorithm"] == "llada21_sampler":  # gives the whole row
        return written.canvas, written.canvas
    return torch.tensor([written.answer], dtype=torch.int64), written.canvas


_SDAR = algorithm(
    _sdar,
    "gen_length block_length denoising_steps remasking_strategy confidence_threshold? "
    "stopping_criteria_idx? temperature top_k? top_p? greedy?",
)
_LLADA2 = "temperature threshold minimal_topk eos_early_stop"
_LLADA21 = algorithm(
    _llada21,
    "temperature threshold editing_threshold max_post_steps num_to_transfer eos_early_stop "
    "gen_length? max_new_tokens block_length? block_size",
)

ALGORITHMS: dict[str, Algorithm] = {
    **{f"sdar_low_confidence_{kind}": _SDAR for kind in ("static", "dynamic")},
    "sdar_sequential": _SDAR,
    "llada2_generate": algorithm(_llada2, f"{_LLADA2} gen_length block_length steps"),
    "llada2_sampler": algorithm(
        _llada2_sampler, f"{_LLADA2} max_new_tokens block_size steps_per_block"
    ),
    "llada21_generate": _LLADA21,
    "llada21_sampler": _LLADA21,
}
