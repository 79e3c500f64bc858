"""Tracing a Python workflow: its function runs on made-up values, its steps are noted, not run.

A step gives a handle whose value, if it is awaited, is a sample of the step's return type, so the path goes
on. What is called after that is marked: with another value the workflow may go another way.
"""

from __future__ import annotations

import asyncio
import ctypes
import inspect
import os
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

from carrara.runtime.errors import HandleError
from carrara.runtime.handle import Handle
from carrara.runtime.workers import DaemonThreads
from carrara.workflows.calls import Definition, tracer
from carrara.workflows.parameters import MISSING
from carrara.workflows.placeholders import Placeholder, filled
from carrara.workflows.samples import Anything, sample
from carrara.workflows.sketch import PlanEdge, PlanNode, Sketch
from carrara.workflows.source import shown_path


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where a trace stops: so many nodes, so many calls of one step after awaited values, so many seconds, also
    in code that blocks."""

    nodes: int = 500
    rounds: int = 20
    seconds: float = 5.0


def trace(
    workflow: Definition[..., Any],
    inputs: Mapping[str, Any] | None = None,
    bounds: Bounds = Bounds(),
) -> Sketch:
    """The steps that a workflow calls on `inputs`, with samples for those not given. Runs no step.

    The workflow function runs in a thread of its own, which has no event loop and no run around it. An exception
    or a bound ends the trace with a note; where the function blocks, its thread is left behind.
    """
    made = Trace(bounds)
    given = {**_samples(workflow), **(inputs or {})}
    threads = DaemonThreads("carrara-plan")
    following = threads.submit(made.follow, workflow, given)
    threads.shutdown()
    try:
        following.result(bounds.seconds + _GRACE_S)
    except TimeoutError:
        if following.done():  # its own error
            raise
        made.give_up(workflow)
    return made.sketch()


class _Stop(BaseException):
    """A bound is reached. Not an Exception, so that no workflow catches it (a task group may wrap it)."""


@dataclass(slots=True, eq=False)
class _Scope:
    """A workflow function being traced. `awaited` are ids of nodes whose values it has seen; `within` are the
    definitions around it."""

    path: str
    id: str
    within: tuple[Definition[..., Any], ...]
    awaited: list[str]
    counts: Counter[str]


class Trace:
    """Notes the calls of one workflow and of the workflows in it. Implements `calls.Tracer`."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.nodes: list[PlanNode] = []
        self.edges: list[PlanEdge] = []
        self.notes: list[str] = []
        self.mistakes: list[str] = []
        self._before: dict[str, frozenset[str]] = {}
        self._inner: list[tuple[_Scope, Definition[..., Any], Mapping[str, Any]]] = []
        self._scope = _Scope("", "", (), [], Counter())
        self._following: Definition[..., Any] | None = None
        self._ends_at = 0.0
        self._stopped = ""
        self._given_up = False
        self._thread = 0

    def sketch(self) -> Sketch:
        """What was found so far; the trace may go on meanwhile."""
        nodes = list(self.nodes)
        there = {node.id for node in nodes}
        edges = [edge for edge in list(self.edges) if {edge.source, edge.target} <= there]
        return Sketch(nodes, edges, list(self.notes), list(self.mistakes))

    def give_up(self, workflow: Definition[..., Any]) -> None:
        """Time is over and the function hangs in a call that cannot be stopped. For another thread."""
        self._given_up = True
        # Ends a loop in Python code; a call that blocks goes on until it returns.
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(self._thread), ctypes.py_object(_Stop)
        )
        frame = sys._current_frames().get(self._thread)
        where = _line_of(workflow, frame) or _line_of(self._following or workflow, frame)
        self.notes.append(
            f"the workflow function was stuck{where} after {self.bounds.seconds:g} s on sample values; what comes "
            "after is not shown. Work that waits or computes belongs in a step: a plan runs none"
        )

    def follow(self, workflow: Definition[..., Any], inputs: Mapping[str, Any]) -> None:
        """Run the workflow function and those of its sub-workflows, one after another."""
        tracer.set(self)
        self._thread = threading.get_ident()
        self._ends_at = time.monotonic() + self.bounds.seconds
        scope = _Scope(workflow.name, "", (workflow,), [], Counter())
        self._inner.append((scope, workflow, inputs))
        sys.settrace(self._watch)
        try:
            while self._inner:
                self._follow_one(*self._inner.pop(0))
        except (_Stop, BaseExceptionGroup):
            if not self._stopped:
                raise
            self.notes.append(self._stopped)
        finally:
            sys.settrace(None)

    def call(
        self, step: Definition[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        given = filled(args, kwargs)
        name = self._add(step, given.sources, fan_out=False)
        if step.spec.kind == "workflow":
            self._enter(step, name, step.parameters.bind(step.name, given.args, given.kwargs))
        return self._handle(name, sample(_known(step.returns)))

    def map(self, step: Definition[..., Any], items: Any, common: dict[str, Any]) -> Any:
        given = filled((items if isinstance(items, Handle) else list(items),), common)
        name = self._add(step, given.sources, fan_out=True)
        if step.spec.kind == "workflow":
            first = next(iter(given.args[0]), None)
            self._enter(step, name, step.parameters.bind(step.name, (first,), given.kwargs))
        return self._handle(name, [sample(_known(step.returns))])

    def _follow_one(
        self, scope: _Scope, workflow: Definition[..., Any], inputs: Mapping[str, Any]
    ) -> None:
        self._scope = scope
        self._following = workflow
        try:
            self._run(workflow.spec.body, inputs)
        except HandleError as error:
            place = _place(workflow, error).strip(" ()")
            self.mistakes.append(f"{place or workflow.name}: {error}")
        except Exception as error:  # the workflow met a value that it did not expect
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            where = f"workflow {workflow.name!r}" if scope.id else "the workflow"
            self.notes.append(
                f"on sample values {where} ended with {reason}{_place(workflow, error)}; "
                "what comes after is not shown"
            )

    def _run(self, function: Callable[..., Any], inputs: Mapping[str, Any]) -> None:
        async def ran() -> None:
            asyncio.get_running_loop().set_default_executor(DaemonThreads("carrara-plan"))
            limit = asyncio.timeout(self._ends_at - time.monotonic())
            try:
                async with limit:
                    found = function(**inputs)
                    if inspect.isawaitable(found):
                        await found
            except TimeoutError:
                if not limit.expired():
                    raise
                self._stop(self._too_long)

        asyncio.run(ran())

    def _add(self, step: Definition[..., Any], sources: list[str], *, fan_out: bool) -> str:
        """Note a node and its edges; gives its id."""
        if self._given_up:
            raise _Stop
        scope = self._scope
        ordinal = scope.counts[step.name]
        self._check_bounds(step, ordinal)
        scope.counts[step.name] += 1
        own = f"{step.name}#{ordinal}" if ordinal else step.name
        name = f"{scope.id}/{own}" if scope.id else own
        after = bool(scope.awaited)
        self.nodes.append(
            PlanNode(name, step.name, step.spec.kind, scope.id, step, fan_out, after_value=after)
        )
        self._connect(name, sources, scope.awaited)
        return name

    def _connect(self, name: str, sources: list[str], awaited: list[str]) -> None:
        """Edges for the inputs, and from awaited nodes that do not come before one of the others anyway."""
        self.edges += [PlanEdge(source, name) for source in sources]
        before = frozenset(sources).union(*(self._before[source] for source in sources))
        for source in reversed(awaited):
            if source not in before:
                self.edges.append(PlanEdge(source, name, "value"))
                before = before | {source} | self._before[source]
        self._before[name] = before

    def _enter(self, step: Definition[..., Any], name: str, inputs: Mapping[str, Any]) -> None:
        scope = self._scope
        if step in scope.within:
            self.notes.append(
                f"{name} calls {step.name!r} within itself; the recursion is not shown"
            )
            return
        types = step.parameters.types
        for each, value in inputs.items():
            # What a sample of no known type led to: here the type is known.
            if isinstance(value, Anything) and each in types:
                inputs = {**inputs, each: sample(_known(types[each]))}
        path = f"{scope.path}/{step.name}"
        inner = _Scope(path, name, (*scope.within, step), [], Counter())
        self._inner.append((inner, step, inputs))

    def _handle(self, name: str, value: Any) -> Placeholder:
        scope = self._scope

        def seen() -> None:
            if name not in scope.awaited:
                scope.awaited.append(name)

        return Placeholder(name, value, seen)

    def _check_bounds(self, step: Definition[..., Any], ordinal: int) -> None:
        if len(self.nodes) >= self.bounds.nodes:
            self._stop(f"the plan stops at {self.bounds.nodes} steps")
        if self._scope.awaited and ordinal >= self.bounds.rounds:
            self._stop(
                f"step {step.name!r} was called {ordinal} times; how often it is in a run, and what comes "
                "after, depends on values"
            )

    def _watch(self, frame: FrameType, event: str, arg: Any) -> Any:
        """A trace function: ends code that loops on sample values without calling a step."""
        if frame.f_code.co_filename.startswith(_NOT_ENDED):
            return None
        if time.monotonic() > self._ends_at:
            self._stop(self._too_long)
        return self._watch

    @property
    def _too_long(self) -> str:
        return (
            f"the plan stops after {self.bounds.seconds:g} s in the workflow function on sample values; what comes "
            "after is not shown"
        )

    def _stop(self, reason: str) -> NoReturn:
        self._stopped = reason
        raise _Stop


_GRACE_S = 0.5
"""So much longer than the bound may code take that stops by itself."""

_NOT_ENDED = (os.path.dirname(os.__file__), __file__)
"""Code that is not ended in the middle: the event loop would be left half made. It returns, or is given up."""


def _samples(workflow: Definition[..., Any]) -> dict[str, Any]:
    parameters = workflow.parameters
    return {
        name: parameters.defaults[name] if name in parameters.defaults else sample(_known(hint))
        for name, hint in parameters.types.items()
    }


def _known(annotation: Any) -> Any:
    return Any if annotation is None or annotation is MISSING else annotation


def _place(workflow: Definition[..., Any], error: Exception) -> str:
    """The line of the workflow's own file where it failed."""
    file = _file(workflow)
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    return f" ({shown_path(file)}:{lines[-1]})" if lines else ""


def _line_of(workflow: Definition[..., Any], frame: FrameType | None) -> str:
    """The line of the workflow's own file where a thread is now."""
    file = _file(workflow)
    while frame is not None and frame.f_code.co_filename != file:
        frame = frame.f_back
    return f" ({shown_path(file)}:{frame.f_lineno})" if frame is not None else ""


def _file(workflow: Definition[..., Any]) -> str:
    return str(getattr(inspect.unwrap(workflow.spec.body), "__code__", _NO_CODE).co_filename)


_NO_CODE = (lambda: None).__code__
