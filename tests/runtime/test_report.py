"""The report of a run is computed from its events alone, and says plainly what ran in a lesser mode."""

import io
import json
import re
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from carrara.engines.request import Timings, Usage
from carrara.runtime.events import (
    EngineAnswered,
    EngineCalled,
    Escalated,
    Event,
    Rejected,
    Repaired,
    Routed,
    RunFinished,
    RunStarted,
    StepCancelled,
    StepChanged,
    StepEvent,
    StepFailed,
    StepFinished,
    StepReady,
    StepRetrying,
    StepSkipped,
    StepStarted,
    from_data,
    to_data,
)
from carrara.runtime.journal.reading import RunSummary
from carrara.runtime.report import report
from carrara.runtime.report_view import (
    RUNS,
    event_line,
    headline,
    print_table,
    run_row,
    seconds,
    show,
    text,
)

R = "r1"


def step(path: str, node: int, at: float, took: float = 1.0) -> list[Event]:
    return [
        StepReady(R, at - 0.5, path, node),
        StepStarted(R, at, path, node),
        StepFinished(R, at + took, path, node, took),
    ]


def asked(path: str, node: int, at: float, confidence: float) -> list[Event]:
    """The diffusion engine answers, is not trusted, and the AR engine answers in its place."""
    said = f"confidence {confidence} is below 0.60 for json"
    return [
        StepReady(R, at, path, node),
        StepStarted(R, at, path, node),
        Routed(R, at, path, node, "diffusion", "typed extraction"),
        EngineCalled(R, at, path, node, "diffusion", "typed extraction"),
        EngineAnswered(
            R, at + 1, path, node, "diffusion", Usage(100, 40, 30, 8), Timings(0.1, 0.2, 0.5)
        ),
        Rejected(R, at + 1, path, node, "diffusion", said, confidence),
        Escalated(R, at + 1, path, node, "diffusion", "ar", said),
        EngineCalled(R, at + 1, path, node, "ar", said),
        EngineAnswered(
            R, at + 3, path, node, "ar", Usage(100, 100, 30, 30), Timings(0.0, 0.1, 1.5)
        ),
        Repaired(R, at + 3, path, node, "json", 2, 0.9),
        StepFinished(R, at + 3, path, node, 3.0),
    ]


def run(*events: Event, ok: bool = True, error: str = "") -> list[Event]:
    between = sorted(events, key=lambda event: event.at)
    end = max((event.at for event in between), default=11.0)
    return [RunStarted(R, 10.0, "book"), *between, RunFinished(R, end, ok, error, end - 10.0)]


def test_the_items_of_a_map_count_as_one_step() -> None:
    events = run(*(event for i in range(3) for event in step(f"book/extract[{i}]", i, 11.0 + i)))
    found = report(events).steps["book/extract"]
    assert (found.count, found.done, found.busy_s, found.waited_s) == (3, 3, 3.0, 1.5)
    assert report(events).seconds == 4.0


def test_maps_within_maps_and_sub_workflows_keep_their_names() -> None:
    found = report(
        run(*step("book/page[3]/word[1]", 1, 11.0), *step("book/page[4]/word[0]", 2, 11.0))
    )
    assert list(found.steps) == ["book/page/word"]


def test_tokens_times_and_reasons_are_kept_by_engine() -> None:
    found = report(run(*asked("book/a[0]", 1, 11.0, 0.31), *asked("book/a[1]", 2, 12.0, 0.12)))
    a = found.steps["book/a"]
    diffusion, ar = a.engines["diffusion"], a.engines["ar"]
    assert (diffusion.calls, diffusion.answers, diffusion.rejected, diffusion.accepted) == (
        2,
        2,
        2,
        0,
    )
    assert (ar.answers, ar.accepted) == (2, 2)
    assert a.usage == Usage(400, 280, 120, 76) == found.usage
    assert diffusion.queued_s == 0.2
    assert diffusion.decode_s == 1.0
    assert diffusion.reasons == {"typed extraction": 2}
    assert a.escalations == {"diffusion -> ar": 2}
    assert (a.repairs, a.edits) == ({"json": 2}, 4)


def test_an_engine_whose_answers_were_not_taken_is_a_degraded_mode() -> None:
    events = [
        event for i in range(12) for event in asked(f"book/a[{i}]", i, 11.0 + i, 0.02 + i / 50)
    ]
    assert report(run(*events)).degraded == [
        "book/a: diffusion: 12 of 12 answers rejected (confidence 0.02 is below 0.60 for json (and like it); "
        "confidence 0.02 to 0.24); answered by ar"
    ]
    assert report(run(*step("book/a", 1, 11.0))).degraded == []


