"""The same texts through several systems on the same weights; see `benchmarks.job compare`.

"diffusion" and "ar" are jobs of this project (journal and JSON lines included) that ask only that engine; "occupancy"
is what the engine counted of its seats from the first round until the last record was begun. "llama.cpp"
is its server in a process of its own, on the merged weights as GGUF, asked by a plain asyncio loop with the same
prompts and the schema. "langextract" drives that same server through its OpenAI provider, from an environment of its
own. All of them have `concurrency` records under way; without one, jobs have as many as they have by default, the
others 32. Rates are over the wall time from the first record to the last,
engines warm; answer tokens are those of the answer as compact JSON by the model's tokenizer, so that they count alike.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from carrara.engines.contract import Json
from carrara.engines.occupancy import Occupancy
from carrara.workflows.job import Job, run_job
from carrara.workflows.run import session
from carrara.workflows.scoring.score import Scoring, score, total
from carrara.workflows.seats import FEWEST
from carrara.workflows.yaml import load

ROOT = Path(__file__).resolve().parents[1]
PIPELINES = ROOT / "examples" / "tasks"
TASKS = ("e2e_restaurant", "sroie_receipt")
SYSTEMS = ("diffusion", "ar", "llama.cpp", "langextract")
PEER = Path(__file__).with_name("langextract_peer.py")
MAX_TOKENS = 240


@dataclass(slots=True)
class Run:
    """What a system made of the rows: an answer or None for each, in their order."""

    seconds: float
    answers: list[Any]
    cpu_s: float | None = None
    more: dict[str, Any] = field(default_factory=dict)


Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Plan:
    """`model` as `--model` takes it, None for the embedded one; `python` is that of LangExtract's environment.
    `concurrency` None: what a job has by default."""

    data: Path
    records: int
    concurrency: int | None
    threads: int
    model: str | None = None
    python: str | None = None
    systems: tuple[str, ...] = SYSTEMS
    tasks: tuple[str, ...] = TASKS

    @property
    def slots(self) -> int:
        """Requests at once to a server that is no job of this project."""
        return self.concurrency or FEWEST


async def compare(plan: Plan) -> dict[str, Any]:
    """Marks and rates by task and system; a system that cannot be run says why."""
    found: dict[str, Any] = {}
    for task in plan.tasks:
        with (plan.data / task / "test.jsonl").open(encoding="utf-8") as lines:
            rows = [json.loads(line) for _, line in zip(range(plan.records), lines, strict=False)]
        found[task] = {}
        for system in plan.systems:
            print(f"{task}: {system}", file=sys.stderr)
            try:
                run = await _RUNS[system](plan, task, rows)
            except (ModuleNotFoundError, RuntimeError, subprocess.CalledProcessError) as error:
                found[task][system] = {"not_run": f"{type(error).__name__}: {error}"[:500]}
                continue
            found[task][system] = _told(plan, task, rows, run)
            print(json.dumps(found[task][system]), file=sys.stderr)
    return found


def _told(plan: Plan, task: str, rows: Rows, run: Run) -> dict[str, Any]:
    scoring = load(PIPELINES / f"{task}.yaml").workflow.scoring or Scoring("fields")
    marks = total(
        score(scoring, row["gold"], answer, parsed=answer is not None)
        for row, answer in zip(rows, run.answers, strict=True)
    )
    count = _tokenizer(plan)
    answered = sum(count(_compact(answer)) for answer in run.answers if answer is not None)
    read = sum(count(row["prompt"]) for row in rows)
    return {
        "records": len(rows),
        "wall_s": round(run.seconds, 2),
        "cpu_s": None if run.cpu_s is None else round(run.cpu_s, 2),
        "records_per_s": round(len(rows) / run.seconds, 3),
        "prompt_tokens_per_s": round(read / run.seconds, 1),
        "answer_tokens_per_s": round(answered / run.seconds, 1),
        "answered": sum(answer is not None for answer in run.answers),
        "field_f1": round(marks.field_f1, 4),
        "exact_match": round(marks.exact_match, 4),
        **run.more,
    }


# -- jobs of this project ----------------------------------------------------------------------------


async def _job(engine: str, plan: Plan, task: str, rows: Rows) -> Run:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder / "in.jsonl", ({"id": row["id"], "input": row["input"]} for row in rows))
        target = str(PIPELINES / f"{task}.yaml")
        job = Job(
            target,
            str(folder / "in.jsonl"),
            str(folder / "out.jsonl"),
            concurrency=plan.concurrency,
        )
        async with session(
            engines=(engine,), model=plan.model, journal=folder / "journal.db"
        ) as kept:
            workflow = load(PIPELINES / f"{task}.yaml").workflow
            kept._resources_for(workflow)
            await kept.open_engines()
            cpu, began = process_time(), perf_counter()
            result = await run_job(job, kept)
            seconds, cpu = perf_counter() - began, process_time() - cpu
        answers = {row["key"]: row["answer"] for row in _lines(folder / "out.jsonl")}
        failed = [line["error"] for line in _lines(folder / "out.failed.jsonl")]
    more: dict[str, Any] = {"failed": result.failed, "first_failure": (failed or [None])[0]}
    if counted := result.occupancy.get(engine):
        more["occupancy"] = _occupancy(counted)
    return Run(seconds, [answers.get(row["id"]) for row in rows], cpu, more)


def _occupancy(counted: Occupancy) -> dict[str, Any]:
    """Shares of all seats of the rounds that began while there were records to begin."""
    return {
        "seats": counted.seats // counted.rounds,
        "rounds": counted.rounds,
        "taken_share": round(counted.taken / counted.seats, 4),
        "denoised_share": round(counted.denoised / counted.seats, 4),
        "goal": 0.9,
    }


# -- llama.cpp ---------------------------------------------------------------------------------------

_SERVE = """
import sys, threading, xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
slots, threads = int(sys.argv[2]), int(sys.argv[3])
params.n_parallel, params.n_ctx = slots, 4096 * slots
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
params.hostnames, params.port, params.verbosity = ["127.0.0.1"], 0, -1
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


