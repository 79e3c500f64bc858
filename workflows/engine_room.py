"""The engines of a session: each opened by the first call that may be routed to it, kept warm, closed at the end. One
that cannot be opened, or has failed, is opened again by a later call (`engine_keeper`).

A workflow of plain Python therefore never loads torch, one that asks servers alone needs no weights, and many runs
share one set of weights.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from carrara.engines.closed import ClosedEngine
from carrara.engines.engine import Engine
from carrara.engines.errors import CarraraError, EngineRefused, LoadingError
from carrara.engines.facts import REMOTE
from carrara.engines.registry import KINDS, Setting
from carrara.runtime.cassette import Cassette
from carrara.runtime.routing.call import LlmCall, facts_of
from carrara.runtime.routing.policy import AUTO, Policy
from carrara.runtime.routing.reach import reach
from carrara.workflows.engine_keeper import Keeper
from carrara.workflows.errors import did_you_mean
from carrara.workflows.known_engines import named_by, unknown_engines

DEFAULT_ENGINES = ("diffusion", "ar", "verified")

MakeEngine = Callable[[str], Engine]


class EngineRoom(Mapping[str, Engine]):
    """Engines by name. `given` are engines, or the names of engines to open with `model` as their weights; None: the
    usual ones, and those that workflows and policies name. `cassette` writes their calls down. `make` gives an engine
    by its name where they are not to be opened in this process."""

    def __init__(
        self,
        given: Mapping[str, Engine] | Iterable[str] | None = None,
        *,
        model: str | None = None,
        quick: bool | None = None,
        cassette: Cassette | None = None,
        make: MakeEngine | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._given = given if isinstance(given, Mapping) else None
        self._grows = given is None
        self._names = tuple(DEFAULT_ENGINES if given is None else given)
        self._definitions: dict[str, Mapping[str, Any]] = {}
        self._unused: set[str] = set()
        """Names that pipelines define, and this session, told which engines to use, does not open."""
        self._turn = asyncio.Lock()
        self._setting = Setting(quick=quick) if model is None else Setting(model, quick=quick)
        self._cassette = cassette
        self._made_by = make or self._open_by_name
        self._clock = clock
        self._keepers: dict[str, Keeper] = {}
        self._closing = False

    def want(
        self, names: Iterable[str], definitions: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        """Open these too, if the session was not told which engines to use. `definitions` are engines that a
        pipeline names with their presets, known from now on in any case; names that nothing is known of are left to
        `check`.

        Raises:
            LoadingError: a definition is wrong.
        """
        self._definitions |= definitions or {}
        if not self._grows:
            self._unused |= set(definitions or ())
            return
        wanted = [name for name in (*names, *(definitions or {})) if name not in self._names]
        if wanted:
            from carrara.engines.registry import kinds_by_name

            known = kinds_by_name(self._definitions)
            found = [name for name in dict.fromkeys(wanted) if name in known]
            self._names = (*self._names, *found)

    def check(self, name: str | None) -> None:
        """Refuse the name of an engine that is not here, before any is opened. None and "auto" name none.

        Raises:
            EngineRefused: says what there is.
        """
        if name is not None and name != "auto":
            self.want((name,))
        if name not in (None, "auto", *self._names):
            meant = did_you_mean(str(name), self._names)
            hint = f" Did you mean {meant!r}?" if meant else ""
            known = ", ".join(self._names) or "none"
            raise EngineRefused(f"no engine is called {name!r}; there are: {known}.{hint}")

    def check_policy(self, policy: Policy) -> None:
        """Refuse a policy that names an engine which nobody knows, whose judges are not all here, or whose hedge has
        nobody to start, before any engine is opened. Other engines may be missing here: calls go past them. Where a
        single engine was asked for by name no judge is needed, for the last answer is taken unjudged.

        Raises:
            EngineRefused: says which, and what there is.
        """
        whose = f"of policy {policy.name!r}"
        alone = self._given is None and not self._grows and len(self._names) == 1
        for name in () if alone else policy.judges:
            try:
                self.check(name)
            except EngineRefused as error:
                raise EngineRefused(f"the judge {whose}: {error}") from None
        self._check_known(policy)
        if told := policy.lonely_hedge(self._is_here):
            raise EngineRefused(told)

    def _check_known(self, policy: Policy) -> None:
        here = {*self._names, *self._unused}
        for told in unknown_engines(named_by(policy).items(), here, self._definitions):
            raise EngineRefused(told)

    def _is_here(self, name: str) -> bool:
        """Whether an engine computes on this machine, as far as it is known before it is open."""
        if self._given is not None:
            return name in self._given and self._given[name].facts.device != REMOTE
        return name in KINDS

    @property
    def any_costs(self) -> bool:
        """Whether one of them says of itself that its tokens cost something; opens none.

        Raises:
            LoadingError: a definition is wrong.
        """
        told: Iterable[Any]
        if self._given is not None:
            told = (engine.facts.price for engine in self._given.values())
        else:
            from carrara.engines.registry import prices_by_name

            prices = prices_by_name(self._definitions)
            told = (prices.get(name) for name in self._names)
        return any(price is not None and (price.input or price.output) for price in told)

    @property
    def names(self) -> tuple[str, ...]:
        """Those that are open, or will be."""
        return self._names

    async def open(self, names: Iterable[str] | None = None) -> None:
        """Wait until these engines are open, None: all; the first caller opens them for everybody. One that cannot be
        opened stands here as a `ClosedEngine`, which refuses every call with the reason; later calls open it again,
        with longer and longer pauses, and wait for that only where no other of them is open.

        Raises:
            UnknownEngine: no engine is called so.
            LoadingError: not one of them can be opened: weights, packages or keys are missing.
            CarraraError: the session has ended.
        """
        if self._closing:
            raise CarraraError("the session has ended, its engines are closed")
        wanted = self._names if names is None else tuple(dict.fromkeys(names))
        keepers = [self._keeper(name) for name in wanted]
        for keeper in keepers:
            keeper.tend()
        await self._settled([keeper for keeper in keepers if keeper.engine is None])
        if closed := _all_closed(keepers):
            await self._settled([keeper for keeper in keepers if keeper.is_opening])
            closed = _all_closed(keepers)
        if closed:
            reasons = dict.fromkeys(str(engine.error) for engine in closed)
            if len(reasons) == 1:
                raise closed[0].error
            raise LoadingError("no engine can be opened. " + "; ".join(reasons))

    def _keeper(self, name: str) -> Keeper:
        if name not in self._keepers:
            self._keepers[name] = Keeper(name, self._made, self._turn, self._clock)
        return self._keepers[name]

    async def _settled(self, keepers: Iterable[Keeper]) -> None:
        await asyncio.gather(*(keeper.settled() for keeper in keepers))

    async def open_for(self, call: LlmCall, path: str, policy: Policy) -> None:
        """Open the engines that a call may be routed to: where the session was not told which to use, those that the
        step or the first fitting rule of the policy names, and the usual ones only where no rule fits. Raises as
        `open`."""
        if not self._grows:
            await self.open()
            return
        if call.engine not in (None, "auto"):
            await self.open((str(call.engine),))
            return
        named, fits = reach(facts_of(call, path, policy), policy)
        self.want(named)
        known = [name for name in named if name in self._names]
        if not fits or not known:
            usual = [name for name in AUTO.rules[-1].engines if name in self._names]
            known += usual or self._names
        await self.open(known)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing = True
        async with AsyncExitStack() as stack:  # the last one first, and all of them
            for keeper in self._keepers.values():
                stack.push_async_callback(keeper.end)
        self._keepers = {}

    def __getitem__(self, name: str) -> Engine:
        engine = self._keepers[name].engine
        if engine is None:
            raise KeyError(name)
        return engine

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._names if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    async def _made(self, name: str) -> Engine:
        if self._given is not None:
            if name not in self._given:
                known = ", ".join(self._given) or "none"
                raise EngineRefused(
                    f"no engine is called {name!r}; there are: {known}", engine=name
                )
            engine = self._given[name]
        else:
            engine = await asyncio.to_thread(self._made_by, name)
        return engine if self._cassette is None else self._cassette.record({name: engine})[name]

    def _open_by_name(self, name: str) -> Engine:
        """In a thread: importing torch and fetching weights take seconds, and the loop must go on."""
        from carrara.engines.registry import open_engines

        return open_engines((name,), setting=self._setting, definitions=self._definitions)[name]


def _all_closed(keepers: Iterable[Keeper]) -> list[ClosedEngine]:
    """The engines, if none of them is open."""
    engines = [keeper.engine for keeper in keepers]
    closed = [engine for engine in engines if isinstance(engine, ClosedEngine)]
    return closed if len(closed) == len(engines) else []


def engines_of(definition: Any) -> tuple[tuple[str, ...], Mapping[str, Mapping[str, Any]]]:
    """The engines that a workflow names beside the usual ones (in its policy, limits and steps), and its own
    definitions of engines."""
    servers: Mapping[str, Mapping[str, Any]] = getattr(definition, "servers", None) or {}
    names = [*(getattr(definition, "limits", None) or {}), *servers]
    if (policy := getattr(definition, "policy", None)) is not None:
        names += policy.engines
    if (pipeline := getattr(definition, "pipeline", None)) is not None:
        names += [step.engine for step in pipeline.steps if step.engine not in (None, "auto")]
    return tuple(name for name in dict.fromkeys(names) if name not in DEFAULT_ENGINES), servers
