"""A job that is killed again and again. Prints JSON.

    python -m benchmarks.kills [--kills 50] [--records 2000] [--output out.jsonl] [--seed 0]

The process of a job is killed (kill -9) at random moments and gone on with `--resume` each time, until it has been
killed so often; then it runs to its end. Moments are drawn over the time that a process of the whole job needs, its
start included. Counted is what users care for: rows that are missing, wrong or there twice, rows lost that had been
seen in the output before a kill, and how often a step was run again. `--output` may be a table too:
`sqlite:///out.db#rows`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.machine import machine

ROOT = Path(__file__).resolve().parents[1]
FLOW = """
from typing import TypedDict

from carrara import step, workflow


@step
async def shout(text: str) -> str:
    with open("calls.log", "a") as log:
        log.write(text + "\\n")
    return text.upper()


@step
async def length(text: str) -> int:
    return len(text)


class Row(TypedDict):
    said: str
    length: int


@workflow
async def row(text: str) -> Row:
    said = shout(text)
    return {"said": await said, "length": await length(said)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--output", default="out.jsonl")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = killed(Path(name), given.kills, given.records, given.output, given.seed)
    print(json.dumps({**found, "seed": given.seed, **machine(1)}, indent=2))


def killed(folder: Path, kills: int, records: int, output: str, seed: int) -> dict[str, Any]:
    """Kill a job so often, let it end, and count what is wrong with its output."""
    texts = [f"text {number}" for number in range(records)]
    (folder / "flow.py").write_text(FLOW)
    with (folder / "in.jsonl").open("w") as lines:
        lines.writelines(json.dumps({"id": text, "text": text}) + "\n" for text in texts)
    began = perf_counter()
    _run(folder, "whole.jsonl")
    whole_s = perf_counter() - began
    (folder / "calls.log").unlink()
    moments = random.Random(seed)
    hits = lost = resumes = 0
    seen: set[str] = set()
    while hits < kills:
        hits += _killed_once(folder, output, moments.uniform(0, whole_s), go_on=resumes > 0)
        rows = Counter(row["key"] for row in _rows(folder, output))
        lost += len(seen - rows.keys())
        seen |= rows.keys()
        resumes += (folder / ".carrara").exists() and bool(_runs(folder, output))
        if len(seen) == records:  # it ended before it was killed often enough: begin anew
            _clear(folder, output)
            seen, resumes = set(), 0
    _run(folder, output, go_on=resumes > 0)
    rows = _rows(folder, output)
    keys = Counter(row["key"] for row in rows)
    calls = Counter((folder / "calls.log").read_text().splitlines())
    return {
        "kills": hits,
        "records": records,
        "output": output,
        "whole_s": round(whole_s, 2),
        "rows": len(rows),
        "missing": len(set(texts) - keys.keys()),
        "twice": sum(count - 1 for count in keys.values()),
        "wrong": sum(
            row["said"] != row["key"].upper() or row["length"] != len(row["key"]) for row in rows
        ),
        "seen_and_lost": lost,
        "in_order": [row["key"] for row in rows] == texts if output.endswith("jsonl") else None,
        "steps_run_again": sum(calls.values()) - len(calls),
    }


def _command(output: str, go_on: bool) -> list[str]:
    words = ["run", "flow.py:row", "-i", "in.jsonl", "-o", output, "-q"]
    return [sys.executable, "-m", "carrara", *words, *(["--resume"] if go_on else [])]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _run(folder: Path, output: str, go_on: bool = False) -> None:
    done = subprocess.run(
        _command(output, go_on), cwd=folder, env=_environment(), capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"the job ended with {done.returncode}: {done.stderr}")


def _killed_once(folder: Path, output: str, after_s: float, go_on: bool) -> bool:
    """Whether the process was still there to be killed.

    Raises:
        RuntimeError: it had ended by itself, with an error.
    """
    child = subprocess.Popen(
        _command(output, go_on),
        cwd=folder,
        env=_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        child.wait(after_s)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGKILL)
    _, told = child.communicate()
    if child.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the job ended with {child.returncode}: {told}")
    return child.returncode == -signal.SIGKILL


def _runs(folder: Path, output: str) -> list[Any]:
    """The runs of the job that the journal knows."""
    from carrara.runtime.errors import JournalError
    from carrara.runtime.journal.reading import Reader

    try:
        with Reader.open(folder / ".carrara" / "journal.db") as journal:
            return [run for run in journal.runs() if json.dumps(output) in run.source]
    except JournalError:
        return []


def _rows(folder: Path, output: str) -> list[dict[str, Any]]:
    """The rows that a reader sees now. A line that is not whole is an error."""
    if output.startswith("sqlite"):
        return list(_table(folder, output))
    path = folder / output
    if not path.exists():
        return []
    if path.suffix == ".parquet":
        import pyarrow.parquet

        found: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
        return found
    return [json.loads(line) for line in path.read_text().splitlines()]


def _table(folder: Path, output: str) -> Iterator[dict[str, Any]]:
    import sqlite3

    path, _, table = output.removeprefix("sqlite:///").partition("#")
    if not (folder / path).exists():
        return
    connection = sqlite3.connect(folder / path)
    connection.row_factory = sqlite3.Row
    try:
        there = connection.execute("SELECT 1 FROM sqlite_master WHERE name=?", (table,)).fetchone()
        if there:
            yield from map(dict, connection.execute(f'SELECT * FROM "{table}"'))
    finally:
        connection.close()


def _clear(folder: Path, output: str) -> None:
    path = output.removeprefix("sqlite:///").partition("#")[0]
    (folder / path).unlink(missing_ok=True)
    (folder / "calls.log").unlink(missing_ok=True)
    for name in (".carrara/journal.db", ".carrara/journal.db-wal", ".carrara/journal.db-shm"):
        (folder / name).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
