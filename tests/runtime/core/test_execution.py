"""What a workflow function sees: handles, edges, values, sub-workflows, contexts."""

import asyncio
import contextvars
import dataclasses
import threading
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

from carrara.runtime.errors import HandleError, ScopeError, StepError
from carrara.runtime.handle import Handle
from carrara.runtime.run import context, execute, in_workflow, submit, submit_map
from carrara.runtime.step import RunOptions, StepSpec

Virtual = Callable[[Coroutine[Any, Any, Any]], Any]
Steps = Callable[..., StepSpec]


async def one_more(x: int) -> int:
    return x + 1


async def total(*values: Any) -> int:
    def add(found: Any) -> int:
        if isinstance(found, int):
            return found
        if isinstance(found, dict):
            return sum(map(add, found.values()))
        if isinstance(found, BaseModel):
            return sum(add(v) for _, v in found)
        if dataclasses.is_dataclass(found):
            return sum(add(getattr(found, f.name)) for f in dataclasses.fields(found))
        return sum(map(add, found))

    return sum(map(add, values))


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    left: Any
    right: Any = 0


class Model(BaseModel):
    inner: Any = None
    count: int = 0


class Point(NamedTuple):
    x: Any
    y: Any


def test_a_chain_of_handles_gives_the_value_of_its_end(run_virtual: Virtual, step: Steps) -> None:
    one = step(one_more)

    async def workflow(start: int) -> Any:
        handle = submit(one, (start,), {})
        for _ in range(9):
            handle = submit(one, (handle,), {})
        return handle

    result = run_virtual(execute(workflow, (0,), {}))
    assert (result.value, result.steps, result.reused) == (10, 10, 0)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda h: [h, 1],
        lambda h: (h, [1]),
        lambda h: {"a": [h], "b": {"c": 1}},
        lambda h: {h, 1},
        lambda h: Pair(h, Pair(1)),
        lambda h: Model(inner=[h], count=1),
        lambda h: Point(h, 1),
    ],
    ids=["list", "tuple", "dict", "set", "dataclass", "model", "named tuple"],
)
def test_handles_inside_an_argument_are_replaced_by_values(
    run_virtual: Virtual, step: Steps, wrap: Callable[[Any], Any]
) -> None:
    seen: list[Any] = []

    async def look(value: Any) -> int:
        seen.append(value)
        return await total(value)

    async def workflow() -> Any:
        return submit(step(look), (), {"value": wrap(submit(step(one_more), (1,), {}))})

    assert run_virtual(execute(workflow)).value == 3
    assert type(seen[0]) is type(wrap(0))


def test_a_list_that_the_workflow_changes_later_reaches_the_step_as_it_was(
    run_virtual: Virtual, step: Steps
) -> None:
    async def workflow() -> list[int]:
        history: list[Any] = []
        handles = []
        for i in range(4):
            handle = submit(step(total, name=f"t{i}"), (history, 1), {})
            history.append(handle)
            handles.append(handle)
        return [await h for h in handles]

    assert run_virtual(execute(workflow)).value == [1, 2, 4, 8]


def test_branches_and_loops_are_plain_python(run_virtual: Virtual, step: Steps) -> None:
    async def workflow() -> int:
        n = 0
        while await submit(step(one_more), (n,), {}) < 5:
            n += 1
        return n

    assert run_virtual(execute(workflow)).value == 4


def test_a_workflow_that_never_awaits_may_be_a_plain_function(
    run_virtual: Virtual, step: Steps
) -> None:
    def workflow() -> Any:
        first = submit(step(one_more), (1,), {})
        return {"sum": submit(step(total), ([first, 5],), {}), "parts": [first, (first,)]}

    assert run_virtual(execute(workflow)).value == {"sum": 7, "parts": [2, (2,)]}


def test_a_step_starts_when_its_own_inputs_are_there_not_when_its_level_is(
    run_virtual: Virtual, step: Steps
) -> None:
    ends: dict[str, float] = {}

    async def wait(name: str, seconds: float, *after: Any) -> str:
        await asyncio.sleep(seconds)
        ends[name] = asyncio.get_running_loop().time()
        return name

    async def workflow() -> Any:
        spec = step(wait)
        slow = submit(spec, ("slow", 20), {})
        fast = submit(spec, ("fast1", 5), {})
        fast = submit(spec, ("fast2", 5, fast), {})
        fast = submit(spec, ("fast3", 5, fast), {})
        return submit(spec, ("join", 1, [slow, fast]), {})

    run_virtual(execute(workflow))
    assert ends == pytest.approx({"fast1": 5, "fast2": 10, "fast3": 15, "slow": 20, "join": 21})


def test_steps_still_running_when_the_workflow_returns_are_awaited(
    run_virtual: Virtual, step: Steps
) -> None:
    done: list[int] = []

    async def late(i: int) -> None:
        await asyncio.sleep(i)
        done.append(i)

    async def workflow() -> str:
        for i in range(3):
            submit(step(late), (i,), {})
        return "returned"

    result = run_virtual(execute(workflow))
    assert (result.value, done, result.steps) == ("returned", [0, 1, 2], 3)


