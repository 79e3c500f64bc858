"""The engine as a caller meets it, and the drafts that it makes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from carrara.engines.autoregressive.local import AutoregressiveEngine
from carrara.engines.contract import Choice, Column, Contract, Json, Regex, Table, Text
from carrara.engines.diffusion.engine import DiffusionEngine
from carrara.engines.diffusion.settings import PLAIN, Settings
from carrara.engines.engine import Engine
from carrara.engines.errors import EngineRefused, LoadingError
from carrara.engines.local import LocalModel
from carrara.engines.model.kv import KVCache
from carrara.engines.request import Completion, Draft, Limits, Message, Progress, Request, Rule
from carrara.engines.verified.answer import VerifiedAnswer
from carrara.engines.verified.engine import VerifiedEngine

With = Callable[..., None]
PERSON = Json.of(
    {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
        "required": ["name", "age"],
    }
)


def ask(
    text: str = "hello", output: Contract | None = None, most: int = 60, steps: int | None = None
) -> Request:
    return Request((Message("user", text),), output or Text(), Limits(most, steps))


def test_it_is_an_engine_that_can_do_what_ar_can(tiny_folder: Path, with_pair: With) -> None:
    async def body(ar: AutoregressiveEngine, verified: VerifiedEngine) -> None:
        assert isinstance(verified, Engine)
        assert (verified.name, verified.can) == ("verified", ar.can)
        assert verified.context_tokens == ar.context_tokens
        assert verified.fingerprint == f"verified-{verified.local.fingerprint}"
        assert verified.refusal(PERSON) is None
        assert verified.refusal(Regex("(?=a)b")) == ar.refusal(Regex("(?=a)b"))

    with_pair(tiny_folder, body)


def test_its_health_says_what_became_of_the_drafts(tiny_folder: Path, with_pair: With) -> None:
    async def body(_ar: AutoregressiveEngine, verified: VerifiedEngine) -> None:
        assert "0 of 0 drafted tokens accepted" in verified.health().line
        assert "no diffusion adapter: drafts are poor" in verified.health().line
        await verified.complete(ask())
        tally = verified.tally
        assert tally is not None
        line = f"{tally.draft_passes} passes drafted and {tally.verifying_passes} verified"
        assert line in verified.health().line
        await verified.complete(ask(output=PERSON, most=9))
        assert "1 answers could not be drafted" in verified.health().line

    with_pair(tiny_folder, body, ways=(1,))
    closed = VerifiedEngine(LocalModel.open(tiny_folder))
    assert not closed.health().ready
    assert closed.tally is None


def test_usage_counts_denoising_and_verifying_passes(tiny_folder: Path, with_pair: With) -> None:
    async def body(_ar: AutoregressiveEngine, verified: VerifiedEngine) -> None:
        found = [await verified.complete(ask(output=contract)) for contract in (PERSON, Text())]
        tally = verified.tally
        assert tally is not None
        assert tally.draft_passes > 5
        assert sum(one.usage.passes for one in found) == (
            tally.draft_passes + tally.verifying_passes
        )

    with_pair(tiny_folder, body, ways=(2,))


def test_a_limit_of_steps_bounds_each_draft(tiny_folder: Path, with_pair: With) -> None:
    async def body(_ar: AutoregressiveEngine, verified: VerifiedEngine) -> None:
        free = await verified.complete(ask(output=PERSON))
        bounded = await verified.complete(ask(output=PERSON, steps=1))
        assert bounded.text == free.text
        assert bounded.usage.passes < free.usage.passes

    with_pair(tiny_folder, body, ways=(None,), settings=Settings(threshold=1.0))


def test_without_int8_answer_tokens_its_health_names_the_near_ties(
    random_folder: Callable[[int], Path], with_pair: With
) -> None:
    async def body(_ar: AutoregressiveEngine, verified: VerifiedEngine) -> None:
        assert verified.local.model.is_quick != ("near ties" in verified.health().line)

    for quick in (True, False):
        with_pair(random_folder(0), body, quick=quick)


class Watched(VerifiedEngine):
    """Keeps its answers."""

    def _answer_kind(self) -> type[VerifiedAnswer]:
        self.answers: list[VerifiedAnswer] = []
        kept = self.answers

        class Kept(VerifiedAnswer):
            def __init__(self, *args: Any, **more: Any) -> None:
                super().__init__(*args, **more)
                kept.append(self)

        return Kept


@pytest.mark.parametrize("shift", [True, False])
def test_a_draft_is_what_the_diffusion_engine_would_have_answered(
    random_folder: Callable[[int], Path], shift: bool
) -> None:
    settings = Settings(logit_shift=shift, block_tokens=200, threshold=0.3, slot_tokens=6)
    contracts: list[Contract] = [
        PERSON,
        Choice(("other", "another", "town of an inn")),
        Regex(r"[a-c]{3}-\d{2}"),
        Table((Column("n", "integer"), Column("b", "boolean")), 1, 2),
    ]

    async def main() -> None:
        # Drafts are computed with the weights as they are, canvases of the engine `diffusion` with small copies.
        local = LocalModel.open(random_folder(3), threads=1, dtype=torch.float32, quick=False)
        verified = Watched(local, settings=settings, ways=(None,))
        async with DiffusionEngine(local, settings=settings) as diffusion, verified:
            for contract in contracts:
                request = ask("the town", contract, 120)
                wanted = await diffusion.complete(request)
                found = await verified.complete(request)
                [answer] = verified.answers
                if (
                    found.usage.passes == 0
                ):  # the first token decided all: there was nothing to draft
                    continue
                assert answer.draft is not None
                assert answer.draft.raw.decode() == wanted.text

    asyncio.run(main())


def test_a_long_form_is_drafted_window_by_window(tiny_folder: Path, with_pair: With) -> None:
    array = Json.of({"type": "array", "items": {"enum": [1, 2]}, "minItems": 30, "maxItems": 30})

    async def body(ar: AutoregressiveEngine, verified: Watched) -> None:
        request = ask(output=array, most=150)
        wanted, found = await ar.complete(request), await verified.complete(request)
        assert found.text == wanted.text
        [answer] = verified.answers
        assert answer.draft is not None
        assert len(answer.draft.raw) > 60  # several windows of 16 tokens

    with_pair(
        tiny_folder, body, engine=Watched, ways=(1,), settings=replace(PLAIN, block_tokens=16)
    )


def test_a_draft_pass_leaves_the_cache_as_it_was(
    tiny_folder: Path, with_pair: With, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    async def body(_ar: AutoregressiveEngine, verified: VerifiedEngine) -> None:
        assert verified._rounds is not None
        drafter = verified._rounds.decoder.drafter
        denoise = drafter.denoise

        def watched(spots: Any, batch: Any, cache: KVCache) -> None:
            before: Tensor = cache.data.clone()
            denoise(spots, batch, cache)
            seen.append(torch.equal(before, cache.data))

        monkeypatch.setattr(drafter, "denoise", watched)
        await asyncio.gather(*(verified.complete(ask(f"{n}", PERSON)) for n in range(3)))

    with_pair(tiny_folder, body, ways=(1,))
    assert seen
    assert all(seen)


def test_a_draft_that_is_no_number_is_dropped_and_the_answer_goes_on(
    tiny_folder: Path, with_pair: With, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise FloatingPointError("the model gave no finite logits")

    async def body(ar: AutoregressiveEngine, verified: VerifiedEngine) -> None:
        monkeypatch.setattr("carrara.engines.verified.sketch.read", broken)
        request = ask(output=PERSON)
        assert (await verified.complete(request)).text == (await ar.complete(request)).text
        assert "1 answers could not be drafted" in verified.health().line

    with_pair(tiny_folder, body, ways=(1,))


def test_a_draft_of_nothing_is_not_made_again_and_again(
    tiny_folder: Path, with_pair: With, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(ar: AutoregressiveEngine, verified: VerifiedEngine) -> None:
        monkeypatch.setattr("carrara.engines.verified.sketch.Sketch.new_pieces", lambda _: [])
        for contract in (Text(), PERSON):
            request = ask(output=contract)
            found = await asyncio.wait_for(verified.complete(request), 20)
            assert found.text == (await ar.complete(request)).text

    with_pair(tiny_folder, body, ways=(1,))


def test_a_caller_who_gives_up_while_his_draft_is_made_leaves_his_place(
    tiny_folder: Path, with_pair: With
) -> None:
    async def body(ar: AutoregressiveEngine, verified: VerifiedEngine) -> None:
        begun = asyncio.Event()
        long = asyncio.create_task(verified.complete(ask("a", most=400), lambda _: begun.set()))
        other = asyncio.create_task(verified.complete(ask("b", PERSON)))
        await begun.wait()
        long.cancel()
        assert (await other).text == (await ar.complete(ask("b", PERSON))).text
        with pytest.raises(asyncio.CancelledError):
            await long
        assert "0 answering, 0 waiting" in verified.health().line

    with_pair(tiny_folder, body, ways=(3,))


def test_what_is_shown_as_final_stays_and_what_is_drafted_follows_it(
    tiny_folder: Path, with_pair: With
) -> None:
    async def body(_ar: AutoregressiveEngine, verified: VerifiedEngine) -> None:
        *shown, found = [one async for one in verified.stream(ask(output=PERSON))]
        assert isinstance(found, Completion)
        assert shown
        guessed = 0
        for one in shown:
            assert isinstance(one, Progress)
            final = "".join(one.text[span.start : span.stop] for span in one.final)
            assert found.text.startswith(final)
            assert one.text.startswith(final)
            guessed += len(one.text) > len(final)
            assert (one.settled < 1) == (len(one.text) > len(final))
        assert guessed

    with_pair(tiny_folder, body, ways=(2,))


def test_a_request_with_a_draft_of_its_own_is_refused(tiny_folder: Path, with_pair: With) -> None:
    async def body(_ar: AutoregressiveEngine, verified: VerifiedEngine) -> None:
        with pytest.raises(EngineRefused, match="takes no draft") as caught:
            await verified.complete(replace(ask(), draft=Draft("hello")))
        assert caught.value.engine == "verified"

    with_pair(tiny_folder, body)


def test_drafts_take_any_commit_rule_and_the_text_stays(tiny_folder: Path, with_pair: With) -> None:
    async def body(ar: AutoregressiveEngine, verified: VerifiedEngine) -> None:
        wanted = await ar.complete(ask(output=PERSON))
        for rule in (Rule("klass"), Rule("fixed_steps", {"steps": 2}), Rule("verified")):
            found = await verified.complete(replace(ask(output=PERSON), rule=rule))
            assert found.text == wanted.text
        tally = verified.tally
        assert tally is not None
        assert tally.draft_passes > 0
        with pytest.raises(EngineRefused, match="unknown commit rule 'clas'") as caught:
            await verified.complete(replace(ask(), rule=Rule("clas")))
        assert caught.value.engine == "verified"
        with pytest.raises(EngineRefused, match="unknown parameter 'steps'") as caught:
            await verified.complete(replace(ask(), rule=Rule("verified", {"steps": 1})))
        assert caught.value.engine == "verified"

    with_pair(tiny_folder, body, ways=(2,))


def test_settings_that_name_another_mask_are_refused(tiny_folder: Path) -> None:
    async def main() -> None:
        async with VerifiedEngine(
            LocalModel.open(tiny_folder, threads=1), settings=Settings(mask_token_id=77)
        ):
            pass

    with pytest.raises(LoadingError, match=r"diffusion\.json names mask_token_id 77"):
        asyncio.run(main())
