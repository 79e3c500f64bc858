"""The batcher seats, feeds, denoises and lets go, whatever comes when."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.engines.diffusion.batch import Batcher, BatchLimits, Block, Plan
from carrara.engines.diffusion.memory import Costs
from carrara.engines.seats import Feed, Spot


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


def test_prompt_and_canvas_may_be_one_pass_where_a_request_is_alone_and_memory_allows_it() -> None:
    def plan(size: int, tickets: int = 1) -> Plan:
        batch = Batcher(BatchLimits(bytes=size), Costs(slot=0, place=1))
        for ticket in range(tickets):
            batch.offer(ticket, prompt=25, need=60, block=Block(30, 4))
        return batch.plan()

    assert plan(55).can_be_one
    assert not plan(54).can_be_one
    assert not plan(500, tickets=2).can_be_one


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


def test_memory_bounds_who_sits_together() -> None:
    batch = Batcher(BatchLimits(rows=8, bytes=2 * 256))
    for ticket in range(4):
        batch.offer(ticket, 3, 40)
    assert batch.plan().rows == 2
    assert batch.waiting == 2


def test_whom_there_is_no_room_for_is_passed_only_so_long() -> None:
    batch = Batcher(BatchLimits(rows=8, bytes=4 * 256, patience=5))
    batch.offer(0, 3, 40)
    batch.plan()
    batch.offer(1, 3, 900)
    for ticket in range(2, 40):
        batch.offer(ticket, 3, 40)
    before_1: list[int] = []
    while not batch.is_idle:
        spots = batch.plan().spots
        if any(spot.ticket == 1 for spot in spots):
            break
        before_1 += [spot.ticket for spot in spots]
        batch.leave(spots[-1].ticket)
    assert 5 <= len(set(before_1)) <= 12


def test_waiting_makes_up_for_priority() -> None:
    batch = Batcher(BatchLimits(rows=1, patience=4))
    batch.offer(0, 3, 10, priority=-2.0)
    served = []
    for ticket in range(1, 50):
        batch.offer(ticket, 3, 10, priority=1.0)
        [spot] = batch.plan().spots
        served.append(spot.ticket)
        batch.leave(spot.ticket)
    assert served.index(0) in range(8, 16)


def test_a_settled_block_does_not_wait_for_a_long_prompt() -> None:
    batch = Batcher(BatchLimits(rows=2, chunk=32, quiet_chunk=32))
    batch.offer(0, 3, 400, priority=-9.0)
    batch.plan()
    batch.offer(1, 300, 400)
    stalled, fed = 0, 0
    while fed < 300:
        batch.grew(0, 8)
        plan = batch.plan()
        stalled += 0 not in [spot.ticket for spot in plan.spots]
        amounts = [feed.count for feed in plan.feeds if feed.ticket == 1]
        assert sum(amounts) <= 32
        fed += sum(amounts)
    assert stalled == 0


def test_a_pass_without_memory_is_halved_and_recovers() -> None:
    batch = Batcher(BatchLimits(rows=8, patience=3))
    for ticket in range(8):
        batch.offer(ticket, 3, 40)
    assert [len(group) for group in batch.plan().groups] == [8]
    batch.pinched(8)
    assert [[len(group) for group in batch.plan().groups] for _ in range(3)] == [
        [4, 4],
        [4, 4],
        [8],
    ]


def test_after_a_restart_everything_is_encoded_anew() -> None:
    batch = Batcher(BatchLimits(rows=4, patience=100))
    for ticket in range(4):
        batch.offer(ticket, 10, 40)
    batch.plan()
    batch.grew(2, 5)
    batch.restart()
    assert (batch.seated, batch.waiting) == (0, 4)
    plan = batch.plan()
    assert plan.is_empty
    assert [(f.ticket, f.start, f.count) for f in plan.feeds] == [(0, 0, 10), (1, 0, 10)]
    batch.leave(0)
    assert [(f.ticket, f.start, f.count) for f in batch.plan().feeds] == [(2, 0, 15)]


def test_a_block_that_became_too_wide_is_refused_and_others_go_on() -> None:
    costs = Costs(slot=1, place=10)
    batch = Batcher(BatchLimits(rows=4, bytes=1000), costs)
    assert batch.bytes_alone(40, Block(10, 1)) == 256 + 160
    for ticket in range(2):
        batch.offer(ticket, 3, 40, block=Block(10, 1))
    batch.plan()
    batch.grew(0, 0, Block(90, 1))
    plan = batch.plan()
    assert plan.refused == (0,)
    assert [spot.ticket for spot in plan.spots] == [1]


COSTS = st.builds(
    Costs,
    slot=st.integers(1, 9),
    place=st.integers(0, 40),
    sight=st.integers(0, 1),
    logits=st.integers(0, 60),
    reading=st.integers(0, 60),
)


@dataclass
class Ledger:
    """Plays the decoder: knows what is in the cache, and checks every plan against it and against the limits."""

    batch: Batcher
    chance: random.Random
    prompts: dict[int, int] = field(default_factory=dict)
    blocks: dict[int, Block] = field(default_factory=dict)
    leads: dict[int, int] = field(default_factory=dict)
    needs: dict[int, int] = field(default_factory=dict)
    known: dict[int, int] = field(default_factory=dict)
    left: dict[int, int] = field(default_factory=dict)
    cached: dict[int, int] = field(default_factory=dict)
    rows: dict[int, int] = field(default_factory=dict)
    shape: tuple[int, int] = (0, 0)
    ended: list[int] = field(default_factory=list)

    def offer(self, ticket: int, priority: float = 0.0) -> None:
        prompt, passes, lead = (self.chance.randint(1, most) for most in (60, 5, 6))
        block = Block(self.chance.randint(1, 30), self.chance.randint(1, 20))
        need = prompt + passes * 12 + 30
        if self.batch.bytes_alone(need, block, lead) > self.batch.limits.bytes:
            self.ended.append(ticket)  # refused before it is offered
            return
        assert self.batch.offer(ticket, prompt, need, priority, block, lead)
        self.prompts[ticket] = self.known[ticket] = prompt
        self.blocks[ticket], self.leads[ticket] = block, lead
        self.needs[ticket], self.left[ticket] = need, passes

    def round(self) -> Plan:
        unsure = self.chance.random
        plan = self.batch.plan(self.find)
        for ticket in plan.refused:
            self.end(ticket, leaves=False)
        self.forget_unseated()
        self.resize(plan)
        self.feed(plan.feeds)
        for group in plan.groups:
            self.denoise(group)
        for spot in plan.spots:
            self.left[spot.ticket] -= 1
            if self.left[spot.ticket] == 0 or unsure() < 0.05:
                self.end(spot.ticket)
                continue
            grown = self.chance.randint(1, 12) if unsure() < 0.5 else 0
            block = Block(self.chance.randint(1, 30), self.chance.randint(1, 20))
            self.known[spot.ticket] += grown
            self.blocks[spot.ticket] = block
            self.batch.grew(spot.ticket, grown, block)
        return plan

    def find(self, ticket: int) -> int:
        """Asked once a seat: what the row held before, if it was given up, is gone."""
        self.rows.pop(ticket, None), self.cached.pop(ticket, None)
        return self.prompts[ticket] // 2

    def resize(self, plan: Plan) -> None:
        if plan.is_empty:
            self.rows.clear(), self.cached.clear()
            self.shape = (0, 0)
        for move in plan.moves:
            [owner] = [t for t, row in self.rows.items() if row == move.source]
            assert move.length == self.cached[owner]
            self.rows[owner] = move.target
        costs, shape = self.batch.costs, (plan.rows, plan.slots)
        if shape != self.shape:
            assert costs.cache(*self.shape) + costs.cache(*shape) <= self.batch.limits.bytes
        self.shape = shape

    def feed(self, feeds: tuple[Feed, ...]) -> None:
        if not feeds:
            return
        for feed in feeds:
            assert feed.start == self.cached.get(feed.ticket, self.prompts[feed.ticket] // 2)
            self.cached[feed.ticket] = feed.start + feed.count
            self.rows[feed.ticket] = feed.row
        lead = max(self.leads[feed.ticket] for feed in feeds)
        width = max(*(feed.count for feed in feeds), self.batch.limits.least) + lead
        assert max(feed.start for feed in feeds) + width - lead <= self.shape[1]
        self.check_pass(len(feeds), width, 1)

    def denoise(self, group: tuple[Spot, ...]) -> None:
        blocks = [self.blocks[spot.ticket] for spot in group]
        for spot in group:
            assert spot.length == self.cached[spot.ticket] == self.known[spot.ticket]
            assert spot.row == self.rows[spot.ticket] < self.shape[0]
        width = max(block.width for block in blocks)
        if len(group) > 1:
            assert max(spot.length for spot in group) + width <= self.shape[1]
        self.check_pass(len(group), width, max(block.wanted for block in blocks))

    def check_pass(self, rows: int, width: int, wanted: int) -> None:
        costs = self.batch.costs
        work = costs.work(rows, width, self.shape[1], wanted)
        assert costs.cache(*self.shape) + work <= self.batch.limits.bytes
        live = [t for t in self.rows if t not in self.ended]
        assert len({self.rows[t] for t in live}) == len(live) <= self.batch.limits.rows

    def forget_unseated(self) -> None:
        """Those who gave up their row begin with an empty cache."""
        seated = self.batch.seated_tickets
        for ticket in [t for t in self.rows if t not in seated]:
            self.rows.pop(ticket), self.cached.pop(ticket)

    def end(self, ticket: int, leaves: bool = True) -> None:
        self.ended.append(ticket)
        if leaves:
            self.batch.leave(ticket)
        self.rows.pop(ticket, None), self.cached.pop(ticket, None)


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 10**6),
    costs=COSTS,
    size=st.integers(600, 20_000),
    rows=st.integers(1, 6),
    chunk=st.integers(5, 60),
)
def test_every_request_ends_within_the_limit_of_bytes(
    seed: int, costs: Costs, size: int, rows: int, chunk: int
) -> None:
    chance = random.Random(seed)
    limits = BatchLimits(rows, 50, size, chunk, 2 * chunk, patience=8)
    ledger = Ledger(Batcher(limits, costs), chance)
    coming = list(range(16))
    for _ in range(3000):
        if coming and chance.random() < 0.4:
            ledger.offer(coming.pop(), float(chance.randint(-3, 3)))
        if ledger.left and chance.random() < 0.03:
            ledger.end(chance.choice(list(ledger.left)))  # cancelled, waiting or seated
        if chance.random() < 0.03:
            ledger.batch.pinched(max(1, ledger.batch.seated))
        if chance.random() < 0.01:
            ledger.batch.restart()
        ledger.forget_unseated()
        ledger.round()
        if not coming and ledger.batch.is_idle:
            break
    assert ledger.batch.is_idle
    assert set(ledger.ended) == set(range(16))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 4), priority=st.integers(-6, 0))
def test_nobody_starves_however_many_come_with_more_priority(
    seed: int, rows: int, priority: int
) -> None:
    chance = random.Random(seed)
    limits = BatchLimits(rows, 10**6, 1500, 16, 32, patience=4)
    ledger = Ledger(Batcher(limits, Costs(slot=1, place=2)), chance)
    ledger.offer(0, float(priority))
    for ticket in range(1, 1500):
        if 0 in ledger.ended:
            break
        ledger.offer(ticket, float(chance.randint(0, 3)))
        ledger.forget_unseated()
        ledger.round()
    assert 0 in ledger.ended
    # Those who came while it made up for its lower priority, each with a handful of passes.
    assert ledger.batch._plans < 40 * (4 * (3 - priority) + 8)
