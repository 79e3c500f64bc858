"""Submitting steps: what happens when a workflow function calls a step or maps it over a list."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextvars import copy_context
from functools import partial
from threading import get_ident
from typing import Any

from carrara.runtime.arguments import capture_call
from carrara.runtime.errors import ScopeError
from carrara.runtime.fanout import Fanout, checked_items
from carrara.runtime.feed import Feed
from carrara.runtime.handle import Handle
from carrara.runtime.needs import MAP
from carrara.runtime.node import StepNode
from carrara.runtime.scheduler import DONE, Pool
from carrara.runtime.scope import Scope
from carrara.runtime.step import StepSpec

MAP_LIMIT = 256
"""Children of a map that run at once where neither the map nor the run says how many may."""

MAP_WINDOW = 64
"""Children of a map that are alive at once at least, running or being recorded."""


def submit_to(
    scope: Scope, spec: StepSpec, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Handle[Any]:
    """Add a node for one call of a step. It starts by itself when its inputs are there."""
    inputs: list[StepNode] = []
    taken, named = capture_call(args, kwargs, inputs)
    node = _new_node(scope, spec)
    node.args = taken
    node.kwargs = named
    scope.executor.adopt(node, inputs)
    return Handle(node)


def submit_map_to(
    scope: Scope,
    spec: StepSpec,
    items: Any,
    common: Mapping[str, Any],
    limit: int | None,
    keep_errors: bool,
) -> Handle[list[Any]]:
    """Add a map of a step over a list, or over the handle of one.

    At most `limit` children run at once; None leaves that to the run's own bound, or to MAP_LIMIT where
    the run has none or the children are sub-workflows, which hold no place of the run.
    """
    executor = scope.executor
    bound = limit if limit is not None else executor.options.concurrency or MAP_LIMIT
    if bound < 1:
        raise ScopeError(f"step {spec.name!r}: the limit of a map must be at least 1, got {bound}")
    if spec.kind == "workflow" or executor.options.concurrency is None:
        limit = bound
    inputs: list[StepNode] = []
    _, named = capture_call((), common, inputs)
    node = _new_node(scope, spec)
    pools = node.pools
    if limit is not None:
        pools = (Pool(f"map of {spec.name}", limit, MAP), *pools)
    node.pools = ()
    # More alive than may run: the others wait for their results to become durable.
    window = max(MAP_WINDOW, 2 * bound)
    node.fan = fan = Fanout(node, pools, named, list(inputs), window, keep_errors)
    source: StepNode | None = None
    if isinstance(items, Handle):
        source = items._node
        inputs.append(source)
        node.args = (source,)
    else:
        fan.take(checked_items(items, spec.name))
    executor.adopt(node, inputs)
    if source is not None and isinstance(source.fan, Fanout) and source.state < DONE:
        fan.follow(source.fan)
    return Handle(node)


def submit_feed_to(
    scope: Scope,
    spec: StepSpec,
    items: Iterator[Any],
    limit: int | Callable[[], int],
    room: Callable[[int], bool] | None,
) -> Handle[None]:
    """Add a sub-workflow for every item, taken from `items` as there is room for it; see `run.submit_feed`."""
    window = limit if callable(limit) else partial(int, limit)
    if window() < 1 or scope.counts.get(spec.name):
        raise ScopeError(
            f"step {spec.name!r}: a feed is the only one of its name, with a limit of 1 or more"
        )
    node = _new_node(scope, spec)
    pools, node.pools = node.pools, ()
    node.fan = Feed(node, pools, items, window, room)
    scope.executor.adopt(node, [])
    return Handle(node)


def _new_node(scope: Scope, spec: StepSpec) -> StepNode:
    executor = scope.executor
    if scope.closed or executor.closing or executor.thread != get_ident():
        raise _refusal(scope, spec)
    name = spec.name
    counts = scope.counts
    ordinal = counts.get(name, 0)
    counts[name] = ordinal + 1
    executor.seq = seq = executor.seq + 1
    needs = executor.pools.needs(spec)
    pools = needs.pools if needs.recorded else executor.pools.places(needs, scope.node)
    return StepNode(seq, needs, pools, scope, scope.node, None, ordinal, copy_context())


def _refusal(scope: Scope, spec: StepSpec) -> ScopeError:
    if scope.executor.thread != get_ident():
        return ScopeError(
            f"step {spec.name!r} was called from another thread than its workflow {scope.path!r}: "
            "call it in the workflow function and pass the value on"
        )
    return ScopeError(
        f"step {spec.name!r} was called after its workflow {scope.path!r} had ended: "
        "await the task that calls it before the workflow returns"
    )
