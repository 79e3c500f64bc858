"""What fails, what that takes with it, and what is said about it."""

import asyncio
import logging
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.runtime import held, loop_watch
from carrara.runtime.errors import RunCancelled, RunDeadline, StepError, StepTimeout
from carrara.runtime.events import (
    Event,
    RunFinished,
    StepCancelled,
    StepFailed,
    StepFinished,
    StepSkipped,
    StepStarted,
)
from carrara.runtime.handle import Handle
from carrara.runtime.run import RunControl, execute, submit, submit_map
from carrara.runtime.step import RunOptions, StepSpec

Virtual = Callable[[Coroutine[Any, Any, Any]], Any]
Steps = Callable[..., StepSpec]


async def give(*values: Any) -> Any:
    return values[-1]


async def fail(*values: Any) -> Any:
    raise ValueError("broken")


async def wait(seconds: float, *values: Any) -> float:
    await asyncio.sleep(seconds)
    return seconds


def test_a_recursion_without_end_fails_once_and_is_told_once(run_virtual: Virtual) -> None:
    events: list[Event] = []

    async def deeper() -> Any:
        return await submit(spec, (), {})

    spec = StepSpec("deeper", deeper, "workflow")
    with pytest.raises(StepError, match="runs 1001 levels deep: a recursion") as caught:
        run_virtual(execute(deeper, name="w", listeners=[events.append]))
    assert len(str(caught.value)) < 400
    failed = [event for event in events if isinstance(event, StepFailed)]
    assert len(failed) == 1_001
    assert [event.within for event in failed].count(False) == 1


def test_awaiting_what_depends_on_a_failed_step_raises_its_error_with_the_cause(
    run_virtual: Virtual, step: Steps
) -> None:
    async def workflow() -> Any:
        bad = submit(step(fail), (1,), {})
        after = submit(step(give), ([bad],), {})
        last = submit(step(give, name="last"), (after,), {})
        with pytest.raises(StepError) as caught:
            await last
        return caught.value

    error = run_virtual(execute(workflow, name="w", run_id="4f2a")).value
    assert (error.run, error.step, error.index, error.attempt) == ("4f2a", "w/fail", None, 1)
    assert isinstance(error.__cause__, ValueError)
    assert str(error) == "step 'w/fail' in run 4f2a failed: ValueError: broken"


def test_a_failure_that_nobody_was_given_fails_the_run_at_its_end(
    run_virtual: Virtual, step: Steps
) -> None:
    done: list[float] = []

    async def slow(seconds: float) -> None:
        await asyncio.sleep(seconds)
        done.append(seconds)

    async def workflow() -> str:
        submit(step(fail), (), {})
        submit(step(slow), (3.0,), {})
        return "fine"

    with pytest.raises(StepError, match="w/fail"):
        run_virtual(execute(workflow, name="w"))
    assert done == [3.0]


def test_a_failure_that_was_caught_does_not_fail_the_run(run_virtual: Virtual, step: Steps) -> None:
    async def workflow() -> str:
        try:
            await submit(step(give), (submit(step(fail), (), {}),), {})
        except StepError:
            return "handled"
        return "not raised"

    assert run_virtual(execute(workflow)).value == "handled"


def test_a_failure_seen_inside_a_sub_workflow_and_let_pass_is_a_failure_of_its_caller(
    run_virtual: Virtual, step: Steps
) -> None:
    async def inner() -> Any:
        return await submit(step(fail), (), {})

    async def outer(catch: bool) -> str:
        handle = submit(step(inner, kind="workflow"), (), {})
        if catch:
            with pytest.raises(StepError, match="outer/inner/fail"):
                await handle
        return "outer"

    assert run_virtual(execute(outer, (True,))).value == "outer"
    with pytest.raises(StepError, match="outer/inner/fail"):
        run_virtual(execute(outer, (False,)))


def test_an_error_of_a_sub_workflow_function_names_its_node(
    run_virtual: Virtual, step: Steps
) -> None:
    async def inner(i: int) -> None:
        raise KeyError("lost")

    async def outer() -> Any:
        return submit_map(step(inner, kind="workflow"), [0])

    with pytest.raises(StepError, match=r"'outer/inner\[0\]'.*KeyError: 'lost'"):
        run_virtual(execute(outer))


