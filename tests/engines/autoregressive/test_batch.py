"""The batcher: every token is fed once and in order, rows are never shared, nobody starves."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.engines.autoregressive.batch import Batcher, BatchLimits, Plan
from carrara.engines.seats import Feed


@dataclass
class Rows:
    """A cache made of token numbers: what a plan does to it shows whether the plan was right."""

    held: dict[int, list[tuple[int, int]]] = field(default_factory=dict)

    def perform(self, plan: Plan, found: dict[int, int]) -> None:
        for swap in plan.exchanges:
            a, b = self.held.pop(swap.a, []), self.held.pop(swap.b, [])
            self.held[swap.b], self.held[swap.a] = a[: swap.length_a], b[: swap.length_b]
        for part in plan.passes:
            assert [f.row for f in part.feeds] == list(
                range(part.feeds[0].row, part.feeds[0].row + len(part.feeds))
            )
            for feed in part.feeds:
                assert 1 <= feed.count <= part.width
                assert feed.row < plan.rows
                assert feed.start + part.width <= plan.slots
                if found.get(feed.ticket) == feed.start:
                    self.held[feed.row] = [(feed.ticket, n) for n in range(feed.start)]
                    found.pop(feed.ticket)
                row = self.held.setdefault(feed.row, [])
                del row[feed.start :]
                assert row == [(feed.ticket, n) for n in range(feed.start)]
                row += [(feed.ticket, n) for n in range(feed.start, feed.start + feed.count)]


@dataclass
class Job:
    prompt: int
    answer: int
    forced: int
    priority: float
    cached: int
    leaves_after: int | None


JOBS = st.lists(
    st.builds(
        Job,
        prompt=st.integers(1, 60),
        answer=st.integers(1, 12),
        forced=st.integers(0, 3),
        priority=st.sampled_from([0.0, 0.0, 1.0]),
        cached=st.integers(0, 59),
        leaves_after=st.none() | st.integers(0, 8),
    ),
    min_size=1,
    max_size=12,
)
LIMITS = st.builds(
    BatchLimits,
    rows=st.integers(1, 5),
    waiting=st.just(100),
    cells=st.integers(60, 400),
    chunk=st.integers(1, 40),
    quiet_chunk=st.integers(1, 80),
    padding=st.integers(0, 8),
    width=st.integers(1, 6),
)


@settings(max_examples=150, deadline=None)
@given(jobs=JOBS, limits=LIMITS, late=st.integers(0, 6))
def test_every_token_is_fed_once_in_order_and_everybody_ends(
    jobs: list[Job], limits: BatchLimits, late: int
) -> None:
    batch, rows = Batcher(limits), Rows()
    known = {n: job.prompt for n, job in enumerate(jobs)}
    fed = dict.fromkeys(known, 0)
    left: set[int] = set()
    asked: list[int] = []
    offered = 0
    hits: dict[int, int] = {}

    def found(ticket: int) -> int:
        asked.append(ticket)
        hits[ticket] = min(jobs[ticket].cached, jobs[ticket].prompt - 1)
        fed[ticket] = hits[ticket]
        return hits[ticket]

    for turn in itertools.count():
        assert turn < 2000, "somebody starves"
        if turn % (late + 1) == 0 and offered < len(jobs):
            job = jobs[offered]
            assert batch.offer(offered, job.prompt, job.prompt + job.answer, job.priority)
            offered += 1
        for ticket in range(offered):
            if ticket not in left and jobs[ticket].leaves_after == turn:
                batch.leave(ticket)
                left.add(ticket)
        if batch.is_idle:
            if offered == len(jobs):
                break
            continue
        plan = batch.plan(found)
        assert plan.passes
        assert batch.seated <= limits.rows
        rows.perform(plan, hits)
        for feed in feeds_of(plan):
            assert feed.ticket not in left
            assert feed.start == fed[feed.ticket]
            fed[feed.ticket] += feed.count
            assert fed[feed.ticket] <= known[feed.ticket]
            batch.fed(feed)
        for feed in feeds_of(plan):
            job = jobs[feed.ticket]
            if fed[feed.ticket] == known[feed.ticket]:
                if known[feed.ticket] >= job.prompt + job.answer:
                    batch.leave(feed.ticket)
                    left.add(feed.ticket)
                else:
                    more = 1 + job.forced
                    known[feed.ticket] += more
                    batch.grew(feed.ticket, more)
    assert left == set(known)
    assert len(asked) == len(set(asked))


def feeds_of(plan: Plan) -> Iterator[Feed]:
    return (feed for part in plan.passes for feed in part.feeds)


def perform(batch: Batcher, grow: int = 1) -> Plan:
    """One turn in which every request that has been fed whole gets `grow` tokens more."""
    plan = batch.plan()
    for feed in feeds_of(plan):
        batch.fed(feed)
    for part in plan.passes:
        for feed in part.feeds:
            if part.kind == "answer":
                batch.grew(feed.ticket, feed.count)
    return plan


def kinds(plan: Plan) -> list[tuple[str, list[int]]]:
    return [(part.kind, [feed.ticket for feed in part.feeds]) for part in plan.passes]


def test_running_rows_go_on_while_a_long_prompt_is_fed_in_chunks() -> None:
    batch = Batcher(BatchLimits(chunk=10, quiet_chunk=10))
    batch.offer(1, 5, 50)
    perform(batch)
    batch.grew(1, 1)
    batch.offer(2, 25, 50)
    counts = []
    for _ in range(3):
        plan = perform(batch)
        assert kinds(plan) == [("prompt", [2]), ("answer", [1])]
        counts.append(plan.passes[0].feeds[0].count)
    assert counts == [10, 10, 5]


def test_short_prompts_share_a_pass() -> None:
    batch = Batcher(BatchLimits(quiet_chunk=40))
    for ticket, prompt in enumerate((10, 12, 9, 20)):
        batch.offer(ticket, prompt, 50)
    assert kinds(batch.plan())[0] == ("prompt", [0, 1, 2])


def test_a_higher_priority_goes_first_then_the_order_of_arrival() -> None:
    batch = Batcher(BatchLimits(rows=1))
    for ticket, priority in ((1, 0.0), (2, 0.0), (3, 5.0)):
        batch.offer(ticket, 4, 8, priority)
    order = []
    while not batch.is_idle:
        feed = next(feeds_of(batch.plan()))
        order.append(feed.ticket)
        batch.leave(feed.ticket)
    assert order == [3, 1, 2]


def test_forced_tokens_are_fed_in_one_pass_where_padding_allows() -> None:
    batch = Batcher(BatchLimits(padding=4, width=8))
    for ticket in (1, 2):
        batch.offer(ticket, 3, 50)
    for feed in feeds_of(batch.plan()):
        batch.fed(feed)
    batch.grew(1, 5)
    batch.grew(2, 1)
    part = batch.plan().passes[0]
    assert (part.width, [feed.count for feed in part.feeds]) == (5, [5, 1])
    batch.grew(1, 1)  # 6 and 1: five places would be wasted
    assert batch.plan().passes[0].width == 1


def test_the_queue_has_an_end_and_cancelling_makes_room() -> None:
    batch = Batcher(BatchLimits(rows=1, waiting=1))
    assert batch.offer(1, 4, 8)
    batch.plan()
    assert batch.offer(2, 4, 8)
    assert not batch.offer(3, 4, 8)
    batch.leave(2)
    assert batch.offer(3, 4, 8)
    assert (batch.seated, batch.waiting) == (1, 1)


@pytest.mark.parametrize(("need", "seated"), [(100, 2), (150, 1), (500, 1)])
def test_the_cache_bounds_how_many_sit_but_one_always_may(need: int, seated: int) -> None:
    batch = Batcher(BatchLimits(cells=200))
    for ticket in range(3):
        batch.offer(ticket, 10, need)
    batch.plan()
    assert batch.seated == seated


def test_answering_rows_close_ranks_when_one_leaves() -> None:
    batch = Batcher()
    for ticket in range(3):
        batch.offer(ticket, 4, 20)
    for feed in feeds_of(batch.plan()):
        batch.fed(feed)
        batch.grew(feed.ticket, 1)
    batch.leave(0)
    plan = batch.plan()
    assert [(swap.a, swap.b, swap.length_a, swap.length_b) for swap in plan.exchanges] == [
        (2, 0, 4, 0)
    ]
    assert [(feed.ticket, feed.row) for feed in feeds_of(plan)] == [(2, 0), (1, 1)]
