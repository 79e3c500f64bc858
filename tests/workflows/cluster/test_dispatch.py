"""Which record runs where: nothing is lost, nothing runs twice at once, one bad record takes few workers with it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from carrara.workflows.cluster.dispatch import CULPRIT_AFTER, SUSPECT_AFTER, Dispatch

acts = st.lists(
    st.tuples(
        st.sampled_from(["offer", "join", "lose", "end", "withdraw"]),
        st.integers(0, 3),
        st.integers(0, 40),
    ),
    max_size=80,
)


@given(acts, st.integers(1, 6), st.integers(1, 8))
def test_every_record_is_held_once_or_waits_or_is_settled(found, window, chunk) -> None:
    state = Dispatch(window, min(chunk, window))
    unsettled: set[int] = set()
    known: set[int] = set()
    for act, worker, place in found:
        if act == "offer" and place not in known:
            known.add(place)
            unsettled.add(place)
            state.offer(place)
        elif act == "join" and worker not in state.held:
            state.joined(worker)
        elif act == "lose":
            unsettled -= set(state.lost(worker))
        elif act == "end":
            held = place in state.held.get(worker, ())
            assert state.ended(worker, place) == held
            if held:
                unsettled.discard(place)
        elif act == "withdraw" and place in unsettled:
            state.withdraw(place)
            unsettled.discard(place)
        for _, places in state.sends():
            assert places == sorted(places)
            assert len(places) <= window
        running = [each for held in state.held.values() for each in held]
        assert len(running) == len(set(running))
        assert all(len(held) <= window for held in state.held.values())
        assert sorted([*running, *state.waiting, *state.suspects]) == sorted(unsettled)
        for held in state.held.values():
            suspects = [each for each in held if state.losses.get(each, 0) >= SUSPECT_AFTER]
            assert not suspects or len(held) == 1, "a suspect runs alone"


@given(st.integers(0, 30), st.integers(1, 4), st.integers(1, 8), st.integers(1, 8))
def test_all_records_end_where_workers_live(count, workers, window, chunk) -> None:
    state = Dispatch(window, min(chunk, window))
    for place in range(count):
        state.offer(place)
    for worker in range(workers):
        state.joined(worker)
    ended = 0
    while ended < count:
        state.sends()
        held = [(worker, place) for worker, places in state.held.items() for place in places]
        assert held, "records wait and nobody works"
        for worker, place in held:
            assert state.ended(worker, place)
            ended += 1


def test_records_are_spread_over_the_workers() -> None:
    state = Dispatch(16, 4)
    for worker in range(4):
        state.joined(worker)
    for place in range(16):
        state.offer(place)
    assert [len(places) for _, places in state.sends()] == [4, 4, 4, 4]


def test_a_record_that_takes_its_worker_down_fails_and_the_others_do_not() -> None:
    bad, lost, culprits = 5, 0, []
    state = Dispatch(4, 2)
    for place in range(20):
        state.offer(place)
    for worker in (0, 1):
        state.joined(worker)
    ended: set[int] = set()
    while len(ended) + len(culprits) < 20:
        state.sends()
        for worker in list(state.held):
            if bad in state.held[worker]:
                culprits += state.lost(worker)
                lost += 1
                state.joined(worker)
            for place in list(state.held[worker])[:1]:
                state.ended(worker, place)
                ended.add(place)
    assert culprits == [bad]
    assert ended == set(range(20)) - {bad}
    assert lost == SUSPECT_AFTER + CULPRIT_AFTER
