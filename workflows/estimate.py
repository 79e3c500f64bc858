"""What a job would be: how many records and tokens, and by a sample that is really run, how long and how dear."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from carrara.runtime.dollars import dollars
from carrara.runtime.report_view import seconds as span
from carrara.workflows.batch import Binder, Outcome, RecordError, batch_of
from carrara.workflows.calls import Definition
from carrara.workflows.job import Job
from carrara.workflows.plain import plain
from carrara.workflows.records import Record
from carrara.workflows.row_use import EngineUse, RowUse, UseListener
from carrara.workflows.seats import Seats
from carrara.workflows.selection import sampled
from carrara.workflows.session import Session
from carrara.workflows.target import load_workflow

CHARACTERS = 4
"""Of a token, about, in English text."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """`records` would be run, `broken` of them cannot be; `tokens` is about what their inputs hold.

    The rest is of a sample: `sampled` records were run and `failed` of these failed; `seconds` they took one by one,
    without loading weights, `concurrency` of them would be worked on at the same time, `cost` in US dollars, by
    `engines` what they did.
    """

    records: int
    broken: int
    tokens: int
    sampled: int = 0
    failed: int = 0
    seconds: float = 0.0
    cost: float = 0.0
    concurrency: int = 1
    engines: Mapping[str, EngineUse] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """The estimate in words."""
        told = [f"{self.records:,} records, about {self.tokens:,} tokens in their inputs"]
        if self.broken:
            told.append(
                f"{self.broken:,} of them cannot be read or do not fit the workflow's inputs"
            )
        if not self.sampled:
            return told
        good = self.records - self.broken
        times = good / self.sampled
        each = self.seconds / self.sampled
        at_once = max(1, min(self.concurrency, good))
        told.append(
            f"{self.sampled} of them were run ({self.failed} failed): {span(each)} each; all of them take "
            f"{span(each * good / at_once)} if {at_once} at once are no slower than one, "
            f"{span(each * good)} one by one"
        )
        for name, use in self.engines.items():
            usage = use.usage
            told.append(
                f"engine {name}: about {use.calls * times:,.0f} calls, {usage.prompt_tokens * times:,.0f} tokens of "
                f"prompts, {usage.completion_tokens * times:,.0f} of answers"
            )
        if self.engines:
            told.append(f"cost: about {dollars(self.cost * times)} by the prices that are known")
        return told


async def estimate(job: Job, session: Session, count: int) -> Estimate:
    """Read the job's records and run `count` of them, drawn by its seed; nothing of it is kept.

    Raises:
        SourceError, InputError: as `run_job`.
    """
    job = job.placed()
    workflow = load_workflow(job.target, job.folder)
    binder = Binder(workflow, columns=job.columns, constants=job.constants)
    tally = _Tally(binder)
    chosen = sampled(tally.good(islice(job.records(binder.keep), job.limit)), count, job.seed)
    if not chosen:
        return Estimate(tally.records, tally.broken, tally.tokens)
    use = UseListener()
    outcomes: list[Outcome] = []

    async def each(outcome: Outcome) -> None:
        outcomes.append(outcome)

    await session.execute(
        batch_of(workflow, chosen, binder, each, concurrency=1),
        name=f"{workflow.name} (estimate)",
        listeners=(use,),
        settings_of=workflow,
        hurried=True,
    )
    return Estimate(
        tally.records,
        tally.broken,
        tally.tokens,
        len(outcomes),
        sum(outcome.error is not None for outcome in outcomes),
        sum(_seconds(outcome, use.row(number)) for number, outcome in enumerate(outcomes)),
        sum(row.cost for row in use.rows.values()),
        _at_once(job, session, workflow, use),
        use.engines,
    )


def _at_once(job: Job, session: Session, workflow: Definition[..., Any], use: UseListener) -> int:
    """How many records would be worked on at the same time: others wait for their engine."""
    records = job.concurrency or Seats(session.engines).enough()
    return min(records, session.at_once(workflow, use.engines) or records)


def _seconds(outcome: Outcome, use: RowUse) -> float:
    """From the first call of an engine to the last answer: loading weights comes once in a job. Where no engine was
    asked, all of the record's time."""
    return outcome.seconds if use.ms is None else use.ms / 1000


class _Tally:
    def __init__(self, binder: Binder) -> None:
        self._binder = binder
        self._characters = 0
        self.records = self.broken = 0

    @property
    def tokens(self) -> int:
        return self._characters // CHARACTERS

    def good(self, records: Iterable[Record]) -> Iterator[Record]:
        """The records that can be run; all are counted."""
        for record in records:
            self.records += 1
            try:
                given = self._binder.bind(record)
            except RecordError:
                self.broken += 1
                continue
            self._characters += sum(map(_length, given.values()))
            yield record


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    try:
        return len(json.dumps(plain(value), ensure_ascii=False))
    except TypeError:
        return 0


__all__ = ["CHARACTERS", "Estimate", "estimate"]
