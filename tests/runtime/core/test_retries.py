"""Retries: which errors, how often, how long between, and what others may do meanwhile."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import stamina
from hypothesis import given
from hypothesis import strategies as st

from carrara.engines.errors import EngineBusy, EngineRefused
from carrara.runtime.errors import StepError
from carrara.runtime.events import Event, StepFailed, StepRetrying, StepStarted
from carrara.runtime.retry import is_worth_retrying, verdict
from carrara.runtime.run import context, execute, submit
from carrara.runtime.step import RunOptions, StepSpec

RETRY_LOG = "stamina.retry_scheduled"

Virtual = Callable[[Coroutine[Any, Any, Any]], Any]
Steps = Callable[..., StepSpec]


class Flaky:
    """Fails with the given errors in turn, then succeeds; notes when it was called."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.at: list[float] = []

    async def __call__(self) -> int:
        self.at.append(asyncio.get_running_loop().time())
        if self.errors:
            raise self.errors.pop(0)
        return context().attempt


def run_flaky(run_virtual: Virtual, step: Steps, flaky: Flaky, **options: Any) -> Any:
    async def workflow() -> Any:
        return submit(step(flaky, name="flaky", **options), (), {})

    return run_virtual(execute(workflow, name="w"))


def test_a_step_is_tried_until_it_succeeds(run_virtual: Virtual, step: Steps) -> None:
    flaky = Flaky(OSError("one"), OSError("two"))
    assert run_flaky(run_virtual, step, flaky, retries=3).value == 3


def test_a_step_that_keeps_failing_ends_with_its_last_error_and_the_number_of_attempts(
    run_virtual: Virtual, step: Steps
) -> None:
    flaky = Flaky(*(OSError(f"no {i}") for i in range(9)))
    with pytest.raises(StepError, match="failed after 3 attempts: OSError: no 2") as caught:
        run_flaky(run_virtual, step, flaky, retries=2)
    assert (caught.value.attempt, len(flaky.at)) == (3, 3)


def test_waits_grow_and_jitter(run_virtual: Virtual, step: Steps) -> None:
    flaky = Flaky(*(OSError() for _ in range(6)))
    run_flaky(run_virtual, step, flaky, retries=6)
    gaps = [b - a for a, b in zip(flaky.at, flaky.at[1:], strict=False)]
    for i, gap in enumerate(gaps):
        assert 0.1 * 2**i <= gap <= 0.1 * 2**i + 1.0 + 1e-6


def test_an_engine_that_names_its_wait_is_given_it(run_virtual: Virtual, step: Steps) -> None:
    flaky = Flaky(EngineBusy("busy", engine="e", retry_after_s=40.0))
    run_flaky(run_virtual, step, flaky, retries=1)
    assert 40.0 <= flaky.at[1] <= 44.0 + 1e-6


@given(st.floats(0.0, 1e4))
def test_retry_after_is_never_cut_short(seconds: float) -> None:
    wait = verdict(EngineBusy("busy", retry_after_s=seconds), None)
    assert seconds <= wait <= seconds * 1.1 + 1e-9


def test_what_can_never_succeed_is_not_tried_again(run_virtual: Virtual, step: Steps) -> None:
    flaky = Flaky(EngineRefused("too long", engine="e"))
    with pytest.raises(StepError, match="EngineRefused"):
        run_flaky(run_virtual, step, flaky, retries=5)
    assert len(flaky.at) == 1


def test_retry_on_chooses_the_errors() -> None:
    assert is_worth_retrying(KeyError(), (KeyError, ValueError))
    assert not is_worth_retrying(OSError(), (KeyError,))
    assert is_worth_retrying(OSError("x"), lambda e: str(e) == "x")
    assert is_worth_retrying(EngineBusy("later"), None)


def test_a_timeout_bounds_each_attempt(run_virtual: Virtual, step: Steps) -> None:
    calls: list[float] = []

    async def slow_at_first() -> str:
        calls.append(asyncio.get_running_loop().time())
        await asyncio.sleep(50 if len(calls) == 1 else 1)
        return "done"

    async def workflow() -> Any:
        return submit(step(slow_at_first, retries=1, timeout_s=2.0), (), {})

    assert run_virtual(execute(workflow)).value == "done"
    assert 2.1 <= calls[1] <= 3.1 + 1e-6


