"""How a job scales on a Ray cluster with an engine that is bound by latency. Prints JSON.

    python -m benchmarks.scale [--records 150] [--latency 1] [--window 8] [--journal postgresql://…]

"scaling": records/s of a job with one model call per record on 1, 2 and 4 workers, each with `window` records under
way; the engine waits `latency` seconds and computes nothing, so that a core more or less does not count. "ideal" is
workers * window / latency. The rate is taken from the first tenth of the rows to the last: starting processes is not
in it, and stands beside it. "here" is the same job in one process without Ray. The size of the journal
is that of the SQLite file.

"driver": the same with an engine that does not wait: the most that one driver passes on, and what a record costs it in
CPU; it writes journal and sink alone, so this bounds the whole cluster.

The cluster is this machine. Its journal is an SQLite file unless --journal names a PostgreSQL server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from benchmarks.machine import machine, versions
from carrara.engines.engine import Engine
from carrara.engines.request import Request
from carrara.engines.scripted import ScriptedEngine
from carrara.workflows.cluster.plan import MakeEngines, OnRay
from carrara.workflows.job import Job, run_job
from carrara.workflows.run import session

FLOW = """
from typing import TypedDict

from carrara import llm, workflow


class Said(TypedDict):
    said: str


@llm(engine="script")
def say(text: str) -> str:
    '''Say {{ text }}'''


@workflow
async def talk(text: str) -> Said:
    return {"said": await say(text)}
"""
WORKERS = (1, 2, 4)
EAGER = 3000
"""Records for the driver's ceiling."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=150, help="for each worker")
    parser.add_argument("--latency", type=float, default=1.0)
    parser.add_argument("--window", type=int, default=8)
    parser.add_argument("--journal")
    given = parser.parse_args()
    import ray

    ray.init(num_cpus=2 * max(WORKERS), log_to_driver=False, logging_level="warning")
    slow, eager = engines_of(given.latency), engines_of(0.0)
    scaling = []
    for workers in WORKERS:
        found = measured(workers, workers * given.records, given.window, slow, given.journal)
        ideal = workers * given.window / given.latency
        share = round(found["records_per_s"] / ideal, 3)
        scaling.append({**found, "ideal_per_s": ideal, "share_of_ideal": share})
    print(
        json.dumps(
            {
                "scaling": scaling,
                "here": measured(0, given.records, given.window, slow, given.journal),
                "driver": measured(max(WORKERS), EAGER, 32, eager, given.journal),
                "settings": {
                    "latency_s": given.latency,
                    "window": given.window,
                    "journal": "postgresql" if given.journal else "sqlite",
                    "sink": "jsonl",
                },
                **machine(1),
                **versions("ray", "psycopg", "sqlalchemy"),
            },
            indent=2,
        )
    )
    ray.shutdown()


def engines_of(latency_s: float) -> MakeEngines:
    def made() -> Mapping[str, Engine]:
        async def reply(request: Request) -> str:
            await asyncio.sleep(latency_s)
            return request.messages[-1].content.split()[-1]

        return {"script": ScriptedEngine("script", reply)}

    return made


def measured(
    workers: int, records: int, window: int, engines: MakeEngines, journal: str | None
) -> dict[str, Any]:
    """A job in a folder of its own; with no workers in this process."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        flow = place / f"flow_{place.name}.py"
        flow.write_text(FLOW)
        rows = (json.dumps({"id": f"r{n}", "text": f"word{n}"}) + "\n" for n in range(records))
        (place / "in.jsonl").write_text("".join(rows))
        target = f"{flow}:talk"
        job = Job(target, str(place / "in.jsonl"), str(place / "out.jsonl"), concurrency=window)
        kept = journal or str(place / "journal.db")
        found = asyncio.run(timed(job, kept, workers, records, engines))
        written = sum(file.stat().st_size for file in place.glob("journal.db*"))
        return {**found, "journal_bytes_per_record": round(written / records) if written else None}


async def timed(
    job: Job, journal: str, workers: int, records: int, engines: MakeEngines
) -> dict[str, Any]:
    ended: list[float] = []
    on = OnRay(workers=workers, replicas=1, engines=engines) if workers else None
    given: Any = ("script",) if workers else engines()
    async with session(journal=journal, engines=given) as opened:
        began, cpu = perf_counter(), process_time()
        await run_job(job, opened, on=on, seen=lambda _: ended.append(perf_counter()))
        cpu = process_time() - cpu
    first = records // 10
    return {
        "workers": workers,
        "records": records,
        "records_per_s": round((records - first) / (ended[-1] - ended[first - 1]), 1),
        "first_row_s": round(ended[0] - began, 1),
        "driver_cpu_us_per_record": round(cpu / records * 1e6),
    }


if __name__ == "__main__":
    main()
