"""Events survive the way to JSON and back, and are built only for those who listen."""

import json
import subprocess
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from carrara.engines.request import Progress, Span, Timings, Usage
from carrara.runtime import events
from carrara.runtime.run import context, execute, submit
from carrara.runtime.step import StepSpec

Virtual = Callable[[Coroutine[Any, Any, Any]], Any]

SAMPLES = [
    events.RunStarted("r", 1.0, "w", True),
    events.RunFinished("r", 1.0, False, "broken", 2.0, 3, 1),
    events.StepFinished("r", 1.0, "w/a[3]", 7, seconds=2.5, reused=True, attempt=2),
    events.StepChanged("r", 1.0, "w/a", 7, what="inputs"),
    events.EngineAnswered(
        "r",
        1.0,
        "w/a",
        7,
        engine="ar",
        usage=Usage(1, 2, 3, 4),
        timings=Timings(0.1, 0.2, 0.3),
        confidence=0.5,
        fields={"/a": 0.25},
    ),
    events.Escalated("r", 1.0, "w/a", 7, origin="diffusion", target="ar", reason="low confidence"),
    events.EngineFilled("r", 1.0, engine="ar", rounds=2, seats=32, taken=30, denoised=20),
    events.DraftShown("r", 1.0, "w/a", 7, progress=Progress("half", 0.5, 3, (Span(0, 2, 0.9),))),
]


@pytest.mark.parametrize("event", SAMPLES, ids=lambda e: type(e).__name__)
def test_an_event_survives_the_way_to_json_and_back(event: events.Event) -> None:
    assert events.from_data(json.loads(json.dumps(events.to_data(event)))) == event


@pytest.mark.parametrize(
    "found",
    [{"type": "Unheard", "run_id": "r"}, {"run_id": "r"}, {"type": "StepReady", "odd": 1}],
)
def test_unknown_events_and_fields_are_refused(found: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"unknown event type|has other fields"):
        events.from_data(found)


def test_a_run_tells_its_story_in_order(
    run_virtual: Virtual, step: Callable[..., StepSpec]
) -> None:
    story: list[events.Event] = []

    async def body(x: int) -> int:
        context().tell(events.Routed, engine="ar", reason="asked for")
        return x

    async def workflow() -> Any:
        return submit(step(body), (submit(step(body), (1,), {}),), {})

    run_virtual(execute(workflow, name="w", run_id="r", listeners=[story.append]))
    told = [(type(e).__name__, getattr(e, "node", None)) for e in story]
    one = [("StepReady", 1), ("StepStarted", 1), ("Routed", 1), ("StepFinished", 1)]
    two = [(name, 2) for name, _ in one]
    assert told == [("RunStarted", None), *one, *two, ("RunFinished", None)]
    assert [e.at for e in story] == sorted(e.at for e in story)


def test_without_listeners_no_event_is_built(
    run_virtual: Virtual, step: Callable[..., StepSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> bool:
        context().tell(events.Routed, engine="ar")
        return context().listening

    async def workflow() -> Any:
        return submit(step(body), (), {})

    def refuse(self: object, *args: object, **kwargs: object) -> None:
        raise AssertionError("built an event that nobody takes")

    monkeypatch.setattr(events.Routed, "__init__", refuse)
    monkeypatch.setattr(events.StepStarted, "__init__", refuse)
    assert run_virtual(execute(workflow)).value is False


def test_for_a_listener_of_the_run_alone_no_event_of_a_step_is_built(
    run_virtual: Virtual, step: Callable[..., StepSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None: ...

    async def workflow() -> Any:
        return submit(step(body), (), {})

    def refuse(self: object, *args: object, **kwargs: object) -> None:
        raise AssertionError("built an event that nobody takes")

    for kind in (events.StepReady, events.StepStarted, events.StepFinished):
        monkeypatch.setattr(kind, "__init__", refuse)
    story: list[events.Event] = []
    run_virtual(execute(workflow, listeners=[events.OfRun(story.append)]))
    assert [type(event) for event in story] == [events.RunStarted, events.RunFinished]


def test_the_core_loads_nothing_heavy() -> None:
    code = (
        "import sys, carrara.runtime.run, carrara.runtime.limits, carrara.runtime.single_flight\n"
        "heavy = {'pydantic', 'torch', 'networkx', 'jinja2', 'rich', 'stamina', 'tenacity', 'sqlite3',"
        " 'aiolimiter', 'asyncio_throttle', 'jsonschema'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
