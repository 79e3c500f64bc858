"""What a step needs to run: places in pools, and a way to call its body. Worked out once a spec and run."""

from __future__ import annotations

from carrara.runtime.bodies import Call, call_async, call_in_thread, way_to_call
from carrara.runtime.errors import ScopeError
from carrara.runtime.scheduler import Node, Pool
from carrara.runtime.step import RunOptions, StepSpec

MAP, STEP, THREADS, RUN = range(4)
"""The order in which places are taken."""


class Needs:
    """`plain`: an async body without retries or timeout, which takes the short way through the executor; `once`: any
    body without them. `recorded`: the journal keeps its results."""

    __slots__ = ("call", "once", "plain", "pools", "recorded", "spec")

    def __init__(self, spec: StepSpec, call: Call, pools: tuple[Pool, ...]) -> None:
        options = spec.options
        self.spec = spec
        self.call = call
        self.pools = pools
        self.once = not options.retries and options.timeout_s is None
        self.plain = self.once and call is call_async
        self.recorded = spec.kind != "workflow"


class Pools:
    """The pools of one run. A node takes its places in the order: map, step, threads, run.

    Whoever holds a place of these must never wait for another who does. Steps wait for nobody. A
    sub-workflow with a `concurrency` of its own does; so inside of one, others do not ask for theirs.
    """

    def __init__(self, options: RunOptions) -> None:
        run = options.concurrency
        self._run = Pool("run", run, RUN) if run is not None else None
        self._threads = Pool("threads", options.threads, THREADS)
        self._steps: dict[str, Pool] = {}
        # Specs by their address, for hashing one would hash all it holds; `Needs` keeps them alive.
        self._needs: dict[int, Needs] = {}

    def needs(self, spec: StepSpec) -> Needs:
        found = self._needs.get(id(spec))
        if found is None:
            found = self._needs[id(spec)] = self._work_out(spec)
        return found

    def places(self, needs: Needs, scope_node: Node | None) -> tuple[Pool, ...]:
        """The places for a node of the scope that belongs to `scope_node`."""
        if needs.recorded or not needs.pools:
            return needs.pools
        while scope_node is not None:
            if any(pool.order == STEP for pool in scope_node.pools):
                return ()
            scope_node = scope_node.parent
        return needs.pools

    def _work_out(self, spec: StepSpec) -> Needs:
        call = way_to_call(spec)
        pools: list[Pool] = []
        if spec.options.concurrency is not None:
            pools.append(self._step_pool(spec))
        if spec.kind != "workflow":
            if call is call_in_thread:
                pools.append(self._threads)
            if self._run is not None:
                pools.append(self._run)
        return Needs(spec, call, tuple(pools))

    def _step_pool(self, spec: StepSpec) -> Pool:
        limit = spec.options.concurrency
        assert limit is not None
        pool = self._steps.setdefault(spec.name, Pool(f"step {spec.name}", limit, STEP))
        if pool.limit != limit:
            raise ScopeError(
                f"two steps are named {spec.name!r} and ask for a concurrency of {pool.limit} and of "
                f"{limit}: give them one number, or two names"
            )
        return pool