def test_an_error_of_the_workflow_function_passes_with_a_note_after_its_steps_went_on(
    run_virtual: Virtual, step: Steps
) -> None:
    done: list[str] = []

    async def slow() -> None:
        await asyncio.sleep(1)
        done.append("slow")

    async def workflow() -> None:
        submit(step(slow), (), {})
        raise KeyError("mine")

    with pytest.raises(KeyError) as caught:
        run_virtual(execute(workflow, name="w", run_id="r1"))
    assert caught.value.__notes__ == ["in run r1 of workflow 'w'"]
    assert done == ["slow"]


def test_fail_fast_ends_the_run_at_the_first_failure(run_virtual: Virtual, step: Steps) -> None:
    done: list[str] = []

    async def slow() -> None:
        await asyncio.sleep(9)
        done.append("slow")

    async def workflow() -> None:
        slow_one = submit(step(slow), (), {})
        submit(step(fail), (), {})
        await slow_one

    async def main() -> float:
        with pytest.raises(StepError, match="fail"):
            await execute(workflow, options=RunOptions(fail_fast=True))
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(0.0, abs=1e-3)
    assert done == []


def test_events_name_the_origin_of_every_skipped_step(run_virtual: Virtual, step: Steps) -> None:
    events: list[Event] = []

    async def workflow() -> Any:
        bad = submit(step(fail), (), {})
        await asyncio.sleep(1)
        late = submit(step(give), (bad,), {})  # submitted after its input had failed
        return submit(step(give, name="last"), (late,), {})

    with pytest.raises(StepError):
        run_virtual(execute(workflow, name="w", listeners=[events.append]))
    failed = [e for e in events if isinstance(e, StepFailed)]
    skipped = [e for e in events if isinstance(e, StepSkipped)]
    assert [(e.path, e.attempt, e.error, e.will_retry) for e in failed] == [
        ("w/fail", 1, "ValueError: broken", False)
    ]
    assert [(e.path, e.origin) for e in skipped] == [("w/give", "w/fail"), ("w/last", "w/fail")]
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert (end.ok, "broken" in end.error) == (False, True)


def test_a_body_that_raises_stop_iteration_or_cancels_itself_fails_like_any_other(
    step: Steps,
) -> None:
    def stop() -> None:
        raise StopIteration

    async def cancel() -> None:
        raise asyncio.CancelledError

    async def workflow() -> None:
        with pytest.raises(StepError, match="StopIteration"):
            await submit(step(stop), (), {})
        with pytest.raises(StepError, match="CancelledError"):
            await submit(step(cancel), (), {})

    asyncio.run(execute(workflow))


def test_an_attempt_over_its_timeout_is_cancelled(run_virtual: Virtual, step: Steps) -> None:
    cancelled: list[bool] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def workflow() -> float:
        with pytest.raises(StepError, match="longer than its timeout_s of 2 s") as caught:
            await submit(step(slow, timeout_s=2.0), (), {})
        assert isinstance(caught.value.__cause__, StepTimeout)
        return asyncio.get_running_loop().time()

    assert run_virtual(execute(workflow)).value == pytest.approx(2.0)
    assert cancelled == [True]


def test_an_attempt_that_blocks_the_loop_beyond_its_timeout_has_failed(step: Steps) -> None:
    async def blocking() -> int:
        threading.Event().wait(0.2)
        return 1

    async def workflow() -> None:
        with pytest.raises(StepError, match=r"longer than its timeout_s of 0\.05 s"):
            await submit(step(blocking, timeout_s=0.05), (), {})

    asyncio.run(execute(workflow))


def test_a_step_is_not_late_because_another_one_blocked_the_loop_before_it_began(
    step: Steps,
) -> None:
    async def blocking() -> None:
        threading.Event().wait(0.2)

    async def workflow() -> Any:
        timed = [submit(step(blocking, timeout_s=9.0), (), {})]
        timed += [submit(step(give, timeout_s=0.1), (1,), {}) for _ in range(3)]
        return [await handle for handle in timed]

    assert asyncio.run(execute(workflow)).value == [None, 1, 1, 1]


