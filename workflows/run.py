"""The front door: run one workflow and give its result."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from carrara.engines.engine import Engine
from carrara.engines.errors import CarraraError
from carrara.runtime.events import Listener
from carrara.runtime.journal.api import Journal
from carrara.runtime.run import RunResult
from carrara.runtime.step import RunOptions
from carrara.workflows.calls import Definition
from carrara.workflows.session import Session

if TYPE_CHECKING:
    from carrara.runtime.limits import EngineLimits
    from carrara.runtime.routing.policy import Policy

R = TypeVar("R")


def session(
    *,
    journal: Journal | Path | str | None = None,
    engines: Mapping[str, Engine] | Iterable[str] | None = None,
    model: str | None = None,
    quick: bool | None = None,
    policy: Policy | None = None,
    limits: Mapping[str, EngineLimits] | None = None,
    listeners: Sequence[Listener] = (),
    concurrency: int | None = 256,
    deadline_s: float | None = None,
    fail_fast: bool = False,
    reuse: Literal["run", "any"] = "run",
    record: Path | str | None = None,
    replay: Path | str | None = None,
    drafts: bool = False,
) -> Session:
    """Engines kept warm over many runs: `async with carrara.session() as session: await session.run(...)`.

    `engines` are engines by name, or the name or names to open (default: the embedded diffusion and AR engines) with
    `model` as their weights and `quick` as `LocalModel.open` has it (None: as `carrara.toml` says); they are opened
    when the first model is asked. `journal` is a file or an open journal. `reuse="any"` takes finished steps of all
    earlier runs with the same definition and inputs.
    `policy` and `limits` (by engine) go before those that a pipeline brings along. `record` writes every
    engine call to a file, `replay` answers from one. `drafts` asks for events of what engines show while
    they work. The other settings are those of `carrara.runtime.step.RunOptions`, for each run.
    """
    options = RunOptions(
        concurrency=concurrency, deadline_s=deadline_s, fail_fast=fail_fast, reuse=reuse
    )
    return Session(
        journal=journal,
        engines=engines,
        model=model,
        quick=quick,
        policy=policy,
        limits=limits,
        listeners=listeners,
        options=options,
        record=record,
        replay=replay,
        drafts=drafts,
    )


async def run(
    workflow: Definition[..., R],
    /,
    *args: Any,
    journal: Journal | Path | str | None = None,
    engines: Mapping[str, Engine] | Iterable[str] | None = None,
    model: str | None = None,
    policy: Policy | None = None,
    limits: Mapping[str, EngineLimits] | None = None,
    listeners: Sequence[Listener] = (),
    concurrency: int | None = 256,
    deadline_s: float | None = None,
    fail_fast: bool = False,
    reuse: Literal["run", "any"] = "run",
    record: Path | str | None = None,
    replay: Path | str | None = None,
    run_id: str | None = None,
    inputs: Mapping[str, Any] | None = None,
    **more: Any,
) -> RunResult[R]:
    """Run a workflow once. Its inputs are the positional arguments and all keywords that are no setting;
    `inputs` gives those whose name is one. See `session` for the settings.

    `run_id` of an earlier run in the same journal goes on with it: what had finished is not done again.

    Raises:
        TypeError: the inputs do not fit.
        StepError, RunCancelled, JournalError: see `carrara.runtime.run.execute`.
    """
    kept = session(
        journal=journal,
        engines=engines,
        model=model,
        policy=policy,
        limits=limits,
        listeners=listeners,
        concurrency=concurrency,
        deadline_s=deadline_s,
        fail_fast=fail_fast,
        reuse=reuse,
        record=record,
        replay=replay,
    )
    async with kept:
        return await kept.start(workflow, args, {**more, **(inputs or {})}, run_id=run_id)


def run_sync(workflow: Definition[..., R], /, *args: Any, **settings: Any) -> RunResult[R]:
    """`run` for programs without asyncio; takes the same.

    Raises:
        CarraraError: an event loop is running already.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(run(workflow, *args, **settings))
    raise CarraraError(
        f"run_sync was called inside asyncio. Write `await carrara.run({workflow.name}, ...)`."
    )
