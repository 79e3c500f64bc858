"""Tracing a Python workflow: its function runs on made-up values, its steps are noted, not run.

A step gives a handle whose value, if it is awaited, is a sample of the step's return type, so the path goes
on. What is called after that is marked: with another value the workflow may go another way.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

from carrara.runtime.handle import Handle
from carrara.workflows.calls import Definition, tracer
from carrara.workflows.parameters import MISSING
from carrara.workflows.placeholders import Placeholder, filled
from carrara.workflows.samples import sample
from carrara.workflows.sketch import PlanEdge, PlanNode, Sketch
from carrara.workflows.source import shown_path


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where a trace stops: so many nodes, so many calls of one step after awaited values, so long."""

    nodes: int = 500
    rounds: int = 20
    seconds: float = 5.0


def trace(
    workflow: Definition[..., Any],
    inputs: Mapping[str, Any] | None = None,
    bounds: Bounds = Bounds(),
) -> Sketch:
    """The steps that a workflow calls on `inputs`, with samples for those not given. Runs no step.

    The workflow function runs in a thread of its own. An exception or a bound ends the trace with a note.
    """
    made = Trace(bounds)
    given = {**_samples(workflow), **(inputs or {})}
    with ThreadPoolExecutor(1) as threads:  # it has no event loop and no run around it
        threads.submit(made.follow, workflow, given).result()
    return Sketch(made.nodes, made.edges, made.notes)


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
        self._before: dict[str, frozenset[str]] = {}
        self._inner: list[tuple[_Scope, Definition[..., Any], Mapping[str, Any]]] = []
        self._scope = _Scope("", "", (), [], Counter())
        self._ends_at = 0.0
        self._stopped = ""

    def follow(self, workflow: Definition[..., Any], inputs: Mapping[str, Any]) -> None:
        """Run the workflow function and those of its sub-workflows, one after another."""
        tracer.set(self)
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
        try:
            asyncio.run(_ran(workflow.spec.body, inputs))
        except Exception as error:  # the workflow met a value that it did not expect
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            where = f"workflow {workflow.name!r}" if scope.id else "the workflow"
            self.notes.append(
                f"on sample values {where} ended with {reason}{_place(workflow, error)}; "
                "what comes after is not shown"
            )

    def _add(self, step: Definition[..., Any], sources: list[str], *, fan_out: bool) -> str:
        """Note a node and its edges; gives its id."""
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
        if frame.f_code.co_filename.startswith(_ASYNCIO):
            return None
        if time.monotonic() > self._ends_at:
            self._stop(f"the plan stops after {self.bounds.seconds:g} s on sample values")
        return self._watch

    def _stop(self, reason: str) -> NoReturn:
        self._stopped = reason
        raise _Stop


_ASYNCIO = os.path.dirname(asyncio.__file__)


async def _ran(function: Callable[..., Any], inputs: Mapping[str, Any]) -> None:
    found = function(**inputs)
    if inspect.isawaitable(found):
        await found


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
    file = getattr(inspect.unwrap(workflow.spec.body), "__code__", _NO_CODE).co_filename
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    return f" ({shown_path(file)}:{lines[-1]})" if lines else ""


_NO_CODE = (lambda: None).__code__
