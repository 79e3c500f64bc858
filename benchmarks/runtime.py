"""Measure the runtime: CPU per node, growth, memory, readiness lag, makespan. Prints JSON.

    python benchmarks/runtime.py            everything, about two minutes
    python benchmarks/runtime.py --quick    fewer repetitions, for a look

CPU per node is process time over nodes, the least of several runs (what others do on the machine only adds);
bodies are async no-ops whose value is checked. "asyncio" is a hand-written loop of dependency counters that
takes turns with ours in the same process: read ours as a multiple of it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import heapq
import importlib.metadata
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from carrara.runtime.journal.api import Journal
from carrara.runtime.ranking import Estimates, Ranks
from carrara.runtime.run import execute, submit, submit_map
from carrara.runtime.scheduler import Node, Pool, Scheduler
from carrara.runtime.step import RunOptions, StepSpec

SEED = 7
SLOTS = 8


@dataclass(frozen=True)
class Dag:
    """`inputs[i]` are numbers below i; the last node is the end."""

    inputs: list[list[int]]
    seconds: list[float] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.inputs)

    def outputs(self) -> list[list[int]]:
        found: list[list[int]] = [[] for _ in self.inputs]
        for i, sources in enumerate(self.inputs):
            for j in sources:
                found[j].append(i)
        return found

    def depth(self) -> int:
        """What the last node returns: every body returns 1 + the most of its inputs."""
        values: list[int] = []
        for sources in self.inputs:
            values.append(1 + max((values[j] for j in sources), default=0))
        return values[-1]

    def bound_s(self, slots: int) -> float:
        """No schedule is shorter: the critical path, or all work shared by the slots."""
        ends: list[float] = []
        for i, sources in enumerate(self.inputs):
            ends.append(self.seconds[i] + max((ends[j] for j in sources), default=0.0))
        return max(*ends, sum(self.seconds) / slots)


def chain(count: int) -> Dag:
    return Dag([[i - 1] if i else [] for i in range(count)])


def fan(width: int) -> Dag:
    return Dag([[], *([0] for _ in range(width)), list(range(1, width + 1))])


def layered(count: int, layers: int, seed: int, *, timed: bool = False) -> Dag:
    """A random layered graph, mean in-degree 3, one source and one sink.

    One parent lies in the layer before, the others anywhere above. `timed`: lognormal latencies, median
    0.15 s, sigma 0.8, but next to none for source and sink.
    """
    rng = random.Random(seed)
    inputs: list[list[int]] = [[]]
    above, before = [0], [0]
    for layer in range(layers):
        width = (count - 2) // layers + (layer < (count - 2) % layers)
        this = list(range(len(inputs), len(inputs) + width))
        for _ in this:
            parents = {rng.choice(before)}
            wanted = 1 + max(0, round(rng.gauss(2.0, 1.0)))
            while len(parents) < min(wanted, len(above)):
                parents.add(rng.choice(above))
            inputs.append(sorted(parents))
        before = this
        above = above + this
    used = {j for sources in inputs for j in sources}
    inputs.append([i for i in range(len(inputs)) if i not in used])
    seconds = [rng.lognormvariate(-1.897, 0.8) for _ in inputs] if timed else []
    if timed:
        seconds[0] = seconds[-1] = 0.001
    return Dag(inputs, seconds)


# ------------------------------------------------------------------------------- one run of a graph

Work = Callable[[int, list[int]], Awaitable[int]]


async def no_work(i: int, inputs: list[int]) -> int:
    return 1 + max(inputs, default=0)


def compiled(dag: Dag, work: Work) -> list[StepSpec]:
    """A step for each node, so that latencies are learned by step."""

    def step(i: int) -> StepSpec:
        async def body(inputs: list[int]) -> int:
            return await work(i, inputs)

        return StepSpec(f"n{i}", body, fingerprint=f"n{i}", returns=int)

    return [step(i) for i in range(dag.size)]


async def run_ours(
    dag: Dag,
    steps: list[StepSpec],
    *,
    journal: Journal | None = None,
    estimates: Estimates | None = None,
    options: RunOptions | None = None,
) -> int:
    async def workflow() -> Any:
        handles: list[Any] = []
        for step, sources in zip(steps, dag.inputs, strict=True):
            handles.append(submit(step, ([handles[j] for j in sources],), {}))
        return handles[-1]

    result = await execute(
        workflow, name="dag", journal=journal, estimates=estimates or Estimates(), options=options
    )
    value: int = result.value
    return value


async def run_bare(dag: Dag, work: Work) -> int:
    """What a careful user writes without any framework: a task for each ready node."""
    need = [len(sources) for sources in dag.inputs]
    outputs = dag.outputs()
    values = [0] * dag.size
    left = dag.size
    done = asyncio.get_running_loop().create_future()
    tasks: set[asyncio.Task[None]] = set()

    def start(i: int) -> None:
        task = asyncio.create_task(go(i))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def go(i: int) -> None:
        nonlocal left
        values[i] = await work(i, [values[j] for j in dag.inputs[i]])
        left -= 1
        if not left:
            done.set_result(None)
        for j in outputs[i]:
            need[j] -= 1
            if not need[j]:
                start(j)

    for i, sources in enumerate(dag.inputs):
        if not sources:
            start(i)
    await done
    return values[-1]


# ------------------------------------------------------------------------------- CPU per node


Run = Callable[[], Awaitable[Any]]


def least_cpu_us(ways: dict[str, tuple[Run, int]], repeats: int) -> dict[str, float]:
    """The least CPU time per node of several runs of each way, in microseconds.

    Each way is a run and its number of nodes. The ways take turns, so that a busy spell of the machine falls
    on all of them.
    """
    best = dict.fromkeys(ways, float("inf"))

    async def main() -> None:
        for _ in range(repeats):
            for way, (run, nodes) in ways.items():
                gc.collect()
                begun = time.process_time()
                await run()
                best[way] = min(best[way], (time.process_time() - begun) / nodes)

    asyncio.run(main())
    return {way: round(seconds * 1e6, 1) for way, seconds in best.items()}


def overhead(repeats: int) -> dict[str, Any]:
    """Microseconds of CPU per node, of each shape: bare asyncio, ours, ours with the journal."""
    shapes: dict[str, tuple[Dag, int]] = {
        "chain of 1,000": (chain(1000), 1),
        "fan-out of 1,000": (fan(1000), 1),
        "layered, 1,000 nodes, in-degree 3": (layered(1000, 20, SEED), 1),
        "200 concurrent chains of 10": (chain(10), 200),
    }
    found: dict[str, Any] = {}
    for name, (dag, runs) in shapes.items():
        row = overhead_of(dag, runs, repeats)
        found[name] = row | {
            "times_asyncio": round(row["ours"] / row["asyncio"], 2),
            "times_asyncio_journal": round(row["ours_journal"] / row["asyncio"], 2),
        }
    step = StepSpec("each", no_index, fingerprint="each", returns=int)

    async def by_map() -> Any:
        return submit_map(step, range(1000))

    map_run = partial(execute, by_map, estimates=Estimates())
    found["map of 1,000 over a list"] = least_cpu_us({"ours": (map_run, 1000)}, repeats)
    return found


def overhead_of(dag: Dag, runs: int, repeats: int) -> dict[str, float]:
    expected = [dag.depth()] * runs
    steps = compiled(dag, no_work)

    async def many(once: Run) -> None:
        assert await asyncio.gather(*(once() for _ in range(runs))) == expected

    with opened_journal() as journal:
        ways: dict[str, Run] = {
            "asyncio": lambda: run_bare(dag, no_work),
            "ours": lambda: run_ours(dag, steps),
            "ours_journal": lambda: run_ours(dag, steps, journal=journal),
        }
        timed = {way: (partial(many, once), dag.size * runs) for way, once in ways.items()}
        return least_cpu_us(timed, repeats)


async def no_index(i: int) -> int:
    return i


@contextmanager
def opened_journal() -> Iterator[Journal]:
    """A journal in a folder of its own, gone afterwards."""
    from carrara.runtime.journal.sqlite import SqliteJournal

    with tempfile.TemporaryDirectory() as folder:
        journal = SqliteJournal(Path(folder) / "journal.db")
        try:
            yield journal
        finally:
            journal.close()


def growth(repeats: int) -> dict[str, Any]:
    """CPU per node of 10,000 nodes over that of 1,000."""
    found: dict[str, Any] = {}
    shapes: dict[str, Callable[[int], Dag]] = {
        "chain": chain,
        "fan-out": fan,
        "layered": lambda n: layered(n, n // 50, SEED),
    }
    for name, make in shapes.items():
        ways: dict[str, tuple[Run, int]] = {}
        for count in (1000, 10_000):
            dag = make(count)
            ways[f"us_{count}"] = (partial(run_ours, dag, compiled(dag, no_work)), dag.size)
        row = least_cpu_us(ways, repeats)
        found[name] = row | {"ratio": round(row["us_10000"] / row["us_1000"], 2)}
    return found


# ------------------------------------------------------------------------------- memory


def peak_mb(kind: str, width: int) -> dict[str, float]:
    """Peak resident memory of a fresh process that runs one fan-out."""
    command = [sys.executable, __file__, "--memory-of", kind, "--width", str(width)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(out)
    return found


def resident_mb(which: str) -> float:
    """Of this process: "VmRSS" now, "VmHWM" at most. (ru_maxrss would count the parent's, too.)"""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(which + ":"):
            return round(int(line.split()[1]) / 1024, 1)
    raise RuntimeError(f"no {which} in /proc/self/status: memory is measured on Linux only")


def memory_of(kind: str, width: int) -> dict[str, float]:
    base = resident_mb("VmRSS")
    dag = fan(width)
    step = StepSpec("each", no_index, fingerprint="each", returns=int)

    async def by_map() -> Any:
        return submit_map(step, range(width))

    if kind == "map":
        asyncio.run(execute(by_map))
    elif kind == "map_journal":
        with opened_journal() as journal:
            asyncio.run(execute(by_map, journal=journal))
    elif kind == "nodes":
        asyncio.run(run_ours(dag, compiled(dag, no_work)))
    else:
        asyncio.run(run_bare(dag, no_work))
    return {"base_mb": base, "peak_mb": resident_mb("VmHWM")}


# ------------------------------------------------------------------------------- time


def readiness_lag(seed: int) -> dict[str, float]:
    """From the end of a node's last input to the entry of its body, no bound on what runs at once."""
    dag = layered(200, 10, seed, timed=True)
    entered, left = [0.0] * dag.size, [0.0] * dag.size

    async def work(i: int, inputs: list[int]) -> int:
        entered[i] = time.perf_counter()
        await asyncio.sleep(dag.seconds[i] / 3)
        left[i] = time.perf_counter()
        return 1 + max(inputs, default=0)

    options = RunOptions(concurrency=None)
    asyncio.run(run_ours(dag, compiled(dag, work), options=options))
    lags = sorted(
        entered[i] - max(left[j] for j in sources)
        for i, sources in enumerate(dag.inputs)
        if sources
    )
    return {
        "seed": seed,
        "median_ms": round(statistics.median(lags) * 1e3, 3),
        "p95_ms": round(lags[int(0.95 * len(lags))] * 1e3, 3),
        "max_ms": round(lags[-1] * 1e3, 3),
    }


def simulated_s(dag: Dag, slots: int, estimates: Estimates) -> float:
    """The makespan of the scheduler alone, in virtual time."""
    pool = Pool("run", slots)
    scheduler = Scheduler(Ranks(estimates))
    nodes = [Node(i, f"n{i}", (pool,)) for i in range(dag.size)]
    for node, sources in zip(nodes, dag.inputs, strict=True):
        scheduler.added(node, [nodes[j] for j in sources])
    running: list[tuple[float, int]] = []
    now = 0.0
    while True:
        for node in scheduler.start():
            heapq.heappush(running, (now + dag.seconds[node.seq], node.seq))
        if not running:
            return now
        now, i = heapq.heappop(running)
        scheduler.finished(nodes[i], dag.seconds[i])


def first_come_s(dag: Dag, slots: int) -> float:
    """The makespan when ready nodes start in the order in which they became ready."""
    need = [len(sources) for sources in dag.inputs]
    outputs = dag.outputs()
    ready = [i for i, left in enumerate(need) if not left]
    running: list[tuple[float, int]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < slots:
            i = ready.pop(0)
            heapq.heappush(running, (now + dag.seconds[i], i))
        now, i = heapq.heappop(running)
        for j in outputs[i]:
            need[j] -= 1
            if not need[j]:
                ready.append(j)
    return now


def makespans(seeds: int) -> dict[str, Any]:
    """Virtual time: makespan over max(critical path, work / slots), latencies known exactly or to e^(+-0.5)."""
    found: dict[str, Any] = {}
    for count, layers, slots in ((200, 10, SLOTS), (1000, 20, SLOTS), (60, 6, 3)):
        rows: dict[str, list[float]] = {
            name: [] for name in ("learned", "rough", "first", "to_first")
        }
        for seed in range(1, seeds + 1):
            dag = layered(count, layers, seed, timed=True)
            bound = dag.bound_s(slots)
            rng = random.Random(seed)
            known = {f"n{i}": s for i, s in enumerate(dag.seconds)}
            rough = {name: s * rng.lognormvariate(0, 0.5) for name, s in known.items()}
            learned_s = simulated_s(dag, slots, Estimates(known))
            first_s = first_come_s(dag, slots)
            rows["learned"].append(learned_s / bound)
            rows["rough"].append(simulated_s(dag, slots, Estimates(rough)) / bound)
            rows["first"].append(first_s / bound)
            rows["to_first"].append(learned_s / first_s)
        found[f"{count} nodes, {layers} layers, {slots} slots"] = {
            "seeds": seeds,
            "learned": spread(rows["learned"]),
            "learned_within_1.03": round(statistics.fmean(r <= 1.03 for r in rows["learned"]), 3),
            "rough_estimates": spread(rows["rough"]),
            "first_come": spread(rows["first"]),
            "worst_learned_over_first_come": round(max(rows["to_first"]), 4),
        }
    return found


def spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "median": round(statistics.median(ordered), 4),
        "p95": round(ordered[int(0.95 * len(ordered))], 4),
        "max": round(ordered[-1], 4),
    }


def real_makespan(seeds: list[int], scale: float) -> list[dict[str, float]]:
    """Real time, latencies shortened by `scale`: the first run knows nothing, the second has learned."""
    rows = []
    for seed in seeds:
        dag = layered(200, 10, seed, timed=True)
        dag = Dag(dag.inputs, [s * scale for s in dag.seconds])

        async def work(i: int, inputs: list[int], dag: Dag = dag) -> int:
            await asyncio.sleep(dag.seconds[i])
            return 1 + max(inputs, default=0)

        steps, estimates = compiled(dag, work), Estimates()
        options = RunOptions(concurrency=SLOTS)
        ratios = []
        for _ in range(2):
            begun = time.perf_counter()
            asyncio.run(run_ours(dag, steps, estimates=estimates, options=options))
            ratios.append((time.perf_counter() - begun) / dag.bound_s(SLOTS))
        rows.append(
            {"seed": seed, "first_run": round(ratios[0], 4), "learned": round(ratios[1], 4)}
        )
    return rows


def machine() -> dict[str, Any]:
    packages = ("aiolimiter", "asyncio-throttle", "stamina", "pydantic")
    return {
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "load": [round(x, 2) for x in os.getloadavg()],
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "seed": SEED,
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--memory-of", help=argparse.SUPPRESS)
    options.add_argument("--width", type=int, default=10_000, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.memory_of:
        print(json.dumps(memory_of(chosen.memory_of, chosen.width)))
        return
    repeats = 5 if chosen.quick else 15
    report = machine() | {
        "cpu_us_per_node": overhead(repeats),
        "growth": growth(3 if chosen.quick else 8),
        "fan_out_10000_memory": {
            kind: peak_mb(kind, 10_000) for kind in ("asyncio", "map", "map_journal", "nodes")
        },
        "readiness_lag": [readiness_lag(seed) for seed in ((1,) if chosen.quick else (1, 2, 3))],
        "makespan_over_bound": makespans(20 if chosen.quick else 200),
        "makespan_over_bound_real_time": real_makespan([1] if chosen.quick else [1, 2, 3], 0.5),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
