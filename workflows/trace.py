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
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

from carrara.runtime.arguments import capture_call, resolve
from carrara.runtime.handle import Handle
from carrara.runtime.node import StepNode
from carrara.runtime.scheduler import DONE
from carrara.workflows.calls import Definition, tracer
from carrara.workflows.parameters import MISSING
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
    node: None = None


class TracedHandle(Handle[Any]):
    """A handle whose value is there at once and made up."""

    __slots__ = ("_seen",)

    def __init__(self, node: StepNode, seen: Callable[[], None]) -> None:
        super().__init__(node)
        self._seen = seen

    def __await__(self) -> Generator[Any, None, Any]:
        yield from asyncio.sleep(0).__await__()
        self._seen()
        return self._node.value

    def cancel(self, reason: str = "") -> None:
        return None


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
        inputs: list[StepNode] = []
        taken, named = capture_call(args, kwargs, inputs)
        node = self._add(step, inputs, fan_out=False, value=sample(_known(step.returns)))
        if step.spec.kind == "workflow":
            values = step.parameters.bind(step.name, *_resolved(taken, named))
            self._enter(step, self._name(node), values)
        return self._handle(node)

    def map(self, step: Definition[..., Any], items: Any, common: dict[str, Any]) -> Any:
        inputs: list[StepNode] = []
        taken, named = capture_call(
            (items if isinstance(items, Handle) else list(items),), common, inputs
        )
        node = self._add(step, inputs, fan_out=True, value=[sample(_known(step.returns))])
        if step.spec.kind == "workflow":
            given = resolve(taken[0])
            first = next(iter(given), None) if not isinstance(given, str) else given
            values = step.parameters.bind(step.name, (first,), _resolved((), named)[1])
            self._enter(step, self._name(node), values)
        return self._handle(node)

    def _follow_one(
        self, scope: _Scope, workflow: Definition[..., Any], inputs: Mapping[str, Any]
    ) -> None:
        self._scope = scope
        try:
            asyncio.run(_ran(workflow.spec.body, inputs))
        except Exception as error:  # the workflow met a value that it did not expect
            where = f"workflow {workflow.name!r}" if scope.id else "the workflow"
            self.notes.append(
                f"on sample values {where} ended with {type(error).__name__}: {error}{_line(error)}; "
                "what comes after is not shown"
            )

    def _add(
        self, step: Definition[..., Any], inputs: list[StepNode], *, fan_out: bool, value: Any
    ) -> StepNode:
        scope = self._scope
        ordinal = scope.counts[step.name]
        self._check_bounds(step, ordinal)
        scope.counts[step.name] += 1
        own = f"{step.name}#{ordinal}" if ordinal else step.name
        name = f"{scope.id}/{own}" if scope.id else own
        after = list(scope.awaited)
        kind = step.spec.kind
        self.nodes.append(
            PlanNode(name, step.name, kind, scope.id, step, fan_out, after_value=bool(after))
        )
        self._connect(name, [self._name(node) for node in inputs], after)
        node = StepNode(len(self.nodes), step.spec, (), scope, None, None, ordinal, copy_context())  # type: ignore[arg-type]  # a scope without an executor
        node.state = DONE
        node.value = value
        return node

    def _name(self, node: StepNode) -> str:
        return self.nodes[node.seq - 1].id

    def _connect(self, name: str, inputs: list[str], after: list[str]) -> None:
        """Edges for the inputs, and from awaited nodes that do not come before one of the others anyway."""
        sources = dict.fromkeys(inputs)
        self.edges += [PlanEdge(source, name) for source in sources]
        before = frozenset(sources).union(*(self._before[source] for source in sources))
        for source in reversed(after):
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

    def _handle(self, node: StepNode) -> TracedHandle:
        scope, name = self._scope, self._name(node)

        def seen() -> None:
            if name not in scope.awaited:
                scope.awaited.append(name)

        return TracedHandle(node, seen)

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


def _resolved(
    args: tuple[Any, ...], kwargs: Mapping[str, Any] | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    named = {name: resolve(value) for name, value in (kwargs or {}).items()}
    return tuple(resolve(value) for value in args), named


def _line(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "carrara" not in f.filename and "asyncio" not in f.filename]
    return f" ({shown_path(own[-1].filename)}:{own[-1].lineno})" if own else ""
