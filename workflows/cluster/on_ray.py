"""Workers and engines as Ray actors. Ray is imported here and nowhere else, when a job asks for it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from carrara.engines.errors import CarraraError
from carrara.runtime.routing.budget import Spending
from carrara.workflows.cluster.engine_host import EngineHost, named
from carrara.workflows.cluster.far_engine import ReplicaLost
from carrara.workflows.cluster.plan import OnRay, Part
from carrara.workflows.cluster.pool import WorkerLost
from carrara.workflows.cluster.worker import Worker

INSTALL = "pip install 'carrara[ray]'"
_CALLS = 10_000
"""Calls of one actor at a time; they wait in it, on one event loop."""

_AGAIN_S = 0.5
"""Between two questions to an actor that was lost."""


class RayReplica:
    """The engines of one actor, by its name; it is found again when it has been started anew."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._actor: Any = None

    async def call(self, method: str, *words: str) -> Any:
        import ray
        from ray.exceptions import RayError, RayTaskError

        try:
            if self._actor is None:
                self._actor = ray.get_actor(self._name)
            return await _answer(getattr(self._actor, method).remote(*words))
        except RayTaskError as error:
            raise _own(error) from error
        except (RayError, ValueError) as error:  # ValueError: no actor of that name
            raise ReplicaLost(_line(error)) from error


class RayWorker(Worker):
    """The actor of a worker."""

    def __init__(self, part: Part, number: int, spent: Spending) -> None:
        super().__init__(part, number, [RayReplica(name) for name in part.replicas], spent)

    async def ready(self) -> bool:
        return True


class RayLink:
    """A worker's actor, as the driver holds it."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    async def ready(self) -> None:
        await self._call("ready")

    async def put(self, chunk: list[str]) -> None:
        await self._call("put", chunk)

    async def take(self) -> list[str]:
        found: list[str] = await self._call("take")
        return found

    async def _call(self, method: str, *given: Any) -> Any:
        from ray.exceptions import RayError

        try:
            return await _answer(getattr(self._actor, method).remote(*given))
        except (RayError, ConnectionError) as error:
            raise WorkerLost(_line(error)) from error

    def end(self) -> None:
        import ray

        with suppress(Exception):  # it has gone, or the cluster has
            ray.kill(self._actor, no_restart=True)


class RayCluster:
    """The actors of one job. A worker that is lost is another actor afterwards, so that nothing it held is waited for;
    the actor of engines is started anew by Ray under its name, and whoever asks it asks again."""

    def __init__(self, on: OnRay) -> None:
        assert on.workers is not None
        self.workers: int = on.workers
        self._on = on
        self._part: Part | None = None
        self._hosts: list[Any] = []

    async def begin(self, part: Part) -> None:
        import ray

        on = self._on
        names = tuple(named(part, number) for number in range(on.replicas or 1))
        host = ray.remote(EngineHost)
        kept = {"num_cpus": 0, "max_restarts": -1, "max_concurrency": _CALLS}
        self._hosts = [
            host.options(name=name, num_gpus=on.gpus or 0, **kept).remote(part) for name in names
        ]
        self._part = replace(part, replicas=names, workers=self.workers)

    def worker(self, number: int, spent: Spending) -> RayLink:
        import ray

        actor = ray.remote(RayWorker).options(
            num_cpus=self._on.cpus, max_concurrency=_CALLS, scheduling_strategy="SPREAD"
        )
        return RayLink(actor.remote(self._part, number, spent))

    async def engines(self) -> None:
        calls = [asyncio.create_task(_started(host)) for host in self._hosts]
        try:
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    async def room(self) -> str:
        import ray

        try:
            has = await asyncio.to_thread(ray.cluster_resources)
            free = await asyncio.to_thread(ray.available_resources)
        except Exception as error:  # Ray raises errors of many kinds here
            return f"The cluster does not tell what it has: {_line(error)}"
        return self._on.room(has, free)

    async def end(self) -> None:
        import ray

        for host in self._hosts:
            with suppress(Exception):  # it has gone, or the cluster has
                ray.kill(host, no_restart=True)


@asynccontextmanager
async def ray_cluster(on: OnRay) -> AsyncIterator[tuple[RayCluster, OnRay]]:
    """The cluster at `on.address`, and `on` with numbers that fit it. One that is begun here is ended at the end.

    Raises:
        CarraraError: Ray is not installed, or the cluster cannot be reached.
    """
    try:
        import ray
    except ImportError as error:
        raise CarraraError(f"--on {on.address} needs the package Ray: {INSTALL}") from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    own = not ray.is_initialized()
    if own:
        try:
            ray.init(
                None if on.address == "ray" else on.address,
                runtime_env=None if on.runtime_env is None else dict(on.runtime_env),
                log_to_driver=False,
                logging_level="warning",
            )
        except Exception as error:  # Ray raises errors of many kinds here
            raise CarraraError(f"--on {on.address}: {_line(error)}") from error
    try:
        sized = on.sized(ray.cluster_resources())
        yield RayCluster(sized), sized
    finally:
        if own:
            ray.shutdown()


async def _started(host: Any) -> None:
    """Wait until this actor of engines answers."""
    from ray.exceptions import RayError

    while True:
        try:
            await _answer(host.ready.remote())
        except RayError:  # lost while it started; Ray starts it anew
            await asyncio.sleep(_AGAIN_S)
        else:
            return


async def _answer(reference: Any) -> Any:
    """The value behind a reference. Who is cancelled while waiting cancels the call."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Any] = loop.create_future()

    def settle(found: Future[Any]) -> None:
        if answer.done():
            return
        error = found.exception()
        if error is None:
            answer.set_result(found.result())
        else:
            answer.set_exception(error)

    def heard(found: Future[Any]) -> None:
        with suppress(RuntimeError):  # a loop that has closed meanwhile has nobody left who waits
            loop.call_soon_threadsafe(settle, found)

    # Not asyncio.wrap_future: it cancels Ray's own future, which Ray takes badly.
    reference.future().add_done_callback(heard)
    try:
        return await answer
    except asyncio.CancelledError:
        import ray

        with suppress(Exception):  # it has ended, or its actor has
            ray.cancel(reference)
        raise


def _own(error: Any) -> CarraraError:
    """Our error that was raised in an actor, without Ray's traceback around it."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, CarraraError) else CarraraError(_line(error))


def _line(error: BaseException) -> str:
    """The last line of what Ray says: the ones before are its own traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:500] if lines else type(error).__name__


__all__ = ["RayCluster", "RayReplica", "RayWorker", "ray_cluster"]
