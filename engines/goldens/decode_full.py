"""Recorded runs of LLaDA and Dream, which attend to everything."""

from __future__ import annotations

import torch
from torch import Tensor

from carrara.engines.diffusion.measure import filtered
from carrara.engines.diffusion.propose import Proposer
from carrara.engines.diffusion.samplers import dream, llada
from carrara.engines.goldens.folder import Case
from carrara.engines.goldens.record import Record
from carrara.engines.goldens.runs import Algorithm, Facts, algorithm, only_prompt
from carrara.engines.model.llama import Llama


def _llada_generate(
    model: Llama, case: Case, facts: Facts, record: Record
) -> tuple[Tensor, Tensor]:
    params = case.params
    rows = llada.generate(
        model,
        case.prompts,
        mask_id=facts["mask_token_id"],
        pad_id=facts["pad_token_id"],
        new=params["gen_length"],
        block=params["block_length"],
        steps=params["steps"],
        guidance=params.get("cfg_scale") or 0.0,
        trace=record,
    )
    return rows, rows


def _fast_llada(model: Llama, case: Case, facts: Facts, record: Record) -> tuple[Tensor, Tensor]:
    params = case.params
    rows = llada.fast(
        model,
        case.prompts,
        mask_id=facts["mask_token_id"],
        new=params["gen_length"],
        block=params["block_length"],
        steps=params["steps"],
        cache=case.facts["algorithm"].removeprefix("fastdllm_"),
        threshold=params.get("threshold"),
        trace=record,
    )
    return rows, rows


def _dream(model: Llama, case: Case, facts: Facts, record: Record) -> tuple[Tensor, Tensor]:
    params, draws = case.params, iter(case.facts.get("rand_draws", ()))
    if params["alg"] == "confidence_threshold":
        rows = dream.carried_threshold(
            model,
            only_prompt(case),
            mask_id=facts["mask_token_id"],
            new=params["max_new_tokens"],
            steps=params["steps"],
            threshold=params["threshold"],
            proposer=_dream_proposer("maskgit_plus", params),
            trace=record,
        )
        return rows, rows
    rows = dream.generate(
        model,
        case.prompts,
        mask_id=facts["mask_token_id"],
        pad_id=facts["pad_token_id"],
        new=params["max_new_tokens"],
        steps=params["steps"],
        order=params["alg"],
        eps=params["eps"],
        proposer=_dream_proposer(params["alg"], params),
        draw=lambda count: torch.tensor(next(draws)),
        trace=record,
    )
    return rows, rows


def _dream_blocks(model: Llama, case: Case, facts: Facts, record: Record) -> tuple[Tensor, Tensor]:
    params = case.params
    by_threshold = params["alg"] == "confidence_threshold"
    rows = dream.blocks(
        model,
        case.prompts,
        mask_id=facts["mask_token_id"],
        new=params["max_new_tokens"],
        block=params["block_length"],
        steps=params["steps"],
        cache="dual" if params["dual_cache"] else "prefix",
        threshold=params["threshold"] if by_threshold else None,
        eps=params["eps"],
        trace=record,
    )
    return rows, rows


def _dream_proposer(order: dream.Order, params: Facts) -> Proposer:
    def narrowed(logits: Tensor) -> Tensor:
        return filtered(filtered(logits, top_p=params.get("top_p")), params.get("top_k"))

    return Proposer(dream.MEASURES[order], shifted=True, narrowed=narrowed)


_LLADA = "steps gen_length block_length temperature remasking"
_DREAM = "max_new_tokens steps alg alg_temp? eps temperature top_p? top_k?"

ALGORITHMS: dict[str, Algorithm] = {
    "llada_generate": algorithm(_llada_generate, f"{_LLADA} cfg_scale?"),
    **dict.fromkeys(
        (f"fastdllm_{cache}" for cache in ("none", "prefix", "dual")),
        algorithm(_fast_llada, f"{_LLADA} threshold?"),
    ),
    **dict.fromkeys(
        (f"dream_{order}" for order in dream.MEASURES), algorithm(_dream, f"{_DREAM} threshold?")
    ),
    "dream_confidence_threshold": algorithm(_dream, f"{_DREAM} threshold"),
    **dict.fromkeys(
        (f"fastdllm_block_{cache}" for cache in ("prefix", "dual")),
        algorithm(_dream_blocks, f"{_DREAM} threshold? block_length dual_cache"),
    ),
}
