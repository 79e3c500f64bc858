"""Maps: order, bounds, laziness, empty ones, and maps over maps."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.runtime.errors import HandleError, ScopeError, StepError
from carrara.runtime.events import StepFinished
from carrara.runtime.fanout import ABSENT
from carrara.runtime.run import execute, submit, submit_map
from carrara.runtime.step import RunOptions, StepSpec

Virtual = Callable[[Coroutine[Any, Any, Any]], Any]
Steps = Callable[..., StepSpec]


async def one_more(x: int) -> int:
    return x + 1


async def items_of(n: int) -> list[int]:
    return list(range(n))


async def length(found: list[Any]) -> int:
    return len(found)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(0, 5), max_size=12),
    st.integers(1, 5),
    st.integers(1, 5),
    st.sampled_from(["list", "handle", "handles inside", "map"]),
)
def test_results_are_in_order_whatever_the_pace_the_bounds_and_the_source(
    seconds: list[float], limit: int, concurrency: int, source: str
) -> None:
    now, most = 0, 0

    async def wait(item: list[Any], plus: int) -> int:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        return int(item[0]) + plus

    async def give(value: Any) -> Any:
        return value

    async def workflow() -> Any:
        plain: Any = [[i] for i in range(len(seconds))]
        if source == "handle":
            plain = submit(StepSpec("give", give), (plain,), {})
        elif source == "handles inside":
            plain = [[submit(StepSpec("give", give), (i,), {})] for i in range(len(seconds))]
        elif source == "map":
            plain = submit_map(StepSpec("give", give), plain)
        plus = submit(StepSpec("give", give), (10,), {})
        return submit_map(StepSpec("wait", wait), plain, {"plus": plus}, limit)

    result = asyncio.run(execute(workflow, options=RunOptions(concurrency=concurrency)))
    assert result.value == [i + 10 for i in range(len(seconds))]
    assert most <= min(limit, concurrency)


def test_children_start_in_order_and_at_most_limit_at_once(
    run_virtual: Virtual, step: Steps
) -> None:
    started: list[int] = []
    running: set[int] = set()
    most = 0

    async def work(i: int) -> int:
        nonlocal most
        started.append(i)
        running.add(i)
        most = max(most, len(running))
        await asyncio.sleep(10 - i)
        running.discard(i)
        return i

    async def workflow() -> Any:
        return submit_map(step(work), range(10), {}, 3)

    assert run_virtual(execute(workflow)).value == list(range(10))
    assert started == list(range(10))
    assert most == 3


@pytest.mark.parametrize("source", ["list", "handle", "map"])
def test_an_empty_map_still_fires_its_join(run_virtual: Virtual, step: Steps, source: str) -> None:
    async def workflow() -> Any:
        items: Any = []
        if source == "handle":
            items = submit(step(items_of), (0,), {})
        elif source == "map":
            items = submit_map(step(one_more), [])
        return submit(step(length), (submit_map(step(one_more, name="each"), items),), {})

    assert run_virtual(execute(workflow)).value == 0


def test_a_map_over_a_map_passes_each_item_on_as_it_comes(
    run_virtual: Virtual, step: Steps
) -> None:
    ends: dict[tuple[str, int], float] = {}

    def stage(name: str, seconds: Callable[[int], float]) -> StepSpec:
        async def work(i: int) -> int:
            await asyncio.sleep(seconds(i))
            ends[name, i] = asyncio.get_running_loop().time()
            return i

        return step(work, name=name)

    async def workflow() -> Any:
        first = submit_map(stage("a", lambda i: 10.0 if i == 1 else 1.0), range(4))
        second = submit_map(stage("b", lambda i: 2.0), first)
        return submit_map(stage("c", lambda i: 3.0), second)

    assert run_virtual(execute(workflow)).value == [0, 1, 2, 3]
    assert ends["c", 0] == pytest.approx(6.0)
    assert ends["c", 1] == pytest.approx(15.0)
    assert ends["c", 3] == pytest.approx(6.0)


@pytest.mark.parametrize("items", [[ABSENT, 1, ABSENT, 3], [ABSENT] * 4], ids=["some", "all"])
def test_absent_items_keep_the_places_of_the_others(
    run_virtual: Virtual, step: Steps, items: list[Any]
) -> None:
    paths: list[str] = []

    async def absent_or_more(x: int | None) -> int:
        return 0 if x is None else x + 1

    def listen(event: Any) -> None:
        if isinstance(event, StepFinished):
            paths.append(event.path)

    async def workflow() -> Any:
        first = submit_map(step(one_more), items, limit=1)
        return [await first, await submit_map(step(absent_or_more), first)]

    found, after = run_virtual(execute(workflow, listeners=[listen])).value
    assert found == [None if item is ABSENT else item + 1 for item in items]
    assert after == [0 if item is ABSENT else item + 2 for item in items]
    ran = [path for path in paths if "/one_more[" in path]
    assert ran == [f"workflow/one_more[{i}]" for i, x in enumerate(items) if x is not ABSENT]


def test_a_map_may_follow_another_that_has_begun(run_virtual: Virtual, step: Steps) -> None:
    async def slow(i: int) -> int:
        await asyncio.sleep(i)
        return i

    async def workflow() -> Any:
        first = submit_map(step(slow), range(6))
        await asyncio.sleep(2.5)
        return submit_map(step(one_more), first)

    assert run_virtual(execute(workflow)).value == [1, 2, 3, 4, 5, 6]


def test_a_map_over_many_items_keeps_few_children_alive(run_virtual: Virtual, step: Steps) -> None:
    most = 0

    async def look(i: int) -> int:
        nonlocal most
        if not i % 500:
            from carrara.runtime.node import current

            node = current.get()
            most = max(most, len(node.scope.executor.live))  # type: ignore[union-attr]
        return i

    async def workflow() -> Any:
        return submit(step(length), (submit_map(step(look), range(20_000), {}, 50),), {})

    assert run_virtual(execute(workflow)).value == 20_000
    assert most <= 110


def test_maps_of_sub_workflows_are_bounded_though_they_hold_no_place(
    run_virtual: Virtual, step: Steps
) -> None:
    alive, most = 0, 0

    async def chapter(i: int) -> Any:
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        await submit(step(one_more), (i,), {})
        alive -= 1
        return i

    async def workflow() -> Any:
        return submit_map(step(chapter, kind="workflow"), range(50), {}, 4)

    assert run_virtual(execute(workflow)).value == list(range(50))
    assert most == 4


def test_a_failed_child_fails_the_map_names_its_index_and_lets_the_others_go_on(
    run_virtual: Virtual, step: Steps
) -> None:
    done: list[int] = []

    async def work(i: int) -> int:
        await asyncio.sleep(i)
        if i == 2:
            raise ValueError("bad row")
        done.append(i)
        return i

    async def workflow() -> str:
        rows = submit_map(step(work), range(5))
        try:
            await rows
        except StepError as error:
            assert asyncio.get_running_loop().time() == pytest.approx(2.0)
            return f"{error.step} {error.index}"
        return "no error"

    assert run_virtual(execute(workflow, name="w")).value == "w/work[2] 2"
    assert done == [0, 1, 3, 4]


def test_keep_errors_puts_the_error_in_the_place_of_the_result(
    run_virtual: Virtual, step: Steps
) -> None:
    async def work(i: int) -> int:
        if i % 2:
            raise ValueError(i)
        return i

    async def workflow() -> Any:
        rows = submit_map(step(work), range(4), keep_errors=True)
        more = submit_map(step(one_more), rows, keep_errors=True)
        return [await rows, await more]

    rows, more = run_virtual(execute(workflow)).value
    assert [r if isinstance(r, int) else type(r) for r in rows] == [0, StepError, 2, StepError]
    assert [r if isinstance(r, int) else r.index for r in more] == [1, 1, 3, 3]


def test_a_failed_child_of_a_map_skips_its_follower_in_a_map_over_it(
    run_virtual: Virtual, step: Steps
) -> None:
    seen: list[int] = []

    async def work(i: int) -> int:
        if i == 1:
            raise ValueError(i)
        return i

    async def follow(i: int) -> int:
        seen.append(i)
        return i

    async def workflow() -> Any:
        first = submit_map(step(work), range(4))
        return submit_map(step(follow), first)

    with pytest.raises(StepError, match=r"work\[1\]"):
        run_virtual(execute(workflow))
    assert sorted(seen) == [0, 2, 3]


@pytest.mark.parametrize("items", ["text", b"bytes", {"a": 1}, 7])
def test_a_map_over_what_is_no_list_is_refused(
    run_virtual: Virtual, step: Steps, items: Any
) -> None:
    async def direct() -> Any:
        return submit_map(step(one_more), items)

    async def give() -> Any:
        return items

    async def by_handle() -> Any:
        return submit_map(step(one_more), submit(step(give), (), {}))

    with pytest.raises(HandleError, match="cannot be mapped over"):
        run_virtual(execute(direct))
    with pytest.raises(StepError, match="cannot be mapped over"):
        run_virtual(execute(by_handle))


def test_a_limit_below_one_is_refused(run_virtual: Virtual, step: Steps) -> None:
    async def workflow() -> Any:
        return submit_map(step(one_more), [1], limit=0)

    with pytest.raises(ScopeError, match="at least 1"):
        run_virtual(execute(workflow))
