"""A job on the Ray cluster around it, or the same job going on: `driver.py JOURNAL OUTPUT WORKERS [ray://…]`, from its
folder."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping

from carrara.engines.engine import Engine
from carrara.engines.request import Request
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.journal.recording import Recorder
from carrara.workflows.cluster.plan import OnRay
from carrara.workflows.job import Job, find_job, run_job
from carrara.workflows.run import session


def engines() -> Mapping[str, Engine]:
    """One that takes a moment, and answers with the last word of the prompt, turned around."""

    async def reply(request: Request) -> str:
        await asyncio.sleep(0.005)
        return request.messages[-1].content.split()[-1][::-1]

    return {"script": ScriptedEngine("script", reply)}


async def main(journal: str, output: str, workers: int, address: str = "ray") -> None:
    job = Job("flow.py:turn", "in.jsonl", output, concurrency=8)
    async with session(journal=journal, engines=("script",)) as opened:
        assert isinstance(opened.journal, Recorder)
        known = find_job(job, opened.journal)
        on = OnRay(address, workers=workers, replicas=2, cpus=1, engines=engines)
        found = await run_job(job, opened, run_id=known, on=on)
    print(f"{found.done} done, {found.failed} failed, {found.reused} from before")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:]))
