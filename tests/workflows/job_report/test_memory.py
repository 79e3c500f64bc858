"""A report of a job takes no more memory for more records, and says the same whichever way the events come."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from carrara.engines.request import Usage
from carrara.runtime.events import (
    EngineAnswered,
    EngineCalled,
    Event,
    RunFinished,
    RunStarted,
    StepFailed,
    to_data,
)
from carrara.runtime.report import Reporter, report
from carrara.runtime.timeline import StepRow, by_node
from carrara.workflows.job_report import ledger
from carrara.workflows.job_report.facts import MOST_FAILURES, JobRow, job_facts
from carrara.workflows.job_report.html import page
from carrara.workflows.job_report.markdown import markdown


def stored(count: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """What the journal holds of a job of so many records, of which every fifth fails."""
    yield 0, to_data(RunStarted("r", 0.0, "bills (job)"))
    for n in range(count):
        path, at = f"bills (job)/record[{n}]/bill", n / 64
        yield 4 * n + 1, to_data(EngineCalled("r", at, path, n, "ar"))
        answered = EngineAnswered(
            "r", at + 0.5, path, n, "ar", confidence=n % 10 / 10, usage=Usage()
        )
        yield 4 * n + 2, to_data(answered)
        if n % 5 == 0:
            failed = StepFailed("r", at + 1, path, n, 1, f"record {'x' * (n % 400)} of {n} is bad")
            yield 4 * n + 3, to_data(failed)
    yield 4 * count + 5, to_data(RunFinished("r", count / 64 + 1, True, "", count / 64, count, 0))


def steps(count: int) -> Iterator[StepRow]:
    for n in range(count):
        path, at, bad = f"bills (job)/record[{n}]/bill", n / 64, n % 5 == 0
        error = "bad" if bad else ""
        yield StepRow(4 * n + 4, path, n, bad, error, 1, at, at, 1.0 + n % 7)


def rows(count: int) -> Iterator[JobRow]:
    for n in range(count):
        if n % 5 == 0:
            yield JobRow(n, f"k{n}", False, {}, f"record {'x' * (n % 400)} of {n} is bad")
        else:
            fields = {"key": f"k{n}", "a": n // 2, "b": "same", "c": 1.5}
            yield JobRow(n, f"k{n}", True, fields)


def events(count: int) -> Iterator[Event]:
    return by_node("r", steps(count), stored(count))


def test_memory_does_not_grow_with_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "MOST_OPEN", 128)
    monkeypatch.setattr("carrara.runtime.alike.MOST_KINDS", 100)

    def peak(count: int) -> int:
        tracemalloc.start()
        found = job_facts(events(count), rows(count))
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (found.done, found.failed) == (count - count // 5, count // 5)
        assert (len(found.failures), sum(found.throughput)) == (
            min(MOST_FAILURES, count // 5),
            count,
        )
        return used

    peak(100)
    assert peak(4000) < peak(1000) + 300_000  # 100 bytes a record would be seen


def test_a_report_of_the_steps_takes_no_more_memory_for_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        report(events(count))
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    monkeypatch.setattr("carrara.runtime.alike.MOST_KINDS", 100)
    peak(100)
    assert peak(4000) < peak(1000) + 300_000


def test_what_is_put_away_and_what_is_shown_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "MOST_OPEN", 7)
    small = job_facts(events(1000), rows(1000))
    monkeypatch.undo()
    assert small == job_facts(events(1000), rows(1000))
    assert [record.key for record in small.slowest[:3]] == ["k6", "k13", "k27"]
    assert (small.records_ended, small.spread_step, len(small.spread)) == (1000, 5, 200)
    assert [record.failed for record in small.spread] == [True] * 200
    assert small.reasons.total() <= 200
    assert small.duplicates[0].count == 2
    assert sum(small.confidence["ar"]) == 800
    assert "1 of 5 of 1,000 records" in page(small)
    assert "1,000 records" not in markdown(small)


def test_nodes_without_an_end_are_told_and_do_not_gather(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carrara.runtime.timeline.MOST_OPEN", 5)
    left = [event for event in by_node("r", (), stored(50)) if isinstance(event, EngineCalled)]
    assert [event.node for event in left] == list(range(50))
    reporter = Reporter()
    for event in by_node("r", (), stored(50)):
        reporter(event)
    (step,) = reporter.in_order().steps.values()
    assert (step.failed, step.engines["ar"].calls) == (10, 50)
