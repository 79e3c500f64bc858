"""A job's pool of workers: what of the job and its session they need, and what cannot be had on a cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from carrara.runtime.routing.policy import Budget, Policy
from carrara.workflows.calls import Definition
from carrara.workflows.cluster.on_ray import ray_cluster
from carrara.workflows.cluster.plan import OnRay, Part
from carrara.workflows.cluster.pool import Pool
from carrara.workflows.session import Session

if TYPE_CHECKING:
    from carrara.workflows.job import Job

WINDOW = 16
"""Records under way in each worker where the job does not say how many."""


def part_of(
    job: Job,
    session: Session,
    workflow: Definition[..., Any],
    on: OnRay,
    policy: Policy | None = None,
) -> Part:
    """What workers need to know. `policy` goes before those of session and workflow.

    Raises:
        CarraraError: the session has what cannot travel.
    """
    part = Part(
        job.target,
        job.folder,
        "",
        job.columns,
        job.constants,
        shown=job.trust or job.review is not None,
        engines=on.engines,
        **session.told(),
    )
    held = policy or session.policy_of(workflow)
    return part if held.budget == Budget() else replace(part, policy=held)


@asynccontextmanager
async def pool_of(
    job: Job,
    session: Session,
    workflow: Definition[..., Any],
    on: OnRay,
    policy: Policy | None = None,
) -> AsyncIterator[Pool]:
    """Workers for the records of a job; gone at the end. Each works on `job.concurrency` records at once, or
    on WINDOW."""
    part = part_of(job, session, workflow, on, policy)
    async with (
        ray_cluster(on) as (cluster, sized),
        Pool(
            cluster, part, workflow.returns, window=job.concurrency or WINDOW, chunk=sized.chunk
        ) as pool,
    ):
        yield pool


__all__ = ["WINDOW", "part_of", "pool_of"]
