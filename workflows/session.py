"""A session: engines kept warm, a journal and settings, over many runs.

async with carrara.session(journal="runs.db") as session:
    for text in texts:
        result = await session.run(cookbook, text)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, ParamSpec, Self, TypeVar

from carrara.engines.engine import Engine
from carrara.engines.errors import CarraraError, EngineRefused
from carrara.runtime.errors import ScopeError
from carrara.runtime.events import Listener
from carrara.runtime.journal.api import Journal
from carrara.runtime.limits import EngineGate, EngineLimits
from carrara.runtime.routing.desk import Router
from carrara.runtime.routing.policy import AUTO, Policy
from carrara.runtime.routing.remembered import Remembered
from carrara.runtime.run import RunControl, RunResult, context, execute
from carrara.runtime.single_flight import SingleFlight
from carrara.runtime.step import RunOptions
from carrara.workflows.calls import Definition
from carrara.workflows.definition_hash import hash_steps
from carrara.workflows.engine_room import EngineRoom, MakeEngine, engines_of
from carrara.workflows.errors import PolicyRefused
from carrara.workflows.isolation.processes import Processes

P = ParamSpec("P")
R = TypeVar("R")

_current: ContextVar[Session | None] = ContextVar("carrara_session", default=None)


class Session:
    """Runs workflows with shared engines and one journal; made by `carrara.session`, used in `async with`.

    What the router learns of the engines in one run, it knows in the next. `make` is that of `EngineRoom`.
    """

    def __init__(
        self,
        *,
        journal: Journal | Path | str | None = None,
        engines: Mapping[str, Engine] | Iterable[str] | None = None,
        model: str | None = None,
        quick: bool | None = None,
        policy: Policy | None = None,
        limits: Mapping[str, EngineLimits] | None = None,
        listeners: Sequence[Listener] = (),
        drafts: bool = False,
        options: RunOptions = RunOptions(),  # noqa: B008 - frozen
        record: Path | str | None = None,
        replay: Path | str | None = None,
        make: MakeEngine | None = None,
    ) -> None:
        self._journal = journal
        self._engines = (engines,) if isinstance(engines, str) else engines
        self._model, self._quick = model, quick
        self._policy = policy
        self._limits = dict(limits or {})
        self._drafts = drafts
        self._listeners = tuple(listeners)
        self._options = options
        self._record = record
        self._replay = replay
        self._make = make
        self._resources: dict[str, Any] = {}
        self._routers: dict[int, Router] = {}
        self._hashed: dict[int, Definition[..., Any]] = {}
        self._gates: dict[tuple[str, EngineLimits], EngineGate] = {}
        self._stack = AsyncExitStack()
        self._outer: Session | None = None
        self._open = False

    @property
    def journal(self) -> Journal | None:
        """The open journal, None where nothing is written down."""
        return self._journal if not isinstance(self._journal, str | Path) else None

    async def __aenter__(self) -> Self:
        if self._record is not None and self._replay is not None:
            raise CarraraError("a run records its engine calls or replays them, not both")
        async with AsyncExitStack() as stack:
            self._resources = await self._make_resources(stack)
            self._open_journal(stack)
            self._stack = stack.pop_all()
        self._outer = _current.get()
        _current.set(self)
        self._open = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open = False
        if _current.get() is self:  # not where it is left in another task than it was entered in
            _current.set(self._outer)
        await self._stack.__aexit__(kind, error, trace)

    async def run(
        self, workflow: Definition[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> RunResult[R]:
        """Run a workflow, or a single step, with these inputs.

        Raises:
            TypeError: the inputs do not fit.
            StepError, RunCancelled, JournalError: see `carrara.runtime.run.execute`.
        """
        return await self.start(workflow, args, kwargs)

    async def start(
        self,
        workflow: Definition[..., R],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        run_id: str | None = None,
        listeners: Sequence[Listener] = (),
        control: RunControl | None = None,
    ) -> RunResult[R]:
        """`run` with settings of this one run: the id of an earlier run to go on with, more listeners, a
        handle to cancel it."""
        workflow.parameters.check(workflow.name, args, kwargs or {})
        if self.journal is not None and id(workflow) not in self._hashed:
            hash_steps(workflow)
            self._hashed[id(workflow)] = workflow
        return await self.execute(
            _function_of(workflow),
            args,
            kwargs,
            name=workflow.name,
            source=getattr(workflow, "source", ""),
            run_id=run_id,
            listeners=listeners,
            control=control,
            settings_of=workflow,
            hurried=True,
        )

    async def execute(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        name: str,
        source: str = "",
        run_id: str | None = None,
        listeners: Sequence[Listener] = (),
        control: RunControl | None = None,
        settings_of: Definition[..., Any] | None = None,
        engine: str | None = None,
        policy: Policy | None = None,
        reuse: Literal["run", "any"] | None = None,
        hurried: bool = False,
        remember: bool = False,
    ) -> RunResult[Any]:
        """Run any function as a workflow. For callers that build their own, such as jobs.

        The policy and the limits that `settings_of` brings along hold where the session has none; `policy` goes before
        both. `engine` is asked at every step, whatever the step says, and no other; None leaves it to steps and
        policy. `reuse` goes before that of the session. `hurried`: somebody waits for this run, so an engine whose
        server has told of nothing but its own faults from the beginning is given up sooner than in a job. `remember`:
        requests that are equal and repeatable are answered once in this run (see `Remembered`).
        """
        options = replace(self._options, source=source, reuse=reuse or self._options.reuse)
        if not self._open:
            raise CarraraError("the session is not open: use it in `async with carrara.session()`")
        return await execute(
            function,
            args,
            kwargs,
            name=name,
            options=options,
            journal=self.journal,
            listeners=(*self._listeners, *listeners),
            resources={
                **self._resources_for(settings_of, policy, engine),
                "only_engine": engine,
                "hurried": hurried,
                "remembered": Remembered() if remember else None,
            },
            run_id=run_id,
            control=control,
        )

    async def open_engines(self) -> Mapping[str, Engine]:
        """The engines, opened now instead of by the first step that asks a model."""
        room: EngineRoom = self._resources["engines"]
        await room.open()
        return room

    @property
    def engines(self) -> Mapping[str, Engine]:
        """Those that are open by now."""
        room: Mapping[str, Engine] = self._resources.get("engines", {})
        return room

    def at_once(self, definition: Definition[..., Any], names: Iterable[str]) -> int | None:
        """How many calls the open engines of these names work on at the same time: the fewest that one of them does by
        its limits or its seats, None where there is no such bound."""
        limits = self._limits_of(definition)
        bounds = [limits[name].concurrency for name in names if name in limits]
        seats = [self.engines[name].facts.seats for name in names if name in self.engines]
        return min((bound for bound in (*bounds, *seats) if bound), default=None)

    def policy_of(self, definition: Definition[..., Any] | None) -> Policy:
        """The routing policy that holds for its steps: the session's, else its own, else AUTO."""
        return self._policy or getattr(definition, "policy", None) or AUTO

    def any_costs(self, definition: Definition[..., Any]) -> bool:
        """Whether its steps may ask an engine that has a price: by the routing policy, or as the engine itself says.

        Raises:
            LoadingError: a definition of an engine is wrong.
        """
        return bool(self.policy_of(definition).prices) or self._room_for(definition).any_costs

    def told(self) -> dict[str, Any]:
        """What a process that works for this session has to know of it, as the fields of a `cluster.plan.Part`.

        Raises:
            CarraraError: it has engines that are objects of this process, or a cassette.
        """
        if self._record is not None or self._replay is not None:
            raise CarraraError("engine calls on a cluster can be neither recorded nor replayed")
        if isinstance(self._engines, Mapping):
            raise CarraraError(
                "this session was given engines that are objects of this process: give their names, or let each "
                "process of the cluster make them (OnRay(engines=...))"
            )
        return {
            "names": None if self._engines is None else tuple(self._engines),
            "model": self._model,
            "quick": self._quick,
            "policy": self._policy,
            "limits": self._limits,
            "concurrency": self._options.concurrency,
        }

    def fingerprints(self, names: Iterable[str]) -> dict[str, str]:
        """The fingerprints of those of the engines that are open."""
        room: EngineRoom = self._resources["engines"]
        return {name: room[name].fingerprint for name in names if name in room}

    async def _make_resources(self, stack: AsyncExitStack) -> dict[str, Any]:
        from carrara.runtime.cassette import Cassette

        engines, cassette = self._engines, None
        if self._replay is not None:
            recorded = Cassette.load(self._replay).replay()
            engines = {name: recorded[name] for name in engines or recorded if name in recorded}
        elif self._record is not None:
            cassette = stack.enter_context(Cassette.recording(self._record))
        room = EngineRoom(
            engines, model=self._model, quick=self._quick, cassette=cassette, make=self._make
        )
        return {
            "engines": await stack.enter_async_context(room),
            "single_flight": SingleFlight(),
            "processes": await stack.enter_async_context(Processes()),
            "drafts": self._drafts,
        }

    def _resources_for(
        self,
        definition: Definition[..., Any] | None,
        policy: Policy | None = None,
        only: str | None = None,
    ) -> dict[str, Any]:
        """What the steps of a run are given. Runs with equal settings share routers and gates, so that
        evidence is kept and limits hold over the whole session."""
        room = self._room_for(definition, policy)
        policy = policy or self.policy_of(definition)
        if only is None and self._replay is None:  # one engine alone is never judged
            try:
                room.check_policy(policy)
            except EngineRefused as error:
                raise PolicyRefused(str(error)) from error
        router = self._routers.setdefault(id(policy), Router(policy))
        limits = self._limits_of(definition)
        gates = {
            name: self._gates.setdefault((name, limit), EngineGate(limit))
            for name, limit in limits.items()
        }
        return {**self._resources, "router": router, "gates": gates}

    def _limits_of(self, definition: Definition[..., Any] | None) -> dict[str, EngineLimits]:
        return {**(getattr(definition, "limits", None) or {}), **self._limits}

    def _room_for(
        self, definition: Definition[..., Any] | None, policy: Policy | None = None
    ) -> EngineRoom:
        """The engines, with those that the definition and the policies name."""
        room: EngineRoom = self._resources["engines"]
        room.want(*engines_of(definition))
        for known in (policy, self._policy):
            if known is not None:
                room.want(known.engines)
        return room

    def _open_journal(self, stack: AsyncExitStack) -> None:
        if isinstance(self._journal, str | Path):
            self._journal = stack.enter_context(opened_journal(self._journal))


@contextmanager
def opened_journal(path: Path | str) -> Any:
    """The journal in a file or at the URL of a PostgreSQL server, closed at the end."""
    from carrara.runtime.journal.opening import journal_at

    journal = journal_at(path)
    with ExitStack() as stack:
        stack.callback(journal.close)
        yield journal


async def ask(
    definition: Definition[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Answer an LLM step that was called where no workflow function runs.

    Raises:
        ScopeError: no step and no session is around it.
    """
    try:
        context()
    except ScopeError:
        session = _current.get()
        if session is None:
            raise ScopeError(
                f"step {definition.name!r} asks a model, and there is none here: call it in a workflow, or "
                "inside `async with carrara.session():`"
            ) from None
        return (await session.start(definition, args, kwargs)).value
    return await definition.spec.body(*args, **kwargs)


def _function_of(definition: Definition[..., Any]) -> Callable[..., Any]:
    """The workflow function; for a single step one that calls it."""
    if definition.spec.kind == "workflow":
        return definition.spec.body

    async def alone(*args: Any, **kwargs: Any) -> Any:
        return await definition(*args, **kwargs)

    return alone