@asynccontextmanager
async def _server(plan: Plan) -> AsyncIterator[str]:
    """The address of llama.cpp's server, in a process of its own that ends with the block.

    Raises:
        ModuleNotFoundError: xllamacpp is not installed.
        RuntimeError: it did not start.
    """
    import xllamacpp  # noqa: F401 - found missing here

    words = [str(_gguf(plan)), str(plan.slots), str(plan.threads)]
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _SERVE,
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        async with asyncio.timeout(120):
            while True:
                line = (await child.stdout.readline()).decode()
                if not line:
                    raise RuntimeError("llama.cpp's server did not start")
                if line.startswith("http"):
                    break
        yield line.strip().rstrip("/")
    finally:
        child.stdin.close()
        await child.wait()


def _gguf(plan: Plan) -> Path:
    from carrara.engines.llamacpp.engine import LlamacppEngine
    from carrara.engines.weights.catalog import DEFAULT

    engine = LlamacppEngine(plan.model or DEFAULT)
    return engine._gguf(engine._adapter)


async def _loop(plan: Plan, task: str, rows: Rows) -> Run:
    """What a user writes who has only a server: a client, a semaphore, one call for each text."""
    import httpx2

    step = load(PIPELINES / f"{task}.yaml").workflow.steps["answer"]
    contract = step.contract
    assert isinstance(contract, Json)
    schema = {"name": "answer", "schema": contract.schema}
    room = asyncio.Semaphore(plan.slots)
    async with _server(plan) as address, httpx2.AsyncClient(timeout=600) as client:

        async def ask(row: Mapping[str, Any]) -> Any:
            body = {
                "messages": [{"role": "user", "content": row["prompt"]}],
                "max_tokens": MAX_TOKENS,
                "temperature": 0,
                "response_format": {"type": "json_schema", "json_schema": schema},
            }
            async with room:
                reply = await client.post(f"{address}/v1/chat/completions", json=body)
            reply.raise_for_status()
            return _parsed(reply.json()["choices"][0]["message"]["content"])

        await ask(rows[0])
        began = perf_counter()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(row)) for row in rows]
        seconds = perf_counter() - began
    return Run(seconds, [task.result() for task in tasks])


async def _langextract(plan: Plan, task: str, rows: Rows) -> Run:
    """Raises ModuleNotFoundError where no environment with it was named."""
    if plan.python is None:
        raise ModuleNotFoundError(
            "langextract: name the python of an environment with `pip install 'langextract[openai]'` "
            "by --langextract"
        )
    with (plan.data / task / "dev.jsonl").open(encoding="utf-8") as lines:
        examples = [json.loads(next(lines)) for _ in range(2)]
    with tempfile.TemporaryDirectory() as name:
        asked = Path(name) / "asked.json"
        async with _server(plan) as address:
            asked.write_text(
                json.dumps(
                    {
                        "address": address,
                        "rows": rows,
                        "examples": examples,
                        "concurrency": plan.slots,
                        "max_tokens": MAX_TOKENS,
                    }
                )
            )
            child = await asyncio.create_subprocess_exec(
                plan.python,
                str(PEER),
                str(asked),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            out, err = await child.communicate()
        if child.returncode:
            raise RuntimeError(f"langextract ended with {child.returncode}: {err.decode()[-300:]}")
        told = json.loads(out)
    return Run(told["seconds"], told["answers"], told["cpu_s"], told["more"])


_RUNS: Mapping[str, Callable[[Plan, str, Rows], Awaitable[Run]]] = {
    "diffusion": lambda plan, task, rows: _job("diffusion", plan, task, rows),
    "ar": lambda plan, task, rows: _job("ar", plan, task, rows),
    "llama.cpp": _loop,
    "langextract": _langextract,
}


# -- small things ------------------------------------------------------------------------------------


def _tokenizer(plan: Plan) -> Callable[[str], int]:
    from carrara.engines.tokenizer import Tokenizer
    from carrara.engines.weights.catalog import DEFAULT
    from carrara.engines.weights.store import ensure

    tokenizer = Tokenizer.from_folder(ensure(plan.model or DEFAULT))
    return lambda text: len(tokenizer.encode(text))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _compact(answer: Any) -> str:
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":"))


def _write(path: Path, rows: Iterator[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


__all__ = ["SYSTEMS", "TASKS", "Plan", "compare"]
