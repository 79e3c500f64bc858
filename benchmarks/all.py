"""Run every benchmark, one after the other, each in a process of its own, and print one JSON object.

python -m benchmarks.all [NAME...]
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAMES = ("cli", "runtime", "journal", "repair", "ar", "diffusion", "verified")


def main() -> None:
    found = {}
    for name in sys.argv[1:] or NAMES:
        print(f"running benchmarks.{name}", file=sys.stderr, flush=True)
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found[name] = json.loads(done.stdout)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
