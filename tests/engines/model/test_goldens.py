"""The model computes what the public reference implementations compute."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from carrara.engines.model.attention import block_causal, causal, causal_with_padding, full
from carrara.engines.model.kv import KVCache

Goldens = Callable[[str], Any]


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-4)


def indexes(tokens: Tensor) -> Tensor:
    return torch.arange(tokens.shape[1]).expand_as(tokens)


@pytest.mark.parametrize("case", ["fwd_0", "fwd_1"])
@pytest.mark.parametrize("how", ["no mask", "mask", "cache", "cache and mask"])
def test_a_causal_pass_gives_the_reference_logits(golden: Goldens, case: str, how: str) -> None:
    ar = golden("ar_llama")
    tokens = ar.array(case, "input_ids")
    positions = indexes(tokens)
    mask = causal(positions, tokens.shape[1]) if "mask" in how and how != "no mask" else None
    cache = KVCache(ar.model.config, 2, 64) if "cache" in how else None
    close(ar.model(tokens, positions, mask, cache), ar.array(case, "logits"))


def test_left_padding_changes_no_logits(golden: Goldens) -> None:
    ar = golden("ar_llama")
    valid = ar.array("fwd_leftpad", "attention_mask").bool()
    logits = ar.model(
        ar.array("fwd_leftpad", "input_ids"),
        ar.array("fwd_leftpad", "position_ids"),
        causal_with_padding(valid),
    )
    close(logits[valid], ar.array("fwd_leftpad", "logits")[valid])


@pytest.mark.parametrize("keep", [True, False])
def test_a_cached_prefix_is_as_good_as_the_whole_row(golden: Goldens, keep: bool) -> None:
    ar = golden("ar_llama")
    tokens = ar.array("fwd_cached", "input_ids")
    split, positions = ar.cases["fwd_cached"]["split_at"], indexes(tokens)
    cache = KVCache(ar.model.config, 1, 32)
    first = ar.model(tokens[:, :split], positions[:, :split], None, cache)
    mask = causal(positions[:, split:], tokens.shape[1])
    rest = ar.model(tokens[:, split:], positions[:, split:], mask, cache, keep=keep)
    close(first, ar.array("fwd_cached", "logits_prefill"))
    close(rest, ar.array("fwd_cached", "logits_rest"))


@pytest.mark.parametrize("case", ["single", "eos", "batch_leftpad", "batch_eos", "long"])
@pytest.mark.parametrize("quick", [False, True])
def test_greedy_decoding_in_one_ragged_batch_gives_the_reference_tokens(
    golden: Goldens, case: str, quick: bool
) -> None:
    """Rows begin at their own positions here and are not padded; the reference pads on the left."""
    ar = golden("ar_llama")
    found = ar.cases[case]
    prompts = found["inputs"]["prompts"]
    wanted = ar.array(case, "sequences")[:, max(map(len, prompts)) :]
    sequences, logits = greedy(ar.model, prompts, found["params"]["max_new_tokens"], quick)
    assert sequences == wanted.tolist()
    assert len(logits) == found["forward_passes"]
    if "logits" in found["arrays"]:
        close(torch.stack(logits, dim=1), ar.array(case, "logits"))


def greedy(model: Any, prompts: list[list[int]], most: int, quick: bool) -> tuple[Any, Any]:
    """Tokens and the logits they were chosen from, rows at their own lengths; 2 ends a row and pads it.

    `quick` without int8 weights is the same computation, one position at a time.
    """
    cache = KVCache(model.config, len(prompts), max(map(len, prompts)) + most)
    width = max(map(len, prompts))
    tokens = torch.tensor([prompt + [0] * (width - len(prompt)) for prompt in prompts])
    starts = torch.zeros(len(prompts), 1, dtype=torch.int64)
    pick = torch.tensor([[len(prompt) - 1] for prompt in prompts])
    done = [False] * len(prompts)
    rows: list[list[int]] = [[] for _ in prompts]
    logits = []
    lengths = torch.tensor([[len(prompt)] for prompt in prompts])
    while not all(done) and len(logits) < most:
        positions = starts + torch.arange(tokens.shape[1])
        found = model(tokens, positions, None, cache, pick=pick, quick=quick)[:, 0]
        logits.append(found)
        chosen = found.argmax(-1).tolist()
        for row, token in enumerate(chosen):
            rows[row].append(2 if done[row] else token)
            done[row] = done[row] or token == 2
        tokens, starts, pick = (
            torch.tensor(chosen)[:, None],
            lengths.clone(),
            torch.zeros_like(pick),
        )
        lengths += 1
    return rows, logits


@pytest.mark.parametrize("case", ["fwd_0", "fwd_1"])
def test_full_attention_gives_the_reference_logits(golden: Goldens, case: str) -> None:
    a2d = golden("a2d_llama")
    tokens = a2d.array(case, "input_ids")
    batch, size = tokens.shape
    mask = full(torch.full((batch,), size), size, size)
    close(a2d.model(tokens, indexes(tokens), mask), a2d.array(case, "logits"))


def test_full_attention_does_not_see_padding_on_the_right(golden: Goldens) -> None:
    a2d = golden("a2d_llama")
    tokens = a2d.array("fwd_rightpad_0", "input_ids")
    valid = a2d.array("fwd_rightpad_0", "attention_mask").bool()
    mask = full(valid.sum(1), tokens.shape[1], tokens.shape[1])
    logits = a2d.model(tokens, indexes(tokens), mask)
    close(logits[valid], a2d.array("fwd_rightpad_0", "logits")[valid])


def test_block_causal_attention_gives_the_reference_logits(golden: Goldens) -> None:
    a2d = golden("a2d_llama")
    tokens = a2d.array("fwd_blockcausal_0", "input_ids")
    positions = a2d.array("fwd_blockcausal_0", "position_ids")
    attend = a2d.array("fwd_blockcausal_0", "attend").bool()
    real = attend.any(-1)
    seen = attend | torch.eye(tokens.shape[1], dtype=torch.bool)
    logits = a2d.model(tokens, positions, seen[:, None])
    close(logits[real], a2d.array("fwd_blockcausal_0", "logits")[real])


@pytest.mark.parametrize("row", [0, 1])
def test_the_block_causal_builder_needs_no_padding_for_the_same_logits(
    golden: Goldens, row: int
) -> None:
    """The reference pads on the left up to whole blocks; here the padding is left out and blocks begin earlier."""
    a2d = golden("a2d_llama")
    block = a2d.cases["fwd_blockcausal_0"]["block_size"]
    real = a2d.array("fwd_blockcausal_0", "attend")[row].bool().any(-1)
    padding = int((~real).sum())
    tokens = a2d.array("fwd_blockcausal_0", "input_ids")[row : row + 1, padding:]
    mask = block_causal(indexes(tokens), tokens.shape[1], block, start=-padding)
    logits = a2d.model(tokens, indexes(tokens), mask)
    close(logits[0], a2d.array("fwd_blockcausal_0", "logits")[row, padding:])
