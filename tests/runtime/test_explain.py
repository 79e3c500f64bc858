"""The decisions about each call are told in order, from its events alone."""

from carrara.engines.request import Usage
from carrara.runtime.events import (
    EngineAnswered,
    EngineCalled,
    Escalated,
    Hedged,
    HedgeEnded,
    Rejected,
    Repaired,
    Routed,
    RunStarted,
    StepFailed,
    StepFinished,
    StepStarted,
)
from carrara.runtime.explain import stories

WHERE = ("run", 10.0, "book/extract[3]", 7)
OTHER = ("run", 12.0, "book/sum", 8)
EVENTS = [
    RunStarted("run", 9.0, "book"),
    StepStarted(*WHERE),
    Routed(*WHERE, engine="diffusion", reason="typed extraction"),
    EngineCalled(*WHERE, engine="diffusion", reason="typed extraction"),
    EngineAnswered(
        *WHERE,
        engine="diffusion",
        usage=Usage(10, 0, 20, 3),
        confidence=0.5,
        fields={"/a": 0.9, "/b": 0.1},
    ),
    Rejected(*WHERE, engine="diffusion", reason="confidence of /b 0.10 is below 0.30"),
    Escalated(*WHERE, origin="diffusion", target="ar", reason="…"),
    Hedged(*WHERE, engine="ar", target="big", reason="no answer after 1.00 s"),
    HedgeEnded(*WHERE, engine="big", loser="ar", wasted_s=0.5),
    EngineAnswered(*WHERE, engine="big", usage=Usage(10, 0, 5, 5), cost=0.25),
    Repaired(*WHERE, kind="json", edits=2, made=({"rule": "comma"}, {"rule": "comma"})),
    Routed(*OTHER, engine="ar", reason="the prompt asks to work it out"),
    StepFinished("run", 11.5, "book/extract[3]", 7),
    StepFailed("run", 13.0, "book/sum", 8, error="no answer\nat all"),
]


def test_a_call_is_told_from_its_route_to_its_end() -> None:
    first, second = stories(EVENTS)
    assert [line.split("s  ", 1)[1] for line in first.lines()] == [
        "route to diffusion: typed extraction",
        "ask diffusion: typed extraction",
        "diffusion answers: 20 tokens in 3 passes, confidence 0.50, weakest /b 0.10, /a 0.90",
        "not taken from diffusion: confidence of /b 0.10 is below 0.30",
        "go on to ar: diffusion gave nothing to take",
        "start big beside ar: no answer after 1.00 s",
        "big was first, 0.50 s of ar in vain",
        "big answers: 5 tokens in 5 passes, $0.25",
        "repaired json: 2 edits (comma), certainty 1.00",
        "taken",
    ]
    assert list(first.lines())[-1].startswith("   1.500 s")
    assert list(second.lines())[-1].endswith("failed: no answer")


def test_a_step_is_found_by_name_path_or_call() -> None:
    for name in ("extract", "book/extract", "extract[3]", "book/extract[3]"):
        assert [story.path for story in stories(EVENTS, name)] == ["book/extract[3]"]
    assert stories(EVENTS, "extract[4]") == []


def test_a_second_call_of_the_same_engine_is_told_as_such() -> None:
    where = ("run", 10.0, "book/sum", 8)
    events = [
        Hedged(*where, engine="server", target="server", reason="no answer after 1.00 s"),
        HedgeEnded(*where, engine="server", loser="server", wasted_s=0.5),
    ]
    [story] = stories(events)
    assert [line.split("s  ", 1)[1] for line in story.lines()] == [
        "ask server a second time beside: no answer after 1.00 s",
        "one call of server was first, 0.50 s of the other in vain",
    ]