def test_a_step_that_blocks_the_loop_is_named_while_it_does(
    step: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = threading.Event()
    said: list[str] = []

    class Hears(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())
            told.set()

    async def blocking() -> bool:
        return told.wait(30)

    async def workflow() -> bool:
        slow = submit(step(wait, timeout_s=0.01), (30.0,), {})
        found = await submit(step(blocking), (), {})
        with pytest.raises(StepError, match="timeout_s"):
            await slow
        return bool(found)

    monkeypatch.setattr(loop_watch, "GRACE_S", 0.05)
    heard = Hears()
    logging.getLogger(loop_watch.__name__).addHandler(heard)
    try:
        assert asyncio.run(execute(workflow, name="w")).value
    finally:
        logging.getLogger(loop_watch.__name__).removeHandler(heard)
    assert said[0].startswith("step 'w/blocking' has blocked the event loop for more than")
    assert f"({__file__}:" in said[0]


def goes_on(
    caught: type[BaseException], seen: list[str]
) -> Callable[[], Coroutine[Any, Any, None]]:
    """The body of a step that nothing ends that is `caught`."""

    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except caught as error:
                seen.append(type(error).__name__)

    return stubborn


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("caught", "seen"),
    [
        (asyncio.CancelledError, ["CancelledError"]),
        (BaseException, ["CancelledError", "GeneratorExit"]),
    ],
)
def test_a_step_that_goes_on_after_its_cancellation_is_given_up(
    caught: type[BaseException],
    seen: list[str],
    run_virtual: Virtual,
    step: Steps,
    caplog: pytest.LogCaptureFixture,
) -> None:
    found: list[str] = []
    after = []

    async def workflow() -> float:
        stubborn = step(goes_on(caught, found), timeout_s=2.0)
        with pytest.raises(StepError, match="longer than its timeout_s of 2 s"):
            await submit(stubborn, (), {})
        after.append(asyncio.get_running_loop().time())
        await submit(step(wait), (1.0,), {})
        return asyncio.get_running_loop().time()

    assert run_virtual(execute(workflow, name="w")).value == pytest.approx(3.0 + held.GRACE_S)
    assert after == [pytest.approx(2.0 + held.GRACE_S)]
    assert found[: len(seen)] == seen
    assert "step 'w/stubborn' went on for 5 s after it was cancelled" in caplog.text


def test_a_value_that_comes_after_the_cancellation_is_too_late(
    run_virtual: Virtual, step: Steps
) -> None:
    async def late() -> int:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(1)
        return 1

    async def workflow() -> None:
        with pytest.raises(StepError, match="longer than its timeout_s of 2 s"):
            await submit(step(late, timeout_s=2.0), (), {})

    run_virtual(execute(workflow))


def test_a_timeout_error_of_the_body_itself_is_not_taken_for_the_step_s(
    run_virtual: Virtual, step: Steps
) -> None:
    async def body() -> None:
        raise TimeoutError("the server's")

    async def workflow() -> None:
        await submit(step(body, timeout_s=5.0), (), {})

    with pytest.raises(StepError, match="TimeoutError: the server's"):
        run_virtual(execute(workflow))


def test_a_sub_workflow_over_its_timeout_takes_its_steps_with_it(
    run_virtual: Virtual, step: Steps
) -> None:
    events: list[Event] = []

    async def inner() -> Any:
        return [
            submit(step(wait), (60.0,), {}),
            submit(step(give), (submit(step(wait), (70.0,), {}),), {}),
        ]

    async def workflow() -> float:
        with pytest.raises(StepError, match="timeout_s"):
            await submit(step(inner, kind="workflow", timeout_s=3.0), (), {})
        return asyncio.get_running_loop().time()

    result = run_virtual(execute(workflow, name="w", listeners=[events.append]))
    assert result.value == pytest.approx(3.0)
    gone = sorted(e.path for e in events if isinstance(e, StepCancelled))
    assert gone == ["w/inner/give", "w/inner/wait", "w/inner/wait"]


def test_a_run_over_its_deadline_is_cancelled(run_virtual: Virtual, step: Steps) -> None:
    async def workflow() -> None:
        await submit(step(wait), (60.0,), {})

    async def main() -> float:
        with pytest.raises(RunDeadline, match="deadline of 5 s"):
            await execute(workflow, options=RunOptions(deadline_s=5.0))
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(5.0)


def test_control_cancels_a_run_from_outside(run_virtual: Virtual, step: Steps) -> None:
    control = RunControl()
    events: list[Event] = []

    async def workflow() -> None:
        submit(step(give), (submit(step(wait), (60.0,), {}),), {})
        await asyncio.sleep(1)
        control.cancel("the user pressed q")
        await asyncio.sleep(99)

    with pytest.raises(RunCancelled, match="the user pressed q"):
        run_virtual(execute(workflow, name="w", control=control, listeners=[events.append]))
    assert [e.path for e in events if isinstance(e, StepCancelled)] == ["w/wait", "w/give"]


