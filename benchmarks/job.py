"""What a job costs beside the work itself, and how fast it is beside others. Prints JSON.

    python -m benchmarks.job overhead [--records 100000] [--memory-records 1000000] [--sink .jsonl] [--concurrency 16]
    python -m benchmarks.job turns --before CHECKOUT [--records 50000] [--rounds 3] [--sink .jsonl] [--concurrency 16]
    python -m benchmarks.job compare --data FOLDER [--records 64] [--concurrency N] [--threads 1] [--model MODEL]
                                     [--systems diffusion,ar,llama.cpp,langextract] [--langextract PYTHON]
                                     [--tasks e2e_restaurant,sroie_receipt]

"overhead": CPU µs per record of a job whose only step does nothing, with journal and sink, and the most memory that a
job of many tiny records takes. Each job is a process of its own; the records are JSON lines. "bare" is the same loop
over the records without a job (read, JSON line written), on the same machine at the same time.

"turns": the same overhead by turns of another checkout of this repository (its `benchmarks.job`, which must have
"overhead") and of this one, so that a busy spell of the machine falls on both; "least" is what a record cost in the
quietest turn of each.

"compare": records/s and tokens/s of jobs on the embedded model, by diffusion and AR decoding, against llama.cpp's
server on the same weights under a plain asyncio loop and under LangExtract, with the occupancy of the diffusion
batcher; see `benchmarks.job_engines`. FOLDER holds e2e_restaurant/test.jsonl and sroie_receipt/test.jsonl.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from benchmarks.job_engines import SYSTEMS, TASKS, Plan, compare
from benchmarks.machine import machine, versions

ROOT = Path(__file__).resolve().parents[1]
FLOW = """
from carrara import step, workflow


@step
async def nothing(text: str) -> str:
    return text


@workflow
async def noop(text: str) -> str:
    return await nothing(text)
"""
GOAL_US, GOAL_MB = 150, 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "part", choices=["overhead", "turns", "compare"], nargs="?", default="overhead"
    )
    parser.add_argument("--records", type=int)
    parser.add_argument("--memory-records", type=int, default=1_000_000)
    parser.add_argument("--before", type=Path, metavar="CHECKOUT")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sink", default=".jsonl")
    parser.add_argument("--concurrency", type=int)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model")
    parser.add_argument("--systems", default=",".join(SYSTEMS))
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--langextract", metavar="PYTHON")
    parser.add_argument("--one", metavar="FOLDER", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part == "compare":
        compared(given)
        return
    if given.part == "turns":
        by_turns(given)
        return
    given.records = given.records or 100_000
    given.concurrency = given.concurrency or 16
    if given.one:
        print(json.dumps(one(Path(given.one), given.records, given.sink, given.concurrency)))
        return
    found = {
        "overhead": overhead(given.records, given.sink, given.concurrency),
        "memory": overhead(given.memory_records, given.sink, given.concurrency)
        if given.memory_records
        else None,
        "goals": {"cpu_us_per_record": GOAL_US, "peak_mb": GOAL_MB},
        **machine(1),
        **versions("pyarrow", "duckdb", "sqlalchemy"),
    }
    print(json.dumps(found, indent=2))


def compared(given: argparse.Namespace) -> None:
    if given.data is None:
        raise SystemExit("compare needs --data FOLDER")
    import torch

    torch.set_num_threads(given.threads)
    plan = Plan(
        given.data,
        given.records or 64,
        given.concurrency,
        given.threads,
        given.model,
        given.langextract,
        tuple(given.systems.split(",")),
        tuple(given.tasks.split(",")),
    )
    found = asyncio.run(compare(plan))
    about = {"concurrency": plan.concurrency, "model": plan.model or "embedded"}
    told = {**found, **about, **machine(given.threads), **versions("torch", "xllamacpp")}
    print(json.dumps(told, indent=2))


def by_turns(given: argparse.Namespace) -> None:
    if given.before is None:
        raise SystemExit("turns needs --before CHECKOUT")
    trees = {"before": given.before.resolve(), "after": ROOT}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in trees}
    loads: list[float] = []
    for number in range(given.rounds):
        for name in trees if number % 2 == 0 else reversed(trees):
            loads.append(round(os.getloadavg()[0], 2))
            records, at_once = given.records or 50_000, given.concurrency or 16
            runs[name].append(overhead(records, given.sink, at_once, trees[name]))
    costs = {name: [run["cpu_us_per_record"] for run in told] for name, told in runs.items()}
    found = {
        "commits": {name: commit(tree) for name, tree in trees.items()},
        **runs,
        "least": {name: min(each) for name, each in costs.items()},
        "loads": loads,
        "goals": {"cpu_us_per_record": GOAL_US},
        **machine(1),
        **versions(),
    }
    print(json.dumps(found, indent=2))


def commit(tree: Path) -> str:
    """The commit of a checkout, with "+" behind it where files differ from it."""
    words = ["git", "describe", "--always", "--abbrev=7", "--dirty=+", "--exclude=*"]
    return subprocess.run(
        words, cwd=tree, check=True, capture_output=True, text=True
    ).stdout.strip()


def overhead(count: int, sink: str, concurrency: int, tree: Path = ROOT) -> dict[str, Any]:
    """One job in a process of its own, by the code of a checkout."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "in.jsonl").open("w") as lines:
            for number in range(count):
                lines.write(json.dumps({"id": f"r{number}", "text": f"text {number}"}) + "\n")
        (folder / "flow.py").write_text(FLOW)
        words = ["--one", name, "--records", str(count), "--sink", sink]
        words += ["--concurrency", str(concurrency)]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.job", *words],
            cwd=tree,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return dict(json.loads(done.stdout))


def one(folder: Path, count: int, sink: str, concurrency: int) -> dict[str, Any]:
    from carrara.workflows.job import Job, run_job
    from carrara.workflows.run import session

    bare = bare_us(folder, count)
    output = f"{folder}/out{sink}"
    if sink.startswith(("sqlite", "duckdb")):
        output = f"{sink}:///{folder}/out.db#rows"
    job = Job(f"{folder}/flow.py:noop", f"{folder}/in.jsonl", output, concurrency=concurrency)

    async def work() -> int:
        async with session(journal=folder / "journal.db") as kept:
            return (await run_job(job, kept)).done

    before = peak_mb()
    cpu, wall = process_time(), perf_counter()
    done = asyncio.run(work())
    cpu, wall = process_time() - cpu, perf_counter() - wall
    assert done == count
    return {
        "records": count,
        "sink": sink,
        "concurrency": concurrency,
        "cpu_us_per_record": round(cpu / count * 1e6, 1),
        "bare_cpu_us_per_record": round(bare, 1),
        "wall_s": round(wall, 1),
        "peak_mb": round(peak_mb(), 1),
        "peak_mb_before": round(before, 1),
    }


def bare_us(folder: Path, count: int) -> float:
    """CPU µs to read a record and write it as a line."""
    began = process_time()
    with (folder / "in.jsonl").open() as lines, (folder / "bare.jsonl").open("w") as out:
        for line in lines:
            out.write(json.dumps(json.loads(line)) + "\n")
    return (process_time() - began) / count * 1e6


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
