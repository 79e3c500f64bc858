"""The embedded model on labelled tasks, decoded three ways with the same weights. Prints one JSON object.

    python -m benchmarks.embedded --data FOLDER [--out benchmarks/results/embedded.json] [--rows 200] [--seconds 600]
    python -m benchmarks.embedded --table benchmarks/results/embedded.json

FOLDER holds TASK/test.jsonl for the pipelines of examples/tasks; tasks without a file are left out. Each engine takes
the same rows, drawn by --seed, through the code of `carrara eval`: --timed rows one at a time first, which gives the
time of an answer that shares nothing, then --rows rows with --concurrency at once. --seconds bounds both together for
each task and engine; what was done by then is still a fair sample. With --out every finished task is kept beside the
file, in .parts.jsonl, and is not done again with the same weights and settings. --table prints the tables of the model
card.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import carrara
from benchmarks.embedded_report import SLOTS, report, tables
from carrara.engines.engine import Engine
from carrara.engines.registry import KINDS, open_engines
from carrara.workflows.evaluate import evaluate
from carrara.workflows.evaluation import Evaluation
from carrara.workflows.scoring.score import total
from carrara.workflows.session import Session
from carrara.workflows.yaml import load

PIPELINES = Path(__file__).resolve().parents[1] / "examples" / "tasks"
ENGINES = tuple(name for name in ("ar", "diffusion", "verified") if name in KINDS)
TIMED_SHARE = 0.25
"""The part of a task's time that goes to rows one at a time, at most."""


@dataclass(slots=True)
class Parts:
    """The finished (task, engine) pairs; `path` None: of this process only."""

    path: Path | None
    found: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path | None) -> Parts:
        if path is None or not path.exists():
            return cls(path)
        return cls(path, [json.loads(line) for line in path.read_text().splitlines()])

    def has(self, identity: Mapping[str, Any]) -> bool:
        return any(part["identity"] == identity for part in self.found)

    def add(self, part: dict[str, Any]) -> None:
        self.found.append(part)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as lines:
                lines.write(json.dumps(part) + "\n")


async def measure(
    options: argparse.Namespace, opened: Callable[[str], Mapping[str, Engine]]
) -> dict[str, Any]:
    """All tasks on all engines; `opened` gives the engines of a session that asks only the named one."""
    parts = Parts.read(options.out and options.out.with_suffix(".parts.jsonl"))
    wanted, lines = [], {}
    for engine in options.engines:
        async with carrara.session(engines=opened(engine)) as session:
            engines = await session.open_engines()
            for task, rows in tasks(options):
                identity = _identity(options, task, engine, engines[engine].fingerprint)
                wanted.append(identity)
                if not parts.has(identity):
                    print(f"{engine}: {task}", file=sys.stderr, flush=True)
                    found = await measured(options, session, task, rows, engine)
                    parts.add({"identity": identity, **found})
            lines[engine] = engines[engine].health().line
            adapter = _adapter(engines[engine])
    kept = [part for part in parts.found if part["identity"] in wanted]
    return report(options, kept, lines, adapter)


def tasks(options: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    """The tasks that have a pipeline and rows, with their rows."""
    for path in sorted(PIPELINES.glob("*.yaml")):
        rows = options.data / path.stem / f"{options.split}.jsonl"
        if rows.exists() and (not options.tasks or path.stem in options.tasks):
            yield path.stem, rows


async def measured(
    options: argparse.Namespace, session: Session, task: str, rows: Path, engine: str
) -> dict[str, Any]:
    workflow = load(PIPELINES / f"{task}.yaml").workflow
    begun = time.monotonic()

    async def run(limit: int, seed: int, concurrency: int, seconds: float) -> Evaluation:
        return await evaluate(
            workflow,
            str(rows),
            session,
            limit=limit,
            seed=seed,
            seconds=seconds,
            concurrency=concurrency,
            engine=engine,
        )

    # Rows of their own: a prompt that is in the prefix cache would be answered faster.
    alone = await run(options.timed, options.seed + 1, 1, options.seconds * TIMED_SHARE)
    left = options.seconds - (time.monotonic() - begun)
    whole = await run(options.rows, options.seed, options.concurrency, left)
    return {
        "summary": {
            **whole.summary(),
            "data": f"{task}/{options.split}.jsonl",
            "below": {SLOTS: _below(whole, SLOTS)},
        },
        "alone": {"rows": len(alone.rows), **alone.summary()["ms_per_answer"]},
        "rows": [[row.key, row.confidence, row.score.exact] for row in whole.rows],
    }


def _below(whole: Evaluation, place: str) -> float:
    """The micro F1 of all fields below a place of the answers."""
    fields = (part for row in whole.rows for part in row.score.fields.items())
    return round(total(marks for name, marks in fields if name.startswith(place)).field_f1, 4)


def _identity(
    options: argparse.Namespace, task: str, engine: str, fingerprint: str
) -> dict[str, Any]:
    names = ("split", "rows", "timed", "seed", "seconds", "concurrency")
    settings = {name: getattr(options, name) for name in names}
    return {"task": task, "engine": engine, "fingerprint": fingerprint, **settings}


def _adapter(engine: Engine) -> dict[str, str] | None:
    found = getattr(getattr(engine, "local", None), "adapter", None)
    return None if found is None else {"name": found.name, "fingerprint": found.fingerprint}


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="the folder of the labelled rows")
    parser.add_argument("--out", type=Path, help="write the JSON here, and go on from there")
    parser.add_argument("--table", type=Path, help="print the tables of such a file instead")
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=list(KINDS))
    parser.add_argument("--tasks", nargs="+", default=[])
    parser.add_argument("--split", default="test")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--timed", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--model", default="smollm2", help="a name of `carrara models` or a folder")
    parser.add_argument("--adapter", default="auto", help="a folder, `none`, or the embedded one")
    return parser


def main() -> None:
    parser = arguments()
    options = parser.parse_args()
    if options.table is not None:
        print(tables(json.loads(options.table.read_text())))
        return
    if options.data is None or not any(True for _ in tasks(options)):
        parser.error("--data: a folder with TASK/test.jsonl for the tasks of examples/tasks")
    adapter = None if options.adapter == "none" else options.adapter

    def opened(name: str) -> Mapping[str, Engine]:
        return open_engines([name], source=options.model, adapter=adapter)

    text = json.dumps(asyncio.run(measure(options, opened)), indent=1)
    if options.out is not None:
        options.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