def test_reasons_count_together_whatever_their_numbers_and_keep_their_names_whole() -> None:
    said = (
        "gpt-4o at http://127.0.0.1:8001/v1 expects 61% of such answers to be taken, {} of 20 were"
    )
    events = [Routed(R, 11.0, "book/a", n, "gpt-4o", said.format(n)) for n in range(3)]
    found = report(run(*events, Routed(R, 12.0, "book/a", 4, "gpt-4o", "the step names it")))
    assert found.steps["book/a"].engines["gpt-4o"].reasons == {
        f"{said.format(0)} (and like it)": 3,
        "the step names it": 1,
    }
    assert f"3 x {said.format(0)}" in " ".join(text(found).split())
    assert found.to_data()["steps"][0]["engines"]["gpt-4o"]["reasons"] == {
        f"{said.format(0)} (and like it)": 3,
        "the step names it": 1,
    }


def told(path: str, *kinds: tuple[type[StepEvent], str]) -> list[Event]:
    """Events of one node in this order, with the engine each is of."""
    found: list[Event] = []
    for number, (kind, engine) in enumerate(kinds):
        at = 11.0 + number
        if kind is EngineAnswered:
            found.append(EngineAnswered(R, at, path, 1, engine))
        elif kind is Rejected:
            found.append(Rejected(R, at, path, 1, engine, f"{engine} says no"))
        elif kind is Escalated:
            found.append(Escalated(R, at, path, 1, "other", engine, "no"))
        elif kind is EngineCalled:
            found.append(EngineCalled(R, at, path, 1, engine))
        else:
            found.append(kind(R, at, path, 1))
    return found


def test_a_call_that_was_refused_is_no_answer_that_was_rejected() -> None:
    events = told("book/a", (EngineCalled, "ar"), (Rejected, "ar"), (StepFailed, ""))
    found = report(run(*events, ok=False))
    ar = found.steps["book/a"].engines["ar"]
    assert (ar.answers, ar.rejected, ar.accepted, ar.unanswered) == (0, 0, 0, 1)
    assert found.degraded == []
    assert "0/0" in text(found)


def test_a_redraft_that_fails_does_not_take_an_answer_back_twice() -> None:
    events = told(
        "book/a",
        (EngineCalled, "diffusion"),
        (EngineAnswered, "diffusion"),
        (Rejected, "diffusion"),
        (EngineCalled, "diffusion"),
        (Rejected, "diffusion"),
        (StepFailed, ""),
    )
    found = report(run(*events, ok=False))
    diffusion = found.steps["book/a"].engines["diffusion"]
    assert (diffusion.answers, diffusion.accepted, diffusion.unanswered) == (1, 0, 1)
    assert found.degraded == ["book/a: diffusion: 1 of 1 answers rejected (diffusion says no)"]


def test_only_an_engine_that_answered_in_its_place_is_said_to_have() -> None:
    taken = told("book/a[0]", (EngineAnswered, "diffusion"), (StepFinished, ""))
    lost = told(
        "book/a[1]",
        (EngineCalled, "diffusion"),
        (Rejected, "diffusion"),
        (Escalated, "ar"),
        (EngineCalled, "ar"),
        (EngineAnswered, "ar"),
        (Rejected, "ar"),
        (StepFailed, ""),
    )
    found = report(run(*taken, *lost, ok=False))
    assert found.degraded == ["book/a: ar: 1 of 1 answers rejected (ar says no)"]


def test_a_call_without_an_answer_is_told_where_another_engine_answered() -> None:
    events = told(
        "book/a",
        (EngineCalled, "diffusion"),
        (Rejected, "diffusion"),
        (Escalated, "ar"),
        (EngineCalled, "ar"),
        (EngineAnswered, "ar"),
        (StepFinished, ""),
    )
    assert report(run(*events)).degraded == [
        "book/a: diffusion: 1 of its calls gave no answer (diffusion says no); answered by ar"
    ]


def test_answers_that_a_budget_of_cost_could_not_count_are_a_degraded_mode() -> None:
    called, answered, *rest = told(
        "book/a", (EngineCalled, "free"), (EngineAnswered, "free"), (StepFinished, "")
    )
    assert isinstance(answered, EngineAnswered)
    events = [called, replace(answered, unpriced=True), *rest]
    assert report(run(*events)).degraded == [
        "book/a: free: 1 of its answers are not in the budget of cost (its price is not known: give it in `prices`)"
    ]