def test_a_run_cancelled_before_it_began_starts_nothing(run_virtual: Virtual, step: Steps) -> None:
    control = RunControl()
    control.cancel()
    started: list[Event] = []

    async def workflow() -> None:
        await submit(step(wait), (60.0,), {})

    with pytest.raises(RunCancelled):
        run_virtual(execute(workflow, control=control, listeners=[started.append]))
    assert not [e for e in started if isinstance(e, StepStarted)]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 40), st.booleans())
def test_cancelling_at_any_moment_leaves_nothing_behind(ticks: int, nested: bool) -> None:
    cleaned: list[int] = []
    opened: list[int] = []

    async def body(i: int) -> int:
        opened.append(i)
        try:
            for _ in range(3):
                await asyncio.sleep(0)
        finally:
            cleaned.append(i)
        return i

    async def inner(i: int) -> Any:
        return submit_map(StepSpec("body", body), range(i))

    async def workflow() -> Any:
        rows = submit_map(StepSpec("inner", inner, "workflow"), range(4)) if nested else range(4)
        return submit_map(StepSpec("body", body), submit(StepSpec("give", give), (rows, [1]), {}))

    async def main() -> None:
        run = asyncio.create_task(execute(workflow, options=RunOptions(concurrency=3)))
        for _ in range(ticks):
            await asyncio.sleep(0)
        done = run.done()
        run.cancel()
        if done:
            await run
        else:
            with pytest.raises(asyncio.CancelledError):
                await run
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    assert sorted(opened) == sorted(cleaned)


def test_a_handle_kept_beyond_a_cancelled_run_raises_instead_of_waiting_for_ever(
    run_virtual: Virtual, step: Steps
) -> None:
    kept: list[Handle[Any]] = []

    async def workflow() -> None:
        kept.append(submit(step(wait), (60.0,), {}))
        await kept[0]

    async def main() -> None:
        with pytest.raises(RunDeadline):
            await execute(workflow, options=RunOptions(deadline_s=1.0))
        with pytest.raises(StepError, match="was cancelled"):
            await kept[0]

    run_virtual(main())


def test_a_cancelled_handle_takes_what_waits_for_it_and_frees_its_place(
    run_virtual: Virtual, step: Steps
) -> None:
    async def workflow() -> Any:
        slow = submit(step(wait), (60.0,), {})
        after = submit(step(give), (slow,), {})
        other = submit(step(wait, name="other"), (1.0,), {})
        await asyncio.sleep(2)
        slow.cancel("too slow")
        with pytest.raises(StepError, match="was cancelled: too slow"):
            await after
        return [await other, asyncio.get_running_loop().time()]

    result = run_virtual(execute(workflow, options=RunOptions(concurrency=1)))
    assert result.value == [1.0, pytest.approx(3.0)]


def test_a_cancelled_map_takes_its_children_with_it(run_virtual: Virtual, step: Steps) -> None:
    started: list[Any] = []

    async def work(i: int) -> None:
        started.append(i)
        await asyncio.sleep(60)

    async def workflow() -> float:
        rows = submit_map(step(work), range(100), {}, 2)
        await asyncio.sleep(1)
        rows.cancel()
        with pytest.raises(StepError, match="no longer wanted"):
            await rows
        return asyncio.get_running_loop().time()

    assert run_virtual(execute(workflow)).value == pytest.approx(1.0)
    assert started == [0, 1]


def test_giving_up_waiting_for_a_handle_does_not_give_up_the_step(
    run_virtual: Virtual, step: Steps
) -> None:
    async def workflow() -> Any:
        slow = submit(step(wait), (5.0,), {})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await slow
        return await slow

    assert run_virtual(execute(workflow)).value == 5.0