def test_others_use_the_place_while_a_step_waits_for_its_next_attempt(
    run_virtual: Virtual, step: Steps
) -> None:
    flaky = Flaky(EngineBusy("busy", retry_after_s=10.0))
    other: list[float] = []

    async def quick() -> None:
        other.append(asyncio.get_running_loop().time())
        await asyncio.sleep(30)

    async def workflow() -> Any:
        submit(step(flaky, name="flaky", retries=1), (), {})
        submit(step(quick), (), {})

    run_virtual(execute(workflow, options=RunOptions(concurrency=1)))
    assert other == [pytest.approx(0.0, abs=1e-3)]
    assert flaky.at[1] == pytest.approx(30.0)  # its wait was over at 10, the place at 30


def test_events_tell_of_every_attempt(run_virtual: Virtual, step: Steps) -> None:
    events: list[Event] = []
    flaky = Flaky(EngineBusy("busy", retry_after_s=10.0))

    async def workflow() -> Any:
        return submit(step(flaky, name="flaky", retries=2), (), {})

    run_virtual(execute(workflow, listeners=[events.append]))
    assert [(e.attempt, e.will_retry) for e in events if isinstance(e, StepFailed)] == [(1, True)]
    assert [e.attempt for e in events if isinstance(e, StepStarted)] == [1, 2]
    (retrying,) = [e for e in events if isinstance(e, StepRetrying)]
    assert retrying.attempt == 2


def test_a_run_cancelled_while_a_step_waits_for_its_next_attempt_ends_at_once(
    run_virtual: Virtual, step: Steps
) -> None:
    flaky = Flaky(EngineBusy("busy", retry_after_s=1000.0))

    async def workflow() -> Any:
        handle = submit(step(flaky, name="flaky", retries=1), (), {})
        await asyncio.sleep(5)
        handle.cancel()
        return asyncio.get_running_loop().time()

    assert run_virtual(execute(workflow)).value == pytest.approx(5.0)


def test_sync_steps_and_sub_workflows_are_retried_too(step: Steps) -> None:
    calls: list[str] = []

    def sync() -> int:
        calls.append("sync")
        if len(calls) == 1:
            raise OSError("first")
        return 1

    async def inner() -> Any:
        calls.append("inner")
        if calls.count("inner") == 1:
            raise OSError("first")
        return submit(step(sync, name="again"), (), {})

    async def workflow() -> Any:
        first = await submit(step(sync, retries=1), (), {})
        return [first, await submit(step(inner, kind="workflow", retries=1), (), {})]

    assert asyncio.run(execute(workflow)).value == [1, 1]
    assert calls == ["sync", "sync", "inner", "inner", "sync"]


def test_retries_of_steps_are_not_logged_by_stamina_but_those_of_others_are(
    run_virtual: Virtual, step: Steps, caplog: pytest.LogCaptureFixture
) -> None:
    async def own() -> int:
        async for tried in stamina.retry_context(on=OSError, attempts=2, wait_jitter=0):
            with tried:
                if tried.num == 1:
                    raise OSError("theirs")
        if context().attempt < 3:
            raise ValueError("ours")
        return context().attempt

    async def workflow() -> Any:
        return submit(step(own, retries=2), (), {})

    with caplog.at_level(logging.DEBUG):
        assert run_virtual(execute(workflow, name="w")).value == 3
    told = [record.__dict__ for record in caplog.records if record.message == RETRY_LOG]
    assert [found["stamina.caused_by"] for found in told] == [repr(OSError("theirs"))] * 3


def test_hooks_that_others_set_are_told_of_their_own_retries_only(
    run_virtual: Virtual, step: Steps
) -> None:
    heard: list[str] = []
    before = stamina.instrumentation.get_on_retry_hooks()
    stamina.instrumentation.set_on_retry_hooks(
        [lambda details: heard.append(str(details.caused_by))]
    )
    try:
        run_flaky(run_virtual, step, Flaky(OSError("ours")), retries=1)
        for tried in stamina.retry_context(on=OSError, wait_initial=0, wait_jitter=0):
            with tried:
                if tried.num == 1:
                    raise OSError("theirs")
    finally:
        stamina.instrumentation.set_on_retry_hooks(before)
    assert heard == ["theirs"]
