"""What a report of a job takes for more and more records. Prints JSON.

    python -m benchmarks.job_report [--records 10000,100000]

For each number a job whose only step does nothing is run with a journal, and then `carrara report` and `carrara show`
of it, each in a process of its own: seconds of CPU and the most memory, resident and as `tracemalloc` counts it (in a
second process, since that makes everything slower).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path
from time import process_time
from typing import Any

from benchmarks.job import FLOW, peak_mb
from benchmarks.machine import machine, versions

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", default="10000,100000")
    parser.add_argument("--one", nargs=2, metavar=("COMMAND", "HOW"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(*given.one)))
        return
    counts = [int(count) for count in given.records.split(",")]
    found = [measured(count) for count in counts]
    print(json.dumps({"jobs": found, **machine(1), **versions("rich")}, indent=2))


def measured(count: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "in.jsonl").open("w") as lines:
            for number in range(count):
                lines.write(json.dumps({"id": f"r{number}", "text": f"text {number}"}) + "\n")
        (folder / "flow.py").write_text(FLOW)
        words = ["run", "flow.py:noop", "-i", "in.jsonl", "-o", "out.jsonl", "-q"]
        called(folder, "-m", "carrara", *words)
        found: dict[str, Any] = {"records": count}
        for command in ("report", "show"):
            usual, traced = (
                json.loads(called(folder, "-m", "benchmarks.job_report", "--one", command, how))
                for how in ("usual", "traced")
            )
            found[command] = {**usual, "traced_peak_mb": traced["traced_peak_mb"]}
        return found


def called(folder: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return done.stdout


def one(command: str, how: str) -> dict[str, Any]:
    """The command in this process; what it prints is thrown away."""
    from carrara.cli.app import app

    if how == "traced":
        tracemalloc.start()
    began = process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        app([command, "last"], standalone_mode=False)
    used = process_time() - began
    if how == "traced":
        return {"traced_peak_mb": round(tracemalloc.get_traced_memory()[1] / 2**20, 1)}
    return {"cpu_s": round(used, 1), "peak_mb": round(peak_mb(), 1)}


if __name__ == "__main__":
    main()
