"""`python -m carrara.engines.goldens FOLDER…`: one line of JSON for each folder; exit code 1 if one failed."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m carrara.engines.goldens",
        description="Check models and decoders against golden files, one line of JSON for each folder.",
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    folders: list[Path] = parser.parse_args().folders

    from carrara.engines.goldens.run import run_folder

    failed = False
    for folder in folders:
        summary = run_folder(folder)
        print(json.dumps(summary.facts), flush=True)
        failed = failed or summary.failed > 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
