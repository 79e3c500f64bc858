"""Recorded runs of dllm's samplers: adapted models, and LLaDA by its port of Fast-dLLM."""

from __future__ import annotations

from torch import Tensor

from carrara.engines.diffusion import commit
from carrara.engines.diffusion.propose import Proposer
from carrara.engines.diffusion.samplers import adapted
from carrara.engines.goldens.folder import Case
from carrara.engines.goldens.record import Record
from carrara.engines.goldens.runs import Algorithm, Facts, algorithm
from carrara.engines.model.llama import Llama


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


def _proposer(params: Facts) -> Proposer:
    return Proposer(
        shifted=bool(params.get("right_shift_logits")),
        suppressed=params.get("suppress_tokens") or (),
        begin_suppressed=params.get("begin_suppress_tokens") or (),
    )


def _guide(params: Facts) -> adapted.Guide:
    return adapted.Guide(params.get("cfg_scale") or 0.0, params.get("cfg_keep_tokens") or ())


_GUIDED = (
    "steps block_size temperature remasking cfg_scale? cfg_keep_tokens? right_shift_logits? "
    "suppress_tokens? begin_suppress_tokens?"
)
_MASKED = "max_new_tokens threshold? factor? use_cache?"

ALGORITHMS: dict[str, Algorithm] = {
    **dict.fromkeys(
        (f"dllm_fastdllm_{rule}" for rule in ("threshold", "factor", "quota")),
        algorithm(_masked_diffusion, f"{_GUIDED} {_MASKED}"),
    ),
    "mdlm_sample": algorithm(_masked_diffusion, f"{_GUIDED} {_MASKED}"),
    "mdlm_infill": algorithm(_infill, _GUIDED),
    "bd3lm_sample": algorithm(_block_diffusion, f"{_GUIDED} max_new_tokens steps_per_block?"),
}
