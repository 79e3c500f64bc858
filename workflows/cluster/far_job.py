"""A job's pool of workers: what of the job and its session they need, and what cannot be had on a cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from carrara.engines.errors import CarraraError
from carrara.runtime.routing.policy import Budget
from carrara.workflows.calls import Definition
from carrara.workflows.cluster.on_ray import ray_cluster
from carrara.workflows.cluster.plan import OnRay, Part
from carrara.workflows.cluster.pool import Pool
from carrara.workflows.session import Session

if TYPE_CHECKING:
    from carrara.workflows.job import Job

WINDOW = 16
"""Records under way in each worker where the job does not say how many."""


def part_of(job: Job, session: Session, workflow: Definition[..., Any], on: OnRay) -> Part:
    """What workers need to know.

    Raises:
        CarraraError: the session has what cannot travel, or a budget: workers do not know what the others spend.
    """
    if session.policy_of(workflow).budget != Budget():
        raise CarraraError(
            "a budget cannot be held on a cluster yet, where no worker knows what the others spend: take the "
            "budget out of the policy, and bound the job with --limit or --deadline"
        )
    return Part(
        job.target,
        job.folder,
        "",
        job.columns,
        job.constants,
        shown=job.trust or job.review is not None,
        engines=on.engines,
        **session.told(),
    )


@asynccontextmanager
async def pool_of(
    job: Job, session: Session, workflow: Definition[..., Any], on: OnRay
) -> AsyncIterator[Pool]:
    """Workers for the records of a job; gone at the end. Each works on `job.concurrency` records at once, or
    on WINDOW."""
    part = part_of(job, session, workflow, on)
    async with (
        ray_cluster(on) as (cluster, sized),
        Pool(
            cluster, part, workflow.returns, window=job.concurrency or WINDOW, chunk=sized.chunk
        ) as pool,
    ):
        yield pool


__all__ = ["WINDOW", "part_of", "pool_of"]