_KINDS: list[type[StepEvent]] = [
    StepStarted,
    Routed,
    EngineCalled,
    EngineAnswered,
    Rejected,
    Escalated,
    StepFinished,
    StepFailed,
]
_MOMENTS = st.tuples(
    st.sampled_from(["book/a[0]", "book/a[1]"]),
    st.sampled_from(_KINDS),
    st.sampled_from(["ar", "diffusion"]),
)


@given(st.lists(_MOMENTS, max_size=30))
def test_no_more_answers_are_taken_or_rejected_than_there_were(
    moments: list[tuple[str, type[StepEvent], str]],
) -> None:
    events = [event for path, kind, name in moments for event in told(path, (kind, name))]
    found = report(events)
    told_of = [event for event in events if isinstance(event, Rejected)]
    engines = [engine for step in found.steps.values() for engine in step.engines.values()]
    assert all(0 <= engine.accepted <= engine.answers for engine in engines)
    assert sum(engine.rejected + engine.unanswered for engine in engines) == len(told_of)
    answered = {
        name for step in found.steps.values() for name, e in step.engines.items() if e.answers
    }
    for line in found.degraded:
        head, _, by = line.partition("; answered by ")
        assert set(by.split(" and ") if by else ()) <= answered
        assert "answers rejected" not in head or line.split(": ")[1] in answered


def test_every_way_in_which_a_node_can_end_is_counted() -> None:
    found = report(
        run(
            StepStarted(R, 11.0, "book/a", 1),
            StepFailed(R, 12.0, "book/a", 1, 1, "ValueError: no", True, 1.0),
            StepRetrying(R, 12.0, "book/a", 1, 2, 0.1),
            StepStarted(R, 12.1, "book/a", 1, 2),
            StepFailed(R, 13.0, "book/a", 1, 2, "ValueError: no", False, 0.5),
            StepSkipped(R, 13.0, "book/b", 2, "book/a", "an input failed"),
            StepStarted(R, 11.0, "book/c", 3),
            StepCancelled(R, 13.0, "book/c", 3, "the run was cancelled"),
            StepStarted(R, 11.0, "book/d", 4),
            StepFinished(R, 11.0, "book/e", 5, 2.0, True),
            StepChanged(R, 11.0, "book/f", 6, "definition"),
            ok=False,
            error="StepError: step 'book/a' failed",
        )
    )
    counts = {
        name: found.total(name) for name in ("failed", "skipped", "cancelled", "running", "reused")
    }
    assert counts == {"failed": 1, "skipped": 1, "cancelled": 1, "running": 1, "reused": 1}
    assert found.steps["book/a"].retries == 1
    assert found.steps["book/a"].busy_s == 1.5
    assert found.steps["book/e"].busy_s == 0.0  # the time was another opening's
    assert found.steps["book/f"].changes == {"definition": 1}
    assert (found.ok, found.error) == (False, "StepError: step 'book/a' failed")


def test_a_resumed_run_counts_its_nodes_anew_and_keeps_what_they_cost() -> None:
    first = [
        RunStarted(R, 10.0, "book"),
        *step("book/a", 1, 11.0),
        StepStarted(R, 12.0, "book/b", 2),
    ]
    second = [
        RunStarted(R, 500.0, "book", True),
        StepFinished(R, 500.0, "book/a", 1, 1.0, True),
        *step("book/b", 2, 501.0, 2.0),
        RunFinished(R, 503.0, True, "", 3.0, 2, 1),
    ]
    found = report([*first, *second])
    assert (found.openings, found.ok, found.started_at, found.opened_at) == (2, True, 10.0, 500.0)
    assert found.seconds == 5.0  # 2 and 3, without the time between
    a, b = found.steps.values()
    assert (a.done, a.reused, a.busy_s) == (0, 1, 1.0)
    assert (b.count, b.done, b.running, b.busy_s) == (1, 1, 0, 2.0)


def test_a_run_that_has_not_ended_says_so() -> None:
    found = report([RunStarted(R, 10.0, "book"), StepStarted(R, 11.0, "book/a", 1)])
    assert found.ok is None
    assert headline(found) == "run r1 of book: not ended after 1.0 s, steps: 1 running"


