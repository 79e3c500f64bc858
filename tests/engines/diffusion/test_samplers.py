"""Samplers hold to what their caches and limits promise, beyond the recorded runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.engines.diffusion.passes import Pass
from carrara.engines.diffusion.samplers import adapted, dream, llada, llada2, sdar
from carrara.engines.model.llama import Llama
from carrara.engines.model.load import load_model

GOLDENS = Path(__file__).parents[2] / "goldens"
MASK, EOS = 303, 300
unhurried = settings(deadline=None, max_examples=8, derandomize=True)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model() -> Llama:
    return load_model(GOLDENS / "llada21")


prompts = st.lists(st.integers(0, 280), min_size=1, max_size=20)


@unhurried
@given(prompts, st.integers(1, 20), st.sampled_from([4, 8]), st.booleans())
def test_a_cache_of_settled_blocks_changes_nothing_but_the_work(
    model: Llama, prompt: list[int], new: int, block: int, early: bool
) -> None:
    """Block-causal attention: what is settled never changes, so it can be computed once."""
    common: dict[str, Any] = {"mask_id": MASK, "eos_id": EOS, "new": new, "block": block}
    fed: dict[str, list[int]] = {"up to block": [], "blockwise": []}
    found = []
    for kind, sizes in fed.items():

        def count(made: Pass, sizes: list[int] = sizes) -> None:
            sizes.append(made.call.length)

        plain = llada2.generate(
            model,
            prompt,
            **common,
            steps=block,
            threshold=0.6,
            kind=kind,
            trace=count,
            stops_early=early,
        )
        edited = llada2.edit(
            model, prompt, **common, threshold=0.6, editing_threshold=0.4, most_more=3, kind=kind
        )
        found.append((plain.answer, edited.answer))
    assert found[0] == found[1]
    if len(prompt) > block:
        assert max(fed["up to block"]) > block >= max(fed["blockwise"][1:])


@unhurried
@given(prompts, st.integers(8, 20))
def test_without_edits_both_versions_of_llada_2_write_the_same(
    model: Llama, prompt: list[int], new: int
) -> None:
    common: dict[str, Any] = {"mask_id": MASK, "eos_id": EOS, "new": new, "block": 8}
    plain = llada2.generate(model, prompt, **common, steps=8, threshold=0.7)
    never = llada2.edit(model, prompt, **common, threshold=0.7, editing_threshold=1.0)
    short = min(len(plain.answer), len(never.answer))
    assert plain.answer[:short] == never.answer[:short]
    assert MASK not in plain.answer


def test_an_end_of_text_in_the_prompt_does_not_end_the_answer_unless_the_reference_is_wanted(
    model: Llama,
) -> None:
    """The reference looks for the first end in the prompt, too, and then returns nothing."""
    common: dict[str, Any] = {
        "mask_id": MASK, "new": 64, "block": 8, "steps": 8, "threshold": 0.3,
    }  # fmt: skip

    def written(eos: int, **how: bool) -> list[int]:
        prompt = [eos, 8, 9, 10]
        found = llada2.generate(model, prompt, eos_id=eos, **common, stops_early=True, **how)
        return found.answer

    # Some token is written by this random model when it stands in the prompt.
    eos = next(token for token in range(280) if token in written(token))
    assert written(eos)[-1] == eos
    assert written(eos, looks_at_prompt=True) == []


@unhurried
@given(
    st.lists(prompts, min_size=2, max_size=3), st.integers(1, 20), st.sampled_from([4, 8]),
    st.booleans(),
)  # fmt: skip
def test_rows_of_a_batch_do_not_see_each_other(
    rows: list[list[int]], new: int, block: int, guided: bool
) -> None:
    """A row gets the same tokens alone, whatever padding the others cause."""
    model = load_model(GOLDENS / "a2d_llama")
    common: dict[str, Any] = {
        "mask_id": 319, "pad_id": 3, "new": new, "block": block,
        "guide": adapted.Guide(0.5 if guided else 0.0),
    }  # fmt: skip
    rows = [[token + 4 for token in row] for row in rows]
    together = adapted.masked_diffusion(model, rows, **common, steps=new)
    blocks = adapted.block_diffusion(model, rows, **common, eos_id=-1, steps_a_block=3)
    for number, row in enumerate(rows):
        alone = adapted.masked_diffusion(model, [row], **common, steps=new)
        assert alone[0].tolist() == together[number, : len(row) + new].tolist()
        alone = adapted.block_diffusion(model, [row], **common, eos_id=-1, steps_a_block=3)
        assert alone[0, -new:].tolist() == blocks[number, -new:].tolist()


def test_a_padding_token_in_a_text_is_text_unless_the_reference_is_wanted() -> None:
    """The reference does not see it, nor does it count as a position."""
    model = load_model(GOLDENS / "a2d_llama")
    common: dict[str, Any] = {
        "mask_id": 319, "pad_id": 3, "eos_id": -1, "new": 12, "block": 8, "steps_a_block": 4,
    }  # fmt: skip

    def written(prompt: list[int], **how: Any) -> list[int]:
        found = adapted.block_diffusion(model, [prompt], **common, **how)
        return found[0, -12:].tolist()

    without = written([50, 60, 70])
    assert written([50, 3, 60, 70], hides_written_pads=True) == without
    assert written([50, 3, 60, 70]) != without
    assert written([50, 60, 70], hides_written_pads=True) == without


@pytest.mark.parametrize("cache", ["none", "prefix", "dual"])
@pytest.mark.parametrize("threshold", [None, 0.4])
def test_every_cache_fills_every_mask(
    cache: Literal["none", "prefix", "dual"], threshold: float | None
) -> None:
    model = load_model(GOLDENS / "llada")
    found = llada.fast(
        model, [[5, 9, 200], [1, 2, 3]], mask_id=300, new=16, block=8, steps=16, cache=cache,
        threshold=threshold,
    )  # fmt: skip
    assert (found != 300).all()
    assert found[:, :3].tolist() == [[5, 9, 200], [1, 2, 3]]


def test_steps_and_blocks_that_do_not_divide_are_refused_with_the_numbers() -> None:
    model = load_model(GOLDENS / "llada")
    common: dict[str, Any] = {"mask_id": 300, "new": 20, "block": 8, "steps": 20}
    with pytest.raises(ValueError, match="20 new tokens must be whole blocks of 8"):
        llada.generate(model, [[1]], pad_id=290, **common)
    with pytest.raises(ValueError, match="20 new tokens are no multiple of 7 steps"):
        dream.carried_threshold(model, [1], mask_id=300, new=20, steps=7, threshold=0.5)
    with pytest.raises(ValueError, match="prompts of one batch must be of one length"):
        llada.fast(model, [[1], [1, 2]], mask_id=300, new=8, block=8, steps=8)
    with pytest.raises(ValueError, match="of one length here, not 1, 2"):
        adapted.masked_diffusion(
            model, [[1], [1, 2]], mask_id=300, pad_id=290, new=8, block=8, steps=8, cache="prefix"
        )


def test_a_stop_token_leaves_later_blocks_masked() -> None:
    model = load_model(GOLDENS / "sdar")
    free = sdar.generate(model, [1, 2, 3], mask_id=306, new=21, block=4, steps=4)[0].tolist()
    assert 306 not in free
    stop = free[5]
    cut = sdar.generate(model, [1, 2, 3], mask_id=306, new=21, block=4, steps=4, stop_ids=[stop])[
        0
    ].tolist()
    end = 4 * (free.index(stop, 3) // 4 + 1)
    assert cut == free[:end] + [306] * (24 - end)
