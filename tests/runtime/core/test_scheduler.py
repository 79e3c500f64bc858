"""Properties of the pure scheduler, on random graphs in virtual time."""

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.runtime.ranking import Estimates, Ranks
from carrara.runtime.scheduler import (
    CANCELLED,
    DONE,
    FAILED,
    RUNNING,
    SKIPPED,
    Node,
    Pool,
    Scheduler,
)

steady = settings(deadline=None, max_examples=80)  # a slow machine is no failure


@dataclass
class Case:
    """A graph: `inputs[i]` are smaller numbers. Node i appears when node `appears[i]` ends (None: at once)."""

    inputs: list[list[int]]
    seconds: list[float]
    slots: int
    fails: set[int] = field(default_factory=set)
    appears: list[int | None] = field(default_factory=list)
    narrow: set[int] = field(default_factory=set)  # nodes that also need a place in a pool of one
    cancel_at: int | None = None  # give the run up after so many ends


@dataclass
class Outcome:
    log: list[tuple[str, int, float]]
    nodes: list[Node | None]
    makespan_s: float
    starts: dict[int, float]
    ends: dict[int, float]


@st.composite
def cases(draw: st.DrawFn, *, failing: bool = False, growing: bool = False) -> Case:
    count = draw(st.integers(1, 24))
    inputs = [
        sorted(draw(st.sets(st.integers(0, i - 1), max_size=3))) if i else [] for i in range(count)
    ]
    seconds = [draw(st.floats(0.01, 5.0)) for _ in range(count)]
    case = Case(inputs, seconds, draw(st.integers(1, 4)))
    case.appears = [
        draw(st.none() | st.integers(0, i - 1)) if growing and i else None for i in range(count)
    ]
    case.narrow = draw(st.sets(st.integers(0, count - 1)))
    if failing:
        case.fails = draw(st.sets(st.integers(0, count - 1), max_size=3))
        case.cancel_at = draw(st.none() | st.integers(0, count))
    return case


def simulate(case: Case) -> Outcome:
    """Drive a Scheduler with the durations of `case`, and check at each step what must always hold."""
    run, narrow = Pool("run", case.slots, 1), Pool("narrow", 1)
    scheduler = Scheduler(Ranks(Estimates({f"n{i}": s for i, s in enumerate(case.seconds)})))
    nodes: list[Node | None] = [None] * len(case.inputs)
    running: list[tuple[float, int]] = []
    log: list[tuple[str, int, float]] = []
    starts: dict[int, float] = {}
    ends: dict[int, float] = {}
    now, given_up = 0.0, False

    def add(i: int) -> None:
        pools = (narrow, run) if i in case.narrow else (run,)
        nodes[i] = node = Node(i, f"n{i}", pools)
        sources: list[Node] = []
        for j in case.inputs[i]:
            if nodes[j] is None:  # an edge can only point to what is there
                add(j)
            source = nodes[j]
            assert source is not None
            sources.append(source)
        if scheduler.added(node, sources) is not None:
            log.append(("skip", i, now))

    def start() -> None:
        for node in scheduler.start():
            i = node.seq
            assert node.state == RUNNING
            assert not given_up, "nothing starts after the run was given up"
            assert all(nodes[j].state == DONE for j in case.inputs[i])  # type: ignore[union-attr]
            starts[i] = now
            log.append(("start", i, now))
            heapq.heappush(running, (now + case.seconds[i], i))
        assert len(running) <= case.slots
        assert sum(i in case.narrow for _, i in running) <= 1
        if scheduler.queued:  # whoever waits, waits for a pool that is full
            assert len(running) == case.slots or not narrow.free

    for i, cause in enumerate(case.appears):
        if cause is None and nodes[i] is None:
            add(i)
    start()
    while running and not given_up:
        now, i = heapq.heappop(running)
        ended = nodes[i]
        assert ended is not None
        ends[i] = now
        if i in case.fails:
            lost = scheduler.failed(ended)
            log.append(("fail", i, now))
            log.extend(("skip", n.seq, now) for n in lost)
        else:
            scheduler.finished(ended, case.seconds[i])
            log.append(("finish", i, now))
        for j, cause in enumerate(case.appears):
            if cause == i and nodes[j] is None:
                add(j)
        if case.cancel_at is not None and len(ends) > case.cancel_at:
            given_up = True
            for node in nodes:
                if node is not None and node.state < DONE:
                    scheduler.cancelled(node)
            assert not scheduler.start()
        else:
            start()
    return Outcome(log, nodes, now, starts, ends)