def test_the_report_survives_json_and_events_that_went_through_json() -> None:
    events = run(*asked("book/a", 1, 11.0, 0.3))
    again = [from_data(json.loads(json.dumps(to_data(event)))) for event in events]
    data = json.loads(json.dumps(report(again).to_data()))
    assert data == json.loads(json.dumps(report(events).to_data()))
    assert data["steps"][0]["count"] == 1
    assert data["usage"]["completion_tokens"] == 60
    assert len(data["degraded"]) == 1


def some_run() -> list[Event]:
    return run(
        *asked("book/extract[0]", 1, 11.0, 0.3),
        *step("book/[bold]shout", 2, 12.0),
        StepChanged(R, 12.0, "book/list", 3, "inputs"),
        StepStarted(R, 12.0, "book/list", 3),
        StepFailed(R, 13.0, "book/list", 3, 1, "ValueError: a [red] herring", False, 1.0),
        ok=False,
        error="StepError",
    )


def test_as_text_the_columns_line_up_and_remarks_follow() -> None:
    lines = text(report(some_run())).splitlines()
    head, extract, shout, listed = lines[2:6]
    assert head.split("  ")[0] == "step"
    for name in ("ended", "busy", "waited"):
        end = head.index(name) + len(name)
        assert all(line[end - 1] not in " " for line in (extract, shout)), name
    assert extract.split()[:2] == ["extract", "1"]
    assert listed.split()[:2] == ["list", "0/1"]
    assert lines[-3].startswith("degraded: book/extract: diffusion: 1 of 1 answers rejected")
    assert lines[-2] == "changed: book/list: 1 run again, other inputs than recorded"
    assert lines[-1] == "failed: book/list: 1 x ValueError: a [red] herring"


def test_on_a_terminal_names_are_never_taken_for_markup() -> None:
    for terminal in (True, False):
        out = io.StringIO()
        console = Console(file=out, force_terminal=terminal, width=200, color_system=None)
        show(report(some_run()), console)
        assert "[bold]shout" in out.getvalue()
        assert "a [red] herring" in out.getvalue()


def test_the_tables_fit_a_terminal_of_eighty_columns() -> None:
    out = io.StringIO()
    events = run(
        *asked("cookbook/quantities[0]", 1, 11.0, 0.3), *step("cookbook/shopping", 2, 12.0)
    )
    console = Console(file=out, force_terminal=True, width=80, color_system=None)
    show(report(events), console)
    rows = [line.split()[0] for line in out.getvalue().splitlines() if line and line[0] != "●"]
    assert rows[:6] == ["step", "quantities", "shopping", "step", "quantities", "quantities"]


def test_a_reader_who_knows_the_headline_is_not_told_it_again() -> None:
    out = io.StringIO()
    show(report(some_run()), Console(file=out, width=200), headed=False)
    assert "run r1 of book" not in out.getvalue()
    assert "extract" in out.getvalue()


def test_outside_of_a_terminal_a_table_is_never_cut_off() -> None:
    out = io.StringIO()
    run = RunSummary("r" * 60, "book " * 30, "", "done", "", 0.0, 1.0, 1.0, 12_345, 0, 1, {}, "")
    print_table(Console(file=out, width=40), RUNS, [run_row(run)])
    head, line = out.getvalue().splitlines()
    assert head.split() == ["run", "workflow", "status", "started", "took", "steps", "failures"]
    assert "r" * 60 in line
    assert line.split()[-3:] == ["s", "12,345", "0"]


def test_an_event_is_one_line_with_what_is_not_said_elsewhere() -> None:
    line = event_line(Routed(R, 11.25, "book/a", 1, "ar", "free text"), 10.0)
    assert (
        re.sub(" +", " ", line).strip() == "+1.250 s Routed book/a engine='ar' reason='free text'"
    )
    line = event_line(StepFinished(R, 11.0, "book/a", 1, 0.123456789), 10.0)
    assert line.endswith("seconds=0.1235")
    assert "\n" not in line


def test_times_are_told_in_the_unit_that_fits() -> None:
    cases: dict[float, Any] = {
        0.0: "0 s",
        0.0123: "12 ms",
        1.0: "1.0 s",
        59.94: "59.9 s",
        125.0: "2 min 5 s",
    }
    assert {value: seconds(value) for value in cases} == cases
    assert seconds(59.96) == "1 min 0 s"
    assert seconds(119.7) == "2 min 0 s"
    assert seconds(7265.0) == "2 h 1 min"
