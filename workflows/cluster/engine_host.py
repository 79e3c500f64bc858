"""The engines of a job in a process of their own, one a GPU: requests of all workers share their batches."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack

from carrara.engines import contract as contracts
from carrara.engines.engine import Engine
from carrara.engines.errors import CarraraError, EngineError, EngineFailed
from carrara.workflows.cluster.plan import Part
from carrara.workflows.cluster.wire import (
    completion_text,
    description_of,
    failure_text,
    request_from,
)
from carrara.workflows.target import load_workflow


class EngineHost:
    """Methods take and give text. Each engine is opened by the first call that asks for it, for all."""

    def __init__(self, part: Part) -> None:
        """Raises DefinitionError where the workflow is not on this machine."""
        self._room = part.room(load_workflow(part.target, part.folder))
        self._stack = AsyncExitStack()
        self._turn = asyncio.Lock()
        self._entered = False

    async def ready(self) -> bool:
        """The process is there. Opens no engine."""
        return True

    async def describe(self, name: str) -> str:
        """What the engine says of itself; opens it.

        Raises:
            LoadingError: its weights, packages or keys are missing.
        """
        return json.dumps(description_of(await self._engine(name)))

    async def refusal(self, name: str, contract: str) -> str | None:
        """Why the engine can never hold the contract, None if it can."""
        return (await self._engine(name)).refusal(contracts.from_data(json.loads(contract)))

    async def complete(self, name: str, request: str) -> str:
        """The engine's completion, or its error."""
        try:
            engine = await self._engine(name)
            return completion_text(await engine.complete(request_from(request)))
        except EngineError as error:
            return failure_text(error)
        except CarraraError as error:
            return failure_text(EngineFailed(str(error), engine=name))
        except Exception as error:  # told to the worker that asked; this process goes on
            return failure_text(EngineFailed(f"engine {name!r} broke: {error!r}", engine=name))

    async def _engine(self, name: str) -> Engine:
        async with self._turn:
            if not self._entered:
                await self._stack.enter_async_context(self._room)
                self._entered = True
        await self._room.open((name,))
        return self._room[name]

    async def close(self) -> None:
        await self._stack.aclose()


def named(part: Part, number: int) -> str:
    """The name of a replica in the cluster."""
    return f"carrara-{part.run_id}-engines-{number}"


__all__ = ["EngineHost", "named"]
