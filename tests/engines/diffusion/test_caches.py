"""Caches of the served engine change no answer where they are exact, and keep the contract where they are not."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from carrara.engines.contract import Choice, Json, Text
from carrara.engines.diffusion.block_canvas import Block, BlockCanvas
from carrara.engines.diffusion.commit import confidence_threshold
from carrara.engines.diffusion.engine import DiffusionEngine
from carrara.engines.diffusion.passes import Passes, full_sight
from carrara.engines.diffusion.propose import Proposer, looking
from carrara.engines.diffusion.refine import refine
from carrara.engines.diffusion.settings import Settings
from carrara.engines.errors import LoadingError
from carrara.engines.local import LocalModel
from carrara.engines.request import Completion, Limits, Message, Request

GOLDENS = Path(__file__).parents[2] / "goldens"
LONG = "the cat sat on the mat " * 6
PERSON = Json.of(
    {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
)


def family(name: str, tiny_folder: Path, folder: Path) -> Path:
    """The golden weights of a family with the tiny tokenizer; "causal" is the tiny model itself."""
    if name == "causal":
        return tiny_folder
    for path in (GOLDENS / name).iterdir():
        if path.name.startswith(("model", "config")):
            shutil.copyfile(path, folder / path.name)
    for path in tiny_folder.glob("tokenizer*"):
        shutil.copyfile(path, folder / path.name)
    return folder


def ask(words: str, output: Any = PERSON) -> Request:
    return Request((Message("user", words),), output, Limits(40))


ASKED = [ask(LONG), ask(LONG + "again"), ask(LONG, Text()), ask(LONG + "a", Choice(("a", "b")))]


async def each(local: LocalModel, asked: Sequence[Request], **options: Any) -> list[Completion]:
    """The answers of one session with the engine."""
    async with DiffusionEngine(local, **options) as engine:
        return [await engine.complete(request) for request in asked]


def opened(folder: Path, **options: Any) -> LocalModel:
    return LocalModel.open(folder, dtype=torch.float32, device="cpu", threads=1, **options)


@pytest.mark.parametrize("name", ["causal", "sdar"])
def test_one_copy_of_a_prefix_serves_later_requests_and_sessions_without_changing_them(
    name: str, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = family(name, tiny_folder, tmp_path)

    async def main() -> None:
        async with opened(folder) as local:
            first, second = await each(local, ASKED), await each(local, ASKED)
            held = local.prefix_cache.stats()
        without = await each(opened(folder, prefix_cache_bytes=0), ASKED)
        assert [one.text for one in first] == [one.text for one in second]
        assert [one.text for one in first] == [one.text for one in without]
        assert [one.usage.cached_tokens > 0 for one in first] == [False, True, True, True]
        assert all(one.usage.cached_tokens > 0 for one in second)  # another session, the same model
        assert all(one.usage.cached_tokens == 0 for one in without)
        # Shared beginnings are held once.
        longest = max(one.usage.prompt_tokens for one in first)
        assert held.blocks * 16 <= longest + 4 * 16

    asyncio.run(main())


def test_a_small_budget_holds_and_changes_nothing(tiny_folder: Path) -> None:
    asked = [ask(f"{word} {LONG}") for word in ("one", "two", "the", "one")]

    async def main() -> None:
        async with opened(tiny_folder) as local:
            wanted = await each(local, asked)
            block = local.prefix_cache.stats().bytes // local.prefix_cache.stats().blocks
        async with opened(tiny_folder, prefix_cache_bytes=5 * block) as local:
            found = await each(local, asked)
            held = local.prefix_cache.stats()
        assert [one.text for one in found] == [one.text for one in wanted]
        assert held.bytes <= 5 * block
        assert held.evicted_blocks > 0

    asyncio.run(main())


def test_a_poisoned_entry_is_found_and_computed_anew(tiny_folder: Path) -> None:
    async def main() -> None:
        async with opened(tiny_folder, check_prefixes=True) as local:
            wanted = await each(local, ASKED[:1])
            key = local.prefix_key(False)
            prompt = local.tokenizer.encode_chat(ASKED[0].messages)
            local.prefix_cache.find(key, prompt).payloads[1].mul_(-3.0)
            found = await each(local, ASKED[:1])
            spoilt = local.prefix_cache.stats().spoilt_blocks
            again = await each(local, ASKED[:1])
        assert (found[0].text, found[0].confidence) == (wanted[0].text, wanted[0].confidence)
        assert spoilt >= 1
        assert found[0].usage.cached_tokens == 16
        assert again[0].usage.cached_tokens > 16

    asyncio.run(main())


# Full attention: what lies before the block may be kept between passes, approximately.


def settings_of(folder: Path) -> Settings:
    async def main() -> Settings:
        async with opened(folder) as local:
            return Settings.of_checkpoint(local.config.denoising)

    return asyncio.run(main())


@pytest.mark.parametrize("name", ["llada", "dream"])
def test_contracts_hold_over_a_kept_prompt_and_refreshing_always_is_exact(
    name: str, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = family(name, tiny_folder, tmp_path)
    usual = settings_of(folder)
    for refresh in (0, 3, 1):
        found = asyncio.run(
            each(opened(folder), ASKED, settings=replace(usual, context_refresh_passes=refresh))
        )
        for request, one in zip(ASKED, found, strict=True):
            assert request.output.parse(one.text) == one.value
    exact = asyncio.run(each(opened(folder), ASKED))
    assert [one.text for one in found] == [one.text for one in exact]


def test_a_kept_prompt_is_the_prefix_cache_of_the_published_samplers(
    tiny_folder: Path, tmp_path: Path
) -> None:
    """One block: its first pass computes everything, the others the block alone."""
    folder = family("llada", tiny_folder, tmp_path)
    settings = replace(settings_of(folder), context_refresh_passes=0, text_block_tokens=12)
    words = ("a", "on", "12", "inn it", "b", "cat", "the mat", "sat", "o", "7")
    asked = [Request((Message("user", f"the {word}"),), Text(), Limits(12)) for word in words]

    async def main() -> None:
        compared = 0
        async with opened(folder, quick=False) as local:
            found = await each(local, asked, settings=settings)
            tokenizer = local.tokenizer
            for request, one in zip(asked, found, strict=True):
                prompt = tokenizer.encode_chat(request.messages)
                tokens = torch.tensor([[*prompt, *[tokenizer.mask_id] * 12]])
                silent = {i for i in range(tokenizer.vocab_size) if not tokenizer.token_bytes(i)}
                proposer = Proposer(suppressed=sorted(silent - tokenizer.eos_ids))
                block = Block(len(prompt), tokens.shape[1])
                canvas = BlockCanvas(tokens, tokenizer.mask_id, [block], context=len(prompt))
                sight = full_sight(torch.ones_like(tokens, dtype=torch.bool))
                look = looking(Passes(local.model, sight, "prefix"), proposer)
                made = refine(canvas, look, confidence_threshold(settings.threshold))
                wanted = tokens[0, len(prompt) :].tolist()
                if tokenizer.eos_ids.isdisjoint(wanted):
                    assert one.text == Text().parse(tokenizer.decode(wanted))
                    assert one.usage.passes == made.passes
                    compared += 1
        assert compared

    asyncio.run(main())


def test_refresh_is_a_number() -> None:
    with pytest.raises(
        LoadingError, match="context_refresh_passes is -1, it must be a whole number of at least 0"
    ):
        Settings(context_refresh_passes=-1)
