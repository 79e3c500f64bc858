"""Who shares which pass: drafts, verifying passes and prompts side by side."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from carrara.engines.autoregressive.batch import BatchLimits
from carrara.engines.seats import Feed
from carrara.engines.verified.batch import VerifyingBatcher, VerifyingPlan

LIMITS = BatchLimits(rows=6, padding=4, width=10)


def seated(count: int, limits: BatchLimits = LIMITS) -> VerifyingBatcher:
    """A batch whose requests have read their prompts and have one token to read."""
    batch = VerifyingBatcher(limits)
    for ticket in range(count):
        assert batch.offer(ticket, 3, 60)
    for part in batch.plan().passes:
        for feed in part.feeds:
            batch.fed(feed)
    for ticket in range(count):
        batch.grew(ticket, 1)
    return batch


def passes(plan: VerifyingPlan) -> list[tuple[int, list[int]]]:
    return [(part.width, [feed.ticket for feed in part.feeds]) for part in plan.passes]


def test_rows_share_a_pass_with_those_of_about_their_length() -> None:
    batch = seated(4)
    for ticket, ahead in enumerate((0, 8, 1, 7)):
        batch.goes_on(ticket, ahead, False)
    assert passes(batch.plan()) == [(9, [1, 3]), (2, [0, 2])]


def test_an_answer_whose_draft_is_in_the_making_waits_for_it() -> None:
    batch = seated(2)
    batch.goes_on(1, 0, True)
    plan = batch.plan()
    assert passes(plan) == [(1, [0])]
    assert [(spot.ticket, spot.row, spot.length) for spot in plan.spots] == [(1, 1, 3)]
    batch.goes_on(1, 5, False)
    plan = batch.plan()
    assert (passes(plan)[0], plan.spots) == ((6, [1]), ())


def test_what_was_not_accepted_is_read_again() -> None:
    batch = seated(1)
    batch.goes_on(0, 6, False)
    [feed] = batch.plan().passes[0].feeds
    assert (feed.start, feed.count) == (3, 7)
    batch.fed(Feed(0, feed.row, 3, 2))
    batch.grew(0, 2)
    batch.goes_on(0, 0, False)
    [feed] = batch.plan().passes[0].feeds
    assert (feed.start, feed.count) == (5, 1)


def test_nobody_reads_more_than_the_width_of_a_pass() -> None:
    batch = seated(1)
    batch.goes_on(0, 50, False)
    assert passes(batch.plan()) == [(10, [0])]


@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=6))
def test_each_answer_is_in_one_pass_or_drafts_and_padding_stays_small(
    ways: list[tuple[int, bool]],
) -> None:
    batch = seated(len(ways))
    for ticket, (ahead, is_drafting) in enumerate(ways):
        batch.goes_on(ticket, ahead, is_drafting)
    plan = batch.plan()
    feeds = [feed for part in plan.passes for feed in part.feeds]
    drafting = [spot.ticket for spot in plan.spots]
    assert sorted([feed.ticket for feed in feeds] + drafting) == list(range(len(ways)))
    assert drafting == [ticket for ticket, (_, is_drafting) in enumerate(ways) if is_drafting]
    for part in plan.passes:
        assert sum(part.width - feed.count for feed in part.feeds) <= LIMITS.padding
        assert [feed.row for feed in part.feeds] == sorted(feed.row for feed in part.feeds)


def test_a_request_that_leaves_while_it_drafts_leaves_nothing_behind() -> None:
    batch = seated(2)
    batch.goes_on(0, 0, True)
    batch.leave(0)
    assert batch.plan().spots == ()
    batch.leave(1)
    assert batch.is_idle
