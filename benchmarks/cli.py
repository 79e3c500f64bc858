"""How long the command line takes to answer: `carrara --help` beside a bare interpreter. Prints JSON.

    python benchmarks/cli.py

Medians of seven runs each, in turns, after one that is not counted and leaves the byte code behind.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

ROUNDS = 7
ROOT = Path(__file__).resolve().parents[1]
CALLS = {
    "python_pass_s": ("-c", "pass"),
    "import_carrara_s": ("-c", "import carrara"),
    "carrara_help_s": ("-m", "carrara", "--help"),
    "carrara_validate_s": ("-m", "carrara", "validate", "examples/cookbook/cookbook.yaml"),
}


def main() -> None:
    taken: dict[str, list[float]] = {name: [] for name in CALLS}
    for round_ in range(ROUNDS + 1):
        for name, words in CALLS.items():
            seconds = timed(words)
            if round_:
                taken[name].append(seconds)
    found = {name: round(median(times), 4) for name, times in taken.items()}
    machine = {"python": platform.python_version(), "cpus": os.cpu_count(), "rounds": ROUNDS}
    print(json.dumps(found | machine, indent=2))


def timed(words: tuple[str, ...]) -> float:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    began = perf_counter()
    subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=True
    )
    return perf_counter() - began


if __name__ == "__main__":
    main()
