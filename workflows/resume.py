"""Going on with a run that was interrupted or failed: the same definition, inputs and run id again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrara.engines.engine import Engine
from carrara.runtime.errors import JournalError
from carrara.runtime.events import Listener
from carrara.runtime.run import RunResult
from carrara.workflows.calls import Definition
from carrara.workflows.run import session
from carrara.workflows.session import opened_journal
from carrara.workflows.target import load_workflow

if TYPE_CHECKING:
    from carrara.runtime.journal.sqlite import SqliteJournal
    from carrara.runtime.routing.policy import Policy


async def resume(
    run_id: str,
    journal: SqliteJournal | Path | str,
    *,
    workflow: Definition[..., Any] | None = None,
    engines: Mapping[str, Engine] | Iterable[str] | None = None,
    model: str | None = None,
    policy: Policy | None = None,
    listeners: Sequence[Listener] = (),
    concurrency: int | None = 256,
    deadline_s: float | None = None,
) -> RunResult[Any]:
    """Run a workflow again from where its journal ends: finished steps are not done again.

    `run_id` may be the beginning of an id, or "last". The workflow is found by the reference in the journal;
    give `workflow` where that leads nowhere, as for a function defined inside another.

    Raises:
        JournalError: no such run, its inputs were not stored, it was a job, or its workflow is not known.
        DefinitionError: the workflow is no longer where it was.
    """
    if isinstance(journal, str | Path):
        with opened_journal(journal) as opened:
            return await resume(
                run_id,
                opened,
                workflow=workflow,
                engines=engines,
                model=model,
                policy=policy,
                listeners=listeners,
                concurrency=concurrency,
                deadline_s=deadline_s,
            )
    found = journal.find(run_id)
    if workflow is None:
        if not found.source:
            raise JournalError(
                f"run {found.run_id} of {found.workflow!r} does not say where its workflow is defined: "
                "call resume(..., workflow=...)",
                run=found.run_id,
            )
        workflow = load_workflow(found.source)
    args, kwargs = journal.inputs(found.run_id)
    kept = session(
        journal=journal,
        engines=engines,
        model=model,
        policy=policy,
        listeners=listeners,
        concurrency=concurrency,
        deadline_s=deadline_s,
    )
    async with kept:
        return await kept.start(workflow, args, kwargs, run_id=found.run_id)
