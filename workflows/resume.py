"""Going on with a run that was interrupted or failed: the same definition, inputs and run id again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrara.runtime.errors import JournalError
from carrara.runtime.run import RunResult
from carrara.workflows.calls import Definition
from carrara.workflows.run import session
from carrara.workflows.session import opened_journal
from carrara.workflows.target import load_workflow

if TYPE_CHECKING:
    from carrara.runtime.journal.reading import RunSummary
    from carrara.runtime.journal.recording import Recorder


async def resume(
    run_id: str,
    journal: Recorder | Path | str,
    *,
    workflow: Definition[..., Any] | None = None,
    **settings: Any,
) -> RunResult[Any]:
    """Run a workflow again from where its journal ends: finished steps are not done again.

    `run_id` may be the beginning of an id, or "last". The workflow is found by the reference in the journal;
    give `workflow` where that leads nowhere, as for a function defined inside another. `settings` are those
    of `carrara.session`.

    Raises:
        JournalError: no such run, its inputs were not stored, or its workflow is not known.
        DefinitionError: the workflow is no longer where it was.
    """
    if isinstance(journal, str | Path):
        with opened_journal(journal) as opened:
            return await resume(run_id, opened, workflow=workflow, **settings)
    stored = stored_run(journal, run_id, workflow)
    async with session(journal=journal, **settings) as kept:
        return await kept.start(stored.workflow, stored.args, stored.kwargs, run_id=stored.run_id)


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run of the journal as it can be called again."""

    run_id: str
    workflow: Definition[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def stored_run(
    journal: Recorder, run_id: str, workflow: Definition[..., Any] | None = None
) -> StoredRun:
    """The definition and the inputs of a run in the journal; see `resume` for the errors."""
    found = journal.find(run_id)
    if workflow is None:
        workflow = workflow_of_run(found)
    return StoredRun(found.run_id, workflow, *journal.inputs(found.run_id))


def workflow_of_run(found: RunSummary) -> Definition[..., Any]:
    """The workflow of an earlier run, by the reference in the journal.

    Raises:
        JournalError: there is none, as for a function defined inside another.
        DefinitionError: the workflow is no longer where it was.
    """
    if not found.source:
        raise JournalError(
            f"run {found.run_id} of {found.workflow!r} does not say where its workflow is defined: "
            "call carrara.resume(..., workflow=...)",
            run=found.run_id,
        )
    return load_workflow(found.source)
