"""A job on the Ray cluster around it, or the same job going on: `driver.py JOURNAL OUTPUT WORKERS [ray://…]`, from its
folder."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from carrara.engines.engine import Engine
from carrara.engines.request import Request
from carrara.engines.scripted import ScriptedEngine
from carrara.runtime.journal.recording import Recorder
from carrara.workflows.cluster.plan import OnRay
from carrara.workflows.job import Job, find_job, run_job
from carrara.workflows.run import session
from tests.cluster.gate import pass_gate


def engines(folder: Path) -> Mapping[str, Engine]:
    """One that takes a moment, and answers with the last word of the prompt, turned around. In `folder` are gates."""

    async def reply(request: Request) -> str:
        word = request.messages[-1].content.split()[-1]
        await asyncio.sleep(0.005)
        await asyncio.to_thread(pass_gate, folder / f"engine-{word}")
        return word[::-1]

    return {"script": ScriptedEngine("script", reply)}


async def main(journal: str, output: str, workers: int, address: str = "ray") -> None:
    job = Job("flow.py:turn", "in.jsonl", output, concurrency=8)
    async with session(journal=journal, engines=("script",)) as opened:
        assert isinstance(opened.journal, Recorder)
        known = find_job(job, opened.journal)
        made = partial(engines, Path.cwd())
        on = OnRay(address, workers=workers, replicas=2, cpus=1, engines=made)
        found = await run_job(job, opened, run_id=known, on=on)
    print(f"{found.done} done, {found.failed} failed, {found.reused} from before")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:]))