def critical_path_s(case: Case) -> float:
    ends: list[float] = []
    for i, inputs in enumerate(case.inputs):
        ends.append(case.seconds[i] + max((ends[j] for j in inputs), default=0.0))
    return max(ends)


@steady
@given(cases())
def test_makespan_is_never_shorter_than_the_critical_path_nor_than_the_shared_work(
    case: Case,
) -> None:
    makespan_s = simulate(case).makespan_s
    bound = max(critical_path_s(case), sum(case.seconds) / case.slots)
    assert makespan_s >= bound * (1 - 1e-9)


@steady
@given(cases())
def test_makespan_keeps_the_bound_of_list_scheduling(case: Case) -> None:
    case.narrow = set()
    makespan_s = simulate(case).makespan_s
    assert makespan_s <= (critical_path_s(case) + sum(case.seconds) / case.slots) * (1 + 1e-9)


@steady
@given(cases(failing=True, growing=True))
def test_every_node_ends_in_exactly_one_state(case: Case) -> None:
    outcome = simulate(case)
    for i, node in enumerate(outcome.nodes):
        if node is None:
            continue  # what would have revealed it never ended
        assert node.state in (DONE, FAILED, SKIPPED, CANCELLED)
        told = [what for what, j, _ in outcome.log if j == i and what != "start"]
        assert (
            told
            == {DONE: ["finish"], FAILED: ["fail"], SKIPPED: ["skip"], CANCELLED: []}[node.state]
        )


@steady
@given(cases(failing=True))
def test_a_node_is_skipped_exactly_when_something_it_waits_for_failed(case: Case) -> None:
    case.cancel_at = None
    outcome = simulate(case)
    lost: set[int] = set()
    for i, inputs in enumerate(case.inputs):
        node = outcome.nodes[i]
        assert node is not None
        if lost.intersection(inputs):
            lost.add(i)
            assert node.state == SKIPPED
        elif i in case.fails:
            lost.add(i)
            assert node.state == FAILED
        else:
            assert node.state == DONE


@steady
@given(cases(growing=True))
def test_with_places_for_all_a_node_starts_the_moment_its_last_input_ends(case: Case) -> None:
    case.slots, case.narrow = len(case.inputs), set()
    case.appears = [None] * len(case.inputs)
    outcome = simulate(case)
    for i, inputs in enumerate(case.inputs):
        assert outcome.starts[i] == max((outcome.ends[j] for j in inputs), default=0.0)


@steady
@given(cases(failing=True, growing=True))
def test_the_same_case_gives_the_same_transcript(case: Case) -> None:
    assert simulate(case).log == simulate(case).log


def test_under_contention_the_longest_remaining_path_goes_first() -> None:
    #  0 -> 1 (long tail), 2 and 3 short: after the first place is free the tail's head goes first
    case = Case([[], [], [], [2]], [1.0, 1.0, 1.0, 10.0], slots=1, appears=[None] * 4)
    assert [i for what, i, _ in simulate(case).log if what == "start"] == [2, 3, 0, 1]


def test_a_full_step_pool_does_not_hold_back_other_steps() -> None:
    run, narrow = Pool("run", 2, 1), Pool("narrow", 1)
    scheduler = Scheduler(Ranks(Estimates({"narrow": 9.0, "free": 1.0})))
    slow = [Node(i, "narrow", (narrow, run)) for i in range(3)]
    free = Node(3, "free", (run,))
    for node in (*slow, free):
        scheduler.added(node)
    assert scheduler.start() == [slow[0], free]
    scheduler.finished(free, 1.0)
    assert scheduler.start() == []
    scheduler.finished(slow[0], 9.0)
    assert scheduler.start() == [slow[1]]


