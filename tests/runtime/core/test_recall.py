"""The executor and its journal: what is recorded when, and what is used again."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.runtime.errors import JournalError, StepError
from carrara.runtime.events import Event, StepChanged, StepFailed, StepFinished
from carrara.runtime.run import context, execute, submit, submit_map
from carrara.runtime.step import RunOptions, StepSpec

Virtual = Callable[[Coroutine[Any, Any, Any]], Any]
Steps = Callable[..., StepSpec]


class Workshop:
    """A workflow of counted steps: a fan, a join, a loop and a sub-workflow."""

    def __init__(self, journal: Any, step: Steps) -> None:
        self.journal = journal
        self.step = step
        self.ran: list[str] = []
        self.events: list[Event] = []
        self.versions: dict[str, str] = {}
        self.die_after: int | None = None

    def make(self, name: str, body: Callable[..., Any], **options: Any) -> StepSpec:
        async def counted(*args: Any) -> Any:
            self.ran.append(name)
            return body(*args)

        return self.step(
            counted, name=name, fingerprint=name + self.versions.get(name, "1"), **options
        )

    async def workflow(self, count: int) -> Any:
        rows = submit_map(self.make("row", lambda i: i * i), range(count))
        total = submit(self.make("total", sum), (rows,), {})
        n = 0
        while n < 3:
            n = await submit(self.make("loop", lambda i: i + 1), (n,), {})
        inner = submit(self.step(self.inner, kind="workflow"), (total,), {})
        return [total, n, inner]

    async def inner(self, x: int) -> Any:
        return [submit(self.make("same", lambda v: v + 1), (x,), {}) for _ in range(2)]

    async def run(self, count: int = 5, **kwargs: Any) -> Any:
        self.ran.clear()
        self.events.clear()
        return await execute(
            self.workflow,
            (count,),
            name="w",
            journal=self.journal,
            listeners=[self.events.append],
            **kwargs,
        )

    def changes(self) -> list[tuple[str, str]]:
        return sorted((e.path, e.what) for e in self.events if isinstance(e, StepChanged))


@pytest.fixture
def shop(journal: Any, step: Steps) -> Workshop:
    return Workshop(journal, step)


EXPECTED = [30, 3, [31, 31]]


def test_a_resumed_run_takes_every_finished_step_from_the_journal(
    run_virtual: Virtual, shop: Workshop
) -> None:
    first = run_virtual(shop.run(run_id="r"))
    assert (first.value, first.steps, first.reused) == (EXPECTED, 12, 0)
    assert len(shop.ran) == 11  # the sub-workflow is a node, its function is not a step
    second = run_virtual(shop.run(run_id="r"))
    assert (second.value, second.steps, second.reused) == (EXPECTED, 12, 11)
    assert shop.ran == []
    assert shop.changes() == []
    finished = [e for e in shop.events if isinstance(e, StepFinished) and e.reused]
    assert len(finished) == 11


def test_another_run_takes_nothing_unless_it_may_reuse_any(
    run_virtual: Virtual, shop: Workshop
) -> None:
    run_virtual(shop.run(run_id="r"))
    assert run_virtual(shop.run(run_id="s")).reused == 0
    assert run_virtual(shop.run(options=RunOptions(reuse="any"))).reused == 11


def test_a_changed_definition_runs_again_with_what_it_changes_and_says_so(
    run_virtual: Virtual, shop: Workshop
) -> None:
    run_virtual(shop.run(run_id="r"))
    shop.versions["loop"] = "2"
    run_virtual(shop.run(run_id="r"))
    assert shop.ran == ["loop"] * 3
    assert shop.changes() == [("w/loop", "definition")] * 3


def test_changed_inputs_run_again_and_say_so(run_virtual: Virtual, shop: Workshop) -> None:
    run_virtual(shop.run(5, run_id="r"))
    run_virtual(shop.run(6, run_id="r"))
    assert sorted(shop.ran) == ["row", "same", "same", "total"]
    assert shop.changes() == [
        ("w/inner/same", "inputs"),
        ("w/inner/same", "inputs"),
        ("w/total", "inputs"),
    ]


def test_a_loop_that_was_cut_off_goes_on_without_a_word_of_change(
    run_virtual: Virtual, shop: Workshop
) -> None:
    run_virtual(shop.run(run_id="r"))
    steps = shop.journal.steps["r"]
    for key in [k for k in steps if k.path == "w/loop"][1:]:
        del steps[key]
    assert run_virtual(shop.run(run_id="r")).value == EXPECTED
    assert shop.ran == ["loop", "loop"]
    assert shop.changes() == []


def test_equal_work_keeps_its_results_apart_in_the_order_it_was_asked_for(
    run_virtual: Virtual, journal: Any, step: Steps
) -> None:
    """Under contention draws start by rank, which latencies change; each consumer must find its own draw."""
    draws: list[int] = []
    used: list[str] = []

    async def draw() -> int:
        draws.append(len(draws))
        await asyncio.sleep(1)
        return draws[-1]

    async def use(name: str, drawn: int) -> str:
        used.append(name)
        await asyncio.sleep(int(name) % 3)
        return f"{name}:{drawn}"

    async def workflow() -> Any:
        return [
            submit(step(use, name=f"use{i}"), (str(i), submit(step(draw), (), {})), {})
            for i in range(12)
        ]

    options = RunOptions(concurrency=2)
    first = run_virtual(execute(workflow, journal=journal, run_id="r", options=options))
    used.clear()
    journal.known = {f"use{i}": float(i % 5) for i in range(12)}
    second = run_virtual(execute(workflow, journal=journal, run_id="r", options=options))
    assert (second.value, second.reused, used) == (first.value, 24, [])


def test_a_result_that_cannot_be_read_as_the_new_type_runs_again(
    run_virtual: Virtual, shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_virtual(shop.run(run_id="r"))
    found = shop.journal.finished("r")
    for key, stored in found.items():
        if key.path == "w/total":
            stored.payload = "unreadable"
    monkeypatch.setattr(shop.journal, "finished", lambda run_id: found)
    assert run_virtual(shop.run(run_id="r")).value == EXPECTED
    assert shop.ran == ["total"]
    assert shop.changes() == [("w/total", "result type")]


def test_steps_without_cache_or_fingerprint_are_recorded_and_never_reused(
    run_virtual: Virtual, journal: Any, step: Steps
) -> None:
    ran: list[int] = []

    async def body(i: int) -> int:
        ran.append(i)
        return i

    async def workflow() -> Any:
        one = submit(step(body, name="uncached", cache=False), (1,), {})
        return [one, submit(step(body, name="unknown", fingerprint=""), (2,), {})]

    for _ in range(2):
        run_virtual(execute(workflow, journal=journal, run_id="r", name="w"))
    assert ran == [1, 2, 1, 2]
    assert {key.path for key in journal.steps["r"]} == {"w/uncached", "w/unknown"}


def test_a_successor_starts_only_when_the_result_is_durable(
    run_virtual: Virtual, journal: Any, step: Steps
) -> None:
    async def body(name: str, *after: Any) -> str:
        recorded = {key.path for key in journal.steps["r"]}
        assert {f"w/{a}" for a in after} <= recorded
        return name

    async def workflow() -> Any:
        a = submit(step(body, name="a"), ("a",), {})
        b = submit(step(body, name="b"), ("b", a), {})
        await b
        assert {key.path for key in journal.steps["r"]} == {"w/a", "w/b"}
        return submit(step(body, name="c"), ("c", a, b), {})

    assert run_virtual(execute(workflow, journal=journal, name="w", run_id="r")).value == "c"


def test_results_of_one_turn_are_committed_together(
    run_virtual: Virtual, journal: Any, step: Steps
) -> None:
    async def body(i: int) -> int:
        return i

    async def workflow() -> Any:
        return submit_map(step(body), range(200))

    run_virtual(execute(workflow, journal=journal))
    assert journal.commits <= 4


def test_the_place_of_a_step_is_free_while_its_record_is_written(
    run_virtual: Virtual, journal: Any, step: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(record: Any, done: Callable[[Any], None]) -> None:
        asyncio.get_running_loop().call_later(10, done, None)

    monkeypatch.setattr(journal, "record", slowly)

    async def body(i: int) -> float:
        await asyncio.sleep(1)
        return asyncio.get_running_loop().time()

    async def workflow() -> Any:
        return submit_map(step(body), range(3))

    result = run_virtual(execute(workflow, journal=journal, options=RunOptions(concurrency=1)))
    assert result.value == pytest.approx([1, 2, 3])


def test_a_value_that_cannot_be_stored_fails_its_step(
    run_virtual: Virtual, journal: Any, step: Steps
) -> None:
    async def body() -> object:
        return object()

    async def workflow() -> Any:
        return submit(step(body), (), {})

    with pytest.raises(StepError, match="not JSON serializable"):
        run_virtual(execute(workflow, journal=journal))


def test_a_journal_that_cannot_be_written_ends_the_run_at_once(
    run_virtual: Virtual, journal: Any, step: Steps
) -> None:
    started: list[int] = []

    async def body(i: int) -> int:
        started.append(i)
        return i

    async def workflow() -> Any:
        first = submit(step(body), (1,), {})
        return submit(step(body), (first,), {})

    journal.broken = JournalError("journal.db: no space left on device")
    with pytest.raises(JournalError, match="no space left on device"):
        run_virtual(execute(workflow, journal=journal, run_id="r"))
    assert started == [1]
    assert journal.closed["r"][0] is False


@pytest.mark.parametrize("method", ["identity", "record", "finished"])
def test_a_journal_error_from_any_call_ends_the_run_with_it(
    run_virtual: Virtual, shop: Workshop, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def refuse(*_: object) -> None:
        raise JournalError("journal.db: disk I/O error")

    monkeypatch.setattr(shop.journal, method, refuse)
    with pytest.raises(JournalError, match="disk I/O error"):
        run_virtual(shop.run(run_id="r"))
    assert shop.journal.closed["r"] == (False, "JournalError: journal.db: disk I/O error")


def test_failures_and_the_end_of_the_run_are_recorded(
    run_virtual: Virtual, journal: Any, step: Steps
) -> None:
    async def body() -> None:
        raise ValueError("broken")

    async def workflow() -> Any:
        return submit(step(body), (), {})

    with pytest.raises(StepError):
        run_virtual(execute(workflow, journal=journal, run_id="r", name="w"))
    (record,) = journal.steps["r"].values()
    assert (record.status, record.error) == (
        "failed",
        "step 'w/body' in run r failed: ValueError: broken",
    )
    assert journal.closed["r"] == (False, f"StepError: {record.error}")
    assert [type(e) for e in journal.events] == [StepFailed]
    assert journal.runs["r"].workflow == "w"


def test_the_idempotency_key_is_the_same_in_every_attempt_and_after_a_resume(
    run_virtual: Virtual, journal: Any, step: Steps
) -> None:
    keys: list[str] = []

    async def body(i: int) -> int:
        keys.append(context().idempotency_key)
        if len(keys) % 2:
            raise OSError("flaky")
        return i

    async def workflow() -> Any:
        return submit(step(body, retries=1, cache=False), (1,), {})

    for _ in range(2):
        run_virtual(execute(workflow, journal=journal, run_id="r"))
    assert len(keys) == 4
    assert len(set(keys)) == 1
    run_virtual(execute(workflow, journal=journal, run_id="other"))
    assert len(set(keys)) == 2


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 60), st.data())
def test_a_run_cut_off_at_any_moment_resumes_to_the_same_end(
    ticks: int, data: st.DataObject
) -> None:
    from collections import Counter

    # The fixture module is not importable by name; hypothesis needs a fresh journal for every example.
    journal = _fresh_journal()
    shop = Workshop(journal, _make_step)

    async def main() -> None:
        run = asyncio.create_task(shop.run(run_id="r"))
        for _ in range(ticks):
            await asyncio.sleep(0)
        run.cancel()
        await asyncio.wait({run})
        recorded = Counter(r.spec.name for r in journal.steps.get("r", {}).values())
        result = await shop.run(run_id="r")
        assert result.value == EXPECTED
        again = Counter(shop.ran)
        whole = Counter(row=5, total=1, loop=3, same=2)
        assert recorded + again == whole  # nothing lost, nothing finished done twice
        assert shop.changes() == []

    asyncio.run(main())


def _make_step(body: Callable[..., Any], **kwargs: Any) -> StepSpec:
    return StepSpec(
        kwargs.get("name", body.__name__),
        body,
        kwargs.get("kind", "python"),
        kwargs.get("fingerprint", "1"),
    )


_journals: list[Any] = []


@pytest.fixture(autouse=True)
def _keep_journal_type(journal: Any) -> None:
    _journals[:] = [type(journal)]


def _fresh_journal() -> Any:
    return _journals[0]()


def test_without_a_journal_nothing_is_asked_of_one(run_virtual: Virtual, shop: Workshop) -> None:
    shop.journal = None
    assert run_virtual(shop.run()).value == EXPECTED


@pytest.mark.parametrize("recorded", [True, False])
def test_an_ended_run_holds_no_memory(step: Steps, journal: Any, recorded: bool) -> None:
    import gc
    import weakref

    class Big(dict[str, int]):
        pass

    made: list[weakref.ref[Big]] = []

    async def make(_: Any) -> Big:
        big = Big()
        made.append(weakref.ref(big))
        return big

    async def workflow() -> int:
        rows = submit_map(step(make), range(5))
        submit(step(make, name="last"), (rows,), {})
        return 0

    gc.disable()
    try:
        kept = journal if recorded else None
        result = asyncio.run(execute(workflow, journal=kept))
        journal.steps.clear()
        assert result.steps == 6
        assert [ref() for ref in made] == [None] * 6
    finally:
        gc.enable()
