"""Decoding cases: each recorded algorithm is one of our samplers with the recorded settings."""

from __future__ import annotations

import torch

from carrara.engines.goldens import decode_adapted, decode_blocks, decode_full
from carrara.engines.goldens.causal import greedy
from carrara.engines.goldens.compare import close, same
from carrara.engines.goldens.folder import Case, Malformed, Skip
from carrara.engines.goldens.params import Params
from carrara.engines.goldens.record import Record
from carrara.engines.goldens.runs import Algorithm, Facts
from carrara.engines.model.llama import Llama

_GREEDY = "ar_greedy"
_GREEDY_PARAMS = Params.of("max_new_tokens do_sample? temperature?")
_ALGORITHMS: dict[str, Algorithm] = {
    **decode_full.ALGORITHMS,
    **decode_adapted.ALGORITHMS,
    **decode_blocks.ALGORITHMS,
}


def check_decode(model: Llama, case: Case, facts: Facts) -> None:
    """Run one decoding case. `facts` are the ids that stand at the top of cases.json.

    Raises:
        Differs: a pass or the result is not as recorded.
        Skip: it draws numbers that were not recorded.
        Malformed: an algorithm or a parameter that is not known, or one that it needs is missing, or is nothing
            that it can be.
    """
    name = case.facts["algorithm"]
    algorithm = _ALGORITHMS.get(name)
    if algorithm is None and name != _GREEDY:
        raise Malformed(f"{case.where}: algorithm {name!r} is not known")
    case.check_values()
    _check_greedy(case)
    case.check_params(_GREEDY_PARAMS if algorithm is None else algorithm.params)
    case.check_tokens(model.config.vocab_size)
    if algorithm is None:
        _check_causal(model, case, facts)
        return
    record = Record()
    sequences, end = algorithm.run(model, case, facts, record)
    record.check(case, end)
    same(sequences, case.arrays["sequences"], "sequences")


def _check_causal(model: Llama, case: Case, facts: Facts) -> None:
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
