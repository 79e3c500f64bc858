"""What the processes of a job on a cluster are told: the job's workflow and its settings, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import floor
from typing import Any

from carrara.engines.engine import Engine
from carrara.engines.errors import CarraraError
from carrara.runtime.limits import EngineLimits
from carrara.runtime.routing.budget import Spending
from carrara.runtime.routing.policy import Budget, Policy
from carrara.workflows.calls import Definition
from carrara.workflows.engine_room import EngineRoom, engines_of

MakeEngines = Callable[[], Mapping[str, Engine]]


@dataclass(frozen=True, slots=True)
class OnRay:
    """Where a job runs. `address`: "ray" is the cluster around this process (RAY_ADDRESS, or one that runs on this
    machine), else a new one on this machine; "ray://host:10001" is a cluster elsewhere.

    `workers` processes run the workflow, `replicas` hold engines; None: as many as the cluster's CPUs, and GPUs, have
    room for now. A worker reserves `cpus`, a replica `gpus` (0.25 puts four on one; None: one where there are
    GPUs). Records travel `chunk` at a time. `engines` makes the engines of each replica; by default they are opened by
    name as everywhere. `runtime_env` is given to Ray.
    """

    address: str = "ray"
    workers: int | None = None
    replicas: int | None = None
    cpus: float = 1.0
    gpus: float | None = None
    chunk: int = 8
    engines: MakeEngines | None = None
    runtime_env: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.address != "ray" and not self.address.startswith("ray://"):
            raise CarraraError(
                f"--on {self.address!r}: a job runs on 'ray', the cluster here, or 'ray://HOST:10001'"
            )
        for name in ("workers", "replicas", "chunk"):
            given = getattr(self, name)
            if given is not None and given < 1:
                raise CarraraError(f"{name}={given}: at least 1")
        if self.cpus < 0 or (self.gpus is not None and self.gpus < 0):
            raise CarraraError("a share of CPUs or GPUs is 0 or more")

    def sized(self, resources: Mapping[str, float]) -> OnRay:
        """The same with numbers, for a cluster that has these `resources` (CPU, GPU) now."""
        has = resources.get("GPU", 0.0)
        gpus = (1.0 if has else 0.0) if self.gpus is None else self.gpus
        replicas = self.replicas or (max(1, floor(has / gpus)) if gpus else 1)
        room = floor(resources.get("CPU", 1.0) / self.cpus) if self.cpus else 1
        return replace(self, workers=self.workers or max(1, room), replicas=replicas, gpus=gpus)

    def room(self, has: Mapping[str, float], free: Mapping[str, float]) -> str:
        """What a cluster has, what of it is free, and what the job asks for."""
        asked = (
            ("CPU", self.cpus, f"{self.workers or 'some'} workers"),
            ("GPU", self.gpus or 0.0, f"{self.replicas or 'some'} processes with engines"),
        )
        return "; ".join(
            f"{kind}s: {has.get(kind, 0.0):g} in the cluster, {free.get(kind, 0.0):g} free, "
            f"{each:g} asked for by each of {who}"
            for kind, each, who in asked
        )


@dataclass(frozen=True, slots=True)
class Part:
    """What a worker or a replica needs to know of the job.

    `names` are the engines that the session asks for, None the usual ones; `limits` and the budget of `policy` are for
    all workers together; `policy` None: that of the workflow. `shown`: the values of LLM steps are wanted, too.
    """

    target: str
    folder: str
    run_id: str
    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] | None = None
    model: str | None = None
    quick: bool | None = None
    policy: Policy | None = None
    limits: Mapping[str, EngineLimits] = field(default_factory=dict)
    concurrency: int | None = 256
    workers: int = 1
    shown: bool = False
    replicas: tuple[str, ...] = ()
    engines: MakeEngines | None = None

    def asked_for(self) -> tuple[str, ...] | None:
        """The names of the engines that the job was told to use, None: the usual ones, and those that are named."""
        if self.names is not None or self.engines is None:
            return self.names
        return tuple(self.engines())

    def room(self, workflow: Definition[..., Any]) -> EngineRoom:
        """The engines of the job, not open yet."""
        given = self.names if self.engines is None else self.engines()
        room = EngineRoom(given, model=self.model, quick=self.quick)
        room.want(*engines_of(workflow))
        if self.policy is not None:
            room.want(self.policy.engines)
        return room


def shared(limits: EngineLimits, workers: int) -> EngineLimits:
    """One worker's share: all of them together keep the whole. Each may make one call at a time at least."""
    most = limits.concurrency
    rate, quota = limits.requests_per_s, limits.tokens_per_min
    return replace(
        limits,
        concurrency=None if most is None else max(1, most // workers),
        requests_per_s=None if rate is None else rate / workers,
        tokens_per_min=None if quota is None else quota / workers,
    )


def share_of(budget: Budget, workers: int, spent: Spending) -> Budget:
    """One worker's share, less what its predecessors have `spent`: all of them together keep the whole."""
    cost, tokens = budget.cost, budget.tokens
    return Budget(
        None if cost is None else max(0.0, cost / workers - spent.cost),
        None if tokens is None else max(0, tokens // workers - spent.tokens),
    )


__all__ = ["MakeEngines", "OnRay", "Part", "share_of", "shared"]