def test_a_listener_that_raises_gets_no_more_events_and_the_run_goes_on(
    run_virtual: Virtual, step: Steps, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[Event] = []

    def broken(event: Event) -> None:
        calls.append(event)
        raise ValueError("display")

    async def workflow() -> Any:
        return submit(step(give), (1,), {})

    assert run_virtual(execute(workflow, listeners=[broken])).value == 1
    assert len(calls) == 1
    assert "gets no more events" in caplog.text


def leave(code: int | str) -> None:
    sys.exit(code)


async def leave_async(code: int | str) -> None:
    sys.exit(code)


@pytest.mark.parametrize("options", [{}, {"inline": True}, {"timeout_s": 60.0}])
@pytest.mark.parametrize("body", [leave, leave_async])
def test_a_step_that_exits_fails_and_the_others_go_on(
    body: Callable[..., Any], options: dict[str, Any], step: Steps
) -> None:
    async def workflow() -> Any:
        bad = submit(step(body, name="bad", **options), ("no more",), {})
        good = submit(step(wait, name="good"), (0.01,), {})
        with pytest.raises(StepError, match=r"'w/bad'.*sys\.exit\('no more'\)") as caught:
            await bad
        assert isinstance(caught.value.__cause__, RuntimeError)
        names = [frame.name for frame in traceback.extract_tb(caught.value.__cause__.__traceback__)]
        assert names[-1] == body.__name__
        return await good

    assert asyncio.run(execute(workflow, name="w")).value == 0.01


def test_a_workflow_that_exits_fails_when_what_it_submitted_has_ended(
    run_virtual: Virtual, step: Steps
) -> None:
    events: list[Event] = []

    async def inner() -> Any:
        submit(step(wait, name="good"), (5.0,), {})
        sys.exit(3)

    async def workflow() -> Any:
        return submit(step(inner, kind="workflow"), (), {})

    with pytest.raises(StepError, match=r"'w/inner'.*sys\.exit\(3\) was called"):
        run_virtual(execute(workflow, name="w", listeners=[events.append]))
    ends = [event.path for event in events if isinstance(event, StepFinished | StepFailed)]
    assert ends == ["w/inner/good", "w/inner"]


def test_of_the_items_of_a_map_only_the_one_that_exits_is_lost(step: Steps) -> None:
    def odd(number: int) -> int:
        return sys.exit() if number == 1 else number

    async def workflow() -> Any:
        handles = [submit(step(odd), (number,), {}) for number in range(3)]
        return [await asyncio.gather(handle, return_exceptions=True) for handle in handles]

    found = [part for (part,) in asyncio.run(execute(workflow, name="w")).value]
    assert (found[0], found[2]) == (0, 2)
    assert isinstance(found[1], StepError)


class Panic(BaseException):
    """As compiled code raises it: no Exception."""


@pytest.mark.parametrize("options", [{}, {"inline": True}, {"timeout_s": 60.0}])
@pytest.mark.parametrize("kind", [GeneratorExit, KeyboardInterrupt, Panic])
def test_a_step_that_raises_what_is_no_exception_fails_and_the_others_go_on(
    kind: type[BaseException], options: dict[str, Any], step: Steps
) -> None:
    def odd() -> None:
        raise kind("far off")

    async def odd_async() -> None:
        raise kind("far off")

    async def workflow() -> Any:
        bad = [submit(step(body, name="bad", **options), (), {}) for body in (odd, odd_async)]
        good = submit(step(wait, name="good"), (0.01,), {})
        for handle in bad:
            with pytest.raises(StepError, match=f"RuntimeError: {kind.__name__}.* was raised"):
                await handle
        return await good

    assert asyncio.run(execute(workflow, name="w")).value == 0.01


def test_an_interrupt_is_the_steps_own_where_the_signal_is_ignored(step: Steps) -> None:
    """As in a program that a shell script starts in the background."""

    async def odd() -> None:
        raise KeyboardInterrupt

    async def workflow() -> None:
        with pytest.raises(StepError, match="KeyboardInterrupt was raised"):
            await submit(step(odd), (), {})

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        asyncio.run(execute(workflow, name="w"))
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("kind", [GeneratorExit, Panic, asyncio.CancelledError])
def test_a_workflow_that_raises_what_is_no_exception_fails_alone(
    kind: type[BaseException], run_virtual: Virtual, step: Steps
) -> None:
    async def inner() -> Any:
        submit(step(wait, name="good"), (5.0,), {})
        raise kind("far off")

    async def workflow() -> Any:
        bad = submit(step(inner, kind="workflow"), (), {})
        with pytest.raises(StepError, match=f"'w/inner'.*{kind.__name__}: far off was raised"):
            await bad
        return "on"

    assert run_virtual(execute(workflow, name="w")).value == "on"