def test_sync_bodies_run_beside_the_loop_and_inline_ones_on_it(step: Steps) -> None:
    def where() -> int:
        return threading.get_ident()

    async def workflow() -> Any:
        return [
            submit(step(where, name="thread"), (), {}),
            submit(step(where, name="inline", inline=True), (), {}),
        ]

    async def main() -> tuple[list[int], int]:
        result = await execute(workflow)
        return result.value, threading.get_ident()

    (thread, inline), loop_thread = asyncio.run(main())
    assert thread != loop_thread
    assert inline == loop_thread


def test_threads_and_the_run_bound_how_many_sync_bodies_run_at_once(step: Steps) -> None:
    lock, together = threading.Lock(), threading.Barrier(3)
    now, most = [0], [0]

    def body(_: int) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        together.wait(10)  # three must run at once for any to go on
        with lock:
            now[0] -= 1

    async def workflow() -> Any:
        return submit_map(step(body), range(12), {})

    asyncio.run(execute(workflow, options=RunOptions(threads=3)))
    assert most == [3]


def test_a_step_body_sees_its_context_and_no_workflow(run_virtual: Virtual, step: Steps) -> None:
    async def look(_: Any) -> tuple[Any, ...]:
        ctx = context()
        return in_workflow(), ctx.path, ctx.attempt, ctx.run.name, ctx.resources["k"], ctx.rank > 0

    async def workflow() -> Any:
        assert in_workflow()
        return [submit(step(look), (0,), {}), submit_map(step(look, name="each"), [7, 8], {})]

    assert not in_workflow()
    value = run_virtual(execute(workflow, name="book", resources={"k": 1})).value
    assert value == [
        (False, "book/look", 1, "book", 1, True),
        [
            (False, "book/each[0]", 1, "book", 1, True),
            (False, "book/each[1]", 1, "book", 1, True),
        ],
    ]


def test_context_in_a_thread_is_that_of_the_step(step: Steps) -> None:
    def look() -> str:
        return context().path

    async def workflow() -> Any:
        return submit(step(look), (), {})

    assert asyncio.run(execute(workflow, name="w")).value == "w/look"


def test_context_variables_reach_steps_and_do_not_leak_between_them(
    run_virtual: Virtual, step: Steps
) -> None:
    var = contextvars.ContextVar("var", default="unset")

    async def body(i: int) -> str:
        before = var.get()
        var.set(f"step {i}")
        return before

    async def workflow() -> Any:
        var.set("workflow")
        return [await submit(step(body), (i,), {}) for i in range(3)]

    assert run_virtual(execute(workflow)).value == ["workflow"] * 3


def test_sub_workflows_nest_and_recurse(run_virtual: Virtual, step: Steps) -> None:
    paths: list[str] = []

    async def leaf(n: int) -> int:
        paths.append(context().path)
        return n

    async def tree(depth: int) -> Any:
        if not depth:
            return submit(step(leaf), (1,), {})
        halves = [submit(step(tree, kind="workflow"), (depth - 1,), {}) for _ in range(2)]
        return submit(step(total), (halves,), {})

    assert run_virtual(execute(tree, (4,), name="tree")).value == 16
    assert set(paths) == {"tree/tree/tree/tree/tree/leaf"}


def test_nested_maps_with_a_single_place_do_not_deadlock(run_virtual: Virtual, step: Steps) -> None:
    async def leaf(n: int) -> int:
        await asyncio.sleep(0.1)
        return n

    async def inner(n: int) -> Any:
        return submit(step(total), (submit_map(step(leaf), range(n), {}, 1),), {})

    async def middle(n: int) -> Any:
        handles = submit_map(step(inner, kind="workflow", concurrency=1), range(n), {}, 1)
        return await submit(step(total), (handles,), {})

    async def workflow() -> Any:
        return submit_map(step(middle, kind="workflow"), [2, 3, 4], {}, 1)

    result = run_virtual(execute(workflow, options=RunOptions(concurrency=1)))
    assert result.value == [0, 1, 4]


def test_recursion_under_a_bound_of_its_own_does_not_deadlock(
    run_virtual: Virtual, step: Steps
) -> None:
    async def odd(n: int) -> Any:
        return submit(step(even, kind="workflow", concurrency=1), (n - 1,), {}) if n else "odd"

    async def even(n: int) -> Any:
        return submit(step(odd, kind="workflow", concurrency=1), (n - 1,), {}) if n else "even"

    async def workflow() -> Any:
        return [
            submit_map(step(odd, kind="workflow", concurrency=1), [4, 5]),
            submit_map(step(even, kind="workflow", concurrency=1), [4, 5]),
        ]

    assert run_virtual(execute(workflow)).value == [["odd", "even"], ["even", "odd"]]