def test_a_place_goes_to_the_most_urgent_of_all_pools() -> None:
    run, narrow = Pool("run", 1, 1), Pool("narrow", 1)
    scheduler = Scheduler(Ranks(Estimates({"narrow": 9.0, "free": 1.0})))
    urgent, other = Node(0, "narrow", (narrow, run)), Node(1, "free", (run,))
    scheduler.added(urgent)
    scheduler.added(other)
    assert scheduler.start() == [urgent]


def test_a_cancelled_waiter_gives_its_places_to_the_next() -> None:
    run, narrow = Pool("run", 1, 1), Pool("narrow", 1)
    scheduler = Scheduler(Ranks(Estimates()))
    blocker = Node(0, "blocker", (run,))
    first, second = (Node(i, "narrow", (narrow, run)) for i in (1, 2))
    scheduler.added(blocker)
    assert scheduler.start() == [blocker]
    scheduler.added(first)
    scheduler.added(second)
    assert scheduler.start() == []
    assert scheduler.cancelled(first) == []
    scheduler.finished(blocker, 1.0)
    assert scheduler.start() == [second]


def test_a_place_given_back_between_attempts_is_used_by_others() -> None:
    scheduler = Scheduler(Ranks(Estimates()))
    run = Pool("run", 1)
    flaky, other = Node(0, "flaky", (run,)), Node(1, "other", (run,))
    scheduler.added(flaky)
    scheduler.added(other)
    assert scheduler.start() == [flaky]
    scheduler.released(flaky)
    assert scheduler.start() == [other]
    scheduler.again(flaky)
    assert scheduler.start() == []
    scheduler.finished(other, 1.0)
    assert scheduler.start() == [flaky]


def layered(rng: random.Random, count: int, layers: int) -> tuple[list[list[int]], list[float]]:
    """A random layered graph with mean in-degree 3 and lognormal latencies (median 0.15 s, sigma 0.8)."""
    inputs: list[list[int]] = []
    width = count // layers
    for i in range(count):
        layer = i // width
        before = range(max(0, (layer - 1) * width), layer * width)
        parents = {rng.choice(before)} if layer else set()
        while layer and len(parents) < min(3, layer * width):
            parents.add(rng.randrange(layer * width))
        inputs.append(sorted(parents))
    return inputs, [rng.lognormvariate(-1.897, 0.8) for _ in range(count)]


def first_come_s(inputs: Sequence[Sequence[int]], seconds: Sequence[float], slots: int) -> float:
    """Makespan when ready nodes start in the order in which they became ready."""
    need = [len(sources) for sources in inputs]
    after: list[list[int]] = [[] for _ in inputs]
    for i, sources in enumerate(inputs):
        for j in sources:
            after[j].append(i)
    ready = [i for i, left in enumerate(need) if not left]
    running: list[tuple[float, int]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < slots:
            i = ready.pop(0)
            heapq.heappush(running, (now + seconds[i], i))
        now, i = heapq.heappop(running)
        for j in after[i]:
            need[j] -= 1
            if not need[j]:
                ready.append(j)
    return now


def test_learned_latencies_keep_the_makespan_near_the_bound_and_never_behind_first_come() -> None:
    ratios = []
    for seed in range(40):
        inputs, seconds = layered(random.Random(seed), 200, 10)
        case = Case(inputs, seconds, slots=8, appears=[None] * 200)
        makespan_s = simulate(case).makespan_s
        ratios.append(makespan_s / max(critical_path_s(case), sum(seconds) / 8))
        assert makespan_s <= 1.02 * first_come_s(inputs, seconds, 8)
    assert sorted(ratios)[len(ratios) // 2] <= 1.03
