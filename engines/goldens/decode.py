"""Decoding cases: each recorded algorithm is one of our samplers with the recorded settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from carrara.engines.diffusion import commit
from carrara.engines.diffusion.measure import filtered
from carrara.engines.diffusion.propose import Proposer
from carrara.engines.diffusion.samplers import adapted, dream, llada, llada2, sdar
from carrara.engines.goldens.causal import greedy
from carrara.engines.goldens.compare import close, same
from carrara.engines.goldens.folder import Case, Skip
from carrara.engines.goldens.record import Record
from carrara.engines.model.llama import Llama

Facts = Mapping[str, Any]


def check_decode(model: Llama, case: Case, facts: Facts) -> None:
    """Run one decoding case. `facts` are the ids that stand at the top of cases.json.

    Raises:
        Differs: a pass or the result is not as recorded.
        Skip: an algorithm or a setting that is not known, or draws numbers that were not recorded.
    """
    algorithm = case.facts["algorithm"]
    run = _RUNS.get(algorithm)
    if run is None:
        raise Skip(f"algorithm {algorithm!r} is not known")
    _check_greedy(case)
    if run is _ar_greedy:
        _ar_greedy(model, case, facts, Record())
        return
    record = Record()
    sequences, end = run(model, case, facts, record)
    record.check(case, end)
    same(sequences, case.arrays["sequences"], "sequences")


Run = Callable[[Llama, Case, Facts, Record], tuple[Tensor, Tensor]]
"""Runs a case; gives what the reference function returns, and the canvas afterwards [B, T]."""


def _ar_greedy(model: Llama, case: Case, facts: Facts, record: Record) -> tuple[Tensor, Tensor]:
    prompts, eos = case.prompts, facts["eos_token_id"]
    ends = eos if isinstance(eos, list) else [eos]
    found, logits = greedy(
        model, prompts, case.params["max_new_tokens"], ends, facts["pad_token_id"]
    )
    width = max(map(len, prompts))
    left = [[facts["pad_token_id"]] * (width - len(prompt)) + prompt for prompt in prompts]
    same(found.shape[1], case.facts["forward_passes"], "forward passes")
    sequences = torch.cat((torch.tensor(left), found), 1)
    same(sequences, case.arrays["sequences"], "sequences")
    if "logits" in case.arrays:
        close(logits, case.arrays["logits"], "logits")
    return sequences, sequences


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


def _masked_diffusion(
    model: Llama, case: Case, facts: Facts, record: Record
) -> tuple[Tensor, Tensor]:
    params = case.params
    rule = None
    if (threshold := params.get("threshold")) is not None:
        rule = commit.confidence_threshold(threshold)
    elif (by := params.get("factor")) is not None:
        rule = commit.factor(by)
    rows = adapted.masked_diffusion(
        model,
        case.prompts,
        mask_id=facts["mask_token_id"],
        pad_id=facts["eos_token_id"],
        new=params["max_new_tokens"],
        block=params["block_size"],
        steps=params["steps"],
        proposer=_proposer(params),
        guide=_guide(params),
        cache=params.get("use_cache") or "none",
        rule=rule,
        trace=record,
    )
    return rows, rows


def _infill(model: Llama, case: Case, facts: Facts, record: Record) -> tuple[Tensor, Tensor]:
    params = case.params
    rows = adapted.infill(
        model,
        case.prompts,
        mask_id=facts["mask_token_id"],
        pad_id=facts["eos_token_id"],
        block=params["block_size"],
        steps=params["steps"],
        proposer=_proposer(params),
        guide=_guide(params),
        trace=record,
    )
    return rows, rows


def _block_diffusion(
    model: Llama, case: Case, facts: Facts, record: Record
) -> tuple[Tensor, Tensor]:
    params = case.params
    blocks = -(-params["max_new_tokens"] // params["block_size"])
    rows = adapted.block_diffusion(
        model,
        case.prompts,
        mask_id=facts["mask_token_id"],
        pad_id=facts["pad_token_id"],
        eos_id=facts["eos_token_id"],
        new=params["max_new_tokens"],
        block=params["block_size"],
        steps_a_block=params.get("steps_per_block") or -(-params["steps"] // blocks),
        hides_written_pads=True,
        proposer=_proposer(params),
        guide=_guide(params),
        trace=record,
    )
    return rows, rows


def _dream(model: Llama, case: Case, facts: Facts, record: Record) -> tuple[Tensor, Tensor]:
    params, draws = case.params, iter(case.facts.get("rand_draws", ()))
    if params["alg"] == "confidence_threshold":
        rows = dream.carried_threshold(
            model,
            _only(case),
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


def _sdar(model: Llama, case: Case, facts: Facts, record: Record) -> tuple[Tensor, Tensor]:
    params = case.params
    settings = {}
    if (threshold := params.get("confidence_threshold")) is not None:
        settings["threshold"] = threshold
    rows = sdar.generate(
        model,
        _only(case),
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
    params, prompt = case.params, _only(case)
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
        _only(case),
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


_RUNS: dict[str, Run] = {
    "ar_greedy": _ar_greedy,
    "llada_generate": _llada_generate,
    **{f"fastdllm_{cache}": _fast_llada for cache in ("none", "prefix", "dual")},
    **{f"dllm_fastdllm_{rule}": _masked_diffusion for rule in ("threshold", "factor", "quota")},
    "mdlm_sample": _masked_diffusion,
    "mdlm_infill": _infill,
    "bd3lm_sample": _block_diffusion,
    **{f"dream_{order}": _dream for order in (*dream.MEASURES, "confidence_threshold")},
    "fastdllm_block_prefix": _dream_blocks,
    "fastdllm_block_dual": _dream_blocks,
    **{f"sdar_low_confidence_{kind}": _sdar for kind in ("static", "dynamic")},
    "sdar_sequential": _sdar,
    "llada2_generate": _llada2,
    "llada2_sampler": _llada2_sampler,
    "llada21_generate": _llada21,
    "llada21_sampler": _llada21,
}


def _only(case: Case) -> list[int]:
    if len(case.prompts) != 1:
        raise Skip(
            f"{case.facts['algorithm']} is defined for one row, the case has {len(case.prompts)}"
        )
    return case.prompts[0]


def _proposer(params: Facts) -> Proposer:
    return Proposer(
        shifted=bool(params.get("right_shift_logits")),
        suppressed=params.get("suppress_tokens") or (),
        begin_suppressed=params.get("begin_suppress_tokens") or (),
    )


def _dream_proposer(order: dream.Order, params: Facts) -> Proposer:
    def narrowed(logits: Tensor) -> Tensor:
        return filtered(filtered(logits, top_p=params.get("top_p")), params.get("top_k"))

    return Proposer(dream.MEASURES[order], shifted=True, narrowed=narrowed)


def _guide(params: Facts) -> adapted.Guide:
    return adapted.Guide(params.get("cfg_scale") or 0.0, params.get("cfg_keep_tokens") or ())


def _check_greedy(case: Case) -> None:
    """What draws numbers that were not recorded cannot be repeated."""
    params = case.params
    drawn = [
        f"{name} {params[name]!r}"
        for name, plain in (
            ("remasking", "low_confidence"),
            ("alg_temp", None),
            ("do_sample", False),
        )
        if name in params and params[name] not in (plain, None, 0)
    ]
    greedy_at = params.get("greedy") or params.get("top_k") == 1
    if params.get("temperature") and not greedy_at:
        drawn.append(f"temperature {params['temperature']!r}")
    if drawn:
        raise Skip(f"{' and '.join(drawn)} draws numbers that were not recorded")