def test_a_step_body_that_waits_for_another_step_is_told_to_take_its_value_as_an_argument(
    run_virtual: Virtual, step: Steps
) -> None:
    async def workflow() -> Any:
        later: list[Handle[int]] = []

        async def waits() -> int:
            return await later[0]

        waiting = submit(step(waits), (), {})
        later.append(submit(step(one_more), (1,), {}))
        return waiting

    with pytest.raises(StepError, match="pass the handle to it as an argument"):
        run_virtual(execute(workflow, options=RunOptions(concurrency=1)))


def test_a_run_inside_a_step_is_a_run_of_its_own(run_virtual: Virtual, step: Steps) -> None:
    async def inner() -> Any:
        return submit(step(one_more), (1,), {})

    async def body() -> Any:
        return (await execute(inner, name="inner")).value

    async def workflow() -> Any:
        return submit(step(body), (), {})

    assert run_virtual(execute(workflow)).value == 2


def test_steps_named_alike_must_agree_on_their_concurrency(
    run_virtual: Virtual, step: Steps
) -> None:
    async def workflow() -> Any:
        submit(step(one_more, name="same", concurrency=1), (1,), {})
        submit(step(one_more, name="same", concurrency=2), (1,), {})

    with pytest.raises(ScopeError, match="same"):
        run_virtual(execute(workflow))


def test_a_step_outside_of_any_workflow_is_an_error(step: Steps) -> None:
    with pytest.raises(ScopeError, match="no workflow runs"):
        submit(step(one_more), (1,), {})
    with pytest.raises(ScopeError, match="no step runs"):
        context()


def test_a_step_called_by_a_task_that_outlives_its_workflow_is_an_error(
    run_virtual: Virtual, step: Steps
) -> None:
    late: list[asyncio.Task[Any]] = []

    async def straggler() -> None:
        await asyncio.sleep(5)
        submit(step(one_more), (1,), {})

    async def workflow() -> None:
        late.append(asyncio.create_task(straggler()))

    async def main() -> None:
        await execute(workflow, name="short")
        with pytest.raises(ScopeError, match="'short' had ended"):
            await late[0]

    run_virtual(main())


def test_a_step_called_from_a_thread_of_the_workflow_is_an_error(step: Steps) -> None:
    async def workflow() -> None:
        await asyncio.to_thread(submit, step(one_more), (1,), {})

    with pytest.raises(ScopeError, match="another thread"):
        asyncio.run(execute(workflow))


MISUSES: dict[str, Callable[[Any], Any]] = {
    "truth": bool,
    "iteration": list,
    "length": len,
    "membership": lambda h: 1 in h,
    "item": lambda h: h[0],
    "attribute": lambda h: h.title,
    "name": lambda h: h.name,
    "f-string": lambda h: f"{h}",
    "call": lambda h: h(),
    "equality": lambda h: h == "spam",
    "order": lambda h: h < 1,
    "sum": lambda h: h + 1,
    "sum from the right": lambda h: "a" + h,
    "conversion": int,
}


@pytest.mark.parametrize("misuse", MISUSES.values(), ids=MISUSES.keys())
def test_a_handle_used_like_its_value_says_what_to_do_instead(
    run_virtual: Virtual, step: Steps, misuse: Callable[[Any], Any]
) -> None:
    async def workflow() -> int:
        handle = submit(step(one_more), (1,), {})
        with pytest.raises(HandleError, match=r"step 'w/one_more'.*Write `await` before it"):
            misuse(handle)
        assert repr(handle) == "<handle of step 'w/one_more': ready>"
        assert handle in {handle}
        assert handle != submit(step(one_more), (1,), {})
        return await handle

    assert run_virtual(execute(workflow, name="w")).value == 2


def test_an_argument_that_contains_itself_is_refused(run_virtual: Virtual, step: Steps) -> None:
    async def workflow() -> None:
        knot: list[Any] = []
        knot.append(knot)
        submit(step(total), (knot,), {})

    with pytest.raises(HandleError, match="contains itself"):
        run_virtual(execute(workflow))


def test_a_handle_may_be_awaited_by_many_and_many_times(run_virtual: Virtual, step: Steps) -> None:
    async def workflow() -> list[int]:
        handle: Handle[int] = submit(step(one_more), (1,), {})
        together = await asyncio.gather(handle, handle)
        return [*together, await handle]

    assert run_virtual(execute(workflow)).value == [2, 2, 2]


def test_values_let_go_when_nobody_holds_their_handle(run_virtual: Virtual, step: Steps) -> None:
    import weakref

    class Big:
        pass

    alive: list[weakref.ref[Big]] = []

    async def make(_: Any) -> Big:
        big = Big()
        alive.append(weakref.ref(big))
        return big

    async def workflow() -> int:
        handle = submit(step(make), (0,), {})
        for _ in range(20):
            handle = submit(step(make), (handle,), {})
            await handle
        return sum(ref() is not None for ref in alive)

    assert run_virtual(execute(workflow)).value <= 2


def test_a_chain_of_ten_thousand_does_not_deepen_the_stack(step: Steps) -> None:
    async def workflow() -> Any:
        handle: Any = 0
        for _ in range(10_000):
            handle = submit(step(one_more), (handle,), {})
        return handle

    assert asyncio.run(execute(workflow)).value == 10_000
