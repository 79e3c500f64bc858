"""The property that the engine is for: its text is the AR engine's, token for token, whatever the drafts are."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from carrara.engines.autoregressive.batch import BatchLimits
from carrara.engines.autoregressive.local import AutoregressiveEngine
from carrara.engines.contract import Choice, Column, Contract, Json, Outline, Regex, Table, Text
from carrara.engines.diffusion.prepare import CanvasMaker
from carrara.engines.diffusion.settings import Settings
from carrara.engines.model.linear import can_be_quick
from carrara.engines.request import Completion, Limits, Message, Request, Sampling
from carrara.engines.verified.answer import VerifiedAnswer
from carrara.engines.verified.draft import Draft, Piece
from carrara.engines.verified.drafting import Drafter
from carrara.engines.verified.engine import VerifiedEngine
from carrara.engines.verified.worth import Way

With = Callable[..., None]
Folder = Callable[[int], Path]
QUICK = [
    False,
    pytest.param(
        True,
        marks=pytest.mark.skipif(
            not can_be_quick(torch.device("cpu")), reason="this build of torch has no int8 products"
        ),
    ),
]


def ask(
    text: str = "hello", output: Contract | None = None, most: int = 30, **options: Any
) -> Request:
    return Request((Message("user", text),), output or Text(), Limits(max_tokens=most), **options)


def same(one: Completion, other: Completion) -> bool:
    """Whether two answers are the same in all that a caller can see, passes and times aside."""
    kept = (one.text, one.value, one.stop, one.usage.completion_tokens)
    return kept == (other.text, other.value, other.stop, other.usage.completion_tokens)


Learned = dict[str, VerifiedAnswer]


class Knowing(Drafter):
    """Writes the first answer to a message without a draft, and drafts later ones by heart, `damaged`."""

    learned: Learned
    damage: Callable[[list[int]], list[int]]

    def begin(self, answer: VerifiedAnswer, way: Way) -> None:
        known = self.learned.setdefault(answer.request.messages[-1].content, answer)
        if known is answer:
            return
        written = known.tokens[known.prompt :]
        if answer.is_text:  # a block behind what there is, as a canvas would be
            done = len(answer.tokens) - answer.prompt
            written = written[done : done + 20]
        tokenizer = self._local.tokenizer
        vocabulary = tokenizer.vocabulary
        answer.draft = Draft(tokenizer.encode, vocabulary)
        answer.draft.extend(Piece(token, vocabulary[token]) for token in self.damage(written))
        if not answer.is_text:
            answer.draft.follow(answer.raw, len(answer.raw))


class WithKnowing(VerifiedEngine):
    rate = 0.0

    def _drafter(self, maker: CanvasMaker, settings: Settings) -> Drafter:
        made = Knowing(self.local, maker, settings, settings)
        made.learned, draw = {}, random.Random(5)
        made.damage = lambda tokens: damaged(tokens, self.rate, draw)
        return made


def damaged(tokens: list[int], rate: float, draw: random.Random) -> list[int]:
    """Tokens lost, doubled and exchanged."""
    ways: list[Callable[[int], list[int]]] = [
        lambda token: [],
        lambda token: [token, token],
        lambda token: [draw.randrange(5, 260)],
    ]
    return [
        new
        for token in tokens
        for new in (draw.choice(ways)(token) if draw.random() < rate else [token])
    ]


def requests_of(
    seed: int, count: int, contract: Callable[[random.Random], Contract]
) -> list[Request]:
    draw = random.Random(seed)
    words = ["the", "town", "and", "other", "one", "in"]
    return [
        ask(
            f"{number} " + " ".join(draw.choices(words, k=draw.randint(1, 30))),
            contract(draw),
            draw.choice((1, 2, 7, 30, 45)),
            stop=("\n", "zz") if draw.random() < 0.2 else (),
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("quick", QUICK)
@pytest.mark.parametrize("ways", [None, (1,), (None,)], ids=str)
def test_for_random_weights_and_contracts_the_text_is_that_of_the_ar_engine(
    random_folder: Folder,
    with_pair: With,
    random_contract: Callable[[random.Random], Contract],
    ways: Sequence[Way] | None,
    quick: bool,
) -> None:
    for seed in range(3):
        requests = requests_of(10 * seed + int(quick), 12, random_contract)

        async def body(
            ar: AutoregressiveEngine, verified: VerifiedEngine, requests: list[Request] = requests
        ) -> None:
            wanted = [await ar.complete(request) for request in requests]
            found = await asyncio.gather(*map(verified.complete, requests))
            for request, one, other in zip(requests, wanted, found, strict=True):
                assert same(one, other), request
                if quick:  # the very same bits, so the same confidence too
                    assert one.confidence == other.confidence
                assert one.confidence.tokens == pytest.approx(other.confidence.tokens, abs=1e-4)

        with_pair(random_folder(seed), body, quick=quick, ways=ways)


@pytest.mark.parametrize("quick", QUICK)
def test_however_a_draft_is_right_or_wrong_the_text_stays_the_same(
    random_folder: Folder,
    with_pair: With,
    random_contract: Callable[[random.Random], Contract],
    quick: bool,
) -> None:
    accepted = 0
    for seed in range(3):
        requests = requests_of(100 + seed, 14, random_contract)

        async def body(
            ar: AutoregressiveEngine, verified: WithKnowing, requests: list[Request] = requests
        ) -> None:
            nonlocal accepted
            wanted = await asyncio.gather(*map(ar.complete, requests))
            for rate in (0.0, 0.0, 0.03, 0.2):
                verified.rate = rate
                found = await asyncio.gather(*map(verified.complete, requests))
                for request, one, other in zip(requests, wanted, found, strict=True):
                    assert same(one, other), (request, rate)
                    assert other.usage.passes <= one.usage.passes, (request, rate)
            assert verified.tally is not None
            accepted += verified.tally.accepted

        limits = BatchLimits(rows=5, chunk=20, quiet_chunk=40)
        with_pair(
            random_folder(seed), body, quick=quick, engine=WithKnowing, ways=(1,), limits=limits
        )
    assert accepted > 200


def test_a_perfect_draft_takes_few_passes(tiny_folder: Path, with_pair: With) -> None:
    contracts: list[Contract] = [
        Text(),
        Json.of({"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 4}),
        Table((Column("n", "integer"), Column("b", "boolean")), 2, 2),
        Outline(2, 1, 2),
        Regex(r"[a-c]{30}-\d{2}"),
    ]

    async def body(ar: AutoregressiveEngine, verified: VerifiedEngine) -> None:
        for contract in contracts:
            request = ask(contract.kind, contract, 64)
            first, second = await verified.complete(request), await verified.complete(request)
            assert same(first, second)
            assert first.usage.passes >= 10, contract
            assert second.usage.passes <= first.usage.passes / 5 + 2, contract

    with_pair(tiny_folder, body, engine=WithKnowing, ways=(1,))


@pytest.mark.parametrize("quick", QUICK)
def test_a_seeded_warm_answer_is_the_same_too(
    random_folder: Folder, with_pair: With, quick: bool
) -> None:
    requests = [
        ask("the town", contract, 40, sampling=Sampling(0.9, 0.95, seed=seed))
        for seed in range(4)
        for contract in (
            Text(),
            Text(9),
            Choice(("other", "another", "town")),
            Regex("[a-e]{10,20}"),
        )
    ]

    async def body(ar: AutoregressiveEngine, verified: VerifiedEngine) -> None:
        wanted = await asyncio.gather(*map(ar.complete, requests))
        found = await asyncio.gather(*map(verified.complete, requests))
        for one, other in zip(wanted, found, strict=True):
            assert same(one, other)

    with_pair(random_folder(1), body, quick=quick, ways=(1,))
