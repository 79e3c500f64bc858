"""The batcher seats, feeds, denoises and lets go, whatever comes when."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.engines.diffusion.batch import Batcher, BatchLimits, Plan


def finish(batch: Batcher, found: int = 0) -> list[Plan]:
    """Plans until everybody had one denoising pass; each leaves after it."""
    plans = []
    while not batch.is_idle:
        plans.append(batch.plan(lambda ticket: found))
        for spot in plans[-1].spots:
            batch.leave(spot.ticket)
    return plans


def test_a_prompt_is_fed_in_chunks_and_then_denoised() -> None:
    batch = Batcher(BatchLimits(quiet_chunk=10))
    assert batch.offer(1, prompt=25, need=60)
    plans = finish(batch)
    assert [(f.start, f.count) for plan in plans for f in plan.feeds] == [
        (0, 10),
        (10, 10),
        (20, 5),
    ]
    assert [len(plan.spots) for plan in plans] == [0, 0, 1]
    assert plans[-1].spots[0].length == 25


def test_what_is_known_already_is_not_fed() -> None:
    batch = Batcher()
    batch.offer(1, prompt=25, need=60)
    [plan] = finish(batch, found=16)
    assert [(f.start, f.count) for f in plan.feeds] == [(16, 9)]


def test_a_settled_block_is_fed_before_the_next_one_is_denoised() -> None:
    batch = Batcher()
    batch.offer(1, 5, 60)
    batch.plan()
    batch.grew(1, 12)
    plan = batch.plan()
    assert [(f.start, f.count) for f in plan.feeds] == [(5, 12)]
    assert plan.spots[0].length == 17


def test_higher_priority_goes_first_and_then_who_came_first() -> None:
    batch = Batcher(BatchLimits(rows=1))
    for ticket, priority in ((1, 0.0), (2, 0.0), (3, 5.0)):
        batch.offer(ticket, 3, 10, priority)
    assert [plan.spots[0].ticket for plan in finish(batch)] == [3, 1, 2]


def test_a_full_queue_takes_nobody() -> None:
    batch = Batcher(BatchLimits(rows=1, waiting=2))
    assert batch.offer(1, 3, 10)
    assert batch.offer(2, 3, 10)
    assert not batch.offer(3, 3, 10)


def test_memory_bounds_who_sits_together_but_one_always_may() -> None:
    batch = Batcher(BatchLimits(rows=8, cells=100))
    for ticket in range(4):
        batch.offer(ticket, 3, 40)
    assert batch.plan().rows == 2
    alone = Batcher(BatchLimits(cells=10))
    alone.offer(1, 3, 40)
    assert alone.plan().rows == 1


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10**6))
def test_everybody_is_served_and_rows_never_clash(seed: int) -> None:
    chance = random.Random(seed)
    batch = Batcher(BatchLimits(rows=3, waiting=50, cells=500, chunk=7, quiet_chunk=11))
    left = {ticket: chance.randint(1, 4) for ticket in range(12)}
    prompts = {ticket: chance.randint(1, 30) for ticket in left}
    coming, cached, rows = list(left), {}, {}
    for _ in range(500):
        if coming and chance.random() < 0.5:
            ticket = coming.pop()
            assert batch.offer(ticket, prompts[ticket], 100)
        plan = batch.plan()
        for move in plan.moves:
            [owner] = [t for t, row in rows.items() if row == move.source]
            assert move.length == cached[owner]
            rows[owner] = move.target
        for feed in plan.feeds:
            assert feed.start == cached.get(feed.ticket, 0)
            cached[feed.ticket] = feed.start + feed.count
            rows[feed.ticket] = feed.row
        assert len(set(rows.values())) == len(rows)
        for spot in plan.spots:
            assert spot.length == cached[spot.ticket] >= prompts[spot.ticket]
            left[spot.ticket] -= 1
            if left[spot.ticket] == 0 or chance.random() < 0.05:
                left[spot.ticket] = 0
                batch.leave(spot.ticket)
                del rows[spot.ticket]
            elif chance.random() < 0.5:
                batch.grew(spot.ticket, chance.randint(1, 9))
        if not coming and batch.is_idle:
            break
    assert not any(left.values())
