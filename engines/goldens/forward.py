"""Forward cases: single passes under the family's attention, with padding, caches and expert choices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from carrara.engines.diffusion.passes import block_sight, full_sight
from carrara.engines.goldens.compare import close, same
from carrara.engines.goldens.folder import Case, Malformed
from carrara.engines.model.attention import causal, causal_with_padding
from carrara.engines.model.experts import Router
from carrara.engines.model.kv import KVCache
from carrara.engines.model.llama import Llama


def check_forward(model: Llama, case: Case) -> None:
    """Run one forward case.

    Raises:
        Differs: logits or expert choices are not as recorded.
        Malformed: the case is of a kind that is not known, or lacks something.
    """
    case.check_tokens(model.config.vocab_size)
    if "split_at" in case.facts:
        _cached_prefix(model, case)
    elif "logits_dual_block" in case.arrays:
        _cached_block(model, case)
    elif "logits" in case.arrays:
        _plain(model, case)
    else:
        raise Malformed(
            f"{case.where}: a forward case with the arrays {', '.join(case.arrays)} is not known"
        )


def _plain(model: Llama, case: Case) -> None:
    tokens = case.arrays["input_ids"]
    columns = torch.arange(tokens.shape[1]).expand_as(tokens)
    positions = case.arrays.get("position_ids", columns)
    mask, real = _mask(model, case, tokens)
    with _routes(model) as routes:
        logits = model(tokens, positions, mask)
    close(logits, case.arrays["logits"], "logits", real)
    for number, (chosen, raw) in enumerate(routes):
        if (wanted := case.arrays.get(f"router_logits_{number}")) is not None:
            close(raw.view(wanted.shape), wanted, f"router_logits_{number}")
            picked = case.arrays[f"router_topk_{number}"]
            same(
                chosen.view(picked.shape).sort().values,
                picked.sort().values,
                f"router_topk_{number}",
            )


def _mask(model: Llama, case: Case, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The mask [B, 1, T, T], and which positions count."""
    if "attend" in case.arrays:
        seen = case.arrays["attend"].bool()
        own = torch.eye(tokens.shape[1], dtype=torch.bool)
        return (seen | own)[:, None], seen.any(-1)
    padding = case.arrays.get("attention_mask")
    real = torch.ones_like(tokens, dtype=torch.bool) if padding is None else padding.bool()
    if model.config.denoising is None:
        return causal_with_padding(real), real
    block = case.facts.get("block_length") or case.facts.get("block_size")
    sight = block_sight(real, block) if block else full_sight(real)
    return sight.seen[:, None], real


def _cached_prefix(model: Llama, case: Case) -> None:
    """A causal prefill, then the rest in one cached pass."""
    tokens, split = case.arrays["input_ids"], case.facts["split_at"]
    positions = torch.arange(tokens.shape[1]).expand_as(tokens)
    cache = KVCache(model.config, len(tokens), tokens.shape[1])
    first = model(tokens[:, :split], positions[:, :split], None, cache)
    mask = causal(positions[:, split:], tokens.shape[1])
    rest = model(tokens[:, split:], positions[:, split:], mask, cache)
    close(first, case.arrays["logits_prefill"], "logits_prefill")
    close(rest, case.arrays["logits_rest"], "logits_rest")


def _cached_block(model: Llama, case: Case) -> None:
    """A pass that fills the cache, then the edited block alone, and block and suffix behind the prefix."""
    tokens, edited = case.arrays["input_ids"], case.arrays["input_ids_edited"]
    start, stop = case.facts["block"]
    size = tokens.shape[1]
    sight = full_sight(torch.ones_like(tokens, dtype=torch.bool))

    def fed(batch: Tensor, first: int, last: int, cache: KVCache) -> Tensor:
        places, mask = sight.positions[:, first:last], sight.seen[:, None, first:last]
        logits: Tensor = model(batch[:, first:last], places, mask, cache)
        return logits

    for name, last in (("logits_dual_block", stop), ("logits_prefix_suffix", size)):
        cache = KVCache(model.config, len(tokens), size)
        close(fed(tokens, 0, size, cache), case.arrays["logits_full"], "logits_full")
        close(fed(edited, start, last, cache), case.arrays[name], name)


@contextmanager
def _routes(model: Llama) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """The choices and raw logits of each router in the order of the layers."""
    found: list[tuple[Tensor, Tensor]] = []

    def keep(module: Any, inputs: Any, output: tuple[Tensor, Tensor, Tensor]) -> None:
        found.append((output[0], output[2]))

    hooks = [m.register_forward_hook(keep) for m in model.modules() if isinstance(m, Router)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
